/* The CUDA backend on a device whose calls fail, one after the other: an error of one line, and nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "emu/emu.h"
#include "gguf_writer.h"
#include "runtime/backend_cuda.h"
#include "runtime/llama.h"

/* A device whose n-th allocation, load, launch or product fails; what it gives out and gets back is counted. */
static struct {
    struct device inner;
    int at, calls; /* call number `at` of the kinds in `kinds` fails */
    unsigned kinds;
    int memory, pinned, kernels;
} failing;
enum { ALLOC = 1, PINNED = 2, LOAD = 4, LAUNCH = 8, PRODUCT = 16 };

static bool fails(unsigned kind, struct err *err)
{
    if (!(failing.kinds & kind) || ++failing.calls != failing.at)
        return false;
    err_set(err, "planted: call %d", failing.at);
    return true;
}

static int failing_alloc(struct device *dev, size_t bytes, devptr *out, struct err *err)
{
    if (fails(ALLOC, err) || failing.inner.alloc(dev, bytes, out, err) != 0)
        return -1;
    failing.memory++;
    return 0;
}

static void failing_release(struct device *dev, devptr p)
{
    failing.memory -= p != 0;
    failing.inner.release(dev, p);
}

static int failing_alloc_pinned(struct device *dev, size_t bytes, void **out, struct err *err)
{
    if (fails(PINNED, err) || failing.inner.alloc_pinned(dev, bytes, out, err) != 0)
        return -1;
    failing.pinned++;
    return 0;
}

static void failing_release_pinned(struct device *dev, void *p)
{
    failing.pinned -= p != NULL;
    failing.inner.release_pinned(dev, p);
}

static int failing_load(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                        struct device_kernel **out, struct err *err)
{
    if (fails(LOAD, err) || failing.inner.load(dev, image, bytes, symbol, smem_max, out, err) != 0)
        return -1;
    failing.kernels++;
    return 0;
}

static void failing_unload(struct device *dev, struct device_kernel *k)
{
    failing.kernels -= k != NULL;
    failing.inner.unload(dev, k);
}

static int failing_launch(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err)
{
    return fails(LAUNCH, err) ? -1 : failing.inner.launch(dev, k, l, err);
}

static int failing_gemm(struct device *dev, const struct gemm *g, struct err *err)
{
    return fails(PRODUCT, err) ? -1 : failing.inner.gemm(dev, g, err);
}

/* Opens, takes a chunk and a token; 0 when nothing failed. */
static int short_life(const struct model *m, const struct cascade_params *p, struct err *err)
{
    struct device dev;
    struct backend be;
    int rc = -1;
    if (device_emu_open(&dev, &(struct emu_options){.only_faults = true, .sm = 90}, err) != 0)
        return -1;
    failing.inner = dev;
    failing.calls = failing.memory = failing.pinned = failing.kernels = 0;
    dev.alloc = failing_alloc;
    dev.release = failing_release;
    dev.alloc_pinned = failing_alloc_pinned;
    dev.release_pinned = failing_release_pinned;
    dev.load = failing_load;
    dev.unload = failing_unload;
    dev.launch = failing_launch;
    dev.gemm = failing_gemm;
    if (backend_cuda_open_on(&be, &dev, m, p, &(struct backend_options){.threads = 1}, err) == 0) {
        float nats[5];
        rc = llama_forward(&be, m, (const int32_t[20]){1, 2, 3, 4, 5, 6}, 20, err) == 0 &&
                     be.likelihoods(&be, 0, 5, (const int32_t[]){2, 3, 4, 5, 6}, nats, err) == 0 &&
                     llama_forward(&be, m, (const int32_t[]){7}, 1, err) == 0
                 ? 0
                 : -1;
        be.close(&be);
    }
    assert_int_equal(failing.memory, 0);
    assert_int_equal(failing.pinned, 0);
    assert_int_equal(failing.kernels, 0);
    return rc;
}

static void test_whatever_fails_is_one_line(void **state)
{
    (void)state;
    static const unsigned kinds[] = {ALLOC, PINNED, LOAD, LAUNCH, PRODUCT};
    struct tiny_model t = tiny_model_defaults();
    struct cascade_params p = cascade_defaults();
    struct model m;
    struct bytes file;
    t.layers = 1, t.heads = 2, t.kv_heads = 1, t.head_dim = 64;
    t.type = t.embed_type = QUANT_BF16;
    p.sinks = 4, p.subcaches = 3, p.window = 48, p.span = 4, p.stride = 24;
    tiny_model_open(&t, &m, &file);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int rc = -1;
        failing.kinds = kinds[i];
        for (failing.at = 1; rc != 0; failing.at++) {
            struct err err = {""};
            rc = short_life(&m, &p, &err);
            if (rc != 0 && (!strstr(err.msg, "planted") || strchr(err.msg, '\n')))
                fail_msg("kind %u, call %d: '%s'", kinds[i], failing.at, err.msg);
        }
        assert_true(failing.at > 2); /* at least one such call there was */
    }
    model_close(&m);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whatever_fails_is_one_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
