#ifndef WEIR_CUDA_DEVICE_H
#define WEIR_CUDA_DEVICE_H

/* What the files of the device `cuda` share: cuda.c (kernels, time, graphs), cuda_memory.c, cuda_gemm.c. */

#include "cuda_api.h"
#include "device.h"

enum { MARKS = 16 };

struct cuda_products; /* cuda_gemm.c: cuBLASLt and what it chose for each shape */

struct cuda {
    const struct cuda_api *api;
    int device;
    cu_context context; /* the device's primary one, retained */
    cu_stream stream;
    cu_event mark[MARKS];
    bool capturing;
    struct cuda_products *products; /* NULL until the first product */
    char last[320];                 /* the last launch, in words: an error that shows later is most likely its own */
};

/* Turns a CUresult into 0, or -1 with "<what>: <CUDA error>". */
int cuda_check(const struct cuda *c, int status, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Every call begins so: the context belongs to the device, not to a thread. */
int cuda_enter(const struct cuda *c, struct err *err);
/* What a graph cannot hold, or would hold wrongly: a copy from host memory would read it again at every replay. */
int cuda_enter_uncaptured(const struct cuda *c, const char *what, struct err *err);

/* The calls of device.h that these files make. */
int cuda_sync(struct device *dev, struct err *err);
int cuda_alloc(struct device *dev, size_t bytes, devptr *out, struct err *err);
void cuda_release(struct device *dev, devptr p);
int cuda_upload(struct device *dev, devptr dst, const void *src, size_t bytes, struct err *err);
int cuda_download(struct device *dev, void *dst, devptr src, size_t bytes, struct err *err);
int cuda_fill(struct device *dev, devptr dst, unsigned char byte, size_t bytes, struct err *err);
int cuda_alloc_pinned(struct device *dev, size_t bytes, void **out, struct err *err);
void cuda_release_pinned(struct device *dev, void *p);
int cuda_upload_async(struct device *dev, devptr dst, const void *pinned, size_t bytes, struct err *err);
int cuda_download_async(struct device *dev, void *pinned, devptr src, size_t bytes, struct err *err);
int cuda_memory_left(struct device *dev, size_t *bytes, struct err *err);
int cuda_gemm_open(struct device *dev, struct err *err);
int cuda_gemm(struct device *dev, const struct gemm *g, struct err *err);
void cuda_gemm_close(struct cuda *c);

#endif
