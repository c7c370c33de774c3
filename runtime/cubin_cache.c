#include "cubin_cache.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "aside.h"
#include "sha256.h"

/* An entry: this head, then the cubin. Little endian, as every machine with such a GPU is. */
struct head {
    char magic[8];
    uint32_t regs, stack, spill_store, spill_load, smem, reserved;
    uint64_t bytes;
    char key[KERNEL_KEY_MAX];
    unsigned char digest[32]; /* SHA-256 of the head up to here and of the cubin */
};

static const char magic[8] = "weircub1";
enum { ENTRY_MAX = 256 << 20 };

static void digest_of(const struct head *h, const unsigned char *image, unsigned char digest[32])
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, h, offsetof(struct head, digest));
    sha256_add(&s, image, h->bytes);
    sha256_end(&s, digest);
}

void cubin_cache_key(const struct gen_kernel *k, const struct nvrtc_info *nvrtc, char key[KERNEL_KEY_MAX])
{
    unsigned char digest[32];
    struct sha256 s;
    const char *end = strstr(k->source, "*/"); /* of the header comment */
    const char *text = end ? end + 2 : k->source;
    sha256_begin(&s);
    sha256_add(&s, k->arch, strlen(k->arch) + 1);
    sha256_add(&s, nvrtc_flags, strlen(nvrtc_flags) + 1);
    sha256_add(&s, text, strlen(text));
    sha256_end(&s, digest);
    for (int i = 0; i < 16; i++)
        snprintf(key + 2 * i, 3, "%02x", digest[i]);
    int n = 32 + snprintf(key + 32, KERNEL_KEY_MAX - 32, "-%s-nvrtc", k->arch);
    if (nvrtc)
        snprintf(key + n, (size_t)(KERNEL_KEY_MAX - n), "%d.%d", nvrtc->major, nvrtc->minor);
}

int cubin_cache_any(const struct kernel_cache *c, char key[KERNEL_KEY_MAX])
{
    char folder[768];
    size_t len = strlen(key);
    int best = -1;
    snprintf(folder, sizeof folder, "%s/cubin", c->folder);
    DIR *dir = c->folder[0] ? opendir(folder) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        int major, minor, n = 0;
        /* key's first len characters stay as they are while its end is filled in */
        if (strncmp(e->d_name, key, len) != 0 || sscanf(e->d_name + len, "%3d.%3d%n", &major, &minor, &n) != 2 ||
            e->d_name[len + (size_t)n])
            continue;
        if (major * 1000 + minor > best && len + (size_t)n < KERNEL_KEY_MAX) {
            best = major * 1000 + minor;
            strcpy(key + len, e->d_name + len);
        }
    }
    if (dir)
        closedir(dir);
    return best < 0 ? -1 : 0;
}

static int entry_path(const struct kernel_cache *c, const char *key, char *path, size_t size)
{
    return snprintf(path, size, "%s/cubin/%s", c->folder, key) < (int)size ? 0 : -1;
}

enum cubin_found cubin_cache_read(const struct kernel_cache *c, const char *key, struct cubin *out)
{
    char path[768];
    struct head h;
    struct stat st;
    unsigned char digest[32];
    enum cubin_found found = CUBIN_DAMAGED;
    memset(out, 0, sizeof *out);
    if (!c->folder[0] || entry_path(c, key, path, sizeof path) != 0)
        return CUBIN_MISSING;
    FILE *f = fopen(path, "rbe");
    if (!f)
        return CUBIN_MISSING;
    if (fstat(fileno(f), &st) != 0 || st.st_size <= (off_t)sizeof h || st.st_size > ENTRY_MAX ||
        fread(&h, sizeof h, 1, f) != 1)
        goto done;
    if (memcmp(h.magic, magic, sizeof magic) != 0 || h.bytes != (uint64_t)st.st_size - sizeof h)
        goto done;
    if (strncmp(h.key, key, sizeof h.key) != 0)
        goto done;
    out->image = malloc(h.bytes);
    if (!out->image || fread(out->image, 1, h.bytes, f) != h.bytes)
        goto done;
    digest_of(&h, out->image, digest);
    if (memcmp(digest, h.digest, sizeof digest) != 0)
        goto done;
    out->bytes = h.bytes;
    out->regs = (int)h.regs;
    out->stack = (int)h.stack;
    out->spill_store = (int)h.spill_store;
    out->spill_load = (int)h.spill_load;
    out->smem = (int)h.smem;
    found = CUBIN_FOUND;
done:
    if (found != CUBIN_FOUND)
        cubin_free(out);
    fclose(f);
    return found;
}

/* mkdir -p, up to the last slash of path; errno says why not. */
static int make_folders(char *path)
{
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            struct stat st;
            *p = 0;
            int rc = stat(path, &st) == 0 ? 0 : mkdir(path, 0777);
            *p = '/';
            if (rc != 0 && errno != EEXIST)
                return -1;
        }
    return 0;
}

int cubin_cache_write(const struct kernel_cache *c, const char *key, const struct cubin *cubin, struct err *err)
{
    char path[768];
    struct aside a;
    struct head h = {.regs = (uint32_t)cubin->regs, .stack = (uint32_t)cubin->stack, .bytes = cubin->bytes};
    h.spill_store = (uint32_t)cubin->spill_store;
    h.spill_load = (uint32_t)cubin->spill_load;
    h.smem = (uint32_t)cubin->smem;
    memcpy(h.magic, magic, sizeof magic);
    snprintf(h.key, sizeof h.key, "%s", key);
    digest_of(&h, cubin->image, h.digest);

    if (entry_path(c, key, path, sizeof path) != 0)
        return err_set(err, "the path of the cubin cache is too long: %.200s", c->folder);
    if (make_folders(path) != 0)
        return err_set(err, "the cubin cache %.300s cannot be made: %s", c->folder, strerror(errno));
    if (aside_open(&a, path, err) != 0)
        return err_prefix(err, "the cubin cache");
    fwrite(&h, sizeof h, 1, a.f);
    fwrite(cubin->image, 1, cubin->bytes, a.f);
    return aside_keep(&a, false, err) != 0 ? err_prefix(err, "the cubin cache") : 0;
}
