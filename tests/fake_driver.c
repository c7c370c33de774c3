#include "fake_driver.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_driver fake_driver;

static int call(void)
{
    return ++fake_driver.calls == fake_driver.fail_at ? fake_driver.fail_with : CU_SUCCESS;
}

#define HANDLE(type) ((type)(uintptr_t)0x1000)
#define MAKE(count, slot, type)                                                                                        \
    do {                                                                                                               \
        int status = call();                                                                                           \
        if (status != CU_SUCCESS)                                                                                      \
            return status;                                                                                             \
        fake_driver.count++;                                                                                           \
        *(slot) = HANDLE(type);                                                                                        \
        return CU_SUCCESS;                                                                                             \
    } while (0)

static int fake_error_name(int error, const char **name)
{
    *name = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : NULL;
    return *name ? CU_SUCCESS : 1;
}
static int fake_error_string(int error, const char **text)
{
    *text = error == 700 ? "an illegal memory access was encountered" : NULL;
    return *text ? CU_SUCCESS : 1;
}
static int fake_init(unsigned flags)
{
    return call();
}
static int fake_driver_version(int *version)
{
    *version = 13000;
    return call();
}
static int fake_device_count(int *count)
{
    *count = 1;
    return call();
}
static int fake_device_get(int *device, int ordinal)
{
    *device = 0;
    return call();
}
static int fake_device_name(char *name, int len, int device)
{
    snprintf(name, (size_t)len, "Fake 9000");
    return call();
}
static int fake_device_attribute(int *value, int attribute, int device)
{
    *value = attribute == CU_COMPUTE_CAPABILITY_MAJOR   ? 9
             : attribute == CU_COMPUTE_CAPABILITY_MINOR ? 0
                                                        : 1000 + attribute;
    return call();
}
static int fake_device_memory(size_t *bytes, int device)
{
    *bytes = 1 << 30;
    return call();
}
static int fake_context_retain(cu_context *context, int device)
{
    MAKE(contexts, context, cu_context);
}
static int fake_context_release(int device)
{
    fake_driver.contexts--;
    return CU_SUCCESS;
}
static int fake_context_set(cu_context context)
{
    fake_driver.current = context == HANDLE(cu_context);
    return call();
}
static int fake_stream_create(cu_stream *stream, unsigned flags)
{
    assert(flags == CU_STREAM_NON_BLOCKING);
    MAKE(streams, stream, cu_stream);
}
static int fake_stream_destroy(cu_stream stream)
{
    fake_driver.streams--;
    return CU_SUCCESS;
}
static int fake_stream_sync(cu_stream stream)
{
    assert(!fake_driver.capturing);
    fake_driver.syncs++;
    return call();
}
static int fake_memory_info(size_t *left, size_t *total)
{
    *left = 512 << 20;
    *total = 1 << 30;
    return CU_SUCCESS;
}
static int fake_memory_alloc(cu_deviceptr *p, size_t bytes)
{
    int status = call();
    assert(bytes > 0 && fake_driver.current);
    if (status != CU_SUCCESS)
        return status;
    if (bytes > 1 << 30)
        return CU_OUT_OF_MEMORY;
    fake_driver.allocations++;
    *p = (cu_deviceptr)(uintptr_t)malloc(bytes);
    return CU_SUCCESS;
}
static int fake_memory_free(cu_deviceptr p)
{
    fake_driver.allocations--;
    free((void *)(uintptr_t)p);
    return CU_SUCCESS;
}
static int fake_host_alloc(void **p, size_t bytes, unsigned flags)
{
    int status = call();
    if (status != CU_SUCCESS)
        return status;
    fake_driver.allocations++;
    *p = malloc(bytes);
    return CU_SUCCESS;
}
static int fake_host_free(void *p)
{
    fake_driver.allocations--;
    free(p);
    return CU_SUCCESS;
}
static int fake_upload(cu_deviceptr dst, const void *src, size_t bytes, cu_stream stream)
{
    memcpy((void *)(uintptr_t)dst, src, bytes);
    return call();
}
static int fake_download(void *dst, cu_deviceptr src, size_t bytes, cu_stream stream)
{
    memcpy(dst, (const void *)(uintptr_t)src, bytes);
    return call();
}
static int fake_fill(cu_deviceptr dst, unsigned char byte, size_t bytes, cu_stream stream)
{
    memset((void *)(uintptr_t)dst, byte, bytes);
    return call();
}
static int fake_module_load(cu_module *module, const void *image)
{
    MAKE(modules, module, cu_module);
}
static int fake_module_unload(cu_module module)
{
    fake_driver.modules--;
    return CU_SUCCESS;
}
static int fake_module_function(cu_function *function, cu_module module, const char *name)
{
    int status = call();
    if (status != CU_SUCCESS)
        return status;
    *function = HANDLE(cu_function);
    return strcmp(name, "absent") == 0 ? CU_NOT_FOUND : CU_SUCCESS;
}
static int fake_function_set(cu_function function, int attribute, int value)
{
    if (attribute == CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        fake_driver.smem_max = value;
    else
        assert(attribute == CU_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT && value == 100);
    return call();
}
static int fake_launch(cu_function function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned smem, cu_stream stream, void **args, void **extra)
{
    assert(fake_driver.current && stream == HANDLE(cu_stream) && function == HANDLE(cu_function) && !extra && by == 1 &&
           bz == 1);
    fake_driver.grid[0] = gx, fake_driver.grid[1] = gy, fake_driver.grid[2] = gz;
    fake_driver.block = bx, fake_driver.smem = smem, fake_driver.args = args;
    fake_driver.launches++;
    return call();
}
static int fake_launch_config(const struct cu_launch_config *c, cu_function function, void **args, void **extra)
{
    assert(c->attributes == 1 && c->attribute->id == CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION &&
           c->attribute->value.allowed == 1);
    fake_driver.overlapping++;
    return fake_launch(function, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->smem, c->stream, args, extra);
}
static int fake_event_create(cu_event *event, unsigned flags)
{
    MAKE(events, event, cu_event);
}
static int fake_event_destroy(cu_event event)
{
    fake_driver.events--;
    return CU_SUCCESS;
}
static int fake_event_record(cu_event event, cu_stream stream)
{
    return call();
}
static int fake_event_sync(cu_event event)
{
    return call();
}
static int fake_event_elapsed(float *ms, cu_event start, cu_event end)
{
    *ms = 1.5f;
    return call();
}
static int fake_capture_begin(cu_stream stream, int mode)
{
    assert(!fake_driver.capturing);
    int status = call();
    fake_driver.capturing = status == CU_SUCCESS;
    return status;
}
static int fake_capture_end(cu_stream stream, cu_graph *graph)
{
    assert(fake_driver.capturing);
    fake_driver.capturing = false;
    MAKE(graphs, graph, cu_graph);
}
static int fake_graph_instantiate(cu_graph_exec *exec, cu_graph graph, unsigned long long flags)
{
    MAKE(execs, exec, cu_graph_exec);
}
static int fake_graph_destroy(cu_graph graph)
{
    fake_driver.graphs--;
    return CU_SUCCESS;
}
static int fake_exec_upload(cu_graph_exec exec, cu_stream stream)
{
    return call();
}
static int fake_exec_launch(cu_graph_exec exec, cu_stream stream)
{
    fake_driver.replays++;
    return call();
}
static int fake_exec_destroy(cu_graph_exec exec)
{
    fake_driver.execs--;
    return CU_SUCCESS;
}

const struct cuda_api fake_api = {
#define FAKE_SLOT(name, symbol, args) .name = fake_##name,
    CUDA_CALLS(FAKE_SLOT)
#undef FAKE_SLOT
};

bool fake_driver_nothing_left(void)
{
    return fake_driver.contexts == 0 && fake_driver.streams == 0 && fake_driver.events == 0 &&
           fake_driver.modules == 0 && fake_driver.graphs == 0 && fake_driver.execs == 0 &&
           fake_driver.allocations == 0 && !fake_driver.capturing;
}
