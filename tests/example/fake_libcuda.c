/* A driver for machines without a GPU, part 2: one "NVIDIA H200" whose memory is the host's, and which runs any kernel as if it were
 * stream_copy. It checks what a driver would check: the context, the cubin, the shape of the launch. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static char context, stream, function;
static void *current, *module;

/* Numbers as in cuda.h. */
enum { INVALID_VALUE = 1, INVALID_CONTEXT = 201, INVALID_IMAGE = 200, INVALID_HANDLE = 400, MAJOR = 75 };

int cuInit(unsigned flags);
int cuInit(unsigned flags)
{
    return 0;
}

int cuGetErrorName(int error, const char **name);
int cuGetErrorName(int error, const char **name)
{
    *name = error == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR";
    return 0;
}

int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return 0;
}

int cuDeviceGetCount(int *count);
int cuDeviceGetCount(int *count)
{
    *count = 1;
    return 0;
}

int cuDeviceGet(int *device, int ordinal);
int cuDeviceGet(int *device, int ordinal)
{
    *device = 0;
    return 0;
}

int cuDeviceGetName(char *name, int len, int device);
int cuDeviceGetName(char *name, int len, int device)
{
    strncpy(name, "NVIDIA H200", (size_t)len);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device);
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == MAJOR ? 9 : 0;
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = 1 << 20;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **out, int device);
int cuDevicePrimaryCtxRetain(void **out, int device)
{
    *out = &context;
    return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device);
int cuDevicePrimaryCtxRelease_v2(int device)
{
    return 0;
}

int cuCtxSetCurrent(void *to);
int cuCtxSetCurrent(void *to)
{
    current = to;
    return 0;
}

int cuStreamCreate(void **out, unsigned flags);
int cuStreamCreate(void **out, unsigned flags)
{
    *out = &stream;
    return 0;
}

int cuStreamSynchronize(void *s);
int cuStreamSynchronize(void *s)
{
    return s == &stream ? 0 : INVALID_HANDLE;
}

int cuMemAlloc_v2(uint64_t *p, size_t bytes);
int cuMemAlloc_v2(uint64_t *p, size_t bytes)
{
    static unsigned char memory[1 << 20];
    static size_t used;
    *p = (uint64_t)(uintptr_t)(memory + used);
    used += bytes;
    return current && used <= sizeof memory ? 0 : INVALID_CONTEXT;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *s);
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *s)
{
    memcpy((void *)(uintptr_t)to, from, bytes);
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *s);
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *s)
{
    memcpy(to, (void *)(uintptr_t)from, bytes);
    return 0;
}

int cuModuleLoadData(void **out, const void *image);
int cuModuleLoadData(void **out, const void *image)
{
    if (!current)
        return INVALID_CONTEXT;
    if (memcmp(image, "\177ELF", 4) != 0)
        return INVALID_IMAGE;
    *out = module = malloc(1);
    return 0;
}

int cuModuleUnload(void *m);
int cuModuleUnload(void *m)
{
    if (!m || m != module)
        return INVALID_HANDLE;
    free(module);
    module = NULL;
    return 0;
}

int cuModuleGetFunction(void **out, void *m, const char *name);
int cuModuleGetFunction(void **out, void *m, const char *name)
{
    *out = &function;
    return m == module && strstr(name, "stream_copy__") == name ? 0 : 500;
}

int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned smem,
                   void *s, void **args, void **extra);
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned smem,
                   void *s, void **args, void **extra)
{
    if (f != &function || s != &stream || gy != 1 || gz != 1 || by != 1 || bz != 1 || smem != 0 || extra)
        return INVALID_VALUE;
    uint64_t from = *(uint64_t *)args[0], to = *(uint64_t *)args[1];
    int64_t n = *(int64_t *)args[2], most = (int64_t)gx * bx * 2; /* u = 2 pieces a thread */
    memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, 16 * (size_t)(n < most ? n : most));
    return 0;
}
