/* `weir trace` as a user drives it: what it prints, against the oracle; odd numbers, files without a last line end, standard input. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include <cJSON.h>

#include "oracle_cascade.h"
#include "program.h"
#include "scratch.h"

static void same_list(const cJSON *list, const int64_t *want, int n)
{
    assert_int_equal(cJSON_GetArraySize(list), n);
    int i = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, list) assert_true(e->valuedouble == (double)want[i++]);
}

static void trace_equals_oracle(void **state)
{
    (void)state;
    static const char *const schedules[] = {"pow2", "pow3", "pow4", "iplus1"};
    static const int spans[] = {1, 1, 2, 3, 4, 8, 16, 32};
    uint64_t seed = 11;
    for (int round = 0; round < 150; round++) {
        struct cascade_params p = cascade_defaults();
        int kind = random_int(&seed, 0, 3), tokens = random_int(&seed, 0, 600);
        p.span = spans[random_int(&seed, 0, 7)];
        p.subcaches = random_int(&seed, 1, 5);
        p.window = p.subcaches * p.span * random_int(&seed, 1, 6);
        p.sinks = random_int(&seed, 0, 9);
        p.eager = random_int(&seed, 0, 1);
        p.span_score = random_int(&seed, 0, 1) ? SPAN_MEAN : SPAN_MAX;
        int64_t power = 1;
        for (int i = 0; i < p.subcaches; i++, power *= kind + 2)
            p.every[i] = kind == 3 ? i + 1 : power;

        struct oracle_cascade c;
        oracle_cascade_open(&c, &p);
        char text[1 << 14], *at = text;
        text[0] = 0;
        for (int t = 0; t < tokens; t++) {
            static const char *const odd[] = {"nan", "-inf", "inf", "NaN", "1e-3", "-0", "+2.5E1", "0x1p3"};
            int k = random_int(&seed, 0, 40);
            at += k < 8 ? sprintf(at, "%s\n", odd[k]) : sprintf(at, "%d.%d\n", k % 5, k % 2 * 5);
            oracle_cascade_insert(&c, k < 8 ? strtod(odd[k], NULL) : k % 5 + k % 2 * 0.5);
        }
        if (at > text && random_int(&seed, 0, 1))
            at[-1] = 0; /* the last line may lack its end */
        spill("scores", text);

        assert_int_equal(weir("trace --window %d --subcaches %d --sinks %d --span %d --span-score %s --schedule %s "
                              "--eager-fill %s --chunk %d --scores %s",
                              p.window, p.subcaches, p.sinks, p.span, p.span_score == SPAN_MEAN ? "mean" : "max",
                              schedules[kind], p.eager ? "on" : "off", random_int(&seed, 1, 200),
                              random_int(&seed, 0, 1) ? "scores" : "- <scores"),
                         0);
        cJSON *j = cJSON_Parse(out);
        assert_non_null(j);
        assert_true(cJSON_GetObjectItem(j, "seen")->valuedouble == tokens);
        same_list(cJSON_GetObjectItem(j, "sinks"), c.sinks, c.nsinks);
        same_list(cJSON_GetObjectItem(j, "pending"), c.pending, c.npending);
        const cJSON *subs = cJSON_GetObjectItem(j, "subcaches");
        assert_int_equal(cJSON_GetArraySize(subs), p.subcaches);
        for (int i = 0; i < p.subcaches; i++)
            same_list(cJSON_GetArrayItem(subs, i), c.sub[i], c.count[i]);
        cJSON_Delete(j);
        oracle_cascade_close(&c);
    }
}

/* Selections that look at no score. */
static void trace_selections(void **state)
{
    (void)state;
    spill("flat", "0\n0\n0\n0\n0\n0\n0\n0\n0\n0\n0\n0\n");
    assert_int_equal(weir("trace -W 4 -N 2 -S 0 --select newest --scores flat"), 0);
    assert_string_equal(out, "{\"seen\":12,\"sinks\":[],\"subcaches\":[[10,11],[7,9]],\"pending\":[]}\n");
    assert_int_equal(weir("trace -W 4 -N 2 -S 0 --select oldest --scores flat"), 0);
    assert_string_equal(out, "{\"seen\":12,\"sinks\":[],\"subcaches\":[[10,11],[6,8]],\"pending\":[]}\n");
    assert_int_equal(weir("trace -W 4 -N 2 -S 0 --select random --seed 3 --scores flat"), 0);
    assert_int_equal(weir("trace -W 8 -N 2 -S 1 -B 4 --scores flat"), 0);
    assert_string_equal(out, "{\"seen\":12,\"sinks\":[0],\"subcaches\":[[5,6,7,8],[1,2,3,4]],\"pending\":[9,10,11]}\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace_equals_oracle),
        cmocka_unit_test(trace_selections),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, program_setup, scratch_remove);
}
