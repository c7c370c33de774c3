/* The option parser and the cascade's options: values, presets in any order, defaults that fall back, one-line errors. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "runtime/cascade_options.h"
#include "runtime/cmd.h"

/* Parses words (ended by NULL) with the cascade's options; returns what options_parse and then finish say. */
static int parse(struct cascade_options *o, struct err *err, int ctx, const char *const *words)
{
    char *argv[32] = {(char *)"cmd"};
    int argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)words[argc - 1];
    cascade_options_init(o);
    err->msg[0] = 0;
    struct options set = {.usage = "u", .what = "w", .group = {{"cascade", o->table}}};
    int status = options_parse(&set, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    return cascade_options_finish(o, ctx, err) ? CMD_USAGE : OPTIONS_GO;
}

#define PARSE(ctx, ...) parse(&o, &err, ctx, (const char *const[]){__VA_ARGS__, NULL})

static void defaults(void **state)
{
    (void)state;
    struct cascade_options o;
    struct err err;
    assert_int_equal(PARSE(8192, NULL), OPTIONS_GO);
    assert_int_equal(o.p.window, 2048);
    assert_int_equal(o.p.span, 16);
    assert_int_equal(o.p.sinks, 64);
    assert_int_equal(o.p.subcaches, 4);
    assert_int_equal(o.p.stride, 1024);
    assert_int_equal(o.p.every[3], 8);
    assert_true(o.p.eager);
    /* A short trained context: S + W + T fit in it. */
    assert_int_equal(PARSE(2048, NULL), OPTIONS_GO);
    assert_int_equal(o.p.window, 960);
    assert_int_equal(o.p.span, 4); /* w = 240: at most w/32 */
    assert_int_equal(PARSE(512, NULL), OPTIONS_GO);
    assert_int_equal(o.p.window, 256); /* the stride leaves nothing, so half the context */
    /* A window that was asked for stays. */
    assert_int_equal(PARSE(2048, "--window", "4096"), OPTIONS_GO);
    assert_int_equal(o.p.window, 4096);
    /* 2048 is no multiple of 3. */
    assert_int_equal(PARSE(0, "--subcaches", "3"), OPTIONS_GO);
    assert_int_equal(o.p.window, 2016);
    assert_int_equal(o.p.span, 16);
}

static void span_falls_back(void **state)
{
    (void)state;
    struct cascade_options o;
    struct err err;
    static const struct {
        const char *window, *subcaches;
        int span;
    } cases[] = {{"2048", "4", 16}, {"512", "4", 4},   {"512", "1", 16}, {"2048", "8", 8}, {"8", "4", 1},
                 {"4004", "4", 1},  {"1536", "3", 16}, {"1152", "3", 8}, {"64", "1", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(PARSE(0, "-W", cases[i].window, "-N", cases[i].subcaches), OPTIONS_GO);
        assert_int_equal(o.p.span, cases[i].span);
    }
    assert_int_equal(PARSE(0, "-W", "512", "-N", "4", "--span", "128"), OPTIONS_GO);
    assert_int_equal(o.p.span, 128);
}

static void presets_in_any_order(void **state)
{
    (void)state;
    struct cascade_options o;
    struct err err;
    assert_int_equal(PARSE(0, "--preset", "paper"), OPTIONS_GO);
    assert_int_equal(o.p.span, 1);
    assert_int_equal(o.p.reduction, REDUCE_MAX);
    assert_int_equal(PARSE(0, "--span", "8", "--preset", "paper"), OPTIONS_GO);
    assert_int_equal(o.p.span, 8);
    assert_int_equal(o.p.reduction, REDUCE_MAX);
    assert_int_equal(PARSE(0, "--preset", "paper", "--head-reduction", "median"), OPTIONS_GO);
    assert_int_equal(o.p.span, 1);
    assert_int_equal(o.p.reduction, REDUCE_MEDIAN);
    assert_int_equal(PARSE(0, "--preset=streaming"), OPTIONS_GO);
    assert_int_equal(o.p.subcaches, 1);
    assert_int_equal(PARSE(0, "--subcaches=2", "--preset=streaming"), OPTIONS_GO);
    assert_int_equal(o.p.subcaches, 2);
}

static void schedules(void **state)
{
    (void)state;
    struct cascade_options o;
    struct err err;
    assert_int_equal(PARSE(0, "--schedule", "pow3"), OPTIONS_GO);
    assert_int_equal(o.p.every[3], 27);
    assert_int_equal(PARSE(0, "--schedule", "pow4", "-N", "16"), OPTIONS_GO);
    assert_int_equal(o.p.every[15], (int64_t)1 << 30);
    assert_int_equal(PARSE(0, "--schedule", "iplus1"), OPTIONS_GO);
    assert_int_equal(o.p.every[3], 4);
    assert_int_equal(PARSE(0, "--schedule", "1,1,5,5"), OPTIONS_GO);
    assert_int_equal(o.p.every[1], 1);
    assert_int_equal(o.p.every[2], 5);
}

static void choices(void **state)
{
    (void)state;
    struct cascade_options o;
    struct err err;
    assert_int_equal(PARSE(0, "--select", "oldest", "--span-score", "mean", "--head-policy", "homogeneous",
                           "--positions", "original", "--eager-fill", "off", "--ema", "0.5"),
                     OPTIONS_GO);
    assert_int_equal(o.p.select, SELECT_OLDEST);
    assert_int_equal(o.p.span_score, SPAN_MEAN);
    assert_int_equal(o.p.policy, POLICY_HOMOGENEOUS);
    assert_int_equal(o.p.positions, POSITIONS_ORIGINAL);
    assert_false(o.p.eager);
    assert_true(o.p.ema == 0.5);
    char line[128];
    cascade_describe(&o.p, line, sizeof line);
    assert_string_equal(line, "N=4 W=2048 B=16 T=1024 oldest ema=0.5 span-score=mean homogeneous original-positions "
                              "eager-fill=off");
    cascade_describe(&o.p, line, 20);
    assert_int_equal(strlen(line), 19);
    assert_int_equal(PARSE(0, "--schedule", "pow3", "-S", "4", "--head-reduction", "median"), OPTIONS_GO);
    struct cascade_options copy;
    cascade_options_copy(&copy, &o);
    assert_ptr_equal(copy.table[0].to, &copy.p.window);
    cascade_describe(&copy.p, line, sizeof line);
    assert_string_equal(line, "N=4 W=2048 B=16 T=1024 median S=4 schedule=1,3,9,27");
}

static void errors_name_option_and_value(void **state)
{
    (void)state;
    struct cascade_options o;
    struct err err;
    static const char *const bad[][4] = {
        {"--window", "0"},
        {"--window", "2047"},
        {"--window", "12x"},
        {"--window", "99999999999999999999"},
        {"--window", "-5"},
        {"--subcaches", "17"},
        {"--subcaches", "0"},
        {"--sinks", "-1"},
        {"--stride", "0"},
        {"--span", "7"},
        {"--ema", "2"},
        {"--ema", "nan"},
        {"--ema", ""},
        {"--select", "best"},
        {"--select", ""},
        {"--head-reduction", "ma"},
        {"--schedule", "pow5"},
        {"--schedule", "1,2,4"},
        {"--schedule", "1,2,1,1"},
        {"--schedule", "2,2,4,8"},
        {"--schedule", "1,2,,8"},
        {"--schedule", "1,2,4,8,"},
        {"--eager-fill", "yes"},
        {"--preset", "papers"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(PARSE(8192, bad[i][0], bad[i][1]), CMD_USAGE);
        assert_non_null(strstr(err.msg, bad[i][0]));
        if (strcmp(bad[i][0], "--schedule") != 0)
            assert_non_null(strstr(err.msg, bad[i][1]));
        assert_null(strchr(err.msg, '\n'));
    }
    assert_int_equal(PARSE(0, "--windows", "64"), CMD_USAGE);
    assert_non_null(strstr(err.msg, "--windows"));
    assert_int_equal(PARSE(0, "--window"), CMD_USAGE);
    assert_non_null(strstr(err.msg, "--window"));
    assert_int_equal(PARSE(0, "word"), CMD_USAGE);
    assert_non_null(strstr(err.msg, "word"));
}

static void words_flags_and_letters(void **state)
{
    (void)state;
    bool flag = false, given = false;
    int n = 0;
    int64_t big = 0;
    const char *text = NULL, *word[2];
    const struct option rows[] = {{"--flag", NULL, OPTION_FLAG, &flag, NULL, "h", 0, 0, NULL},
                                  {"--number", "-n", OPTION_INT, &n, "N", "h", -3, 7, &given},
                                  {"--big", NULL, OPTION_LONG, &big, "N", "h", 0, 0, NULL},
                                  {"--text", "-p", OPTION_TEXT, &text, "T", "h", 0, 0, NULL},
                                  {0}};
    struct options o = {.usage = "u", .what = "w", .group = {{"g", rows}}, .word = word, .max_words = 2};
    struct err err = {""};
    char *good[] = {
        (char *)"c",  (char *)"one", (char *)"-n", (char *)"-3",   (char *)"--flag", (char *)"--big=-9000000000",
        (char *)"-p", (char *)"-x",  (char *)"--", (char *)"--two"};
    assert_int_equal(options_parse(&o, 10, good, &err), OPTIONS_GO);
    assert_true(flag && given);
    assert_int_equal(n, -3);
    assert_true(big == -9000000000);
    assert_string_equal(text, "-x");
    assert_int_equal(o.nwords, 2);
    assert_string_equal(word[1], "--two");
    char *flagged[] = {(char *)"c", (char *)"--flag=yes"}, *range[] = {(char *)"c", (char *)"-n", (char *)"8"};
    assert_int_equal(options_parse(&o, 2, flagged, &err), CMD_USAGE);
    assert_int_equal(options_parse(&o, 3, range, &err), CMD_USAGE);
    assert_non_null(strstr(err.msg, "-n 8"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(span_falls_back),
        cmocka_unit_test(schedules),
        cmocka_unit_test(presets_in_any_order),
        cmocka_unit_test(choices),
        cmocka_unit_test(errors_name_option_and_value),
        cmocka_unit_test(words_flags_and_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
