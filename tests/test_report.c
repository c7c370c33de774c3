/* The report, Kernel Tuner's formats, and what the prediction is worth, on trials that were measured on an H200
 * (tests/vectors/h200_trials.jsonl). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gen_home.h"
#include "tuner/formats.h"
#include "tuner/report.h"
#include "tuner/validate.h"

static const char log_path[] = "tests/vectors/h200_trials.jsonl";
static struct gen *gen;
static struct trials measured;
static char folder[64];

static int open_all(void **state)
{
    struct err err = {""};
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/weir-report-XXXXXX");
    if (!mkdtemp(folder) || gen_open(&gen, NULL, &err) != 0 || trials_open(&measured, log_path, false, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(measured.damaged, 0);
    assert_true(measured.n > 1000);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    trials_close(&measured);
    gen_close(gen);
    return rmdir(folder);
}

static void open_space(struct tune_space *s, const char *kernel, const char *shape, const char *sizes, const char *gpu)
{
    struct tune_problem p = {0};
    struct pairs fixed = {0};
    struct err err = {""};
    snprintf(p.kernel, sizeof p.kernel, "%s", kernel);
    /* Pieces asked for two and more steps ahead were not measured. */
    bool has_pd = strcmp(kernel, "attn_decode") != 0;
    if (pairs_parse(&p.shape, shape, &err) != 0 || pairs_parse(&p.sizes, sizes, &err) != 0 ||
        (has_pd && pairs_put(&fixed, "pd", "1", &err) != 0) || tune_space_open(s, gen, gpu, &p, &fixed, &err) != 0)
        fail_msg("%s", err.msg);
}

static void path_in(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", folder, name);
}

/* ---- what the prediction is worth ---------------------------------------------------------------------------------------- */

static void test_validation_of_known_rows(void **state)
{
    static const double took[] = {1, 2, 1.5, 9, 0}, said[] = {10, 30, 20, 5, 7}, same[] = {3, 3, 3, 3, 3};
    struct validation v;
    struct err err = {""};
    (void)state;
    assert_int_equal(validate(took, said, 5, &v, &err), 0);
    assert_int_equal(v.n, 4);    /* the last was not measured */
    assert_int_equal(v.near, 3); /* 9 is more than twice the best */
    assert_true(fabs(v.spearman - 1) < 1e-12);
    assert_true(fabs(v.regret - 8) < 1e-12); /* the one predicted best took 9 */
    assert_true(v.regret5 == 0);
    assert_int_equal(v.best_rank, 2);
    assert_true(rank_correlation(took, same, 5) == 0);
    assert_int_equal(validate(took, said, 2, &v, &err), -1);
    assert_non_null(strstr(err.msg, "only 2 configs"));
}

/* From the specs alone: the stage that chooses what is compiled. */
static void test_prediction_of_what_an_h200_measured(void **state)
{
    static const struct {
        const char *kernel, *shape, *sizes;
        double spearman, regret;
    } cases[] = {
        {"attn_prefill", "d=128 t=bf16", "tokens=4096 held=16448 heads=32 kv_heads=8", 0.70, 0.10},
        {"attn_prefill", "d=128 t=bf16", "tokens=1024 held=2112 heads=24 kv_heads=8", 0.35, 0.10},
        {"attn_scores", "d=64 t=bf16", "tokens=1024 held=2112 heads=9 kv_heads=3", 0.80, 0.10},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tune_space s;
        struct predict_space p;
        struct validation v;
        struct err err = {""};
        open_space(&s, cases[i].kernel, cases[i].shape, cases[i].sizes, "h200");
        assert_int_equal(predict_space(&s, 0, NULL, NULL, &p, &err), 0);
        const struct trial **slot = calloc((size_t)s.all.nconfigs, sizeof *slot);
        double *row = calloc(2 * (size_t)s.nvalid, sizeof *row);
        trials_of_space(&measured, &s, true, slot);
        for (int k = 0; k < s.nvalid; k++) {
            row[k] = slot[s.valid[k]] ? slot[s.valid[k]]->ms : 0;
            row[s.nvalid + k] = p.all[k].ms;
        }
        assert_int_equal(validate(row, row + s.nvalid, s.nvalid, &v, &err), 0);
        assert_int_equal(v.n, s.nvalid); /* the log is exhaustive */
        if (!(v.spearman >= cases[i].spearman && v.regret <= cases[i].regret))
            fail_msg("%s %s: Spearman %.2f, regret %.1f %%", cases[i].kernel, cases[i].sizes, v.spearman,
                     100 * v.regret);
        free(slot);
        free(row);
        predict_space_free(&p);
        tune_space_close(&s);
    }
}

/* ---- formats --------------------------------------------------------------------------------------------------------------- */

static void test_t4_comes_back(void **state)
{
    struct tune_space s;
    struct trials again;
    struct err err = {""};
    char path[128];
    (void)state;
    path_in(path, "t4.json");
    open_space(&s, "attn_decode", "d=128 g=4 t=bf16", "keys=16457 kv_heads=8", "h200");
    if (t4_write(&measured, &s, path, &err) != 0 || t4_read(path, &again, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(again.n, 16); /* all that were measured, when the space had bn, wp and st only */
    for (int i = 0; i < again.n; i++) {
        const struct trial *t = &again.trial[i], *same = NULL;
        assert_int_equal(pairs_long(&t->config, "mb", 0), 1);
        for (int k = 0; k < measured.n && !same; k++)
            if (tune_problem_equal(&measured.trial[k].problem, &t->problem) &&
                tune_space_find(&s, &measured.trial[k].config) == tune_space_find(&s, &t->config))
                same = &measured.trial[k];
        assert_non_null(same);
        assert_true(fabs(same->ms - t->ms) < 1e-9);
        assert_int_equal(same->regs, t->regs);
        assert_int_equal(same->blocks_per_sm, t->blocks_per_sm);
        assert_string_equal(same->revision, t->revision);
    }
    trials_close(&again);
    unlink(path);
    tune_space_close(&s);
}

static void test_damaged_t4(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"results\": [", "damaged JSON at byte"},
        {"{\"results\": []}", "does not say kernel"},
        {"{\"weir\":{\"kernel\":\"k\",\"gpu\":\"g\",\"revision\":\"r\",\"shape\":{},\"sizes\":{}},\"results\":7}",
         "is no list"},
        {"{\"weir\":{\"kernel\":\"k\",\"gpu\":\"g\",\"revision\":\"r\",\"shape\":{},\"sizes\":{}},\"results\":[{"
         "\"invalidity\":\"odd\"}]}",
         "result 1"},
        {"{\"weir\":{\"kernel\":\"k\",\"gpu\":\"g\",\"revision\":\"r\",\"shape\":{},\"sizes\":{}},"
         "\"results\":[{\"configuration\":{\"a\":1},\"invalidity\":\"correct\",\"times\":{}}]}",
         "result 1"},
        {"", "damaged JSON"},
    };
    char path[128];
    (void)state;
    path_in(path, "bad.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trials t;
        struct err err = {""};
        FILE *f = fopen(path, "w");
        fputs(cases[i].text, f);
        fclose(f);
        assert_int_equal(t4_read(path, &t, &err), -1);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, cases[i].says));
    }
    unlink(path);
}

static void test_t1_has_python_conditions(void **state)
{
    struct tune_space s;
    struct err err = {""};
    char path[128];
    (void)state;
    path_in(path, "t1.json");
    open_space(&s, "attn_prefill", "d=128 t=bf16", "tokens=1024 held=2112 heads=24 kv_heads=8", "a6000");
    if (t1_write(&s, path, &err) != 0)
        fail_msg("%s", err.msg);
    char *text = gen_home_read(path);
    assert_non_null(strstr(text, "\"Name\":\"bm\",\"Type\":\"int\",\"Values\":\"[32, 64, 128, 192, 256]\""));
    /* 99 KB of the A6000, d filled in, the derived row_bytes written out. */
    assert_non_null(strstr(text, "((bm + 2 * st * bn) * (2 * 128)) <= 101376"));
    assert_null(strstr(text, "row_bytes"));
    assert_null(strstr(text, "smem_per_block"));
    free(text);
    unlink(path);
    tune_space_close(&s);
}

static void test_cache_file_is_closed(void **state)
{
    struct tune_space s;
    struct err err = {""};
    char path[128];
    (void)state;
    path_in(path, "cache.json");
    open_space(&s, "attn_decode", "d=128 g=4 t=bf16", "keys=16457 kv_heads=8", "h200");
    assert_int_equal(kernel_tuner_cache_write(&measured, &s, path, &err), 0);
    char *text = gen_home_read(path);
    assert_non_null(strstr(text, "\"tune_params_keys\":[\"bn\",\"wp\",\"st\",\"qr\",\"cg\",\"mb\",\"bs\"]"));
    assert_non_null(strstr(text, "\"16,4,3,1,1,1,0\":{\"bn\":16,\"wp\":4,\"st\":3,\"qr\":1,"));
    assert_non_null(strstr(text, "}}}\n")); /* what Kernel Tuner looks for */
    free(text);
    tune_space_close(&s);
    unlink(path);
    /* A GPU without trials has no results. */
    open_space(&s, "attn_decode", "d=128 g=4 t=bf16", "keys=16457 kv_heads=8", "a100");
    assert_int_equal(kernel_tuner_cache_write(&measured, &s, path, &err), -1);
    assert_non_null(strstr(err.msg, "has no trials on a100-80"));
    assert_int_not_equal(access(path, F_OK), 0);
    tune_space_close(&s);
}

/* ---- the page ---------------------------------------------------------------------------------------------------------------- */

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static void test_page_holds_all_and_needs_nothing(void **state)
{
    static const char *const gpus[] = {"h200", "a100", "a6000"};
    struct report *r;
    struct err err = {""};
    char path[128];
    int valid = 0, trials = 0;
    (void)state;
    path_in(path, "report.html");
    assert_int_equal(report_open(&r, gen, &err), 0);
    assert_int_equal(report_write(r, path, &err), -1); /* nothing in it yet */
    for (int i = 0; i < 3; i++) {
        struct tune_space s;
        open_space(&s, "attn_scores", "d=64 t=bf16", "tokens=1024 held=2112 heads=9 kv_heads=3", gpus[i]);
        if (report_add(r, &s, &measured, NULL, &err) != 0)
            fail_msg("%s", err.msg);
        valid += i ? s.nvalid : 0;
        trials += i ? 0 : s.nvalid;
        tune_space_close(&s);
    }
    if (report_write(r, path, &err) != 0)
        fail_msg("%s", err.msg);
    report_close(r);
    char *page = gen_home_read(path);
    assert_true(strncmp(page, "<!DOCTYPE html>", 15) == 0);
    assert_non_null(strstr(page, "</html>"));
    /* No network: no address, no file that a browser would fetch. */
    assert_null(strstr(page, "http:"));
    assert_null(strstr(page, "https:"));
    assert_null(strstr(page, " src="));
    assert_null(strstr(page, "<link"));
    assert_null(strstr(page, "@import"));
    /* All GPUs, every trial and prediction as a row, a heat map each, one scatter and one path: of the GPU that was measured. */
    assert_non_null(strstr(page, "NVIDIA RTX A6000"));
    assert_int_equal(count(page, "<td>predicted</td></tr>"), valid);
    assert_int_equal(count(page, "<td>correct</td></tr>"), trials);
    assert_int_equal(count(page, "aria-label=\"heat map\""), 3);
    assert_int_equal(count(page, "<figcaption>Predicted against measured"), 1);
    assert_int_equal(count(page, "class=\"best\" points"), 1);
    /* Tags are closed. */
    static const char *const tags[] = {"svg", "table", "article", "section", "figure", "details", "tr"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        char open[16], open_attr[16], closed[16];
        snprintf(open, sizeof open, "<%s>", tags[i]);
        snprintf(open_attr, sizeof open_attr, "<%s ", tags[i]);
        snprintf(closed, sizeof closed, "</%s>", tags[i]);
        assert_int_equal(count(page, open) + count(page, open_attr), count(page, closed));
    }
    free(page);
    unlink(path);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_validation_of_known_rows),
        cmocka_unit_test(test_prediction_of_what_an_h200_measured),
        cmocka_unit_test(test_t4_comes_back),
        cmocka_unit_test(test_damaged_t4),
        cmocka_unit_test(test_t1_has_python_conditions),
        cmocka_unit_test(test_cache_file_is_closed),
        cmocka_unit_test(test_page_holds_all_and_needs_nothing),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
