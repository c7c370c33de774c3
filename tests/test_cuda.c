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

#include "fake_driver.h"
#include "runtime/device.h"

static int fresh(void **state)
{
    memset(&fake_driver, 0, sizeof fake_driver);
    return 0;
}

static const char cubin[] = "\177ELF...";

static void facts(void **state)
{
    struct device dev;
    struct err err = {""};
    assert_int_equal(device_cuda_open_with(&dev, &fake_api, 0, &err), 0);
    assert_string_equal(dev.kind, "cuda");
    assert_false(dev.wants_source);
    assert_string_equal(dev.facts.name, "Fake 9000");
    assert_int_equal(dev.facts.sm, 90);
    assert_int_equal(dev.facts.sms, 1016);
    assert_int_equal(dev.facts.smem_per_block, 1097);
    assert_int_equal(dev.facts.driver, 13000);
    dev.close(&dev);
    assert_true(fake_driver_nothing_left());
    assert_int_equal(device_cuda_open_with(&dev, &fake_api, 1, &err), -1);
    assert_string_equal(err.msg, "there is no GPU number 1; the driver finds 1");
    assert_int_equal(device_cuda_open_with(&dev, &fake_api, -1, &err), -1);
    assert_true(fake_driver_nothing_left());
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
    assert_int_equal(device_cuda_open_with(&dev, &fake_api, 0, &err), 0);
    assert_int_equal(dev.alloc(&dev, sizeof large, &p, &err), 0);
    assert_int_equal(dev.upload(&dev, p, "hello", 6, &err), 0);
    assert_int_equal(fake_driver.syncs, 0);
    assert_int_equal(dev.download(&dev, back, p, 6, &err), 0);
    assert_int_equal(fake_driver.syncs, 1);
    assert_string_equal(back, "hello");
    assert_int_equal(dev.fill(&dev, p, 'x', 2, &err), 0);
    assert_int_equal(dev.download(&dev, back, p, 6, &err), 0);
    assert_string_equal(back, "xxllo");
    assert_int_equal(dev.upload(&dev, p, large, sizeof large, &err), 0);
    assert_int_equal(fake_driver.syncs, 3); /* a large one is waited for */
    void *pinned;
    assert_int_equal(dev.alloc_pinned(&dev, sizeof large, &pinned, &err), 0);
    memset(pinned, 'y', sizeof large);
    assert_int_equal(dev.upload_async(&dev, p, pinned, sizeof large, &err), 0);
    assert_int_equal(dev.mark(&dev, 3, &err), 0);
    assert_int_equal(dev.wait(&dev, 3, &err), 0);
    assert_int_equal(dev.wait(&dev, 16, &err), -1);
    assert_int_equal(dev.download_async(&dev, pinned, p, 8, &err), 0);
    assert_int_equal(fake_driver.syncs, 3); /* nothing of that is */
    dev.release_pinned(&dev, pinned);
    dev.release_pinned(&dev, NULL);
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "attn_x", 70000, &k, &err), 0);
    assert_int_equal(fake_driver.smem_max, 70000);
    assert_int_equal(dev.launch(&dev, k, &l, &err), 0);
    assert_true(fake_driver.grid[0] == 7 && fake_driver.grid[1] == 2 && fake_driver.grid[2] == 3 &&
                fake_driver.block == 128 && fake_driver.smem == 5000 && fake_driver.args == args);
    assert_int_equal(fake_driver.overlapping, 0);
    struct launch behind = l;
    behind.overlap = true;
    assert_int_equal(dev.launch(&dev, k, &behind, &err), 0);
    assert_int_equal(fake_driver.overlapping, 1);
    dev.facts.sm = 80; /* which cannot */
    assert_int_equal(dev.launch(&dev, k, &behind, &err), 0);
    assert_int_equal(fake_driver.overlapping, 1);
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
    assert_true(fake_driver_nothing_left());
}

static void graphs(void **state)
{
    struct device dev;
    struct device_kernel *k;
    struct err err = {""};
    void *graph;
    devptr p;
    const struct launch l = {{1, 1, 1}, 32, 0, NULL, false};
    assert_int_equal(device_cuda_open_with(&dev, &fake_api, 0, &err), 0);
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
    assert_int_equal(fake_driver.replays, 2);
    assert_int_equal(fake_driver.graphs, 0);
    dev.release_graph(&dev, graph);
    dev.unload(&dev, k);
    dev.release(&dev, p);
    dev.close(&dev);
    assert_true(fake_driver_nothing_left());
}

static void errors_say_what_and_where(void **state)
{
    struct device dev;
    struct device_kernel *k;
    struct err err = {""};
    devptr p;
    const struct launch l = {{132, 8, 1}, 256, 4096, NULL, false};
    assert_int_equal(device_cuda_open_with(&dev, &fake_api, 0, &err), 0);
    assert_int_equal(dev.alloc(&dev, (size_t)2 << 30, &p, &err), -1);
    assert_string_equal(err.msg, "out of GPU memory: 2048 MB are wanted, 512 of 1024 MB are free on Fake 9000; a "
                                 "smaller window or stride needs less");
    assert_int_equal(dev.load(&dev, "text", 4, "k", 0, &k, &err), -1);
    assert_string_equal(err.msg, "k: what is loaded is no cubin");
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "absent", 0, &k, &err), -1);
    assert_string_equal(err.msg, "absent: its cubin holds no kernel of that name");
    assert_int_equal(fake_driver.modules, 0);
    fake_driver.fail_at = fake_driver.calls + 2, fake_driver.fail_with = CU_NO_BINARY_FOR_GPU;
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "k", 0, &k, &err), -1);
    assert_string_equal(err.msg, "k: its cubin is for another GPU than Fake 9000 (sm_90)");
    assert_int_equal(dev.load(&dev, cubin, sizeof cubin, "attn_decode__d128", 0, &k, &err), 0);
    fake_driver.fail_at = fake_driver.calls + 2, fake_driver.fail_with = 1;
    assert_int_equal(dev.launch(&dev, k, &l, &err), -1);
    assert_string_equal(err.msg, "launching attn_decode__d128, grid 132 x 8 x 1, 256 threads, 4096 bytes of shared "
                                 "memory: CUDA error (1, no description)");
    assert_int_equal(dev.launch(&dev, k, &l, &err), 0);
    fake_driver.fail_at = fake_driver.calls + 2, fake_driver.fail_with = 700;
    assert_int_equal(dev.sync(&dev, &err), -1);
    assert_string_equal(
        err.msg,
        "waiting for the GPU, after attn_decode__d128, grid 132 x 8 x 1, 256 threads, 4096 bytes of shared memory: "
        "CUDA_ERROR_ILLEGAL_ADDRESS (700, an illegal memory access was encountered)");
    dev.unload(&dev, k);
    dev.close(&dev);
    assert_true(fake_driver_nothing_left());
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
    if (device_cuda_open_with(&dev, &fake_api, 0, &err) != 0) {
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
    fake_driver.fail_at = 0; /* what gives back is not refused */
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
        memset(&fake_driver, 0, sizeof fake_driver);
        fake_driver.fail_at = at;
        fake_driver.fail_with = 700;
        done = whole_life();
        if (!fake_driver_nothing_left())
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
