#ifndef WEIR_DEVICE_H
#define WEIR_DEVICE_H

/* A machine that runs generated kernels, as the driver API sees it: `cuda` (runtime/cuda.c) or `emu`, the emulator of tests/emu.
 * The CUDA backend, the tuner and the tests see only this. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

typedef uint64_t devptr; /* address in device memory */

struct device_facts {
    char name[128];     /* "NVIDIA H200" */
    int sm;             /* 90 for compute capability 9.0 */
    int sms;            /* multiprocessors */
    int smem_per_block; /* bytes a block may opt in to */
    int smem_per_sm;
    int threads_per_sm;
    int l2_bytes;
    size_t memory_bytes;
    int driver; /* CUDA version of the driver, 13000 for 13.0 */
};

struct device_kernel; /* a loaded kernel, opaque */

struct launch {
    unsigned grid[3], block; /* block is one-dimensional */
    unsigned smem;           /* dynamic shared memory, bytes */
    void **args;             /* one pointer to each argument's value, as cuLaunchKernel takes them */
    bool overlap; /* may start while the kernel ahead of it still runs, from sm_90 on: for kernels that call grid_wait
                                 before they touch what it writes */
};

/* One product of matrices: y = x w^T, or y += x w^T, in fp32 sums. */
struct gemm {
    devptr y;    /* [m][n], rows y_row elements apart: fp32 where `wide`, else 16-bit */
    devptr x, w; /* [m][k], [n][k], 16-bit */
    int m, n, k;
    int y_row;
    bool bf16; /* what 16 bits are: bf16, else fp16 */
    bool wide, add;
};

struct device {
    const char *kind; /* "cuda", "emu" */
    struct device_facts facts;
    bool wants_source; /* load takes the emitted text with the host's prelude (gen_host_text), not a cubin */
    void *state;       /* owned */

    int (*alloc)(struct device *dev, size_t bytes, devptr *out, struct err *err);
    void (*release)(struct device *dev, devptr p);
    int (*upload)(struct device *dev, devptr dst, const void *src, size_t bytes, struct err *err);
    int (*download)(struct device *dev, void *dst, devptr src, size_t bytes, struct err *err);
    int (*fill)(struct device *dev, devptr dst, unsigned char byte, size_t bytes, struct err *err);
    /* Loads a cubin (or source) and finds `symbol` in it. smem_max: the largest dynamic shared memory it is launched with. */
    int (*load)(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                struct device_kernel **out, struct err *err);
    void (*unload)(struct device *dev, struct device_kernel *k);
    /* Asynchronous on the device's one stream. An error names kernel, grid, block and the CUDA error. */
    int (*launch)(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err);
    int (*sync)(struct device *dev, struct err *err);
    /* Page-locked memory, for copies that run on behind the caller: ordered with the launches, and what they read or write may not
     * be touched until a mark behind them has been waited for. In a graph they read host memory anew at each replay. */
    int (*alloc_pinned)(struct device *dev, size_t bytes, void **out, struct err *err);
    void (*release_pinned)(struct device *dev, void *p);
    int (*upload_async)(struct device *dev, devptr dst, const void *pinned, size_t bytes, struct err *err);
    int (*download_async)(struct device *dev, void *pinned, devptr src, size_t bytes, struct err *err);
    /* Bytes of device memory that nobody has taken yet. */
    int (*memory_left)(struct device *dev, size_t *bytes, struct err *err);
    /* Products of matrices, ordered with the launches. gemm_open finds the library that makes them (cuBLASLt for cuda), which may
     * take a while and may be called from another thread; gemm does so where nobody has. */
    int (*gemm_open)(struct device *dev, struct err *err);
    int (*gemm)(struct device *dev, const struct gemm *g, struct err *err);
    /* Milliseconds between two marks of the stream (0..15); elapsed is NULL on emu. mark(i) records, wait(i) waits until the stream
     * has come to it (at once where it was never recorded), elapsed(a, b) waits for b. */
    int (*mark)(struct device *dev, int i, struct err *err);
    int (*wait)(struct device *dev, int i, struct err *err);
    int (*elapsed)(struct device *dev, int a, int b, float *ms, struct err *err);
    /* Stream capture into a graph, for replays without launch gaps; NULL on emu. */
    int (*capture_begin)(struct device *dev, struct err *err);
    int (*capture_end)(struct device *dev, void **graph, struct err *err);
    int (*replay)(struct device *dev, void *graph, struct err *err);
    void (*release_graph)(struct device *dev, void *graph);
    void (*close)(struct device *dev);
};

/* Captures what `enqueue` launches in a graph; free with release_graph. Where it fails *graph is NULL, and *err says what failed first.
 * Only for a device that has capture_begin. */
int device_capture(struct device *dev, int (*enqueue)(void *user, struct err *err), void *user, void **graph,
                   struct err *err);

/* How many GPUs the driver finds, and facts of one of them without opening it. -1 with one line where there is no driver. */
int device_cuda_count(int *count, struct err *err);
int device_cuda_facts(int ordinal, struct device_facts *facts, struct err *err);

/* A driver takes a third of a second to open a GPU. warm starts that in a thread, so that device_cuda_open, later, has to wait for the
 * rest only; it says nothing where there is no GPU. cool, once no device is open, lets go of what warm opened. One at a time. */
void device_cuda_warm(int ordinal);
void device_cuda_cool(void);

/* Opens GPU number `ordinal` through libcuda, found at run time. -1 with one line where there is no driver or no GPU. */
int device_cuda_open(struct device *dev, int ordinal, struct err *err);

#endif
