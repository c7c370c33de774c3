/* A program with a CUDA context of its own that launches one of weir's kernels on its own pointers and stream. It declares the few
 * driver calls that it makes by hand, so that it builds where there is no CUDA; with cuda.h it would be shorter.
 *   cc kernel.c -lweir -ldl -o kernel && ./kernel */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "weir.h"

enum { PIECES = 4096, BYTES = 16 * PIECES };

static void must(int rc, const struct weir_error *error)
{
    if (rc == 0)
        return;
    fprintf(stderr, "kernel: %s\n", error->message);
    exit(1);
}

static void *driver;

static void *symbol(const char *name)
{
    void *found = dlsym(driver, name);
    if (!found) {
        fprintf(stderr, "kernel: the driver has no %s\n", name);
        exit(1);
    }
    return found;
}

/* Calls of the driver: each returns 0 or an error. */
#define CALL(name, types, ...)                                                                                         \
    do {                                                                                                               \
        int(*function) types;                                                                                          \
        *(void **)&function = symbol(name);                                                                            \
        int status = function(__VA_ARGS__);                                                                            \
        if (status != 0) {                                                                                             \
            fprintf(stderr, "kernel: %s gives %d\n", name, status);                                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

int main(void)
{
    static unsigned char sent[BYTES], got[BYTES];
    struct weir_error error;
    struct weir_kernel *copy;
    char gpu[64];
    void *context, *stream;
    uint64_t from, to;
    int device;
    const char *path = getenv("WEIR_LIBCUDA");
    if (!(driver = dlopen(path ? path : "libcuda.so.1", RTLD_NOW))) {
        fprintf(stderr, "kernel: no CUDA driver\n");
        return 1;
    }
    for (int i = 0; i < BYTES; i++)
        sent[i] = (unsigned char)(i * 7 + i / 256);

    CALL("cuInit", (unsigned), 0);
    CALL("cuDeviceGet", (int *, int), &device, 0);
    CALL("cuDevicePrimaryCtxRetain", (void **, int), &context, device);
    CALL("cuCtxSetCurrent", (void *), context);
    CALL("cuStreamCreate", (void **, unsigned), &stream, 1);
    CALL("cuMemAlloc_v2", (uint64_t *, size_t), &from, BYTES);
    CALL("cuMemAlloc_v2", (uint64_t *, size_t), &to, BYTES);
    CALL("cuMemcpyHtoDAsync_v2", (uint64_t, const void *, size_t, void *), from, sent, BYTES, stream);

    const struct weir_parameter parameters[] = {{"t", "bf16"}, {"u", "2"}};
    must(weir_gpu_name(0, gpu, sizeof gpu, &error), &error);
    must(weir_kernel_open(&copy, "stream_copy", gpu, parameters, 2, &error), &error);
    must(weir_kernel_load(copy, &error), &error);
    struct weir_kernel_facts facts = weir_kernel_facts(copy);
    printf("%s: %d registers, %u threads a block\n", facts.symbol, facts.registers, facts.threads);

    /* Each thread moves u pieces of 16 bytes. */
    int64_t pieces = PIECES;
    unsigned a_block = facts.threads * (unsigned)weir_kernel_parameter(copy, "u", 1);
    const unsigned grid[3] = {(PIECES + a_block - 1) / a_block, 1, 1};
    void *arguments[] = {&from, &to, &pieces};
    must(weir_kernel_launch(copy, grid, arguments, stream, &error), &error);
    CALL("cuMemcpyDtoHAsync_v2", (void *, uint64_t, size_t, void *), got, to, BYTES, stream);
    CALL("cuStreamSynchronize", (void *), stream);

    int wrong = 0;
    for (int i = 0; i < BYTES; i++)
        wrong += got[i] != sent[i];
    printf("%d bytes copied, %d wrong\n", BYTES, wrong);
    weir_kernel_close(copy);
    return wrong != 0;
}
