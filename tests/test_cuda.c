/* The device `cuda` against a driver made of this file: the order of calls, what an error says, and that nothing is left behind
 * whichever call fails. What a GPU does with them, test_gpu shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/cuda_api.h"
#include "runtime/device.h"

/* The driver's state. Handles are numbers. */
static struct {
    int calls, fail_at, fail_with; /* call number fail_at fails so; 0: none does */
    int contexts, streams, events, modules, graphs, execs, allocations;
    int launches, overlapping, replays, syncs;
    int smem_max;
    bool capturing, current;
    unsigned grid[3], block, smem;
    void **args;
} driver;

static int call(void)
{
    return ++driver.calls == driver.fail_at ? driver.fail_with : CU_SUCCESS;
}

#define HANDLE(type) ((type)(uintptr_t)0x1000)
#define MAKE(count, slot, type)                                                                                        \
    do {                                                                                                               \
        int status = call();                                                                                           \
        if (status != CU_SUCCESS)                                                                                      \
            return status;                                                                                             \
        driver.count++;                                                                                                \
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
    driver.contexts--;
    return CU_SUCCESS;
}
static int fake_context_set(cu_context context)
{
    driver.current = context == HANDLE(cu_context);
    return call();
}
static int fake_stream_create(cu_stream *stream, unsigned flags)
{
    assert_int_equal(flags, CU_STREAM_NON_BLOCKING);
    MAKE(streams, stream, cu_stream);
}
static int fake_stream_destroy(cu_stream stream)
{
    driver.streams--;
    return CU_SUCCESS;
}
static int fake_stream_sync(cu_stream stream)
{
    assert_false(driver.capturing);
    driver.syncs++;
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
    assert_true(bytes > 0 && driver.current);
    if (status != CU_SUCCESS)
        return status;
    if (bytes > 1 << 30)
        return CU_OUT_OF_MEMORY;
    driver.allocations++;
    *p = (cu_deviceptr)(uintptr_t)malloc(bytes);
    return CU_SUCCESS;
}
static int fake_memory_free(cu_deviceptr p)
{
    driver.allocations--;
    free((void *)(uintptr_t)p);
    return CU_SUCCESS;
}
static int fake_host_alloc(void **p, size_t bytes, unsigned flags)
{
    int status = call();
    if (status != CU_SUCCESS)
        return status;
    driver.allocations++;
    *p = malloc(bytes);
    return CU_SUCCESS;
}
static int fake_host_free(void *p)
{
    driver.allocations--;
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
    driver.modules--;
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
        driver.smem_max = value;
    else
        assert_true(attribute == CU_FUNC_PREFERRED_SHARED_MEMORY_CARVEOUT && value == 100);
    return call();
}
static int fake_launch(cu_function function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned smem, cu_stream stream, void **args, void **extra)
{
    assert_true(driver.current && stream == HANDLE(cu_stream) && function == HANDLE(cu_function) && !extra && by == 1 &&
                bz == 1);
    driver.grid[0] = gx, driver.grid[1] = gy, driver.grid[2] = gz;
    driver.block = bx, driver.smem = smem, driver.args = args;
    driver.launches++;
    return call();
}
static int fake_launch_config(const struct cu_launch_config *c, cu_function function, void **args, void **extra)
{
    assert_true(c->attributes == 1 && c->attribute->id == CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION &&
                c->attribute->value.allowed == 1);
    driver.overlapping++;
    return fake_launch(function, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->smem, c->stream, args, extra);
}
static int fake_event_create(cu_event *event, unsigned flags)
{
    MAKE(events, event, cu_event);
}
static int fake_event_destroy(cu_event event)
{
    driver.events--;
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
    assert_false(driver.capturing);
    int status = call();
    driver.capturing = status == CU_SUCCESS;
    return status;
}
static int fake_capture_end(cu_stream stream, cu_graph *graph)
{
    assert_true(driver.capturing);
    driver.capturing = false;
    MAKE(graphs, graph, cu_graph);
}
static int fake_graph_instantiate(cu_graph_exec *exec, cu_graph graph, unsigned long long flags)
{
    MAKE(execs, exec, cu_graph_exec);
}
static int fake_graph_destroy(cu_graph graph)
{
    driver.graphs--;
    return CU_SUCCESS;
}
static int fake_exec_upload(cu_graph_exec exec, cu_stream stream)
{
    return call();
}
static int fake_exec_launch(cu_graph_exec exec, cu_stream stream)
{
    driver.replays++;
    return call();
}
static int fake_exec_destroy(cu_graph_exec exec)
{
    driver.execs--;
    return CU_SUCCESS;
}

static const struct cuda_api fake = {
#define FAKE_SLOT(name, symbol, args) .name = fake_##name,
    CUDA_CALLS(FAKE_SLOT)
#undef FAKE_SLOT
};

static int fresh(void **state)
{
    memset(&driver, 0, sizeof driver);
    return 0;
}

static bool nothing_left(void)
{
    return driver.contexts == 0 && driver.streams == 0 && driver.events == 0 && driver.modules == 0 &&
           driver.graphs == 0 && driver.execs == 0 && driver.allocations == 0 && !driver.capturing;
}

static const char cubin[] = "\177ELF...";

static void facts(void **state)
{
    struct device dev;
    struct err err = {""};
    assert_int_equal(device_cuda_open_with(&dev, &fake, 0, &err), 0);
    assert_string_equal(dev.kind, "cuda");
    assert_false(dev.wants_source);
    assert_string_equal(dev.facts.name, "Fake 9000");
    assert_int_equal(dev.facts.sm, 90);
    assert_int_equal(dev.facts.sms, 1016);
    assert_int_equal(dev.facts.smem_per_block, 1097);
    assert_int_equal(dev.facts.driver, 13000);
    dev.close(&dev);
    assert_true(nothing_left());
    assert_int_equal(device_cuda_open_with(&dev, &fake, 1, &err), -1);
    assert_string_equal(err.msg, "there is no GPU number 1; the driver finds 1");
    assert_int_equal(device_cuda_open_with(&dev, &fake, -1, &err), -1);
    assert_true(nothing_left());
}

static void copies_and_launches(void **state)
{
    struct device dev;
    struct device_kernel *k;
    struct err err = {""};
    devptr p;
    char back[8] = "";
    static char large[100000];
    void *args[] = {&p};
    const struct launch l = {{7, 2, 3}, 128, 5000, args, false};
    assert_int_equal(device_cuda_open_with(&dev, &fake, 0, &err), 0);
    assert_int_equal(dev.alloc(&dev, sizeof large, &p, &err), 0);
    assert_int_equal(dev.upload(&dev, p, "hello", 6, &err), 0);
    assert_int_equal(driver.syncs, 0);
    assert_int_equal(dev.download(&dev, back, p, 6, &err), 0);
    assert_int_equal(driver.syncs, 1);
    assert_string_equal(back, "hello");
    assert_int_equal(dev.fill(&dev, p, 'x', 2, &err), 0);
    assert_int_equal(dev.download(&dev, back, p, 6, &err), 0);
    assert_string_equal(back, "xxllo");
    assert_int_equal(dev.upload(&dev, p, large, sizeof large, &err), 0);
    assert_int_equal(driver.syncs, 3); /* a large one is waited for */
    void *pinned;
    assert_int_equal(dev.alloc_pinned(&dev, sizeof large, &pinned, &err), 0);
    memset(pinned, 'y', sizeof large);
    assert_int_equal(dev.upload_async(&dev, p, pinned, sizeof large, &err), 0);
    assert_int_equal(dev.mark(&dev, 3, &err), 0);
    assert_int_equal(dev.wait(&dev, 3, &err), 0);
    assert_int_equal(dev.wait(&dev, 16, &err), -1);
    assert_int_equal(dev.download_async(&dev, pinned, p, 8, &err), 0);
    assert_int_equal(driver.syncs, 3); /* nothing of that is */
    dev.release_pinned(&dev, pinned);
    dev.release_pinned(&dev, NULL);
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "attn_x", 70000, &k, &err), 0);
    assert_int_equal(driver.smem_max, 70000);
    assert_int_equal(dev.launch(&dev, k, &l, &err), 0);
    assert_true(driver.grid[0] == 7 && driver.grid[1] == 2 && driver.grid[2] == 3 && driver.block == 128 &&
                driver.smem == 5000 && driver.args == args);
    assert_int_equal(driver.overlapping, 0);
    struct launch behind = l;
    behind.overlap = true;
    assert_int_equal(dev.launch(&dev, k, &behind, &err), 0);
    assert_int_equal(driver.overlapping, 1);
    dev.facts.sm = 80; /* which cannot */
    assert_int_equal(dev.launch(&dev, k, &behind, &err), 0);
    assert_int_equal(driver.overlapping, 1);
    float ms = 0;
    assert_int_equal(dev.mark(&dev, 0, &err), 0);
    assert_int_equal(dev.mark(&dev, 15, &err), 0);
    assert_int_equal(dev.elapsed(&dev, 0, 15, &ms, &err), 0);
    assert_true(ms == 1.5f);
    assert_int_equal(dev.mark(&dev, 16, &err), -1);
    dev.unload(&dev, k);
    dev.release(&dev, p);
    dev.release(&dev, 0);
    dev.close(&dev);
    assert_true(nothing_left());
}

static void graphs(void **state)
{
    struct device dev;
    struct device_kernel *k;
    struct err err = {""};
    void *graph;
    devptr p;
    const struct launch l = {{1, 1, 1}, 32, 0, NULL, false};
    assert_int_equal(device_cuda_open_with(&dev, &fake, 0, &err), 0);
    assert_int_equal(dev.alloc(&dev, 16, &p, &err), 0);
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "k", 0, &k, &err), 0);
    assert_int_equal(dev.capture_end(&dev, &graph, &err), -1);
    assert_int_equal(dev.capture_begin(&dev, &err), 0);
    assert_int_equal(dev.launch(&dev, k, &l, &err), 0);
    assert_int_equal(dev.fill(&dev, p, 0, 16, &err), 0);
    /* What a graph would hold wrongly. */
    assert_int_equal(dev.upload(&dev, p, "x", 1, &err), -1);
    assert_string_equal(err.msg, "memory is copied to the GPU while a CUDA graph is captured");
    assert_int_equal(dev.download(&dev, &p, p, 1, &err), -1);
    assert_int_equal(dev.sync(&dev, &err), -1);
    assert_int_equal(dev.alloc(&dev, 1, &p, &err), -1);
    assert_int_equal(dev.mark(&dev, 0, &err), -1);
    assert_int_equal(dev.capture_begin(&dev, &err), -1);
    assert_int_equal(dev.capture_end(&dev, &graph, &err), 0);
    assert_int_equal(dev.replay(&dev, graph, &err), 0);
    assert_int_equal(dev.replay(&dev, graph, &err), 0);
    assert_int_equal(driver.replays, 2);
    assert_int_equal(driver.graphs, 0);
    dev.release_graph(&dev, graph);
    dev.unload(&dev, k);
    dev.release(&dev, p);
    dev.close(&dev);
    assert_true(nothing_left());
}

static void errors_say_what_and_where(void **state)
{
    struct device dev;
    struct device_kernel *k;
    struct err err = {""};
    devptr p;
    const struct launch l = {{132, 8, 1}, 256, 4096, NULL, false};
    assert_int_equal(device_cuda_open_with(&dev, &fake, 0, &err), 0);
    assert_int_equal(dev.alloc(&dev, (size_t)2 << 30, &p, &err), -1);
    assert_string_equal(err.msg, "out of GPU memory: 2048 MB are wanted, 512 of 1024 MB are free on Fake 9000; a "
                                 "smaller window or stride needs less");
    assert_int_equal(dev.load(&dev, "text", 4, "k", 0, &k, &err), -1);
    assert_string_equal(err.msg, "k: what is loaded is no cubin");
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "absent", 0, &k, &err), -1);
    assert_string_equal(err.msg, "absent: its cubin holds no kernel of that name");
    assert_int_equal(driver.modules, 0);
    driver.fail_at = driver.calls + 2, driver.fail_with = CU_NO_BINARY_FOR_GPU;
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "k", 0, &k, &err), -1);
    assert_string_equal(err.msg, "k: its cubin is for another GPU than Fake 9000 (sm_90)");
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "attn_decode__d128", 0, &k, &err), 0);
    driver.fail_at = driver.calls + 2, driver.fail_with = 1;
    assert_int_equal(dev.launch(&dev, k, &l, &err), -1);
    assert_string_equal(err.msg, "launching attn_decode__d128, grid 132 x 8 x 1, 256 threads, 4096 bytes of shared "
                                 "memory: CUDA error (1, no description)");
    assert_int_equal(dev.launch(&dev, k, &l, &err), 0);
    driver.fail_at = driver.calls + 2, driver.fail_with = 700;
    assert_int_equal(dev.sync(&dev, &err), -1);
    assert_string_equal(
        err.msg,
        "waiting for the GPU, after attn_decode__d128, grid 132 x 8 x 1, 256 threads, 4096 bytes of shared memory: "
        "CUDA_ERROR_ILLEGAL_ADDRESS (700, an illegal memory access was encountered)");
    dev.unload(&dev, k);
    dev.close(&dev);
    assert_true(nothing_left());
}

/* A whole life of a device; false where any step failed. Everything that was got is given back in any case. */
static bool whole_life(void)
{
    struct device dev;
    struct device_kernel *k = NULL;
    struct err err = {""};
    devptr p = 0;
    void *graph = NULL, *pinned = NULL;
    float ms;
    const struct launch l = {{1, 1, 1}, 32, 0, NULL, false};
    if (device_cuda_open_with(&dev, &fake, 0, &err) != 0) {
        assert_true(err.msg[0] != 0);
        assert_null(dev.state);
        return false;
    }
    bool good = dev.alloc(&dev, 64, &p, &err) == 0 && dev.upload(&dev, p, "x", 1, &err) == 0 &&
                dev.fill(&dev, p, 0, 64, &err) == 0 && dev.load(&dev, cubin, sizeof cubin, "k", 100, &k, &err) == 0 &&
                dev.mark(&dev, 0, &err) == 0 && dev.alloc_pinned(&dev, 64, &pinned, &err) == 0 &&
                dev.upload_async(&dev, p, pinned, 64, &err) == 0 &&
                dev.download_async(&dev, pinned, p, 64, &err) == 0 && dev.wait(&dev, 0, &err) == 0;
    if (good && dev.capture_begin(&dev, &err) == 0) {
        good = dev.launch(&dev, k, &l, &err) == 0;
        good = dev.capture_end(&dev, &graph, &err) == 0 && good;
    } else {
        good = false;
    }
    good = good && dev.replay(&dev, graph, &err) == 0 && dev.mark(&dev, 1, &err) == 0 &&
           dev.elapsed(&dev, 0, 1, &ms, &err) == 0 && dev.download(&dev, &ms, p, 4, &err) == 0;
    assert_true(good || err.msg[0] != 0);
    driver.fail_at = 0; /* what gives back is not refused */
    dev.release_graph(&dev, graph);
    dev.unload(&dev, k);
    dev.release(&dev, p);
    dev.release_pinned(&dev, pinned);
    dev.close(&dev);
    return good;
}

static void whichever_call_fails_nothing_is_left(void **state)
{
    int at = 1;
    for (bool done = false; !done; at++) {
        memset(&driver, 0, sizeof driver);
        driver.fail_at = at;
        driver.fail_with = 700;
        done = whole_life();
        if (!nothing_left())
            fail_msg("something is left behind when call %d fails", at);
        assert_true(at < 200);
    }
    assert_true(at > 50);
}

/* In a process of its own: no library, a library that is none, one line each. */
static void no_driver_is_one_line(void **state)
{
    static const char *const paths[] = {"/nonexistent/libcuda.so.1", "/proc/self/exe", "libc.so.6"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct device dev;
            struct err err = {""};
            int count;
            setenv("WEIR_LIBCUDA", paths[i], 1);
            bool good = device_cuda_open(&dev, 0, &err) == -1 && err.msg[0] && !strchr(err.msg, '\n');
            good = good && device_cuda_count(&count, &err) == -1;
            _exit(good ? 0 : 1);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(facts, fresh),
        cmocka_unit_test_setup(copies_and_launches, fresh),
        cmocka_unit_test_setup(graphs, fresh),
        cmocka_unit_test_setup(errors_say_what_and_where, fresh),
        cmocka_unit_test_setup(whichever_call_fails_nothing_is_left, fresh),
        cmocka_unit_test_setup(no_driver_is_one_line, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
