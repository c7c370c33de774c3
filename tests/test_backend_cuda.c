/* The CUDA backend itself on the device `emu`: prompts and decoding of tiny random models with cascades that overflow, beside the CPU
 * backend; and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_run.h"
#include "emu/emu.h"
#include "gguf_writer.h"
#include "graph_device.h"
#include "runtime/backend_cuda.h"
#include "runtime/llama.h"
#include "sanitized.h"

static struct tiny_model small_model(void)
{
    struct tiny_model t = tiny_model_defaults();
    t.hidden = 64;
    t.heads = 2;
    t.kv_heads = 1;
    t.head_dim = 64;
    t.ffn = 96;
    t.type = QUANT_BF16;
    t.embed_type = QUANT_BF16;
    return t;
}

static struct cascade_params small_cascade(void)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = 4;
    p.subcaches = 3;
    p.window = 48;
    p.span = 4;
    p.stride = 24;
    return p;
}

static bool with_graphs; /* the emulator replays launches */
static int scored;       /* layers whose scores are made at a time; 0: what the backend takes */

static int open_emu(struct backend *be, const struct model *m, const struct cascade_params *p, bool only_faults,
                    const struct backend_options *o, struct err *err)
{
    struct device dev;
    const char *gpu = getenv("WEIR_TEST_GPU"); /* its number: the same tests on a GPU */
    if (gpu && device_cuda_open(&dev, atoi(gpu), err) != 0)
        return -1;
    if (!gpu && device_emu_open(&dev, &(struct emu_options){.only_faults = only_faults, .sm = 90}, err) != 0)
        return -1;
    if (!gpu && with_graphs)
        graph_device_wrap(&dev);
    if (backend_cuda_open_on(be, &dev, m, p, o, err) != 0)
        return -1;
    if (scored)
        ((struct cuda_backend *)be->state)->scored = scored;
    return 0;
}

/* One model and cascade on both backends. */
static void compare(const struct tiny_model *t, const struct cascade_params *p, size_t n, enum backend_half half,
                    bool only_faults, const char *what)
{
    struct model m;
    struct bytes file;
    struct err err = {""};
    struct backend be;
    struct oracle_llama want, got;
    tiny_model_open(t, &m, &file);
    int32_t *tokens = malloc(n * sizeof *tokens);
    assert_non_null(tokens);
    repeating_tokens(tokens, n, m.shape.vocab, t->seed + n);
    if (cascade_check(p, &err) != 0 || backend_run_cpu(&want, &m, p, tokens, n, 1, &err) != 0)
        fail_msg("%s: %s", what, err.msg);
    if (open_emu(&be, &m, p, only_faults, &(struct backend_options){.half = half, .threads = 1}, &err) != 0 ||
        backend_run(&got, &be, &m, p, tokens, n, &err) != 0)
        fail_msg("%s: %s", what, err.msg);
    struct llama_difference d = llama_compare(&want, &got, n);
    double sum = 0;
    for (size_t i = 0; i + 1 < n; i++)
        sum += fabs(want.nll[i] - got.nll[i]) / (double)(n - 1);
    /* What 16 bits cost. A place that holds another token is two scores that were closer than that; then likelihoods part.
     * Random blocks of K types have the larger weights, so that errors grow. */
    double bound = half == BACKEND_HALF_BF16 ? 0.05 : t->type == QUANT_Q4_K || t->type == QUANT_Q5_K ? 0.03 : 0.006;
    if (d.kept > 0 || !(sum < bound) || !(d.nll < 10 * bound) || !(d.score < 4 * bound))
        fail_msg("%s: likelihoods are %.4f nats apart on average, %.4f after token %zu; %zu places of %d hold another "
                 "token; "
                 "scores are %.4f apart",
                 what, sum, d.nll, d.at + 1, d.kept, want.layers * want.cascades * want.held, d.score);
    oracle_llama_free(&got);
    be.close(&be);
    oracle_llama_free(&want);
    free(tokens);
    model_close(&m);
    free(file.data);
}

static void test_chunks_and_tokens(void **state)
{
    (void)state;
    static const int strides[] = {1, 24, 100, 2};
    for (int i = 0; i < 4; i++) {
        struct tiny_model t = small_model();
        struct cascade_params p = small_cascade();
        char what[32];
        p.stride = strides[i];
        t.seed = 31 + (uint64_t)i;
        snprintf(what, sizeof what, "stride %d", p.stride);
        compare(&t, &p, i == 3 ? 90 : 145, i == 3 ? BACKEND_HALF_BF16 : BACKEND_HALF_FP16, i == 0, what);
    }
}

static void test_cascade_options(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i += sanitized_step(7)) {
        struct tiny_model t = small_model();
        struct cascade_params p = small_cascade();
        t.seed = 200 + (uint64_t)i;
        t.heads = (const int[]){4, 2, 6}[i % 3];
        t.kv_heads = 2;
        p.reduction = (enum cascade_reduction)(i % 3);
        p.policy = (enum cascade_policy)(i / 3 % 2);
        p.positions = (enum cascade_positions)(i / 2 % 2);
        p.span_score = (enum cascade_span_score)(i / 6 % 2);
        p.eager = i % 5 != 0;
        p.select = i == 2 || i == 4 || i == 10 ? SELECT_RANDOM : SELECT_SCORE;
        p.ema = i % 7 == 0 ? 0.9 : 0.9999;
        p.sinks = i % 4 == 0 ? 0 : i % 4 == 1 ? 21 : 5;
        p.span = (const int[]){1, 2, 4, 8, 16}[i % 5];
        p.subcaches = (const int[]){1, 2, 3, 4}[i % 4];
        p.window = p.subcaches * 16;
        p.stride = (const int[]){16, 1, 37}[i / 2 % 3];
        char what[32];
        snprintf(what, sizeof what, "case %d", i);
        compare(&t, &p, p.stride == 1 ? 90 : 150, BACKEND_HALF_FP16, true, what);
    }
}

/* Scores of some layers at a time, as where the logits of all are too many. */
static void test_scored_layers(void **state)
{
    (void)state;
    struct tiny_model t = small_model();
    struct cascade_params p = small_cascade();
    t.layers = 3;
    p.stride = 1;
    for (scored = 1; scored <= 2; scored++)
        compare(&t, &p, 90, BACKEND_HALF_FP16, true, "scores of some layers");
    scored = 0;
}

static void test_weight_types(void **state)
{
    (void)state;
    static const enum quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0,
                                            QUANT_Q5_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    for (size_t i = 0; i < sizeof types / sizeof *types; i += (size_t)sanitized_step(3)) {
        struct tiny_model t = small_model();
        struct cascade_params p = small_cascade();
        t.type = types[i];
        t.embed_type = types[i];
        t.layers = 1;
        t.hidden = 256;
        t.ffn = 256;
        t.heads = 4;
        t.kv_heads = 2;
        t.tied = i % 2;
        t.seed = 500 + i;
        p.stride = 20;
        p.window = 96; /* nothing is evicted: these are about weights */
        compare(&t, &p, 62, BACKEND_HALF_FP16, true,
                quant_info(types[i])->name); /* three chunks, a short one, and a token at the end */
    }
}

/* Tokens, and chunks whose launches are those of the chunk before, are replayed: what differs from one to the next must be in memory. */
static void test_graphs(void **state)
{
    (void)state;
    static const struct {
        int stride, tokens, replays; /* replays: at least so many */
        enum cascade_positions positions;
        int sinks;
    } cases[] = {
        {1, 90, 90, POSITIONS_CACHE, 4},     {1, 60, 60, POSITIONS_ORIGINAL, 4}, {32, 250, 4, POSITIONS_CACHE, 4},
        {32, 250, 4, POSITIONS_ORIGINAL, 4}, {8, 150, 4, POSITIONS_CACHE, 5}, /* one by one; pending tokens */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_model t = small_model();
        struct cascade_params p = small_cascade();
        char what[32];
        t.seed = 1200 + i;
        p.stride = cases[i].stride;
        p.positions = cases[i].positions;
        p.sinks = cases[i].sinks;
        snprintf(what, sizeof what, "graphs %zu", i);
        with_graphs = true;
        compare(&t, &p, (size_t)cases[i].tokens, BACKEND_HALF_FP16, true, what);
        with_graphs = false;
        if (getenv("WEIR_TEST_GPU"))
            continue;
        if (graph_device_replays() < cases[i].replays)
            fail_msg("%s: %d replays", what, graph_device_replays());
        assert_int_equal(graph_device_left(), 0);
    }
}

/* Kernels exchanged for others of another tile when their graphs are captured, and one of them back: the text after comes out as the CPU's. */
static void test_exchange(void **state)
{
    (void)state;
    static const struct {
        const char *kernel, *tile;
    } with[] = {{"attn_decode", "wp=2 st=3"},
                {"attn_decode_scores", "wp=2"},
                {"matvec", "wp=2"},
                {"attn_prefill", "bm=32 wp=2"},
                {"attn_prefill_wgmma", "wg=1 bn=64 mb=2"}}; /* one of the two */
    struct tiny_model t = small_model();
    struct cascade_params p = small_cascade();
    struct model m;
    struct bytes file;
    struct backend be;
    struct oracle_llama want, got;
    struct err err = {""};
    int32_t tokens[145];
    static struct cuda_tile other[96];
    int exchanged = 0;
    p.stride = 24;
    tiny_model_open(&t, &m, &file);
    repeating_tokens(tokens, 145, m.shape.vocab, 77);
    with_graphs = true;
    if (backend_run_cpu(&want, &m, &p, tokens, 145, 1, &err) != 0 ||
        open_emu(&be, &m, &p, true, &(struct backend_options){.half = BACKEND_HALF_FP16, .threads = 1}, &err) != 0 ||
        llama_feed(&be, &m, &p, tokens, 145, NULL, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    struct cuda_backend *c = be.state;
    int n = cuda_kernels_count(c->kernels);
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof with / sizeof *with; k++) {
            const char *kernel, *params;
            struct pairs tile, now;
            cuda_kernels_wanted(c->kernels, i, &kernel, &params);
            if (strcmp(kernel, with[k].kernel) != 0)
                continue;
            if (pairs_parse(&tile, with[k].tile, &err) != 0 ||
                cuda_kernels_build(c->kernels, i, &tile, &other[i], &err) != 0)
                fail_msg("%s", err.msg);
            const struct device_kernel *loaded = other[i].built.loaded;
            cuda_exchange(c, i, &other[i]);
            assert_ptr_equal(cuda_kernels_get(c->kernels, i)->loaded, loaded);
            assert_int_equal(cuda_kernels_tile(c->kernels, i, &now, &err), 0);
            for (int v = 0; v < tile.n; v++)
                assert_string_equal(pairs_get(&now, tile.at[v].name), tile.at[v].value);
            assert_null(c->graph);
            exchanged++;
        }
    assert_true(exchanged >= 8);
    cuda_exchange(c, c->kernel[CK_DECODE], &other[c->kernel[CK_DECODE]]); /* back */
    struct cuda_tile none;
    struct pairs odd;
    assert_int_equal(pairs_parse(&odd, "wp=5", &err), 0);
    assert_int_equal(cuda_kernels_build(c->kernels, c->kernel[CK_DECODE], &odd, &none, &err), -1);
    be.reset(&be);
    if (backend_run(&got, &be, &m, &p, tokens, 145, &err) != 0)
        fail_msg("%s", err.msg);
    with_graphs = false;
    struct llama_difference d = llama_compare(&want, &got, 145);
    if (d.kept > 0 || !(d.nll < 0.06) || !(d.score < 0.024))
        fail_msg("%zu places hold another token, likelihoods are %.4f apart, scores %.4f", d.kept, d.nll, d.score);
    for (int i = 0; i < n; i++)
        kernel_free(&other[i].built);
    oracle_llama_free(&got);
    oracle_llama_free(&want);
    be.close(&be);
    model_close(&m);
    free(file.data);
}

/* Half-split rotation and biases, partial rotation, other head dimensions. */
static void test_rotations(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct tiny_model t = small_model();
        struct cascade_params p = small_cascade();
        t.arch = i < 2 ? "qwen2" : "llama";
        t.biases = i < 2;
        t.head_dim = (const int[]){64, 80, 128, 96}[i];
        t.rope_dim = i == 3 ? 32 : 0;
        t.rope_freqs = i == 2;
        t.vocab = 301 + i; /* no multiple of anything */
        t.seed = 900 + (uint64_t)i;
        p.positions = i == 1 ? POSITIONS_ORIGINAL : POSITIONS_CACHE;
        p.stride = i == 2 ? 1 : 32;
        char what[32];
        snprintf(what, sizeof what, "rotation %d", i);
        compare(&t, &p, 97, BACKEND_HALF_FP16, true, what);
    }
}

/* Logits of a chunk and a token behind it, [2][vocab]. */
static void two_logits(const struct model *m, float *out)
{
    struct cascade_params p = small_cascade();
    struct backend be;
    struct err err = {""};
    if (open_emu(&be, m, &p, true, &(struct backend_options){.threads = 1}, &err) != 0 ||
        llama_forward(&be, m, (const int32_t[]){5, 9, 200, 31, 7, 11}, 6, &err) != 0 ||
        be.logits(&be, 5, 1, out, &err) != 0 || llama_forward(&be, m, (const int32_t[]){8}, 1, &err) != 0 ||
        be.logits(&be, 0, 1, out + m->shape.vocab, &err) != 0)
        fail_msg("%s", err.msg);
    be.close(&be);
}

/* Matrices of which only a pattern is there are what they would be whole. */
static void test_repeated_weights(void **state)
{
    (void)state;
    enum { PATTERN = 18 * 16 * 5 };
    struct tiny_model t = small_model();
    struct model m;
    struct bytes file;
    static float want[2 * 288], got[2 * 288];
    t.type = t.embed_type = QUANT_Q4_0;
    t.layers = 1;
    tiny_model_open(&t, &m, &file);
    const struct tensor **all[] = {&m.embed,       &m.layer[0].wq,   &m.layer[0].wk, &m.layer[0].wv,
                                   &m.layer[0].wo, &m.layer[0].gate, &m.layer[0].up, &m.layer[0].down};
    enum { ALL = sizeof all / sizeof *all };
    struct tensor made[ALL];
    unsigned char *whole[ALL];
    for (int i = 0; i < ALL; i++) {
        made[i] = **all[i];
        whole[i] = malloc(made[i].bytes);
        assert_non_null(whole[i]);
        for (size_t at = 0; at < made[i].bytes; at++)
            whole[i][at] = ((const unsigned char *)made[i].data)[at % PATTERN];
        made[i].data = whole[i];
        *all[i] = &made[i];
    }
    m.output = m.embed;
    m.shape.rope_interleaved = true; /* rows of wq and wk stay where they are, as in a random model */
    two_logits(&m, want);
    for (int i = 0; i < ALL; i++)
        made[i].repeats = PATTERN;
    two_logits(&m, got);
    assert_memory_equal(got, want, sizeof want);
    for (int i = 0; i < ALL; i++)
        free(whole[i]);
    model_close(&m);
    free(file.data);
}

/* Eight tokens behind a chunk by the machine and by a sampler beside it, which must end alike. Returns how many were not the likeliest. */
static int picks(struct backend *be, const struct model *m, const struct sampler_params *o, const char *what)
{
    struct sampler *here, *there;
    struct sampler_state left, right;
    struct err err = {""};
    float logits[288];
    int others = 0;
    assert_int_equal(sampler_open(&here, o, 288, &err), 0);
    assert_int_equal(sampler_open(&there, o, 288, &err), 0);
    be->reset(be);
    if (llama_forward(be, m, (const int32_t[]){5, 9, 200, 31, 7}, 5, &err) != 0)
        fail_msg("%s", err.msg);
    for (int k = 0; k < 8; k++) {
        int32_t id = -1, likeliest = 0;
        int row = k ? 0 : 4;
        if (be->logits(be, row, 1, logits, &err) != 0 || be->pick(be, there, row, &id, &err) != 0)
            fail_msg("%s: %s", what, err.msg);
        int32_t want = sampler_pick(here, logits);
        for (int i = 1; i < 288; i++)
            likeliest = logits[i] > logits[likeliest] ? i : likeliest;
        others += want != likeliest;
        sampler_accept(here, want);
        sampler_accept(there, want);
        if (id != want)
            fail_msg("%s, token %d: %d instead of %d", what, k, (int)id, (int)want);
        assert_int_equal(llama_forward(be, m, &id, 1, &err), 0);
    }
    assert_int_equal(sampler_save(here, &left, &err), 0);
    assert_int_equal(sampler_save(there, &right, &err), 0);
    assert_true(left.random == right.random);
    assert_int_equal(left.nrecent, right.nrecent);
    free(left.recent);
    free(right.recent);
    sampler_close(here);
    sampler_close(there);
    return others;
}

/* The machine's pick is the sampler's, whatever the options, after a chunk and after a token; and leaves the sampler alike. */
static void test_pick(void **state)
{
    (void)state;
    struct tiny_model t = small_model();
    struct cascade_params p = small_cascade();
    struct model m;
    struct bytes file;
    struct err err = {""};
    struct backend be;
    tiny_model_open(&t, &m, &file);
    if (open_emu(&be, &m, &p, true, &(struct backend_options){.threads = 1}, &err) != 0)
        fail_msg("%s", err.msg);
    struct sampler_params o = sampler_defaults();
    o.repeat_last = 4;
    assert_true(picks(&be, &m, &o, "defaults") > 0);
    o.seed = 77;
    o.temperature = 1.5;
    o.top_k = 0;
    o.min_p = 0;
    assert_true(picks(&be, &m, &o, "top-p alone") > 0);
    o.top_p = 1;
    o.repeat_penalty = 1.5;
    assert_true(picks(&be, &m, &o, "all tokens, with a penalty") > 0);
    o.top_k = 1; /* draws nothing */
    picks(&be, &m, &o, "top-k 1");
    o.temperature = 0;
    picks(&be, &m, &o, "greedy, with a penalty");
    o.repeat_penalty = 1;
    assert_int_equal(picks(&be, &m, &o, "greedy"), 0);

    struct sampler *s;
    int32_t id;
    float nats;
    assert_int_equal(sampler_open(&s, &o, 288, &err), 0);
    assert_int_equal(be.pick(&be, s, 1, &id, &err), -1); /* the last chunk had one row */
    assert_int_equal(be.likelihoods(&be, 1, 1, (const int32_t[]){3}, &nats, &err), -1);
    assert_int_equal(be.likelihoods(&be, 0, 1, (const int32_t[]){288}, &nats, &err), -1);
    sampler_close(s);
    o.repeat_penalty = 1.5;
    o.repeat_last = CUDA_RECENT + 1; /* no room for so many: the host picks */
    assert_int_equal(sampler_open(&s, &o, 288, &err), 0);
    assert_int_equal(be.pick(&be, s, 0, &id, &err), 1);
    sampler_close(s);
    be.close(&be);
    model_close(&m);
    free(file.data);
}

/* What the GPU cannot do is refused before anything is loaded, and says what would help. */
static void test_refusals(void **state)
{
    (void)state;
    struct tiny_model t = small_model();
    struct cascade_params p = small_cascade();
    struct model m;
    struct bytes file;
    struct err err = {""};
    struct backend be;
    t.head_dim = 48;
    tiny_model_open(&t, &m, &file);
    assert_int_equal(open_emu(&be, &m, &p, true, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "heads of 48 elements"));
    assert_non_null(strstr(err.msg, "--cpu"));
    model_close(&m);
    free(file.data);
    t = small_model();
    tiny_model_open(&t, &m, &file);
    p.window = 3 << 26; /* 2 layers of 2 * 64 elements a token: 200 GB */
    assert_int_equal(open_emu(&be, &m, &p, true, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "GB are free"));
    assert_non_null(strstr(err.msg, "would fit"));
    model_close(&m);
    free(file.data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_and_tokens),
        cmocka_unit_test(test_cascade_options),
        cmocka_unit_test(test_scored_layers),
        cmocka_unit_test(test_weight_types),
        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_rotations),
        cmocka_unit_test(test_pick),
        cmocka_unit_test(test_repeated_weights),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_exchange),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
