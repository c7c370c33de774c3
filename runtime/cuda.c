/* The device `cuda`: one GPU through the driver's interface, one stream, the calls of device.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_device.h"

struct device_kernel {
    cu_module module;
    cu_function function;
    char name[176];
};

int cuda_check(const struct cuda *c, int status, struct err *err, const char *fmt, ...)
{
    char what[400], why[200];
    va_list ap;
    if (status == CU_SUCCESS)
        return 0;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    cuda_error_text(c->api, status, why, sizeof why);
    return err_set(err, "%s: %s", what, why);
}

int cuda_enter(const struct cuda *c, struct err *err)
{
    return cuda_check(c, c->api->context_set(c->context), err, "making the GPU current");
}

int cuda_enter_uncaptured(const struct cuda *c, const char *what, struct err *err)
{
    if (c->capturing)
        return err_set(err, "%s while a CUDA graph is captured", what);
    return cuda_enter(c, err);
}

int cuda_sync(struct device *dev, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter_uncaptured(c, "the GPU is waited for", err) != 0)
        return -1;
    return cuda_check(c, c->api->stream_sync(c->stream), err, "waiting for the GPU, after %s", c->last);
}

static void cuda_unload(struct device *dev, struct device_kernel *k)
{
    struct cuda *c = dev->state;
    if (!k)
        return;
    if (k->module && cuda_enter(c, NULL) == 0)
        c->api->module_unload(k->module);
    free(k);
}

static int cuda_load(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                     struct device_kernel **out, struct err *err)
{
    struct cuda *c = dev->state;
    if (bytes < 4 || memcmp(image, "\177ELF", 4) != 0)
        return err_set(err, "%s: what is loaded is no cubin", symbol);
    if (cuda_enter_uncaptured(c, "a kernel is loaded", err) != 0)
        return -1;
    struct device_kernel *k = err_calloc(1, sizeof *k, "a kernel", err);
    if (!k)
        return -1;
    snprintf(k->name, sizeof k->name, "%s", symbol);
    int status = c->api->module_load(&k->module, image);
    if (status == CU_NO_BINARY_FOR_GPU) {
        err_set(err, "%s: its cubin is for another GPU than %s (sm_%d)", symbol, dev->facts.name, dev->facts.sm);
        goto failed;
    }
    if (cuda_check(c, status, err, "loading %s", symbol) != 0)
        goto failed;
    status = c->api->module_function(&k->function, k->module, symbol);
    if (status == CU_NOT_FOUND) {
        err_set(err, "%s: its cubin holds no kernel of that name", symbol);
        goto failed;
    }
    if (cuda_check(c, status, err, "loading %s", symbol) != 0)
        goto failed;
    /* Without leave a block gets 48 KB, static shared memory included: so ask for every kernel that has any. */
    if (smem_max > 0) {
        status = c->api->function_set(k->function, CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)smem_max);
        if (cuda_check(c, status, err, "%s: asking for %u bytes of dynamic shared memory (a block of %s can have %d)",
                       symbol, smem_max, dev->facts.name, dev->facts.smem_per_block) != 0)
            goto failed;
    }
    /* Blocks of two kernels share a multiprocessor only if both want it divided alike into shared memory and L1. */
    status = c->api->function_set(k->function, CU_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT, 100);
    if (cuda_check(c, status, err, "%s: asking for all of the shared memory", symbol) != 0)
        goto failed;
    *out = k;
    return 0;
failed:
    cuda_unload(dev, k);
    return -1;
}

static int cuda_launch(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter(c, err) != 0)
        return -1;
    snprintf(c->last, sizeof c->last, "%s, grid %u x %u x %u, %u threads, %u bytes of shared memory", k->name,
             l->grid[0], l->grid[1], l->grid[2], l->block, l->smem);
    int status;
    if (l->overlap && dev->facts.sm >= 90) {
        struct cu_launch_attribute overlap = {.id = CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION, .value.allowed = 1};
        struct cu_launch_config config = {.gx = l->grid[0],
                                          .gy = l->grid[1],
                                          .gz = l->grid[2],
                                          .bx = l->block,
                                          .by = 1,
                                          .bz = 1,
                                          .smem = l->smem,
                                          .stream = c->stream,
                                          .attribute = &overlap,
                                          .attributes = 1};
        status = c->api->launch_config(&config, k->function, l->args, NULL);
    } else {
        status = c->api->launch(k->function, l->grid[0], l->grid[1], l->grid[2], l->block, 1, 1, l->smem, c->stream,
                                l->args, NULL);
    }
    return cuda_check(c, status, err, "launching %s", c->last);
}

static int cuda_mark(struct device *dev, int i, struct err *err)
{
    struct cuda *c = dev->state;
    if (i < 0 || i >= MARKS)
        return err_set(err, "mark %d is not in 0..%d", i, MARKS - 1);
    if (cuda_enter_uncaptured(c, "time is taken", err) != 0)
        return -1;
    return cuda_check(c, c->api->event_record(c->mark[i], c->stream), err, "recording mark %d, after %s", i, c->last);
}

static int cuda_wait(struct device *dev, int i, struct err *err)
{
    struct cuda *c = dev->state;
    if (i < 0 || i >= MARKS)
        return err_set(err, "mark %d is not in 0..%d", i, MARKS - 1);
    if (cuda_enter_uncaptured(c, "the GPU is waited for", err) != 0)
        return -1;
    return cuda_check(c, c->api->event_sync(c->mark[i]), err, "waiting for mark %d, after %s", i, c->last);
}

static int cuda_elapsed(struct device *dev, int a, int b, float *ms, struct err *err)
{
    struct cuda *c = dev->state;
    if (a < 0 || a >= MARKS || b < 0 || b >= MARKS)
        return err_set(err, "marks %d and %d are not both in 0..%d", a, b, MARKS - 1);
    if (cuda_enter_uncaptured(c, "time is taken", err) != 0)
        return -1;
    if (cuda_check(c, c->api->event_sync(c->mark[b]), err, "waiting for mark %d, after %s", b, c->last) != 0)
        return -1;
    return cuda_check(c, c->api->event_elapsed(ms, c->mark[a], c->mark[b]), err, "the time between marks %d and %d", a,
                      b);
}

static int cuda_capture_begin(struct device *dev, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter_uncaptured(c, "a capture begins", err) != 0)
        return -1;
    if (cuda_check(c, c->api->capture_begin(c->stream, CU_CAPTURE_MODE_RELAXED), err,
                   "beginning to capture a CUDA graph, after %s", c->last) != 0)
        return -1;
    c->capturing = true;
    return 0;
}

/* Ends the capture in any case, so that the stream can be used again after a launch that failed inside it. */
static int cuda_capture_end(struct device *dev, void **graph, struct err *err)
{
    struct cuda *c = dev->state;
    cu_graph captured = NULL;
    cu_graph_exec exec = NULL;
    *graph = NULL;
    if (!c->capturing)
        return err_set(err, "no CUDA graph is being captured");
    c->capturing = false;
    int entered = cuda_enter(c, err);
    int status = c->api->capture_end(c->stream, &captured);
    if (entered != 0)
        goto failed;
    if (cuda_check(c, status, err, "capturing a CUDA graph that ends with %s", c->last) != 0)
        goto failed;
    status = c->api->graph_instantiate(&exec, captured, 0);
    if (cuda_check(c, status, err, "making a CUDA graph that ends with %s", c->last) != 0)
        goto failed;
    c->api->graph_destroy(captured);
    captured = NULL;
    if (cuda_check(c, c->api->exec_upload(exec, c->stream), err, "putting a CUDA graph on the GPU") != 0)
        goto failed;
    *graph = exec;
    return 0;
failed:
    if (captured)
        c->api->graph_destroy(captured);
    if (exec)
        c->api->exec_destroy(exec);
    return -1;
}

static int cuda_replay(struct device *dev, void *graph, struct err *err)
{
    struct cuda *c = dev->state;
    if (cuda_enter_uncaptured(c, "a CUDA graph is replayed", err) != 0)
        return -1;
    return cuda_check(c, c->api->exec_launch(graph, c->stream), err, "replaying a CUDA graph, after %s", c->last);
}

static void cuda_release_graph(struct device *dev, void *graph)
{
    struct cuda *c = dev->state;
    if (graph && cuda_enter(c, NULL) == 0)
        c->api->exec_destroy(graph);
}

static void cuda_close(struct device *dev)
{
    struct cuda *c = dev->state;
    if (!c)
        return;
    if (c->context && cuda_enter(c, NULL) == 0) {
        if (c->capturing) {
            cu_graph unfinished = NULL;
            if (c->api->capture_end(c->stream, &unfinished) == CU_SUCCESS && unfinished)
                c->api->graph_destroy(unfinished);
        }
        if (c->stream)
            c->api->stream_sync(c->stream);
        cuda_gemm_close(c);
        for (int i = 0; i < MARKS; i++)
            if (c->mark[i])
                c->api->event_destroy(c->mark[i]);
        if (c->stream)
            c->api->stream_destroy(c->stream);
    }
    if (c->context)
        c->api->context_release(c->device);
    free(c);
    memset(dev, 0, sizeof *dev);
}

static int read_facts(struct cuda *c, struct device_facts *f, struct err *err)
{
    int major = 0, minor = 0;
    const struct {
        int attribute, *slot;
    } wanted[] = {
        {CU_COMPUTE_CAPABILITY_MAJOR, &major},
        {CU_COMPUTE_CAPABILITY_MINOR, &minor},
        {CU_MULTIPROCESSOR_COUNT, &f->sms},
        {CU_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &f->smem_per_block},
        {CU_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, &f->smem_per_sm},
        {CU_MAX_THREADS_PER_MULTIPROCESSOR, &f->threads_per_sm},
        {CU_L2_CACHE_SIZE, &f->l2_bytes},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (cuda_check(c, c->api->device_attribute(wanted[i].slot, wanted[i].attribute, c->device), err,
                       "asking the GPU for attribute %d", wanted[i].attribute) != 0)
            return -1;
    f->sm = 10 * major + minor;
    if (cuda_check(c, c->api->device_name(f->name, (int)sizeof f->name, c->device), err, "asking for the GPU's name") !=
        0)
        return -1;
    if (cuda_check(c, c->api->device_memory(&f->memory_bytes, c->device), err, "asking for the GPU's memory") != 0)
        return -1;
    return cuda_check(c, c->api->driver_version(&f->driver), err, "asking for the driver's version");
}

int device_cuda_open_with(struct device *dev, const struct cuda_api *api, int ordinal, struct err *err)
{
    static const struct device calls = {
        .kind = "cuda",
        .alloc = cuda_alloc,
        .release = cuda_release,
        .upload = cuda_upload,
        .download = cuda_download,
        .fill = cuda_fill,
        .load = cuda_load,
        .unload = cuda_unload,
        .launch = cuda_launch,
        .sync = cuda_sync,
        .alloc_pinned = cuda_alloc_pinned,
        .release_pinned = cuda_release_pinned,
        .upload_async = cuda_upload_async,
        .download_async = cuda_download_async,
        .memory_left = cuda_memory_left,
        .gemm_open = cuda_gemm_open,
        .gemm = cuda_gemm,
        .wait = cuda_wait,
        .mark = cuda_mark,
        .elapsed = cuda_elapsed,
        .capture_begin = cuda_capture_begin,
        .capture_end = cuda_capture_end,
        .replay = cuda_replay,
        .release_graph = cuda_release_graph,
        .close = cuda_close,
    };
    int count = 0;
    *dev = calls;
    struct cuda *c = err_calloc(1, sizeof *c, "the CUDA device", err);
    if (!c)
        goto failed;
    dev->state = c;
    c->api = api;
    snprintf(c->last, sizeof c->last, "no launch yet");
    if (cuda_check(c, api->device_count(&count), err, "counting GPUs") != 0)
        goto failed;
    if (ordinal < 0 || ordinal >= count) {
        err_set(err, count == 0 ? "the CUDA driver finds no GPU" : "there is no GPU number %d; the driver finds %d",
                ordinal, count);
        goto failed;
    }
    if (cuda_check(c, api->device_get(&c->device, ordinal), err, "opening GPU number %d", ordinal) != 0)
        goto failed;
    if (read_facts(c, &dev->facts, err) != 0)
        goto failed;
    if (cuda_check(c, api->context_retain(&c->context, c->device), err, "opening %s", dev->facts.name) != 0) {
        c->context = NULL;
        goto failed;
    }
    if (cuda_enter(c, err) != 0)
        goto failed;
    if (cuda_check(c, api->stream_create(&c->stream, CU_STREAM_NON_BLOCKING), err, "making a stream on %s",
                   dev->facts.name) != 0)
        goto failed;
    for (int i = 0; i < MARKS; i++)
        if (cuda_check(c, api->event_create(&c->mark[i], 0), err, "making an event on %s", dev->facts.name) != 0)
            goto failed;
    return 0;
failed:
    cuda_close(dev);
    memset(dev, 0, sizeof *dev);
    return -1;
}

int device_cuda_count(int *count, struct err *err)
{
    struct cuda c = {.device = 0};
    if (cuda_api_open(&c.api, err) != 0)
        return -1;
    return cuda_check(&c, c.api->device_count(count), err, "counting GPUs");
}

int device_cuda_facts(int ordinal, struct device_facts *facts, struct err *err)
{
    struct cuda c = {.device = 0};
    memset(facts, 0, sizeof *facts);
    if (cuda_api_open(&c.api, err) != 0)
        return -1;
    if (cuda_check(&c, c.api->device_get(&c.device, ordinal), err, "opening GPU number %d", ordinal) != 0)
        return -1;
    return read_facts(&c, facts, err);
}

int device_cuda_open(struct device *dev, int ordinal, struct err *err)
{
    const struct cuda_api *api;
    memset(dev, 0, sizeof *dev);
    return cuda_api_open(&api, err) == 0 ? device_cuda_open_with(dev, api, ordinal, err) : -1;
}
