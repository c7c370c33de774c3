/* The sampler: each filter against its definition, frequencies against probabilities, and the same seed the same tokens. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf_writer.h"
#include "runtime/sampler.h"

enum { VOCAB = 40, DRAWS = 40000 };

static struct sampler_params plain(void)
{
    return (struct sampler_params){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5};
}

static struct sampler *open_sampler(const struct sampler_params *p, int vocab)
{
    struct sampler *s;
    struct err err = {""};
    assert_int_equal(sampler_check(p, &err), 0);
    assert_int_equal(sampler_open(&s, p, vocab, &err), 0);
    return s;
}

static void random_logits(float *logits, uint64_t *seed)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)(2 * random_normal(seed));
}

/* Probabilities by the definition: sort, filter in order, renormalise. */
static void expected(const struct sampler_params *p, const float *logits, double *probability)
{
    int order[VOCAB], n = VOCAB;
    double mass[VOCAB], sum = 0, seen = 0;
    for (int i = 0; i < VOCAB; i++)
        order[i] = i;
    for (int i = 0; i < VOCAB; i++)
        for (int j = i + 1; j < VOCAB; j++)
            if (logits[order[j]] > logits[order[i]]) {
                int swap = order[i];
                order[i] = order[j];
                order[j] = swap;
            }
    if (p->top_k && p->top_k < n)
        n = p->top_k;
    for (int i = 0; i < n; i++)
        sum += mass[i] = exp((double)logits[order[i]]);
    for (int i = 0; i < n && p->top_p < 1; i++)
        if ((seen += mass[i] / sum) >= p->top_p)
            n = i + 1;
    while (n > 1 && mass[n - 1] < p->min_p * mass[0] * (1 - 1e-12))
        n--;
    sum = 0;
    for (int i = 0; i < n; i++)
        sum += mass[i] = exp((double)logits[order[i]] / p->temperature);
    memset(probability, 0, VOCAB * sizeof *probability);
    for (int i = 0; i < n; i++)
        probability[order[i]] = mass[i] / sum;
}

static void frequencies_follow_the_definition(void **state)
{
    uint64_t seed = 1;
    for (int round = 0; round < 24; round++) {
        struct sampler_params p = plain();
        float logits[VOCAB];
        double probability[VOCAB];
        int count[VOCAB] = {0};
        random_logits(logits, &seed);
        p.temperature = round % 3 ? 0.2 + 1.5 * random_uniform(&seed) : 1;
        p.top_k = round & 1 ? random_int(&seed, 2, VOCAB + 5) : 0;
        p.top_p = round & 2 ? 0.3 + 0.7 * random_uniform(&seed) : 1;
        p.min_p = round & 4 ? 0.3 * random_uniform(&seed) : 0;
        p.seed = seed;
        struct sampler *s = open_sampler(&p, VOCAB);
        expected(&p, logits, probability);
        for (int i = 0; i < DRAWS; i++)
            count[sampler_pick(s, logits)]++;
        for (int i = 0; i < VOCAB; i++) {
            double deviation = 5 * sqrt(probability[i] * (1 - probability[i]) / DRAWS);
            if (probability[i] == 0)
                assert_int_equal(count[i], 0);
            else if (fabs((double)count[i] / DRAWS - probability[i]) > deviation + 1e-9)
                fail_msg("round %d: token %d was drawn %d times, probability %g", round, i, count[i], probability[i]);
        }
        sampler_close(s);
    }
}

static void the_same_seed_gives_the_same_tokens(void **state)
{
    struct sampler_params p = sampler_defaults();
    float logits[VOCAB];
    uint64_t seed = 2;
    int same = 0;
    random_logits(logits, &seed);
    struct sampler *a = open_sampler(&p, VOCAB), *b = open_sampler(&p, VOCAB);
    p.seed = 1;
    struct sampler *c = open_sampler(&p, VOCAB);
    for (int i = 0; i < 1000; i++) {
        int32_t id = sampler_pick(a, logits);
        assert_int_equal(sampler_pick(b, logits), id);
        same += sampler_pick(c, logits) == id;
    }
    assert_true(same < 900);
    sampler_close(a);
    sampler_close(b);
    sampler_close(c);
}

static void greedy_takes_the_likeliest(void **state)
{
    struct sampler_params p = plain();
    const float nan = NAN, inf = INFINITY;
    const float cases[][4] = {
        {1, 3, 3, 2}, {nan, -5, nan, -6}, {nan, nan, nan, nan}, {-inf, -inf, 0, -inf}, {1, inf, inf, 2}};
    static const int32_t want[] = {1, 1, 0, 2, 1};
    for (int greedy = 0; greedy < 2; greedy++) {
        p.temperature = greedy ? 0 : 1;
        p.top_k = !greedy;
        struct sampler *s = open_sampler(&p, 4);
        for (int i = 0; i < 5; i++)
            assert_int_equal(sampler_pick(s, cases[i]), want[i]);
        sampler_close(s);
    }
}

static void unlikely_values_are_never_drawn(void **state)
{
    struct sampler_params p = plain();
    const float logits[] = {NAN, 0, -INFINITY, 1};
    struct sampler *s = open_sampler(&p, 4);
    for (int i = 0; i < 1000; i++) {
        int32_t id = sampler_pick(s, logits);
        assert_true(id == 1 || id == 3);
    }
    sampler_close(s);
}

static void the_penalty_holds_for_recent_tokens(void **state)
{
    struct sampler_params p = plain();
    const float logits[] = {2, 1.5f, -1, -2}, low[] = {-1, -1.5f, -3, -4};
    p.temperature = 0;
    p.repeat_penalty = 2;
    p.repeat_last = 2;
    struct sampler *s = open_sampler(&p, 4);
    assert_int_equal(sampler_pick(s, logits), 0);
    sampler_accept(s, 0);
    sampler_accept(s, 0); /* once for a token, however often it came: 2 / 2 < 1.5 */
    sampler_accept(s, -1);
    sampler_accept(s, 4);
    assert_int_equal(sampler_pick(s, logits), 1);
    assert_int_equal(sampler_pick(s, low), 1); /* -1 * 2 < -1.5 */
    sampler_accept(s, 1);
    assert_int_equal(sampler_pick(s, logits), 0); /* both: 1 > 0.75 */
    sampler_accept(s, 2);
    sampler_accept(s, 3); /* 0 and 1 are recent no more */
    assert_int_equal(sampler_pick(s, logits), 0);
    sampler_close(s);
}

static void options_out_of_range_are_named(void **state)
{
    static const struct {
        struct sampler_params p;
        const char *says;
    } cases[] = {
        {{.temperature = -1, .top_p = 1, .repeat_penalty = 1}, "--temp -1"},
        {{.temperature = NAN, .top_p = 1, .repeat_penalty = 1}, "--temp"},
        {{.top_k = -1, .top_p = 1, .repeat_penalty = 1}, "--top-k -1"},
        {{.top_p = 0, .repeat_penalty = 1}, "--top-p 0"},
        {{.top_p = 1.5, .repeat_penalty = 1}, "--top-p 1.5"},
        {{.top_p = 1, .min_p = 2, .repeat_penalty = 1}, "--min-p 2"},
        {{.top_p = 1, .repeat_penalty = 0}, "--repeat-penalty 0"},
        {{.top_p = 1, .repeat_penalty = 1, .repeat_last = -1}, "--repeat-last -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {""};
        assert_int_equal(sampler_check(&cases[i].p, &err), -1);
        assert_non_null(strstr(err.msg, cases[i].says));
    }
    struct sampler_params p = sampler_defaults();
    assert_int_equal(sampler_check(&p, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_follow_the_definition),   cmocka_unit_test(the_same_seed_gives_the_same_tokens),
        cmocka_unit_test(greedy_takes_the_likeliest),          cmocka_unit_test(unlikely_values_are_never_drawn),
        cmocka_unit_test(the_penalty_holds_for_recent_tokens), cmocka_unit_test(options_out_of_range_are_named),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
