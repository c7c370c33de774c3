#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cubin_cache.h"

/* WEIR_SHIPPED, else `shipped` beside the program. */
static void find_shipped_folder(struct kernel_cache *c)
{
    const char *given = getenv("WEIR_SHIPPED");
    c->shipped[0] = 0;
    if (given) {
        if (snprintf(c->shipped, sizeof c->shipped, "%s", given) >= (int)sizeof c->shipped)
            c->shipped[0] = 0;
        return;
    }
    static const char name[] = "shipped";
    ssize_t n = readlink("/proc/self/exe", c->shipped, sizeof c->shipped - sizeof name);
    c->shipped[n > 0 ? n : 0] = 0;
    char *slash = strrchr(c->shipped, '/');
    if (slash)
        strcpy(slash + 1, name);
    if (!slash || access(c->shipped, R_OK) != 0)
        c->shipped[0] = 0;
}

void kernel_cache_default(struct kernel_cache *c)
{
    const char *folder = getenv("WEIR_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (folder && folder[0])
        n = snprintf(c->folder, sizeof c->folder, "%s", folder);
    else if (xdg && xdg[0] == '/')
        n = snprintf(c->folder, sizeof c->folder, "%s/weir", xdg);
    else if (home && home[0])
        n = snprintf(c->folder, sizeof c->folder, "%s/.cache/weir", home);
    if (n <= 0 || n >= (int)sizeof c->folder)
        c->folder[0] = 0;
    find_shipped_folder(c);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int compile(struct kernel *k, struct err *err)
{
    char *text, file[GEN_NAME_MAX + 4];
    if (gen_lined_text(&k->gen, &text, err) != 0)
        return -1;
    snprintf(file, sizeof file, "%s.cu", k->gen.name);
    int rc = nvrtc_compile(text, file, k->gen.arch, &k->cubin, NULL, err);
    free(text);
    return rc;
}

/* The entry of k->key in the cache or in the shipped folder. With `any`, the key is one made without an NVRTC, and an entry that
 * any NVRTC made for this very text will do. */
static enum cubin_found look_up(struct kernel *k, const struct kernel_cache *cache, bool any)
{
    struct kernel_cache place[2] = {*cache, *cache};
    enum cubin_found found[2] = {CUBIN_MISSING, CUBIN_MISSING};
    memcpy(place[1].folder, cache->shipped, sizeof place[1].folder);
    for (int i = 0; i < 2; i++) {
        char key[KERNEL_KEY_MAX];
        memcpy(key, k->key, sizeof key);
        if (!any || cubin_cache_any(&place[i], key) == 0)
            found[i] = cubin_cache_read(&place[i], key, &k->cubin);
        if (found[i] == CUBIN_FOUND) {
            memcpy(k->key, key, sizeof key);
            k->cached = true;
            return CUBIN_FOUND;
        }
    }
    return found[0];
}

/* Fills k->cubin for the rendered k->gen. */
static int find_cubin(struct kernel *k, const struct kernel_cache *cache, struct err *err)
{
    char memo[sizeof cache->folder + 32];
    struct nvrtc_info nvrtc;
    struct err trouble = {""};
    snprintf(memo, sizeof memo, "%s/nvrtc-versions", cache->folder);
    bool compiles = nvrtc_find(&nvrtc, cache->folder[0] ? memo : NULL, err) == 0;
    cubin_cache_key(&k->gen, compiles ? &nvrtc : NULL, k->key);
    enum cubin_found found = look_up(k, cache, !compiles);
    if (found == CUBIN_FOUND)
        return 0;
    if (!compiles)
        return err_prefix(err, "%s was not shipped, and cannot be compiled", k->gen.name);
    if (compile(k, err) != 0)
        return -1;
    if (!cache->folder[0])
        snprintf(k->warning, sizeof k->warning, "no cubin cache: set WEIR_CACHE or HOME");
    else if (cubin_cache_write(cache, k->key, &k->cubin, &trouble) != 0)
        snprintf(k->warning, sizeof k->warning, "%.300s", trouble.msg);
    else
        nvrtc_find(&nvrtc, memo, NULL); /* the folder is there now: let it remember the version */
    if (!k->warning[0] && found == CUBIN_DAMAGED)
        snprintf(k->warning, sizeof k->warning, "an entry of the cubin cache was damaged and has been built again: %s",
                 k->key);
    return 0;
}

int kernel_ship(const struct kernel *k, const struct kernel_cache *to, struct err *err)
{
    return cubin_cache_write(to, k->key, &k->cubin, err);
}

int kernel_build(struct gen *g, const struct kernel_cache *cache, const char *kernel, const char *gpu,
                 const struct gen_param *params, int nparams, struct kernel *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    double start = now_ms();
    if (gen_render(g, kernel, gpu, params, nparams, &out->gen, err) != 0)
        return -1;
    double rendered = now_ms();
    out->render_ms = rendered - start;
    if (find_cubin(out, cache, err) != 0) {
        kernel_free(out);
        return -1;
    }
    out->cubin_ms = now_ms() - rendered;
    return 0;
}

int kernel_load(struct kernel *k, struct device *dev, struct err *err)
{
    if (dev->load(dev, k->cubin.image, k->cubin.bytes, k->gen.name, k->gen.smem, &k->loaded, err) != 0)
        return -1;
    k->device = dev;
    return 0;
}

static int load_source(struct gen *g, struct kernel *k, struct device *dev, struct err *err)
{
    char *text = NULL;
    int rc = gen_host_text(g, &k->gen, &text, err);
    if (rc == 0)
        rc = dev->load(dev, text, strlen(text), k->gen.name, k->gen.smem, &k->loaded, err);
    free(text);
    if (rc == 0)
        k->device = dev;
    return rc;
}

int kernel_get(struct gen *g, const struct kernel_cache *cache, struct device *dev, const char *kernel,
               const struct gen_param *params, int nparams, struct kernel *out, struct err *err)
{
    char gpu[GEN_GPU_MAX];
    int rc;
    memset(out, 0, sizeof *out);
    if (gen_gpu_name(g, dev->facts.name, dev->facts.sm, gpu, err) != 0)
        return -1;
    if (dev->wants_source)
        rc = gen_render(g, kernel, gpu, params, nparams, &out->gen, err);
    else
        rc = kernel_build(g, cache, kernel, gpu, params, nparams, out, err);
    if (rc != 0)
        return -1;
    rc = dev->wants_source ? load_source(g, out, dev, err) : kernel_load(out, dev, err);
    if (rc != 0)
        kernel_free(out);
    return rc;
}

void kernel_free(struct kernel *k)
{
    if (k->device)
        k->device->unload(k->device, k->loaded);
    cubin_free(&k->cubin);
    gen_kernel_free(&k->gen);
    memset(k, 0, sizeof *k);
}
