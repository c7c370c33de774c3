/* The CPU backend against the double-precision oracle: likelihoods, kept tokens and scores, over models and cascades. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_run.h"
#include "gguf_writer.h"
#include "runtime/llama.h"
#include "runtime/simd.h"
#include "sanitized.h"

/* One model and cascade, with every vector version that this machine runs. */
static void compare(const struct tiny_model *t, const struct cascade_params *p, size_t n, int threads, const char *what)
{
    static const char *const versions[] = {"plain", "avx2", "avx512"};
    struct model m;
    struct bytes file;
    struct err err = {""};
    struct backend be;
    struct oracle_llama want, got;
    tiny_model_open(t, &m, &file);
    int32_t *tokens = malloc(n * sizeof *tokens);
    assert_non_null(tokens);
    repeating_tokens(tokens, n, m.shape.vocab, t->seed + n);
    if (cascade_check(p, &err) != 0)
        fail_msg("%s: %s", what, err.msg);
    oracle_llama_run(&want, &m, p, tokens, n, 1);
    if (want.closest < 1e-5)
        fail_msg("%s: two scores of this case are too close to compare with (%g); change its seed", what, want.closest);
    for (int i = 0; i < 3; i++) {
        struct backend_options o = {.threads = threads, .simd = versions[i]};
        if (!simd_named(versions[i]))
            continue;
        if (backend_cpu_open(&be, &m, p, &o, &err) != 0 || backend_run(&got, &be, &m, p, tokens, n, &err) != 0)
            fail_msg("%s: %s", what, err.msg);
        struct llama_difference d = llama_compare(&want, &got, n);
        if (d.kept > 0 || !(d.nll < 2e-4) || !(d.score < 1e-4))
            fail_msg("%s, %s: token %zu is %.2e nats off, %zu places hold another token, scores are %.2e off", what,
                     versions[i], d.at + 1, d.nll, d.kept, d.score);
        oracle_llama_free(&got);
        be.close(&be);
    }
    oracle_llama_free(&want);
    free(tokens);
    model_close(&m);
    free(file.data);
}

static struct cascade_params small_cascade(void)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = 4;
    p.subcaches = 3;
    p.window = 48;
    p.span = 4;
    p.stride = 16;
    return p;
}

static void test_strides(void **state)
{
    (void)state;
    static const int strides[] = {1, 2, 3, 5, 16, 17, 40, 100};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
        struct tiny_model t = tiny_model_defaults();
        struct cascade_params p = small_cascade();
        p.stride = strides[i];
        t.seed = 7 + i;
        char what[32];
        snprintf(what, sizeof what, "stride %d", p.stride);
        compare(&t, &p, 300, 1 + (int)(i % 2), what);
    }
}

static void test_cascade_options(void **state)
{
    (void)state;
    for (int i = 0; i < 24; i += sanitized_step(7)) {
        struct tiny_model t = tiny_model_defaults();
        struct cascade_params p = small_cascade();
        t.seed = 100 + (uint64_t)i;
        p.reduction = (enum cascade_reduction)(i % 3);
        p.policy = (enum cascade_policy)(i / 3 % 2);
        p.positions = (enum cascade_positions)(i / 6 % 2);
        p.span_score = (enum cascade_span_score)(i / 12 % 2);
        p.eager = i % 5 != 0;
        p.ema = i % 7 == 0 ? 0.9 : 0.9999;
        p.sinks = i % 4 == 0 ? 0 : i % 4 == 1 ? 21 : 5;
        p.span = (const int[]){1, 2, 4, 8, 16}[i % 5];
        p.subcaches = (const int[]){1, 2, 3, 4}[i % 4];
        p.window = p.subcaches * 16;
        p.stride = (const int[]){16, 1, 37}[i % 3];
        t.heads = (const int[]){4, 8, 6}[i % 3];
        t.kv_heads = 2;
        char what[32];
        snprintf(what, sizeof what, "case %d", i);
        compare(&t, &p, 240, 1 + i % 2, what);
    }
}

/* So many keys that one token's attention is split, and a ring whose seam lies in the middle of a split. */
static void test_many_keys(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct tiny_model t = tiny_model_defaults();
        struct cascade_params p = small_cascade();
        t.seed = 700 + (uint64_t)i;
        p.subcaches = 1; /* no scores are compared, so that none are too close */
        p.window = 1040;
        p.stride = 1;
        p.policy = i ? POLICY_HOMOGENEOUS : POLICY_INDEPENDENT;
        p.reduction = i ? REDUCE_MAX : REDUCE_MEAN;
        compare(&t, &p, 1300, 2, i ? "many keys, homogeneous" : "many keys");
    }
}

static void test_models(void **state)
{
    (void)state;
    static const enum quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0,
                                            QUANT_Q5_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    for (size_t i = 0; i < 2 * sizeof types / sizeof *types; i += (size_t)sanitized_step(3)) {
        struct tiny_model t = tiny_model_defaults();
        struct cascade_params p = small_cascade();
        t.type = types[i / 2];
        t.hidden = 256;
        t.ffn = 512;
        t.heads = 4;
        t.kv_heads = 2;
        t.head_dim = 64;
        t.embed_type = types[i / 2];
        t.tied = i / 2 % 2;
        t.seed = 500 + i;
        p.stride = i % 2 ? 1 : 24;
        compare(&t, &p, 130, 2, quant_info(types[i / 2])->name);
    }
}

static void test_rotations(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct tiny_model t = tiny_model_defaults();
        struct cascade_params p = small_cascade();
        t.arch = i < 3 ? "qwen2" : "llama"; /* half-split rotation, biases */
        t.biases = i < 3;
        t.head_dim = (const int[]){16, 20, 24, 48, 80, 16}[i];
        t.rope_dim = i == 5 ? 8 : 0;
        t.rope_linear = i == 1 ? 4 : 0;
        t.rope_freqs = i == 4;
        t.vocab = 301 + i; /* no multiple of anything */
        t.seed = 900 + (uint64_t)i;
        p.stride = i % 2 ? 1 : 32;
        char what[32];
        snprintf(what, sizeof what, "rotation %d", i);
        compare(&t, &p, 200, 2, what);
    }
}

/* One thread or several, a fresh stream or one after another: the same bits. */
static void test_deterministic(void **state)
{
    (void)state;
    struct tiny_model t = tiny_model_defaults();
    struct cascade_params p = small_cascade();
    struct model m;
    struct bytes file;
    struct err err = {""};
    enum { N = 200 };
    int32_t tokens[N];
    t.type = QUANT_Q4_1;
    tiny_model_open(&t, &m, &file);
    repeating_tokens(tokens, N, m.shape.vocab, 5);
    for (p.stride = 1; p.stride < 40; p.stride += 23) {
        struct oracle_llama first = {0}, next;
        for (int threads = 1; threads <= 4; threads++) {
            struct backend be;
            assert_int_equal(backend_cpu_open(&be, &m, &p, &(struct backend_options){.threads = threads}, &err), 0);
            for (int round = 0; round < 2; round++) {
                be.reset(&be);
                assert_int_equal(backend_run(&next, &be, &m, &p, tokens, N, &err), 0);
                assert_int_equal(be.seen(&be), N);
                if (!first.nll) {
                    first = next;
                    continue;
                }
                assert_memory_equal(first.nll, next.nll, (N - 1) * sizeof *next.nll);
                oracle_llama_free(&next);
            }
            be.close(&be);
        }
        oracle_llama_free(&first);
    }
    model_close(&m);
    free(file.data);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct tiny_model t = tiny_model_defaults();
    struct cascade_params p = small_cascade();
    struct model m;
    struct bytes file;
    struct err err = {""};
    struct backend be;
    float logits[288], nats[4];
    int64_t origin[64];
    tiny_model_open(&t, &m, &file);
    assert_int_equal(backend_cpu_open(&be, &m, &p, NULL, &err), 0);
    assert_int_equal(be.logits(&be, 0, 1, logits, &err), -1);
    assert_int_equal(be.begin(&be, (const int32_t[]){1, 288}, 2, &err), -1);
    assert_non_null(strstr(err.msg, "288"));
    assert_int_equal(be.begin(&be, (const int32_t[]){-1}, 1, &err), -1);
    assert_int_equal(be.begin(&be, (const int32_t[]){1}, 0, &err), -1);
    assert_int_equal(be.begin(&be, (const int32_t[]){1}, 17, &err), -1);
    assert_int_equal(llama_forward(&be, &m, (const int32_t[]){1, 2, 3}, 3, &err), 0);
    assert_int_equal(be.logits(&be, 0, 4, NULL, &err), -1);
    assert_int_equal(be.logits(&be, 2, 1, logits, &err), 0);
    assert_int_equal(be.likelihoods(&be, 1, 3, (const int32_t[]){1, 2, 3}, nats, &err), -1);
    assert_int_equal(be.likelihoods(&be, 1, 2, (const int32_t[]){1, 288}, nats, &err), -1);
    assert_non_null(strstr(err.msg, "288"));
    assert_int_equal(be.likelihoods(&be, 1, 2, (const int32_t[]){1, 287}, nats, &err), 0);
    assert_int_equal(be.origins(&be, 2, 0, origin, &err), -1);
    assert_int_equal(be.origins(&be, 0, 2, origin, &err), -1);
    assert_int_equal(be.origins(&be, 1, 1, origin, &err), 0);
    assert_int_equal(origin[2], 2);
    assert_int_equal(origin[3], -1);
    assert_true(backend_cpu_bytes(&m, &p) >= be.cache_bytes(&be));
    be.close(&be);
    be.close(&be);

    /* A window that no machine holds is a refusal. */
    p.window = 1 << 30;
    p.subcaches = 1;
    p.span = 1;
    p.stride = 1 << 30;
    assert_int_equal(backend_cpu_open(&be, &m, &p, &(struct backend_options){.threads = 1}, &err), -1);
    assert_true(backend_cpu_bytes(&m, &p) > (size_t)1 << 38);
    assert_int_equal(backend_cpu_open(&be, &m, &p, &(struct backend_options){.threads = 1000}, &err), -1);
    assert_non_null(strstr(err.msg, "threads"));
    assert_int_equal(backend_cpu_open(&be, &m, &p, &(struct backend_options){.simd = "abacus"}, &err), -1);
    assert_non_null(strstr(err.msg, "abacus"));
    model_close(&m);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strides),   cmocka_unit_test(test_cascade_options), cmocka_unit_test(test_models),
        cmocka_unit_test(test_rotations), cmocka_unit_test(test_deterministic),   cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
