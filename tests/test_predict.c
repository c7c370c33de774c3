/* The prediction model: the code reader, the multiprocessor's model, and what must hold of every prediction whatever its parameters are
 * fitted to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gen_home.h"
#include "runtime/kernel.h"
#include "tuner/machine.h"
#include "tuner/predict.h"
#include "tuner/predict_private.h"
#include "tuner/predict_space.h"
#include "tuner/space.h"

static const struct {
    const char *kernel, *shape, *sizes;
} problems[] = {
    {"attn_prefill", "d=128 t=bf16", "tokens=4096 held=16448 heads=32 kv_heads=8"},
    {"attn_prefill", "d=64 t=bf16", "tokens=1024 held=0 heads=9 kv_heads=3"},
    {"attn_scores", "d=128 t=bf16", "tokens=4096 held=16448 heads=32 kv_heads=8"},
    {"attn_decode", "d=128 g=4 t=bf16", "keys=16457 kv_heads=8"},
    {"attn_turn", "d=128 t=bf16", "tokens=4096 heads=32 kv_heads=8"},
    {"attn_score_reduce", "reduce=mean", "tokens=4096 held=16448 heads=32 cascades=8"},
    {"cascade_update", "d=128 b=16 t=bf16", "tokens=4096 moved=8192 kv_heads=8"},
    {"stream_copy", "t=bf16", "n=33554432"},
    {"rms_norm", "n=4096 t=bf16", "tokens=4096"},
    {"swiglu", "t=bf16", "tokens=4096 ffn=14336"},
    {"add_bias", "t=bf16", "tokens=1024 n=4608"},
    {"dequantise", "w=q4_0 t=fp16", "elements=117440512"},
    {"embed", "n=4096 w=q6_k t=fp16", "tokens=1024"},
    {"likelihood", "t=bf16", "tokens=4096 vocab=128256"},
    {"attn_decode_scores", "r=4 reduce=mean", "keys=16457 cascades=8 layers=7"},
    {"sample", "t=bf16", "vocab=128256"},
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

static void open_space(struct tune_space *s, int problem, const char *gpu)
{
    struct tune_problem p = {0};
    struct err err = {""};
    snprintf(p.kernel, sizeof p.kernel, "%s", problems[problem].kernel);
    if (pairs_parse(&p.shape, problems[problem].shape, &err) != 0 ||
        pairs_parse(&p.sizes, problems[problem].sizes, &err) != 0 ||
        tune_space_open(s, own_gen, gpu, &p, NULL, &err) != 0)
        fail_msg("%s", err.msg);
}

/* The prediction of a config (an index into s->valid) from its spec, with the facts in *gpu. */
static struct prediction predict(const struct tune_space *s, int config, const struct gen_gpu *gpu)
{
    struct gen_kernel spec;
    struct prediction p;
    struct err err = {""};
    if (tune_space_spec(s, s->valid[config], &spec, &err) != 0)
        fail_msg("%s", err.msg);
    struct predict_input in = {gpu, &spec, NULL, &s->problem.sizes, s->bytes, s->flops};
    if (predict_time(&in, &p, &err) != 0)
        fail_msg("%s: %s", spec.name, err.msg);
    return p;
}

static int best_of(const struct tune_space *s, struct prediction *best)
{
    int at = -1;
    for (int i = 0; i < s->nvalid; i++) {
        struct prediction p = predict(s, i, &s->gpu);
        if (at < 0 || p.ms < best->ms) {
            at = i;
            *best = p;
        }
    }
    return at;
}

static void test_every_prediction_is_sound(void **state)
{
    (void)state;
    for (int i = 0; i < PROBLEMS; i++) {
        struct tune_space s;
        open_space(&s, i, "a100");
        for (int k = 0; k < s.nvalid; k += 7) {
            struct prediction p = predict(&s, k, &s.gpu);
            assert_true(isfinite(p.ms) && p.ms > 0);
            assert_true(p.blocks_per_sm >= 1 && p.waves > 0 && p.limit && p.why[0]);
            /* No config beats the tensor cores or the bus. */
            assert_true(p.ms * s.gpu.tensor_tflops * 1e9 >= 0.98 * s.flops);
            assert_true(p.ms * s.gpu.dram_gbs * 1e6 >= s.bytes);
        }
        tune_space_close(&s);
    }
}

/* A GPU that is better in one respect, and the same in all others, is never slower. */
static void test_more_of_anything_is_never_slower(void **state)
{
    (void)state;
    for (int i = 0; i < PROBLEMS; i++) {
        struct tune_space s;
        open_space(&s, i, "a6000");
        for (int k = 0; k < s.nvalid; k += 31) {
            double ms = predict(&s, k, &s.gpu).ms;
            struct gen_gpu bus = s.gpu, tensor = s.gpu, clock = s.gpu;
            bus.dram_gbs *= 1.5;
            tensor.tensor_tflops *= 2;
            clock.clock_mhz *= 1.2;
            clock.tensor_tflops *= 1.2;
            assert_true(predict(&s, k, &bus).ms <= ms * 1.001);
            assert_true(predict(&s, k, &tensor).ms <= ms * 1.001);
            assert_true(predict(&s, k, &clock).ms <= ms * 1.001);
        }
        tune_space_close(&s);
    }
}

static void test_more_work_takes_longer(void **state)
{
    (void)state;
    struct tune_space s;
    open_space(&s, 0, "a100");
    for (int k = 0; k < s.nvalid; k += 97) {
        struct gen_kernel spec;
        struct err err = {""};
        double before = 0;
        assert_int_equal(tune_space_spec(&s, s.valid[k], &spec, &err), 0);
        for (int held = 0; held <= 65536; held += 16384) {
            struct pairs sizes = s.problem.sizes;
            struct prediction p;
            assert_int_equal(pairs_put_long(&sizes, "held", held, &err), 0);
            struct predict_input in = {&s.gpu, &spec, NULL, &sizes, 0, 0};
            assert_int_equal(predict_time(&in, &p, &err), 0);
            assert_true(p.ms > before);
            before = p.ms;
        }
    }
    tune_space_close(&s);
}

/* 99 KB and 163 KB of shared memory, half and full tensor rate: the picks differ, each is allowed where it is picked, and the reasons name
 * the figures. */
static void test_a6000_and_a100_get_different_picks(void **state)
{
    (void)state;
    struct tune_space a100, a6000;
    struct prediction on_a100, on_a6000;
    struct pairs tile;
    open_space(&a100, 0, "a100");
    open_space(&a6000, 0, "a6000");
    int big = best_of(&a100, &on_a100), small = best_of(&a6000, &on_a6000);
    tune_space_config(&a100, a100.valid[big], &tile);
    int elsewhere = tune_space_find(&a6000, &tile);
    assert_true(elsewhere < 0 || elsewhere != a6000.valid[small]);
    assert_non_null(strstr(on_a100.why, "of 163 KB"));
    assert_non_null(strstr(on_a6000.why, "of 99 KB"));
    /* 156 against 312 TFLOP/s, and both are bound by their tensor cores. */
    assert_true(on_a6000.ms > 1.5 * on_a100.ms && on_a6000.ms < 2.5 * on_a100.ms);
    tune_space_close(&a100);
    tune_space_close(&a6000);
}

/* GeForce parts of GA102 have half the rate of the A6000 when they accumulate in fp32. */
static void test_geforce_has_half_the_tensor_rate(void **state)
{
    (void)state;
    struct gen_gpu a6000, rtx3090;
    struct machine fast, slow;
    struct err err = {""};
    assert_int_equal(gen_gpu(own_gen, "a6000", &a6000, &err), 0);
    assert_int_equal(gen_gpu(own_gen, "rtx3090", &rtx3090, &err), 0);
    assert_int_equal(machine_of(&a6000, &fast, &err), 0);
    assert_int_equal(machine_of(&rtx3090, &slow, &err), 0);
    assert_int_equal(fast.tensor, 16); /* 2048 products a warp's instruction, 128 a cycle and partition */
    assert_int_equal(slow.tensor, 32);
}

static void test_what_it_cannot_say(void **state)
{
    (void)state;
    struct tune_space s;
    struct gen_kernel spec;
    struct gen_gpu unknown;
    struct prediction p;
    struct err err = {""};
    open_space(&s, 0, "a100");
    assert_int_equal(tune_space_spec(&s, s.valid[0], &spec, &err), 0);
    assert_int_equal(gen_gpu(own_gen, "sm_80", &unknown, &err), 0);
    struct predict_input in = {&unknown, &spec, NULL, &s.problem.sizes, s.bytes, s.flops};
    assert_int_equal(predict_time(&in, &p, &err), -1);
    assert_non_null(strstr(err.msg, "tensor_tflops"));
    struct pairs none = {0};
    in.gpu = &s.gpu;
    in.sizes = &none;
    assert_int_equal(predict_time(&in, &p, &err), -1);
    assert_non_null(strstr(err.msg, "'tokens'"));
    in.sizes = &s.problem.sizes;
    snprintf(spec.kernel, sizeof spec.kernel, "nothing_like_it");
    assert_int_equal(predict_time(&in, &p, &err), -1);
    assert_non_null(strstr(err.msg, "does not know"));
    tune_space_close(&s);
}

/* The kernel's default is taken unless the model can tell that something is faster: never for a kernel that it knows to be no better than
 * chance at, but for one whose default it predicts well behind. */
static void test_the_default_stays_where_nothing_is_told(void **state)
{
    (void)state;
    struct tune_space s;
    struct predict_space p;
    struct err err = {""};
    for (int i = 0; i < PROBLEMS; i++) {
        open_space(&s, i, "a6000");
        assert_int_equal(predict_space(&s, 0, NULL, NULL, &p, &err), 0);
        double tells = predict_tells(s.problem.kernel), first = p.all[p.order[0]].ms, pick = p.all[p.pick].ms;
        assert_true(tells > 0 && tells < 0.5);
        if (s.valid[p.pick] == s.by_default) {
            assert_true(pick <= (1 + tells) * first);
        } else {
            assert_int_equal(p.pick, p.order[0]);
            for (int k = 0; k < s.nvalid; k++)
                if (s.valid[k] == s.by_default)
                    assert_true(p.all[k].ms > (1 + tells) * first);
        }
        predict_space_free(&p);
        tune_space_close(&s);
    }
    assert_true(predict_tells("nothing_like_it") == 0);
}

/* ---- how blocks follow one another --------------------------------------------------------------------------------------- */

static double same_work(const void *user, int block)
{
    (void)block;
    return *(const double *)user;
}

static void test_blocks_follow_one_another(void **state)
{
    (void)state;
    double turns = 10;
    struct predict_grid g = {
        .blocks = 3, .work = same_work, .user = &turns, .start = 50, .turn = {0, 100}, .resident = 1, .alike = 0.7};
    assert_float_equal(predict_makespan(&g, 3), 1050, 1e-3);
    assert_float_equal(predict_makespan(&g, 2), 2100, 1e-3);
    assert_float_equal(predict_makespan(&g, 1), 3150, 1e-3);
    /* Two blocks that hide nothing of each other take as long as one after the other, less the start that passes meanwhile. */
    g.resident = 2;
    g.turn[2] = 200;
    g.blocks = 2;
    assert_float_equal(predict_makespan(&g, 1), 2050, 1e-3);
    /* Places fall free one by one, so that six such blocks go to two multiprocessors as three and three, not four and two. */
    g.start = 0;
    g.blocks = 6;
    assert_float_equal(predict_makespan(&g, 2), 3000, 1);
    /* Those that share all alike end together, and the first to be free takes both places; unless chance lets one of them end sooner. */
    g.alike = 1;
    assert_float_equal(predict_makespan(&g, 2), 4000, 1);
    g.vary = 0.05;
    double t = predict_makespan(&g, 2);
    assert_true(t > 2850 && t < 3150);
    assert_float_equal(predict_makespan(&g, 2), t, 0); /* chance is the same each time */
    g.alike = 0.7;
    g.vary = 0;
    /* Those that hide half of each other: never faster than all the time together, never slower than one at a time. */
    g.turn[2] = 150;
    for (g.blocks = 1; g.blocks < 40; g.blocks++) {
        double rounds = (g.blocks + 3) / 4;
        t = predict_makespan(&g, 4);
        assert_true(t >= 10 * 75.0 * g.blocks / 4 - 1e-3 && t >= 10 * 100 - 1e-3 && t <= 10 * 100 * rounds + 1e-3);
    }
}

/* ---- from the declaration ------------------------------------------------------------------------------------------------ */

static struct prediction predict_chunk(const char *tile, const char *sizes)
{
    struct gen_kernel spec;
    struct gen_gpu gpu;
    struct gen_param param[PAIRS_MAX];
    struct pairs params, with;
    struct prediction p;
    struct err err = {""};
    assert_int_equal(pairs_parse(&params, tile, &err), 0);
    assert_int_equal(pairs_parse(&with, sizes, &err), 0);
    assert_int_equal(gen_gpu(own_gen, "h200", &gpu, &err), 0);
    if (gen_resolve(own_gen, "attn_prefill", "h200", param, pairs_params(&params, param, 0), &spec, &err) != 0)
        fail_msg("%s", err.msg);
    struct predict_input in = {&gpu, &spec, NULL, &with, 0, 0};
    if (predict_time(&in, &p, &err) != 0)
        fail_msg("%s", err.msg);
    return p;
}

/* The tuner's cache of W = 2048 has runs of 64, 256, 256, 512, 512, 448 and 64 keys: 33 tiles of 64, but 48 of 48, where 44 would hold as
 * many keys. A chunk of 16 tokens is one more tile of each head; a tile that is not whole costs 0.15 of one more. */
static void test_runs_begin_a_tile_each(void **state)
{
    (void)state;
    const char *sizes = "tokens=16 held=2112 heads=8 kv_heads=8", *unlike = "tokens=16 held=2111 heads=8 kv_heads=8";
    struct prediction whole = predict_chunk("d=64 bm=64 bn=64 st=1 wp=4", sizes),
                      parts = predict_chunk("d=64 bm=64 bn=48 st=1 wp=4", sizes);
    double per_block = (double)parts.blocks_per_sm / whole.blocks_per_sm;
    assert_true(per_block > 0.99); /* tensor_ms counts turns, whatever is resident */
    assert_float_equal(parts.tensor_ms / whole.tensor_ms, 48 * (48 + 7 * 0.15 + 1.15) / (64 * (33 + 1.15)), 1e-9);
    /* No cascade holds 2111: as many runs as most have, each with half a tile to spare. */
    assert_float_equal(predict_chunk("d=64 bm=64 bn=64 st=1 wp=4", unlike).tensor_ms / whole.tensor_ms,
                       (33 + 9 * 0.65 + 1.15) / (33 + 1.15), 1e-9);
}

/* ---- machine code ------------------------------------------------------------------------------------------------------ */

static void build(const char *kernel, const char *gpu, const char *params, struct kernel *k)
{
    struct nvrtc_info info;
    struct kernel_cache cache;
    struct pairs pairs;
    struct gen_param param[PAIRS_MAX];
    struct err err = {""};
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
    kernel_cache_default(&cache);
    assert_int_equal(pairs_parse(&pairs, params, &err), 0);
    if (kernel_build(own_gen, &cache, kernel, gpu, param, pairs_params(&pairs, param, 0), k, &err) != 0)
        fail_msg("%s", err.msg);
}

/* The loop of the machine code has the products and copies that the template says, on every target. */
static void test_code_has_the_templates_products(void **state)
{
    (void)state;
    static const struct {
        const char *kernel, *gpu, *params;
        bool outermost;
        int trips, products, copies, syncs;
    } cases[] = {
        {"attn_prefill", "a6000", "d=64 bm=128 bn=64 st=1 wp=4 qr=1", false, 1, 2 * 8 * 4 + 2 * 8 * 4, 8, 2},
        {"attn_prefill", "a100", "d=128 bm=64 bn=32 st=3 wp=4 qr=0", false, 1, 4 * 8 + 16 * 2, 8, 1},
        {"attn_prefill", "h200", "d=64 bm=64 bn=32 st=2 wp=2 qr=0", false, 1, 2 * 4 * 4 + 2 * 8 * 2, 8, 1},
        {"attn_scores", "a100", "d=64 mk=2 bq=64 st=2 wp=4", true, 2, 2 * 2 * 4 * 4, 4, 1},
        {"attn_scores", "h200", "d=64 mk=2 bq=64 st=2 wp=4", true, 2, 2 * 2 * 4 * 4, 4, 1},
        {"attn_decode", "h200", "d=64 g=4 bn=16 wp=4 st=4", false, 1, 2 * 4 + 8, 8, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kernel k;
        struct sass code, loop;
        struct err err = {""};
        build(cases[i].kernel, cases[i].gpu, cases[i].params, &k);
        if (sass_decode(k.cubin.image, k.cubin.bytes, k.gen.sm, &code, &err) != 0 ||
            sass_loop(&code, cases[i].outermost, cases[i].trips, &loop, &err) != 0)
            fail_msg("%s: %s", k.gen.name, err.msg);
        assert_int_equal(sass_count(&loop, SASS_TENSOR), cases[i].products);
        assert_int_equal(sass_count(&loop, SASS_COPY), cases[i].copies);
        assert_int_equal(sass_count(&loop, SASS_SYNC), cases[i].syncs);
        sass_free(&code);
        sass_free(&loop);
        kernel_free(&k);
    }
}

/* Registers are what ptxas takes, most within 20: one more block of a multiprocessor or one less is a third of the time. */
static void test_registers_are_the_compilers(void **state)
{
    (void)state;
    static const struct {
        const char *kernel, *params;
    } cases[] = {
        {"attn_prefill", "d=64 bm=128 bn=64 st=1 wp=4 qr=1"},
        {"attn_prefill", "d=64 bm=64 bn=64 st=2 wp=4 qr=0 mb=1"},
        {"attn_prefill", "d=64 bm=64 bn=64 st=2 wp=4 qr=0 mb=4"},
        {"attn_prefill", "d=64 bm=64 bn=32 st=2 wp=2 qr=0"},
        {"attn_prefill", "d=128 bm=128 bn=64 st=2 wp=4 qr=0"},
        {"attn_prefill", "d=128 bm=64 bn=32 st=3 wp=4 qr=1 mb=3"},
        {"attn_scores", "d=64 mk=2 bq=64 st=2 wp=4"},
        {"attn_scores", "d=128 mk=2 bq=64 st=3 wp=4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kernel k;
        struct prediction p;
        struct gen_gpu gpu;
        struct err err = {""};
        build(cases[i].kernel, "h200", cases[i].params, &k);
        assert_int_equal(gen_gpu(own_gen, "h200", &gpu, &err), 0);
        struct predict_input in = {&gpu, &k.gen, NULL, NULL, 0, 0};
        struct predict_job job = {.in = &in, .out = &p};
        predict_registers(&job);
        if (abs(job.regs - k.cubin.regs) > 20 || (job.spills > 0) != (k.cubin.spill_store > 8))
            fail_msg("%s: %d registers, not %d; %d bytes of spills, not %d", k.gen.name, k.cubin.regs, job.regs,
                     k.cubin.spill_store, job.spills);
        kernel_free(&k);
    }
}

static void test_a_turn_keeps_the_laws(void **state)
{
    (void)state;
    struct kernel k;
    struct sass code, loop;
    struct gen_gpu gpu;
    struct machine m;
    struct err err = {""};
    build("attn_prefill", "a100", "d=128 bm=64 bn=32 st=3 wp=4 qr=0", &k);
    assert_int_equal(gen_gpu(own_gen, "a100", &gpu, &err), 0);
    assert_int_equal(machine_of(&gpu, &m, &err), 0);
    assert_int_equal(sass_decode(k.cubin.image, k.cubin.bytes, 80, &code, &err), 0);
    assert_int_equal(sass_loop(&code, false, 1, &loop, &err), 0);
    double before = 0;
    for (int blocks = 1; blocks <= 4; blocks++) {
        double turn = machine_turn(&m, &loop, blocks, 4);
        struct machine_load load = machine_load_of(&m, &loop, 4 * blocks);
        /* More blocks take longer together, and less a block; no pipe is busier than all of the time. */
        assert_true(turn > 0.98 * before);
        if (blocks > 1)
            assert_true(turn / blocks <= 1.02 * before / (blocks - 1));
        assert_true(turn >= 0.99 * load.tensor && turn >= 0.99 * load.shared && turn >= 0.99 * load.sfu &&
                    turn >= 0.99 * load.issue && turn >= 0.99 * load.copy);
        before = turn;
    }
    struct machine slow = m;
    slow.tensor *= 4;
    assert_true(machine_turn(&slow, &loop, 2, 4) >= machine_load_of(&slow, &loop, 8).tensor * 0.99);
    sass_free(&code);
    sass_free(&loop);
    kernel_free(&k);
}

/* Whatever the image holds, reading it ends, in bounds: sizes cut, and bytes changed. */
static void test_damaged_code(void **state)
{
    (void)state;
    struct kernel k;
    struct sass code, loop;
    struct err err = {""};
    build("attn_decode", "h200", "d=64 g=4 bn=16 wp=4 st=4", &k);
    unsigned char *image = malloc(k.cubin.bytes);
    assert_non_null(image);
    for (size_t n = 0; n < k.cubin.bytes; n += n < 256 ? 1 : 997) {
        unsigned char *part = malloc(n + 1); /* of this size, so that a sanitizer sees a step over its end */
        memcpy(part, k.cubin.image, n);
        if (sass_decode(part, n, 90, &code, &err) == 0)
            sass_free(&code);
        free(part);
    }
    unsigned seed = 1;
    for (int round = 0; round < 60; round++) {
        memcpy(image, k.cubin.image, k.cubin.bytes);
        for (int i = 0; i < 40; i++) {
            seed = seed * 1664525 + 1013904223;
            image[seed % k.cubin.bytes] = (unsigned char)(seed >> 24);
        }
        if (sass_decode(image, k.cubin.bytes, 90, &code, &err) != 0)
            continue;
        if (sass_loop(&code, round % 2, 2, &loop, &err) == 0)
            sass_free(&loop);
        sass_free(&code);
    }
    assert_int_equal(sass_decode("no cubin", 8, 90, &code, &err), -1);
    free(image);
    kernel_free(&k);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_prediction_is_sound),
        cmocka_unit_test(test_more_of_anything_is_never_slower),
        cmocka_unit_test(test_more_work_takes_longer),
        cmocka_unit_test(test_a6000_and_a100_get_different_picks),
        cmocka_unit_test(test_geforce_has_half_the_tensor_rate),
        cmocka_unit_test(test_what_it_cannot_say),
        cmocka_unit_test(test_the_default_stays_where_nothing_is_told),
        cmocka_unit_test(test_blocks_follow_one_another),
        cmocka_unit_test(test_runs_begin_a_tile_each),
        cmocka_unit_test(test_code_has_the_templates_products),
        cmocka_unit_test(test_registers_are_the_compilers),
        cmocka_unit_test(test_a_turn_keeps_the_laws),
        cmocka_unit_test(test_damaged_code),
    };
    return cmocka_run_group_tests(tests, own_gen_open, own_gen_close);
}
