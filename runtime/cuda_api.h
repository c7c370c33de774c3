#ifndef WEIR_CUDA_API_H
#define WEIR_CUDA_API_H

/* The part of the CUDA driver's interface that is used here, declared by hand: libcuda is opened at run time, and no CUDA header
 * is needed to build. Names and numbers are those of cuda.h; they have not changed since CUDA 12.0. */

#include <stddef.h>
#include <stdint.h>

#include "err.h"

typedef struct cu_context *cu_context;
typedef struct cu_stream *cu_stream;
typedef struct cu_event *cu_event;
typedef struct cu_module *cu_module;
typedef struct cu_function *cu_function;
typedef struct cu_graph *cu_graph;
typedef struct cu_graph_exec *cu_graph_exec;
typedef uint64_t cu_deviceptr;

enum { /* CUresult */
       CU_SUCCESS = 0,
       CU_OUT_OF_MEMORY = 2,
       CU_STUB_LIBRARY = 34,
       CU_NO_DEVICE = 100,
       CU_NO_BINARY_FOR_GPU = 209,
       CU_NOT_FOUND = 500,
};

enum { /* CUdevice_attribute */
       CU_MULTIPROCESSOR_COUNT = 16,
       CU_L2_CACHE_SIZE = 38,
       CU_MAX_THREADS_PER_MULTIPROCESSOR = 39,
       CU_COMPUTE_CAPABILITY_MAJOR = 75,
       CU_COMPUTE_CAPABILITY_MINOR = 76,
       CU_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
       CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
};

enum {
    CU_STREAM_NON_BLOCKING = 1,
    CU_HOST_PORTABLE = 1,                      /* cuMemHostAlloc */
    CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8, /* CUfunction_attribute */
    CU_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT = 9,
    CU_CAPTURE_MODE_RELAXED = 2,                     /* CUstreamCaptureMode */
    CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION = 6, /* CUlaunchAttributeID */
};

/* CUlaunchConfig with its attributes. */
struct cu_launch_attribute {
    int id;
    int padding;
    union {
        unsigned char room[64];
        int allowed; /* CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION */
    } value;
};
struct cu_launch_config {
    unsigned gx, gy, gz, bx, by, bz, smem;
    cu_stream stream;
    struct cu_launch_attribute *attribute;
    unsigned attributes;
};

/* Every call: our name, the library's symbol (with the version that cuda.h maps it to), its arguments. All return a CUresult. */
/* clang-format off */
#define CUDA_CALLS(X) \
    X(init, "cuInit", (unsigned flags)) \
    X(error_name, "cuGetErrorName", (int error, const char **name)) \
    X(error_string, "cuGetErrorString", (int error, const char **text)) \
    X(driver_version, "cuDriverGetVersion", (int *version)) \
    X(device_count, "cuDeviceGetCount", (int *count)) \
    X(device_get, "cuDeviceGet", (int *device, int ordinal)) \
    X(device_name, "cuDeviceGetName", (char *name, int len, int device)) \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device)) \
    X(device_memory, "cuDeviceTotalMem_v2", (size_t *bytes, int device)) \
    X(context_retain, "cuDevicePrimaryCtxRetain", (cu_context *context, int device)) \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (int device)) \
    X(context_set, "cuCtxSetCurrent", (cu_context context)) \
    X(stream_create, "cuStreamCreate", (cu_stream *stream, unsigned flags)) \
    X(stream_destroy, "cuStreamDestroy_v2", (cu_stream stream)) \
    X(stream_sync, "cuStreamSynchronize", (cu_stream stream)) \
    X(memory_info, "cuMemGetInfo_v2", (size_t *left, size_t *total)) \
    X(memory_alloc, "cuMemAlloc_v2", (cu_deviceptr *p, size_t bytes)) \
    X(memory_free, "cuMemFree_v2", (cu_deviceptr p)) \
    X(host_alloc, "cuMemHostAlloc", (void **p, size_t bytes, unsigned flags)) \
    X(host_free, "cuMemFreeHost", (void *p)) \
    X(upload, "cuMemcpyHtoDAsync_v2", (cu_deviceptr dst, const void *src, size_t bytes, cu_stream stream)) \
    X(download, "cuMemcpyDtoHAsync_v2", (void *dst, cu_deviceptr src, size_t bytes, cu_stream stream)) \
    X(fill, "cuMemsetD8Async", (cu_deviceptr dst, unsigned char byte, size_t bytes, cu_stream stream)) \
    X(module_load, "cuModuleLoadData", (cu_module *module, const void *image)) \
    X(module_unload, "cuModuleUnload", (cu_module module)) \
    X(module_function, "cuModuleGetFunction", (cu_function *function, cu_module module, const char *name)) \
    X(function_set, "cuFuncSetAttribute", (cu_function function, int attribute, int value)) \
    X(launch, "cuLaunchKernel", \
      (cu_function function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, \
       unsigned smem, cu_stream stream, void **args, void **extra)) \
    X(launch_config, "cuLaunchKernelEx", \
      (const struct cu_launch_config *config, cu_function function, void **args, void **extra)) \
    X(event_create, "cuEventCreate", (cu_event *event, unsigned flags)) \
    X(event_destroy, "cuEventDestroy_v2", (cu_event event)) \
    X(event_record, "cuEventRecord", (cu_event event, cu_stream stream)) \
    X(event_sync, "cuEventSynchronize", (cu_event event)) \
    X(event_elapsed, "cuEventElapsedTime", (float *ms, cu_event start, cu_event end)) \
    X(capture_begin, "cuStreamBeginCapture_v2", (cu_stream stream, int mode)) \
    X(capture_end, "cuStreamEndCapture", (cu_stream stream, cu_graph *graph)) \
    X(graph_instantiate, "cuGraphInstantiateWithFlags", \
      (cu_graph_exec *exec, cu_graph graph, unsigned long long flags)) \
    X(graph_destroy, "cuGraphDestroy", (cu_graph graph)) \
    X(exec_upload, "cuGraphUpload", (cu_graph_exec exec, cu_stream stream)) \
    X(exec_launch, "cuGraphLaunch", (cu_graph_exec exec, cu_stream stream)) \
    X(exec_destroy, "cuGraphExecDestroy", (cu_graph_exec exec))
/* clang-format on */

struct cuda_api {
#define CUDA_CALL_SLOT(name, symbol, args) int(*name) args;
    CUDA_CALLS(CUDA_CALL_SLOT)
#undef CUDA_CALL_SLOT
};

/* Opens libcuda (WEIR_LIBCUDA, else libcuda.so.1) once for the process, resolves every call and starts the driver. -1 with one line
 * where there is no driver. Thread-safe; *api stays valid. */
int cuda_api_open(const struct cuda_api **api, struct err *err);

/* As device_cuda_open, with the calls of an api that is open (tests bring their own). */
struct device;
int device_cuda_open_with(struct device *dev, const struct cuda_api *api, int ordinal, struct err *err);

/* What a CUresult means, as the driver words it, into text[size]: "CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)". */
void cuda_error_text(const struct cuda_api *api, int status, char *text, size_t size);

#endif
