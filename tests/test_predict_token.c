/* The prediction of one token's attention: what was measured of tiles that differ in one respect, and what follows from launches that
 * overlap. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gen_home.h"
#include "runtime/pairs.h"
#include "tuner/predict.h"

/* Microseconds of a tile that is allowed on an H200, with the facts in *gpu. */
static double predict_us(const struct gen_gpu *gpu, const char *shape, const char *tile, const char *sizes)
{
    struct pairs given, at;
    struct gen_param param[PAIRS_MAX];
    struct gen_kernel spec;
    struct prediction p;
    struct err err = {""};
    char params[128];
    snprintf(params, sizeof params, "%s t=bf16 %s", shape, tile);
    if (pairs_parse(&given, params, &err) != 0 || pairs_parse(&at, sizes, &err) != 0 ||
        gen_resolve(own_gen, "attn_decode", "h200", param, pairs_params(&given, param, 0), &spec, &err) != 0)
        fail_msg("%s", err.msg);
    struct predict_input in = {gpu, &spec, NULL, &at, 0, 0};
    if (predict_time(&in, &p, &err) != 0)
        fail_msg("%s: %s", spec.name, err.msg);
    return p.ms * 1e3;
}

static struct gen_gpu h200(void)
{
    struct gen_gpu gpu;
    struct err err = {""};
    assert_int_equal(gen_gpu(own_gen, "h200", &gpu, &err), 0);
    return gpu;
}

/* Trials of an H200 that the constants are fitted on, too: each tile shows one cost. */
static void test_what_was_measured(void **state)
{
    (void)state;
    static const struct {
        const char *shape, *sizes, *tile;
        double us;
    } trial[] = {
        /* More blocks of a layer on a multiprocessor. */
        {"d=64 g=3", "keys=2121 kv_heads=3", "bn=16 wp=4 st=6 qr=0", 4.38},
        {"d=64 g=3", "keys=2121 kv_heads=3", "bn=16 wp=4 st=2 qr=0", 5.07},
        /* Two outputs a thread, and a tile more where runs begin within tiles. */
        {"d=64 g=3", "keys=2121 kv_heads=3", "bn=64 wp=3 st=4 qr=1", 4.74},
        {"d=64 g=3", "keys=2121 kv_heads=3", "bn=64 wp=2 st=4 qr=1", 5.92},
        {"d=64 g=3", "keys=2121 kv_heads=3", "bn=48 wp=2 st=4 qr=1", 6.50},
        /* No room for the last blocks of the layer to come. */
        {"d=64 g=4", "keys=2121 kv_heads=8", "bn=32 wp=6 st=2 qr=1 bs=1", 5.07},
        {"d=64 g=4", "keys=2121 kv_heads=8", "bn=32 wp=6 st=3 qr=1 bs=1", 5.53},
        /* Queries that turn once more. */
        {"d=128 g=4", "keys=2121 kv_heads=8", "bn=48 wp=4 st=2 qr=1", 7.16},
        {"d=128 g=4", "keys=2121 kv_heads=8", "bn=16 wp=4 st=2 qr=1 bs=1", 8.94},
        /* Outputs: 512 pairs of 34 splits, or 16, by 128 threads or 64. */
        {"d=128 g=8", "keys=2121 kv_heads=8", "bn=16 wp=4 st=2 qr=1", 11.87},
        {"d=128 g=8", "keys=2121 kv_heads=8", "bn=16 wp=2 st=2 qr=1", 20.54},
        {"d=128 g=8", "keys=2121 kv_heads=8", "bn=16 wp=2 st=2 qr=1 bs=1", 14.89},
        /* The bus. */
        {"d=128 g=4", "keys=16457 kv_heads=8", "bn=16 wp=4 st=3 qr=1 bs=2", 22.11},
        {"d=128 g=4", "keys=16457 kv_heads=8", "bn=16 wp=4 st=3 qr=1 bs=1", 26.08},
    };
    enum { TRIALS = sizeof trial / sizeof *trial };
    struct gen_gpu gpu = h200();
    double us[TRIALS];
    for (int i = 0; i < TRIALS; i++) {
        us[i] = predict_us(&gpu, trial[i].shape, trial[i].tile, trial[i].sizes);
        assert_true(fabs(log(us[i] / trial[i].us)) < 0.14);
        for (int j = 0; j < i; j++)
            if (fabs(log(trial[i].us / trial[j].us)) >
                0.08) /* what is that far apart is told apart, across shapes too */
                assert_true((us[i] > us[j]) == (trial[i].us > trial[j].us));
    }
}

/* A multiprocessor with more room has more blocks of layers to come, and in the end of one layer: only where launches overlap. */
static void test_more_room_is_not_faster(void **state)
{
    (void)state;
    const char *shape = "d=64 g=3", *tile = "bn=16 wp=4 st=6 qr=0", *sizes = "keys=2121 kv_heads=3";
    struct gen_gpu gpu = h200(), roomy = gpu;
    roomy.smem_per_sm *= 2;
    double before = predict_us(&gpu, shape, tile, sizes);
    assert_true(predict_us(&roomy, shape, tile, sizes) > before);
    gpu.sm = roomy.sm = 80;
    double alone = predict_us(&gpu, shape, tile, sizes);
    assert_true(alone > before); /* nobody has asked for the first tiles ahead */
    assert_float_equal(predict_us(&roomy, shape, tile, sizes), alone, 1e-9);
}

/* From a token's own key on: one split, some, and as many as there is room for. */
static void test_more_keys_take_longer(void **state)
{
    (void)state;
    static const int keys[] = {1, 2, 65, 66, 200, 1093, 4169, 16457, 131145};
    struct gen_gpu gpu = h200();
    double before = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char sizes[48];
        snprintf(sizes, sizeof sizes, "keys=%d kv_heads=8", keys[i]);
        double us = predict_us(&gpu, "d=128 g=4", "bn=16 wp=4 st=3 qr=1", sizes);
        assert_true(isfinite(us) && us > before);
        before = us;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_measured),
        cmocka_unit_test(test_more_room_is_not_faster),
        cmocka_unit_test(test_more_keys_take_longer),
    };
    return cmocka_run_group_tests(tests, own_gen_open, own_gen_close);
}
