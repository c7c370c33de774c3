/* Files that the generator's side reads: a GPU described in JSON, an entry of the cubin cache. The first byte says which. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "runtime/cubin_cache.h"

static const char key[] = "00000000000000000000000000000000-sm_80-nvrtc13.0";

static struct {
    struct gen *gen;
    struct kernel_cache cache;
    char json[96], entry[700];
    char good[1024]; /* the input that is a good entry */
    size_t good_size;
} here;

static void clean_up(void)
{
    char folder[600];
    gen_close(here.gen);
    unlink(here.json);
    unlink(here.entry);
    snprintf(folder, sizeof folder, "%s/cubin", here.cache.folder);
    rmdir(folder);
    rmdir(here.cache.folder);
}

/* A cache folder with one good entry, and a generator. */
static void set_up(void)
{
    struct err err = {""};
    struct cubin c = {.image = (unsigned char *)"\177ELF and more", .bytes = 13, .regs = 40};
    /* In memory where there is such a file system: each input is a file. */
    char folder[64];
    if (here.gen)
        return;
    snprintf(folder, sizeof folder, "%s/weir-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder) || gen_open(&here.gen, NULL, &err) != 0)
        abort();
    snprintf(here.cache.folder, sizeof here.cache.folder, "%s", folder);
    snprintf(here.json, sizeof here.json, "%s/gpu.json", folder);
    snprintf(here.entry, sizeof here.entry, "%s/cubin/%s", folder, key);
    if (cubin_cache_write(&here.cache, key, &c, &err) != 0)
        abort();
    FILE *f = fopen(here.entry, "rb");
    here.good[0] = 'e';
    here.good_size = f ? 1 + fread(here.good + 1, 1, sizeof here.good - 1, f) : 0;
    if (!f || fclose(f) != 0)
        abort();
    atexit(clean_up);
}

static void write_whole(const char *path, const uint8_t *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
}

struct bytes fuzz_seed(int i)
{
    static const char *const json[] = {
        "j{\"sm\": 86, \"sms\": 46, \"dram_gbs\": 448.5, \"title\": \"a GPU\"}",
        "j{\"sm\": 90, \"sms\": 1e3, \"l2_bytes\": 50000000, \"source\": \"\\u00e4\", \"fp32_tflops\": 6.5e1}",
    };
    struct bytes b = {0};
    set_up();
    if (i < 2)
        bytes_put(&b, json[i], strlen(json[i]));
    else if (i == 2)
        bytes_put(&b, here.good, here.good_size);
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    set_up();
    if (size == 0)
        return 0;
    if (data[0] == 'j') {
        struct gen_gpu gpu;
        struct err err = {""};
        write_whole(here.json, data + 1, size - 1);
        /* What is taken is a GPU that kernels can be made for. */
        if (gen_gpu(here.gen, here.json, &gpu, &err) == 0 ? gpu.sm < 80 || gpu.sms < 0 : !err.msg[0])
            abort();
    } else {
        struct cubin c;
        write_whole(here.entry, data + 1, size - 1);
        if (cubin_cache_read(&here.cache, key, &c) == CUBIN_FOUND && (c.bytes != 13 || c.regs != 40))
            abort(); /* nobody makes another SHA-256 fit */
        cubin_free(&c);
    }
    return 0;
}
