/* weir doctor: what there is on this machine, and what will run on it. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "kernel.h"
#include "memory.h"
#include "options.h"
#include "simd.h"
#include "wisdom.h"

enum { GPUS_MAX = 16, ARCHS_MAX = 64, WISDOMS_MAX = 32 };

struct report {
    int gpus;
    struct device_facts gpu[GPUS_MAX];
    char gpu_name[GPUS_MAX][GEN_GPU_MAX]; /* in gpus.lua; "" where no kernel runs on it */
    struct err no_gpu, no_nvrtc;
    struct nvrtc_info nvrtc;
    int narchs, arch[ARCHS_MAX];
    int cublas, nccl; /* version as the library counts it, 0 where it is not found */
    char cpu[128];
    int threads;
    bool avx2, avx512;
    struct kernel_cache cache;
    bool cache_writable;
    int cubins;
    double cubin_bytes;
    char home[512];
    int wisdoms;
    char wisdom[WISDOMS_MAX][400]; /* a line each */
};

/* The library under the first of the names that opens, or NULL. */
static void *open_any(const char *const *names)
{
    void *lib = NULL;
    for (; *names && !lib; names++)
        lib = dlopen(*names, RTLD_LAZY | RTLD_LOCAL);
    return lib;
}

static int cublas_version(void)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so",
                                        NULL};
    void *lib = open_any(names);
    int (*property)(int, int *) = NULL, part[3] = {0};
    void *p = lib ? dlsym(lib, "cublasGetProperty") : NULL;
    memcpy(&property, &p, sizeof p);
    for (int i = 0; property && i < 3; i++)
        property(i, &part[i]);
    return part[0] * 10000 + part[1] * 100 + part[2];
}

static int nccl_version(void)
{
    static const char *const names[] = {"libnccl.so.2", NULL};
    void *lib = open_any(names);
    int (*get)(int *) = NULL, version = 0;
    void *p = lib ? dlsym(lib, "ncclGetVersion") : NULL;
    memcpy(&get, &p, sizeof p);
    if (get)
        get(&version);
    return version;
}

static void look_at_gpus(struct report *r, struct gen *g)
{
    if (device_cuda_count(&r->gpus, &r->no_gpu) != 0)
        return;
    if (r->gpus > GPUS_MAX)
        r->gpus = GPUS_MAX;
    if (r->gpus == 0)
        err_set(&r->no_gpu, "the CUDA driver finds no GPU");
    for (int i = 0; i < r->gpus; i++)
        if (device_cuda_facts(i, &r->gpu[i], &r->no_gpu) == 0)
            gen_gpu_name(g, r->gpu[i].name, r->gpu[i].sm, r->gpu_name[i], &r->no_gpu);
}

static void look_at_cpu(struct report *r)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(r->cpu, sizeof r->cpu, "unknown");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            snprintf(r->cpu, sizeof r->cpu, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"), strchr(line, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
    r->threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    r->avx2 = simd_named("avx2");
    r->avx512 = simd_named("avx512");
}

/* The vector version that the CPU backend takes. */
static const char *vectors_of(const struct report *r)
{
    return r->avx512 ? "AVX-512" : r->avx2 ? "AVX2" : "no vectors that weir knows: slow";
}

static void look_at_cache(struct report *r)
{
    char folder[600], path[900];
    struct stat st;
    kernel_cache_default(&r->cache);
    snprintf(folder, sizeof folder, "%s/cubin", r->cache.folder);
    DIR *dir = r->cache.folder[0] ? opendir(folder) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            r->cubins++;
            r->cubin_bytes += (double)st.st_size;
        }
    }
    if (dir)
        closedir(dir);
    /* The nearest folder that is there must be writable for the cache to be made. */
    snprintf(path, sizeof path, "%s", r->cache.folder);
    while (path[0] && stat(path, &st) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            break;
        *slash = 0;
    }
    r->cache_writable = r->cache.folder[0] && access(path, W_OK) == 0;
}

static void add_wisdom(struct report *r, const char *path)
{
    struct wisdom_file f;
    struct err err = {""};
    char *line = r->wisdom[r->wisdoms++];
    int measured = 0;
    if (wisdom_file_read(path, &f, &err) != 0) {
        snprintf(line, sizeof r->wisdom[0], "damaged, left out: %.270s", err.msg);
        return;
    }
    for (int i = 0; i < f.nentries; i++)
        measured += f.entry[i].measured[0] != 0;
    bool here = false;
    for (int i = 0; i < r->gpus; i++)
        here = here || !strcmp(r->gpu_name[i], f.gpu);
    snprintf(line, sizeof r->wisdom[0], "%s: %d kernel shapes measured, %d predicted%s, %.180s", f.gpu, measured,
             f.nentries - measured, here ? " (the GPU that is here)" : "", path);
    wisdom_file_free(&f);
}

static void look_at_wisdom(struct report *r, const struct gen *g)
{
    char folder[2][600], path[900];
    struct stat st;
    int n = wisdom_folders(g, folder);
    for (int k = 0; k < n; k++) {
        if (stat(folder[k], &st) == 0 && S_ISREG(st.st_mode) && r->wisdoms < WISDOMS_MAX)
            add_wisdom(r, folder[k]);
        DIR *dir = opendir(folder[k]);
        for (struct dirent *e; dir && (e = readdir(dir)) && r->wisdoms < WISDOMS_MAX;) {
            const char *end = strstr(e->d_name, ".json");
            snprintf(path, sizeof path, "%s/%.250s", folder[k], e->d_name);
            if (end && !end[5])
                add_wisdom(r, path);
        }
        if (dir)
            closedir(dir);
    }
}

static void print_json(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || (unsigned char)*text < 32)
            printf("\\u%04x", *text);
        else
            putchar(*text);
    putchar('"');
}

static void report_json(const struct report *r)
{
    printf("{\"gpus\":[");
    for (int i = 0; i < r->gpus; i++) {
        const struct device_facts *f = &r->gpu[i];
        printf("%s{\"name\":", i ? "," : "");
        print_json(f->name);
        printf(",\"known_as\":");
        print_json(r->gpu_name[i]);
        printf(",\"sm\":%d,\"sms\":%d,\"memory_bytes\":%zu,\"l2_bytes\":%d,\"driver\":%d}", f->sm, f->sms,
               f->memory_bytes, f->l2_bytes, f->driver);
    }
    printf("],\"gpu_error\":");
    print_json(r->no_gpu.msg);
    printf(",\n \"nvrtc\":{\"path\":");
    print_json(r->nvrtc.path);
    printf(",\"version\":\"%d.%d\",\"error\":", r->nvrtc.major, r->nvrtc.minor);
    print_json(r->no_nvrtc.msg);
    printf(",\"archs\":[");
    for (int i = 0; i < r->narchs; i++)
        printf("%s%d", i ? "," : "", r->arch[i]);
    printf("]},\n \"cublas\":%d,\"nccl\":%d,\n \"cpu\":{\"name\":", r->cublas, r->nccl);
    print_json(r->cpu);
    printf(",\"threads\":%d,\"avx2\":%s,\"avx512\":%s},\n \"memory_available\":%zu,\n \"cache\":{\"folder\":",
           r->threads, r->avx2 ? "true" : "false", r->avx512 ? "true" : "false", memory_available());
    print_json(r->cache.folder);
    printf(",\"writable\":%s,\"cubins\":%d,\"cubin_bytes\":%.0f},\n \"home\":", r->cache_writable ? "true" : "false",
           r->cubins, r->cubin_bytes);
    print_json(r->home);
    printf(",\"wisdom\":[");
    for (int i = 0; i < r->wisdoms; i++) {
        printf("%s", i ? "," : "");
        print_json(r->wisdom[i]);
    }
    printf("]}\n");
}

static void row(const char *what, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void row(const char *what, const char *fmt, ...)
{
    va_list ap;
    printf("%-10s ", what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void report_text(const struct report *r)
{
    for (int i = 0; i < r->gpus; i++) {
        const struct device_facts *f = &r->gpu[i];
        row("GPU", "%d: %s (%s, sm_%d, %d multiprocessors, %.0f GB)", i, f->name,
            r->gpu_name[i][0] ? r->gpu_name[i] : "not supported", f->sm, f->sms, (double)f->memory_bytes / 1e9);
        row("driver", "CUDA %d.%d", f->driver / 1000, f->driver % 1000 / 10);
    }
    if (r->no_gpu.msg[0])
        row("GPU", "none: %s", r->no_gpu.msg);
    if (r->no_nvrtc.msg[0]) {
        row("NVRTC", "none: %s", r->no_nvrtc.msg);
    } else {
        row("NVRTC", "%d.%d, %s", r->nvrtc.major, r->nvrtc.minor, r->nvrtc.path);
        printf("%-10s compiles for", "");
        for (int i = 0; i < r->narchs; i++)
            printf(" sm_%d", r->arch[i]);
        putchar('\n');
    }
    if (r->cublas)
        row("cuBLAS", "%d.%d.%d", r->cublas / 10000, r->cublas / 100 % 100, r->cublas % 100);
    else
        row("cuBLAS", "none (wanted for prompts on a GPU)");
    if (r->nccl)
        row("NCCL", "%d.%d.%d (nothing uses it yet)", r->nccl / 10000, r->nccl / 100 % 100, r->nccl % 100);
    else
        row("NCCL", "none (nothing uses it yet)");
    row("CPU", "%s, %d threads, %s", r->cpu, r->threads, vectors_of(r));
    row("memory", "%.1f GB available", (double)memory_available() / 1e9);
    if (!r->cache.folder[0])
        row("cache", "none: set WEIR_CACHE or HOME");
    else
        row("cache", "%s%s, %d cubins, %.1f MB", r->cache.folder,
            r->cache_writable ? "" : " (not writable: kernels are compiled anew each time)", r->cubins,
            r->cubin_bytes / 1e6);
    row("templates", "%s", r->home[0] ? r->home : "built in");
    if (r->wisdoms == 0)
        row("wisdom", "none: kernels run with their default tiles");
    for (int i = 0; i < r->wisdoms; i++)
        row(i ? "" : "wisdom", "%s", r->wisdom[i]);

    bool gpu = false, compile = !r->no_nvrtc.msg[0];
    for (int i = 0; i < r->gpus; i++)
        gpu = gpu || r->gpu_name[i][0];
    printf("\nwill run here\n");
    row("  yes", "run, chat, eval, bench on the CPU (%s)", vectors_of(r));
    row("  yes", "trace, tokenize, gen");
    row(compile ? "  yes" : "  no", "gen --cubin and prediction for GPUs that are not here%s",
        compile ? "" : ": no NVRTC");
    row(gpu && (compile || r->cubins) ? "  yes" : "  no", "kernels on a GPU%s",
        !gpu                     ? ": no GPU"
        : !compile && !r->cubins ? ": no NVRTC, and no compiled kernels in the cache"
        : !compile               ? ", those whose cubins are in the cache: no NVRTC"
                                 : "");
}

int cmd_doctor(int argc, char **argv, struct err *err)
{
    bool json = false;
    const struct option table[] = {
        {"--json", NULL, OPTION_FLAG, &json, NULL, "as JSON", 0, 0, NULL},
        {0},
    };
    struct options o = {
        .usage = "weir doctor [--json]",
        .what = "What there is on this machine (GPUs, driver, NVRTC, cuBLAS, NCCL, CPU, cache, wisdom) and what will "
                "run on it.",
        .group = {{"options", table}},
    };
    struct gen *g = NULL;
    int status = options_parse(&o, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    struct report *r = err_calloc(1, sizeof *r, "the report", err);
    if (!r || gen_open(&g, NULL, err) != 0) {
        free(r);
        return CMD_FAILED;
    }
    look_at_gpus(r, g);
    if (nvrtc_find(&r->nvrtc, NULL, &r->no_nvrtc) == 0) {
        r->narchs = nvrtc_archs(r->arch, ARCHS_MAX);
        if (r->narchs > ARCHS_MAX)
            r->narchs = ARCHS_MAX;
    }
    r->cublas = cublas_version();
    r->nccl = nccl_version();
    look_at_cpu(r);
    look_at_cache(r);
    snprintf(r->home, sizeof r->home, "%s", gen_home(g));
    look_at_wisdom(r, g);
    if (json)
        report_json(r);
    else
        report_text(r);
    gen_close(g);
    free(r);
    return CMD_OK;
}
