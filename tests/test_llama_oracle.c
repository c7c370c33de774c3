/* The CPU backend against the double-precision oracle: random models under random cascades, then SmolLM2 itself, and that against
 * likelihoods of another implementation (tests/vectors/smollm2.py).
 *
 * Bounds. The two differ by fp32 alone. In decoding that is about 1e-6 nats a token (largest 1e-5); in chunks, where a product
 * of a thousand terms runs through one accumulator, 1e-5 (largest 2e-4 in these cases). The bound is 5e-4, half of the design's.
 * Scores are sums of probabilities: relative errors of 1e-5, bound 1e-4. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend_run.h"
#include "gguf_writer.h"
#include "sanitized.h"

/* Scores closer than this may change places in fp32. */
static const double CLOSE = 2e-5;
static const double NLL_BOUND = 5e-4, SCORE_BOUND = 1e-4;

#define pick(seed, ...)                                                                                                \
    ((const int[]){__VA_ARGS__})[random_int(seed, 0, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)) - 1)]

static struct tiny_model random_model(uint64_t *seed)
{
    struct tiny_model t = tiny_model_defaults();
    int k_quants = random_int(seed, 0, 1);
    t.seed = *seed;
    t.layers = random_int(seed, 1, 2);
    t.head_dim = pick(seed, 16, 64, 80, 96, 128);
    t.kv_heads = random_int(seed, 1, 3);
    t.heads = t.kv_heads * random_int(seed, 1, 4);
    t.hidden = k_quants ? 256 : 32 * random_int(seed, 2, 6);
    t.ffn = k_quants ? 512 : 32 * random_int(seed, 2, 9);
    if (k_quants) /* rows of all matrices are whole blocks: heads * head_dim too */
        t.head_dim = 64, t.kv_heads = pick(seed, 1, 2, 4), t.heads = 4;
    t.vocab = random_int(seed, 33, 400);
    t.type = (enum quant_type)(k_quants ? pick(seed, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_BF16)
                                        : pick(seed, QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_Q4_1));
    if (!k_quants && (t.heads * t.head_dim) % 32 == 0)
        t.type = (enum quant_type)pick(seed, QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_1,
                                       QUANT_Q5_0, QUANT_Q5_1);
    else if (!k_quants)
        t.type = QUANT_F16;
    t.embed_type = (enum quant_type)pick(seed, QUANT_F32, QUANT_Q8_0, QUANT_F16);
    t.tied = random_int(seed, 0, 1);
    t.rope_base = pick(seed, 10000, 100000, 500000);
    t.rope_linear = pick(seed, 0, 0, 4);
    t.rope_freqs = random_int(seed, 0, 2) == 0;
    t.rope_dim = random_int(seed, 0, 3) ? 0 : t.head_dim / 2;
    if (random_int(seed, 0, 2) == 0)
        t.arch = "qwen2", t.biases = true; /* half-split rotation */
    return t;
}

static struct cascade_params random_cascade(uint64_t *seed)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = pick(seed, 0, 1, 4, 16);
    p.subcaches = pick(seed, 1, 2, 4, 4, 6);
    p.span = pick(seed, 1, 1, 2, 4, 8);
    p.window = p.subcaches * p.span * random_int(seed, 1, 5);
    p.stride = pick(seed, 1, 7, 16, 33, 48, 64);
    p.ema = pick(seed, 0, 1) ? 0.9999 : 0.95;
    p.reduction = (enum cascade_reduction)random_int(seed, 0, 2);
    p.policy = (enum cascade_policy)random_int(seed, 0, 1);
    p.positions = random_int(seed, 0, 3) ? POSITIONS_CACHE : POSITIONS_ORIGINAL;
    p.span_score = (enum cascade_span_score)random_int(seed, 0, 1);
    p.select = random_int(seed, 0, 9) ? SELECT_SCORE : random_int(seed, 0, 1) ? SELECT_NEWEST : SELECT_OLDEST;
    p.eager = random_int(seed, 0, 1);
    int how = random_int(seed, 0, 3);
    for (int64_t i = 0, power = 1; i < p.subcaches; i++, power *= how + 2)
        p.every[i] = how < 3 ? power : i + 1;
    return p;
}

static void random_tokens(int32_t *tokens, size_t n, int vocab, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = random_int(seed, 0, vocab - 1);
}

/* One model under one cascade. False where two scores come so close that fp32 may decide otherwise. */
static bool compare(const struct model *m, const struct cascade_params *p, const int32_t *tokens, size_t n, int threads,
                    const char *what, struct llama_difference *worst)
{
    struct oracle_llama want, got;
    struct err err = {""};
    if (cascade_check(p, &err) < 0 || backend_run_cpu(&got, m, p, tokens, n, threads, &err) < 0)
        fail_msg("%s: %s", what, err.msg);
    oracle_llama_run(&want, m, p, tokens, n, threads);
    assert_int_equal(want.held, got.held);
    bool clear = want.closest > CLOSE;
    struct llama_difference d = llama_compare(&want, &got, n);
    if (clear && (d.kept > 0 || d.nll > NLL_BOUND || d.score > SCORE_BOUND))
        fail_msg("%s: token %zu is %.2e nats off, %zu places hold another token, scores are %.2e off", what, d.at + 1,
                 d.nll, d.kept, d.score);
    if (clear) {
        worst->nll = fmax(worst->nll, d.nll);
        worst->score = fmax(worst->score, d.score);
    }
    oracle_llama_free(&want);
    oracle_llama_free(&got);
    return clear;
}

static void random_models_under_random_cascades(void **state)
{
    enum { CASES = 120, TOKENS = 120 };
    struct llama_difference worst = {0};
    int clear = 0, cases = 0;
    for (uint64_t number = 0; number < CASES; number += (uint64_t)sanitized_step(8)) {
        cases++;
        uint64_t seed = number * 77 + 3;
        struct tiny_model t = random_model(&seed);
        struct cascade_params p = random_cascade(&seed);
        struct model m;
        struct bytes file;
        int32_t tokens[TOKENS];
        char what[200];
        tiny_model_open(&t, &m, &file);
        if (t.rope_linear == 0 && random_int(&seed, 0, 2) == 0) { /* GGUF has no name for this one; safetensors do */
            m.shape.scaling = ROPE_LLAMA3;
            m.shape.rope_factor = 8, m.shape.rope_low_freq = 1, m.shape.rope_high_freq = 4;
            m.shape.rope_ctx_origin = 512;
        }
        random_tokens(tokens, TOKENS, t.vocab, &seed);
        snprintf(what, sizeof what, "case %d (%s d %d heads %d/%d %s, S %d N %d W %d B %d T %d %s)", (int)number,
                 t.arch, t.head_dim, t.heads, t.kv_heads, quant_info(t.type)->name, p.sinks, p.subcaches, p.window,
                 p.span, p.stride, p.positions == POSITIONS_CACHE ? "cache" : "original");
        clear += compare(&m, &p, tokens, TOKENS, 1, what, &worst);
        model_close(&m);
        free(file.data);
    }
    print_message("%d of %d cases are clear of ties; worst: %.1e nats, score %.1e\n", clear, cases, worst.nll,
                  worst.score);
    assert_true(clear > cases * 9 / 10);
}

/* "With eager fill, W >= text length means nothing is evicted, and the output is that of full attention", for each N and span;
 * and the chunk's length has no part in it. */
static void a_window_as_long_as_the_text_is_full_attention(void **state)
{
    enum { TOKENS = 96 };
    struct tiny_model t = tiny_model_defaults();
    struct model m;
    struct bytes file;
    int32_t tokens[TOKENS];
    uint64_t seed = 9;
    struct oracle_llama want = {0}, got;
    struct err err = {""};
    tiny_model_open(&t, &m, &file);
    random_tokens(tokens, TOKENS, t.vocab, &seed);
    struct cascade_params p = cascade_defaults();
    p.window = 2 * TOKENS, p.subcaches = 1, p.span = 1, p.stride = TOKENS, p.sinks = 0;
    oracle_llama_run(&want, &m, &p, tokens, TOKENS, 1);
    for (int i = 0; i < 12; i++) {
        p.subcaches = (const int[]){1, 2, 4}[i % 3], p.span = i % 2 ? 4 : 1, p.sinks = i % 4;
        p.stride = (const int[]){1, 13, 96, 50}[i / 3];
        p.window = i % 2 ? 2 * TOKENS : TOKENS;
        assert_int_equal(backend_run_cpu(&got, &m, &p, tokens, TOKENS, 1, &err), 0);
        for (int k = 0; k < TOKENS - 1; k++)
            if (fabs(got.nll[k] - want.nll[k]) > 1e-4)
                fail_msg("N %d B %d T %d: token %d is %.2e nats off", p.subcaches, p.span, p.stride, k + 1,
                         fabs(got.nll[k] - want.nll[k]));
        oracle_llama_free(&got);
    }
    oracle_llama_free(&want);
    model_close(&m);
    free(file.data);
}

/* --- the default model; MODEL names its file ----------------------------------------------------------------------------- */

static struct model smollm2;
static int32_t text[1024]; /* tests/vectors/smollm2.txt */
static double reference[1024];
static size_t text_tokens;

static int load_smollm2(void **state)
{
    const char *path = getenv("MODEL");
    struct err err;
    if (!path || model_open(&smollm2, path, &err) < 0)
        return 0; /* the tests skip */
    FILE *f = fopen("tests/vectors/smollm2.txt", "r");
    assert_non_null(f);
    while (text_tokens < 1024 && fscanf(f, "%d %lf", &text[text_tokens], &reference[text_tokens]) == 2)
        text_tokens++;
    fclose(f);
    assert_int_equal(text_tokens, 1000);
    return 0;
}

static int close_smollm2(void **state)
{
    model_close(&smollm2);
    return 0;
}

static void need_smollm2(void)
{
    if (!smollm2.layer) {
        print_message("no default model (make model gets it); set MODEL to its file\n");
        skip();
    }
}

static void smollm2_agrees_with_another_implementation(void **state)
{
    need_smollm2();
    struct oracle_llama got;
    struct err err = {""};
    struct cascade_params p = cascade_defaults();
    size_t n = text_tokens / (size_t)sanitized_step(4);
    double worst = 0;
    p.subcaches = 1, p.window = 1024, p.stride = 256;
    assert_int_equal(backend_run_cpu(&got, &smollm2, &p, text, n, 2, &err), 0);
    for (size_t i = 0; i + 1 < n; i++)
        worst = fmax(worst, fabs(got.nll[i] - reference[i + 1]));
    print_message("worst of %zu tokens: %.1e nats\n", n - 1, worst);
    assert_true(worst < NLL_BOUND);
    oracle_llama_free(&got);
}

/* The oracle itself against the other implementation: so it is no copy of the same mistake. */
static void the_oracle_agrees_with_another_implementation(void **state)
{
    need_smollm2();
    struct oracle_llama o;
    struct cascade_params p = cascade_defaults();
    p.stride = 64;
    oracle_llama_run(&o, &smollm2, &p, text, 64, 2);
    for (size_t i = 0; i < 63; i++)
        assert_true(fabs(o.nll[i] - reference[i + 1]) < 1e-6);
    oracle_llama_free(&o);
}

static void smollm2_in_a_small_window(void **state)
{
    need_smollm2();
    static const struct {
        int n, span, stride;
        enum cascade_reduction reduction;
        enum cascade_positions positions;
        enum cascade_policy policy;
    } setting[] = {
        {1, 1, 64, REDUCE_MEAN, POSITIONS_CACHE, POLICY_INDEPENDENT},
        {4, 4, 32, REDUCE_MAX, POSITIONS_CACHE, POLICY_INDEPENDENT},
        {4, 1, 64, REDUCE_MEDIAN, POSITIONS_ORIGINAL, POLICY_HOMOGENEOUS},
    };
    for (size_t i = 0; i < sizeof setting / sizeof *setting; i += (size_t)sanitized_step(2)) {
        struct cascade_params p = cascade_defaults();
        struct llama_difference worst = {0};
        char what[64];
        p.sinks = 4, p.window = 48, p.subcaches = setting[i].n, p.span = setting[i].span, p.stride = setting[i].stride;
        p.reduction = setting[i].reduction, p.positions = setting[i].positions, p.policy = setting[i].policy;
        snprintf(what, sizeof what, "N %d B %d T %d", p.subcaches, p.span, p.stride);
        bool clear = compare(&smollm2, &p, text, 150, 2, what, &worst);
        print_message("%s: %s; worst %.1e nats, score %.1e\n", what, clear ? "clear" : "ties", worst.nll, worst.score);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_models_under_random_cascades),
        cmocka_unit_test(a_window_as_long_as_the_text_is_full_attention),
        cmocka_unit_test(the_oracle_agrees_with_another_implementation),
        cmocka_unit_test(smollm2_agrees_with_another_implementation),
        cmocka_unit_test(smollm2_in_a_small_window),
    };
    return cmocka_run_group_tests(tests, load_smollm2, close_smollm2);
}
