/* The tuner's problems in the emulator: set-up, launch, and the check of a config against the oracle, which must pass right kernels and
 * refuse wrong ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emu/emu.h"
#include "graph_device.h"
#include "tuner/problem.h"
#include "tuner/wisdom_write.h"

static int open_bench_on(void **state, int sm)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err err = {""};
    bench_init(b);
    if (device_emu_open(&b->dev, &(struct emu_options){.only_faults = true, .sm = sm}, &err) != 0 ||
        gen_open(&b->gen, NULL, &err) != 0 || gen_gpu(b->gen, sm == 90 ? "sm_90" : "sm_80", &b->gpu, &err) != 0)
        fail_msg("%s", err.msg);
    *state = b;
    return 0;
}

static int open_bench(void **state)
{
    return open_bench_on(state, 80);
}

static int open_bench_on_hopper(void **state)
{
    return open_bench_on(state, 90);
}

static int close_bench(void **state)
{
    struct bench *b = *state;
    bench_end(b);
    free(b);
    return 0;
}

static struct tune_problem make(const char *kernel, const char *shape, const char *sizes)
{
    struct tune_problem p = {0};
    struct err err = {""};
    snprintf(p.kernel, sizeof p.kernel, "%s", kernel);
    if (pairs_parse(&p.shape, shape, &err) != 0 || pairs_parse(&p.sizes, sizes, &err) != 0)
        fail_msg("%s", err.msg);
    return p;
}

/* Largest error over its bound of a kernel with a tile, at the small case or at full size. */
static double error_of(struct bench *b, struct problem *p, const char *tile, bool whole)
{
    struct pairs t;
    struct gen_param params[TUNE_PARAMS_MAX];
    struct kernel k;
    struct err err = {""};
    char where[120] = "";
    double error = NAN;
    assert_int_equal(pairs_parse(&t, tile, &err), 0);
    int n = pairs_params(&t, params, pairs_params(&p->what.shape, params, 0));
    if (kernel_get(b->gen, &b->cache, &b->dev, p->what.kernel, params, n, &k, &err) != 0)
        fail_msg("%s", err.msg);
    if ((whole ? p->family->whole : p->family->check)(p, &k, &error, where, &err) != 0)
        fail_msg("%s %s: %s", p->what.kernel, tile, err.msg);
    kernel_free(&k);
    return error;
}

static void right_kernels_pass(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *kernel, *shape, *sizes, *tile;
    } cases[] = {
        {"attn_prefill", "d=64 t=bf16", "tokens=40 held=128 heads=2 kv_heads=1", "bm=64 bn=32 wp=4"},
        {"attn_scores", "d=64 t=fp16", "tokens=40 held=128 heads=2 kv_heads=1", "mk=1 bq=32 st=2"},
        {"attn_turn", "d=64 t=bf16", "tokens=40 heads=2 kv_heads=1", "wp=2"},
        {"attn_score_reduce", "reduce=mean", "tokens=40 held=128 heads=2 cascades=1", "wp=2"},
        {"attn_decode", "d=64 g=3 t=bf16", "keys=265 kv_heads=1", "bn=48 wp=3 st=2 qr=0 cg=2 bs=1"},
        {"attn_decode", "d=64 g=1 t=bf16", "keys=133 kv_heads=1", "bn=32 wp=2"}, /* 64 in spans of 8 */
        {"attn_decode", "d=64 g=1 t=bf16", "keys=164 kv_heads=1", "bn=16 wp=4"}, /* of no cascade in steps */
        {"attn_decode_scores", "r=3 reduce=mean", "keys=265 cascades=2 layers=3", "wp=2 u=1 bs=1"},
        {"attn_decode_scores", "r=1 reduce=max", "keys=133 cascades=1 layers=1", "wp=4 u=8 bs=4"},
        {"attn_decode_scores", "r=18 reduce=median", "keys=133 cascades=1 layers=2", "wp=2 u=2 bs=1"}, /* of a layer */
        {"cascade_update", "d=64 b=16 t=bf16", "tokens=64 moved=56 kv_heads=1", "wp=2 u=2 sl=2"},
        {"stream_copy", "t=bf16", "n=1000", "wp=4 u=1"},
        {"matvec", "n=512 w=q4_0 norm=1 to=gate t=fp16", "rows=40", "wp=4 sk=2 st=3"},
        {"matvec", "n=512 w=q6_k norm=0 to=add t=bf16", "rows=37", "wp=2 sk=1"},
        {"matvec", "n=512 w=bf16 norm=1 to=f32 t=bf16", "rows=21", "wp=2 r=2"},
        {"matvec", "n=96 w=q4_1 norm=0 to=half t=fp16", "rows=21", "cb=2 wp=4 sk=2"},
        {"rms_norm", "n=2052 t=bf16", "tokens=5", "wp=2"},
        {"rms_norm", "n=96 t=fp16", "tokens=5", "wp=16"},
        {"swiglu", "t=bf16", "tokens=5 ffn=1536", "wp=2"},
        {"swiglu", "t=fp16", "tokens=1 ffn=64", "wp=4"},
        {"add_bias", "t=fp16", "tokens=5 n=960", "wp=2"},
        {"add_bias", "t=bf16", "tokens=7 n=1536", "wp=4"},
        {"dequantise", "w=q4_0 t=fp16", "elements=49152", "wp=2"},
        {"dequantise", "w=q6_k t=bf16", "elements=41472", "wp=4"},
        {"dequantise", "w=f32 t=bf16", "elements=264", "wp=2"},
        {"embed", "n=576 w=q4_1 t=fp16", "tokens=7", "wp=4"},
        {"embed", "n=768 w=q5_k t=bf16", "tokens=2", "wp=1"},
        {"likelihood", "t=bf16", "tokens=5 vocab=9001", "wp=2 u=1"},
        {"likelihood", "t=fp16", "tokens=1 vocab=301", "wp=16 u=4"},
        {"sample", "t=bf16", "vocab=5003", "wp=4 span=512"},
        {"sample", "t=fp16", "vocab=70", "wp=8 span=2048"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tune_problem what = make(cases[i].kernel, cases[i].shape, cases[i].sizes);
        struct problem *p;
        struct err err = {""};
        if (problem_open(&p, b, &what, &err) != 0)
            fail_msg("%s: %s", cases[i].kernel, err.msg);
        double small = error_of(b, p, cases[i].tile, false);
        double whole = p->family->whole ? error_of(b, p, cases[i].tile, true) : 0;
        if (!(small <= 1) || !(whole <= 1))
            fail_msg("%s: %g and %g of what rounding may make", cases[i].kernel, small, whole);
        problem_close(p);
    }
}

/* A product that leaves the norm out, and one of another type of weights, are no products of the problem's. */
static void a_wrong_product_is_refused(void **state)
{
    struct bench *b = *state;
    static const char *const wrong[] = {"n=512 w=q4_0 norm=0 to=f32 t=bf16", "n=512 w=q4_k norm=1 to=f32 t=bf16"};
    struct tune_problem what = make("matvec", "n=512 w=q4_0 norm=1 to=f32 t=bf16", "rows=20");
    struct problem *p;
    struct err err = {""};
    if (problem_open(&p, b, &what, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(error_of(b, p, "", false) <= 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(pairs_parse(&p->what.shape, wrong[i], &err), 0);
        assert_true(error_of(b, p, "", false) > 1);
    }
    problem_close(p);
}

/* A device that loads a kernel's text with its first `from` made `to`; from NULL: as it is. */
static struct {
    int (*load)(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                struct device_kernel **out, struct err *err);
    const char *from, *to;
} planted;

static int load_planted(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                        struct device_kernel **out, struct err *err)
{
    if (!planted.from)
        return planted.load(dev, image, bytes, symbol, smem_max, out, err);
    char *text = malloc(bytes + 256);
    const char *at = strstr(image, planted.from);
    if (!at)
        fail_msg("%s: no '%s' in its text", symbol, planted.from);
    int head = (int)(at - (const char *)image);
    int n = snprintf(text, bytes + 256, "%.*s%s%s", head, (const char *)image, planted.to, at + strlen(planted.from));
    int status = planted.load(dev, text, (size_t)n + 1, symbol, smem_max, out, err);
    free(text);
    return status;
}

/* What a kernel may get wrong is found, by the small case and at full size. */
static void wrong_kernels_are_refused(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *kernel, *shape, *sizes, *from, *to;
    } cases[] = {
        {"rms_norm", "n=96 t=bf16", "tokens=5", "f + eps", "f + 0.1f"},
        {"rms_norm", "n=96 t=bf16", "tokens=5", "v[i].z * scale * by.z", "v[i].z * scale * by.y"},
        {"swiglu", "t=fp16", "tokens=5 ffn=1536", "silu(x.x) * y.x", "silu(y.x) * x.x"},
        {"swiglu", "t=fp16", "tokens=5 ffn=1536", "at >= (i64)T * per_row", "at + 1 >= (i64)T * per_row"},
        {"add_bias", "t=bf16", "tokens=5 n=960", "p.y + b.y", "p.y + b.x"},
        {"add_bias", "t=bf16", "tokens=5 n=960", "at >= (i64)T", "at + 1 >= (i64)T"},
        {"dequantise", "w=q4_0 t=fp16", "elements=1114112", "start += (i64)nbid_x() * span", "start += elements"},
        {"dequantise", "w=q8_0 t=bf16", "elements=49152", "v[2], v[3]", "v[3], v[2]"},
        {"embed", "n=576 w=q4_1 t=fp16", "tokens=7", "tokens[bid_x()]", "bid_x()"},
        {"embed", "n=576 w=q4_1 t=fp16", "tokens=7", "v[4], v[5]", "v[5], v[4]"},
        {"likelihood", "t=bf16", "tokens=5 vocab=9001", "all.z = held.z;", ""},
        {"likelihood", "t=bf16", "tokens=5 vocab=9001", "sum *= exp_from(before, largest);", ""},
        {"likelihood", "t=bf16", "tokens=5 vocab=9002", "v.y = x[at + 1]", "v.y = x[at]"},
        {"attn_decode_scores", "r=3 reduce=mean", "keys=265 cascades=2 layers=2", "value *= 1.0f / 3;", ""},
        {"attn_decode_scores", "r=3 reduce=mean", "keys=265 cascades=2 layers=2", "score += p * rows;", ""},
        {"sample", "t=bf16", "vocab=5003", "c.logit / penalty", "c.logit"},
        {"sample", "t=bf16", "vocab=5003", "left < 0.0", "left < 1e9"},
    };
    planted.load = b->dev.load;
    b->dev.load = load_planted;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tune_problem what = make(cases[i].kernel, cases[i].shape, cases[i].sizes);
        struct problem *p;
        struct err err = {""};
        planted.from = NULL;
        if (problem_open(&p, b, &what, &err) != 0)
            fail_msg("%s: %s", cases[i].kernel, err.msg);
        assert_true(error_of(b, p, "", false) <= 1);
        planted.from = cases[i].from;
        planted.to = cases[i].to;
        double small = error_of(b, p, "", false);
        if (small <= 1)
            fail_msg("%s: '%s' for '%s' is not found", cases[i].kernel, cases[i].to, cases[i].from);
        double whole = error_of(b, p, "", true);
        if (whole <= 1)
            fail_msg("%s: '%s' for '%s' is not found at full size", cases[i].kernel, cases[i].to, cases[i].from);
        problem_close(p);
    }
    b->dev.load = planted.load;
}

/* Sizes that no launch has are refused, with nothing left behind. */
static void sizes_are_checked(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *kernel, *shape, *sizes;
    } cases[] = {{"rms_norm", "n=96 t=bf16", "tokens=0"},
                 {"swiglu", "t=bf16", "tokens=5"},
                 {"dequantise", "w=q4_k t=bf16", "elements=288"},
                 {"dequantise", "w=q9 t=bf16", "elements=288"},
                 {"embed", "n=96 w=q6_k t=bf16", "tokens=5"},
                 {"likelihood", "t=bf16", "tokens=5 vocab=1"},
                 {"sample", "t=bf16", "vocab=0"},
                 {"attn_decode_scores", "r=3 reduce=mean", "keys=265 cascades=2 layers=0"},
                 {"attn_decode_scores", "r=20 reduce=mean", "keys=265 cascades=2 layers=1"},
                 {"attn_decode_scores", "r=3 reduce=mean", "keys=40 cascades=2 layers=1"},
                 {"attn_decode", "d=64 g=3 t=bf16", "keys=265 kv_heads=0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tune_problem what = make(cases[i].kernel, cases[i].shape, cases[i].sizes);
        struct problem *p = NULL;
        struct err err = {""};
        assert_int_equal(problem_open(&p, b, &what, &err), -1);
        assert_null(p);
        assert_non_null(strstr(err.msg, cases[i].kernel));
    }
}

/* A device that leaves launch number `without` out. */
static struct {
    int (*launch)(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err);
    int made, without;
} counted;

static int count_launch(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err)
{
    return counted.made++ == counted.without ? 0 : counted.launch(dev, k, l, err);
}

/* One token's attention is timed as a chain of layers with the scores of all, and every layer of it is checked. */
static void a_token_is_a_chain_of_layers(void **state)
{
    struct bench *b = *state;
    struct tune_problem what = make("attn_decode", "d=64 g=3 t=bf16", "keys=265 kv_heads=1");
    struct problem *p;
    struct kernel k;
    struct err err = {""};
    struct gen_param params[TUNE_PARAMS_MAX];
    int n = pairs_params(&what.shape, params, 0);
    counted.launch = b->dev.launch;
    b->dev.launch = count_launch;
    counted.without = -1;
    if (problem_open(&p, b, &what, &err) != 0 ||
        kernel_get(b->gen, &b->cache, &b->dev, what.kernel, params, n, &k, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(p->launches, 2);
    assert_false(p->goes_round); /* nothing is timed here, so two layers do */
    counted.made = 0;
    if (p->family->launch(p, &k, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(counted.made, 2 + 1);
    kernel_free(&k);
    assert_true(error_of(b, p, "", true) <= 1);
    for (int left_out = 0; left_out < 3; left_out++) {
        counted.made = 0;
        counted.without = left_out;
        assert_true(error_of(b, p, "", true) > 1);
    }
    problem_close(p);
}

/* What is timed of the vocabulary's likelihoods is all pieces of it for all rows; of an embedding, other rows each time. */
static void a_forward_chain_is_as_inference_launches_it(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *kernel, *shape, *sizes;
        int launches, made;
    } cases[] = {{"likelihood", "t=bf16", "tokens=70 vocab=20000", 1, 3}, /* 156 rows at once */
                 {"likelihood", "t=bf16", "tokens=200 vocab=20000", 1, 6},
                 {"embed", "n=64 w=bf16 t=bf16", "tokens=4", 2, 2},
                 {"swiglu", "t=bf16", "tokens=4 ffn=64", 1, 1}};
    counted.launch = b->dev.launch;
    counted.without = -1;
    b->dev.launch = count_launch;
    graph_device_wrap(&b->dev);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tune_problem what = make(cases[i].kernel, cases[i].shape, cases[i].sizes);
        struct gen_param params[TUNE_PARAMS_MAX];
        struct problem *p;
        struct kernel k;
        struct err err = {""};
        int n = pairs_params(&what.shape, params, 0);
        if (problem_open(&p, b, &what, &err) != 0 ||
            kernel_get(b->gen, &b->cache, &b->dev, what.kernel, params, n, &k, &err) != 0)
            fail_msg("%s: %s", what.kernel, err.msg);
        counted.made = 0;
        assert_int_equal(p->family->launch(p, &k, &err), 0); /* captured, and replayed */
        assert_int_equal(p->launches, cases[i].launches);
        assert_int_equal(counted.made, cases[i].made);
        problem_forget(p, &k);
        assert_int_equal(graph_device_left(), 0);
        kernel_free(&k);
        problem_close(p);
    }
}

/* Both kernels of a chunk's attention, where a GPU has both; at full size each is compared with the one that serves there. */
static void both_chunk_kernels_pass(void **state)
{
    struct bench *b = *state;
    static const char *const kernels[][2] = {{"attn_prefill_wgmma", "wg=1 bn=80 mb=2"},
                                             {"attn_prefill", "bm=64 bn=32"}};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        struct tune_problem what = make(kernels[i][0], "d=64 t=bf16", "tokens=40 held=128 heads=2 kv_heads=1");
        struct problem *p;
        struct err err = {""};
        if (problem_open(&p, b, &what, &err) != 0)
            fail_msg("%s", err.msg);
        assert_true(error_of(b, p, kernels[i][1], false) <= 1);
        assert_true(error_of(b, p, kernels[i][1], true) <= 1);
        problem_close(p);
    }
}

/* A bench runs a kernel with wisdom's tile, as inference does, but for what --set gives; and says so. */
static void bench_takes_wisdom(void **state)
{
    struct bench *b = *state;
    struct wisdom_file head = {.sm = 80, .gpu = "a100-80"};
    struct wisdom_entry e = {.kernel = "stream_copy", .ms = 1, .measured = "2026-01-02"};
    struct kernel k;
    struct err err = {""};
    char folder[] = "/tmp/weir-bench-XXXXXX", path[64], command[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a100-80.json", folder);
    setenv("WEIR_WISDOM", folder, 1);
    if (pairs_parse(&e.shape, "t=bf16", &err) != 0 || pairs_parse(&e.sizes, "n=1000", &err) != 0 ||
        pairs_parse(&e.config, "wp=16 u=8", &err) != 0 || wisdom_file_add(path, &head, &e, 1, &err) != 0 ||
        wisdom_open(&b->wisdom, b->gen, b->gpu.name, NULL, &err) != 0 || bench_sizes(b, 1, 100, &err) != 0)
        fail_msg("%s", err.msg);
    for (int set = 0; set < 2; set++) {
        b->nparams = set;
        b->param[0] = (struct gen_param){"wp", "4"};
        if (bench_kernel(b, "stream_copy", "t=bf16", &k, &err) != 0)
            fail_msg("%s", err.msg);
        assert_int_equal(gen_value(&k.gen, "wp"), set ? 4 : 16);
        assert_int_equal(gen_value(&k.gen, "u"), 8);
        kernel_free(&k);
    }
    if (!strstr(b->note, "wp16_u8__sm80 (wisdom of") || !strstr(b->note, "wp4_u8__sm80 (--set; else wisdom of"))
        fail_msg("%s", b->note);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(right_kernels_pass, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(both_chunk_kernels_pass, open_bench_on_hopper, close_bench),
        cmocka_unit_test_setup_teardown(a_token_is_a_chain_of_layers, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(bench_takes_wisdom, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(a_wrong_product_is_refused, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(wrong_kernels_are_refused, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(sizes_are_checked, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(a_forward_chain_is_as_inference_launches_it, open_bench, close_bench),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
