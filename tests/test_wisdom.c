/* Wisdom files: which entry serves a shape, what damaged ones cost, what merging keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tuner/wisdom_write.h"

static char folder[] = "/tmp/weir-wisdom-XXXXXX";
static int warnings;
static struct gen *gen;

static int open_all(void **state)
{
    struct err err = {""};
    (void)state;
    return mkdtemp(folder) && setenv("WEIR_WISDOM", folder, 1) == 0 && gen_open(&gen, NULL, &err) == 0 ? 0 : -1;
}

static int close_all(void **state)
{
    char command[100];
    (void)state;
    gen_close(gen);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void say(bool warning, const char *line)
{
    warnings += warning;
}

static struct wisdom_entry entry(const char *shape, const char *sizes, const char *config, double ms,
                                 const char *measured)
{
    struct wisdom_entry e = {.kernel = "attn_prefill", .ms = ms};
    struct err err = {""};
    if (pairs_parse(&e.shape, shape, &err) != 0 || pairs_parse(&e.sizes, sizes, &err) != 0 ||
        pairs_parse(&e.config, config, &err) != 0)
        fail_msg("%s", err.msg);
    snprintf(e.measured, sizeof e.measured, "%s", measured);
    snprintf(e.predicted, sizeof e.predicted, "%s", measured[0] ? "" : "a model");
    return e;
}

static void write_file(const char *gpu, int sm, const struct wisdom_entry *e, int n)
{
    struct wisdom_file head = {.sm = sm};
    struct err err = {""};
    char path[200];
    snprintf(path, sizeof path, "%s/%s.json", folder, gpu);
    snprintf(head.gpu, sizeof head.gpu, "%s", gpu);
    if (wisdom_file_add(path, &head, e, n, &err) != 0)
        fail_msg("%s", err.msg);
}

static const char tile_a[] = "bm=128 bn=64 st=1 wp=4 qr=0 pd=1 mb=2", tile_b[] = "bm=64 bn=32 st=2 wp=4 qr=0 pd=1 mb=2",
                  tile_c[] = "bm=64 bn=16 st=1 wp=4 qr=0 pd=1 mb=1",
                  tile_large[] = "bm=192 bn=128 st=2 wp=4 qr=0 pd=1 mb=1";

static struct wisdom_found look_for(const char *kernel, const char *gpu, const char *shape, const char *sizes)
{
    struct wisdom *w;
    struct pairs p, s;
    struct gen_param param[PAIRS_MAX];
    struct wisdom_found found;
    struct err err = {""};
    if (wisdom_open(&w, gen, gpu, say, &err) != 0 || pairs_parse(&p, shape, &err) != 0 ||
        pairs_parse(&s, sizes, &err) != 0)
        fail_msg("%s", err.msg);
    wisdom_best(w, kernel, param, pairs_params(&p, param, 0), &s, &found);
    wisdom_close(w);
    return found;
}

static struct wisdom_found look(const char *gpu, const char *shape, const char *sizes)
{
    return look_for("attn_prefill", gpu, shape, sizes);
}

static void nearest_that_fits_wins(void **state)
{
    const struct wisdom_entry a6000[] = {
        entry("d=64 t=bf16", "tokens=1024 held=2112", tile_a, 1, "2026-01-02"),
        entry("d=64 t=bf16", "tokens=4096 held=16448", tile_b, 2, ""),
        entry("d=80 t=bf16", "tokens=1024 held=2112", tile_large, 2, "2026-01-02"), /* 99 KB do not hold it */
    };
    const struct wisdom_entry other[] = {entry("d=128 t=bf16", "tokens=1024 held=2112", tile_c, 1, "2026-01-02")};
    write_file("a6000", 86, a6000, 3);
    write_file("rtx3090", 86, other, 1);
    struct wisdom_found f = look("a6000", "d=64 t=bf16", "tokens=1024 held=2112");
    assert_int_equal(f.match, WISDOM_SAME);
    assert_string_equal(pairs_get(&f.config, "bm"), "128");
    assert_non_null(strstr(f.line, "measured 2026-01-02"));
    assert_true(f.measured);
    f = look("a6000", "d=64 t=bf16", "tokens=4096 held=8000");
    assert_int_equal(f.match, WISDOM_NEAREST);
    assert_string_equal(pairs_get(&f.config, "bn"), "32");
    f = look("a6000", "d=80 t=bf16", "tokens=1024 held=2112"); /* its own entry is no config of this GPU */
    assert_int_equal(f.match, WISDOM_NEAREST);
    assert_string_equal(pairs_get(&f.config, "bm"), "128");
    f = look("a6000", "d=256 t=bf16",
             "tokens=1024 held=2112"); /* an octave from d=128, which another GPU of sm_86 has */
    assert_int_equal(f.match, WISDOM_SM);
    assert_string_equal(pairs_get(&f.config, "bn"), "16");
    f = look("a100", "d=64 t=bf16", "tokens=1024 held=2112");
    assert_int_equal(f.match, WISDOM_DEFAULT);
    assert_int_equal(f.config.n, 0);
    f = look("a6000", "d=64 t=bf16 bm=32 wp=2", "tokens=1024 held=2112"); /* what the caller gives stays */
    assert_null(pairs_get(&f.config, "bm"));
    assert_int_equal(warnings, 0);
}

/* Other weights are another kernel, whose tile is worth less than the same kernel's on a GPU of the same kind; the data type is none. */
static void another_kernel_comes_last(void **state)
{
    struct wisdom_entry own = entry("n=4096 w=q4_0 norm=1 to=half t=fp16", "rows=6144", "wp=2 sk=2", 1, "2026-01-02"),
                        other = entry("n=4096 w=q8_0 norm=1 to=half t=bf16", "rows=6144", "wp=8 sk=8", 1, "2026-01-02");
    snprintf(own.kernel, sizeof own.kernel, "matvec");
    snprintf(other.kernel, sizeof other.kernel, "matvec");
    write_file("a6000", 86, &own, 1);
    write_file("rtx3090", 86, &other, 1);
    struct wisdom_found f = look_for("matvec", "a6000", "n=4096 w=q8_0 norm=1 to=half t=fp16", "rows=6144");
    assert_int_equal(f.match, WISDOM_SM);
    assert_string_equal(pairs_get(&f.config, "wp"), "8");
    f = look_for("matvec", "a6000", "n=4096 w=q4_0 norm=1 to=half t=bf16", "rows=6144");
    assert_int_equal(f.match, WISDOM_NEAREST);
    assert_string_equal(pairs_get(&f.config, "wp"), "2");
    f = look_for("matvec", "a6000", "n=4096 w=q5_0 norm=1 to=half t=fp16", "rows=6144"); /* nobody has it */
    assert_int_equal(f.match, WISDOM_NEAREST);
    assert_int_equal(warnings, 0);
}

static void damaged_wisdom_is_one_warning(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"weir_wisdom\": 99, \"gpu\": \"a6000\", \"sm\": 86, \"entries\": []}",
        "{\"weir_wisdom\": 1, \"gpu\": \"a6000\", \"sm\": 86, \"entries\": [{\"kernel\": \"attn_prefill\"}]}",
        "{\"weir_wisdom\": 1,\n \"gpu\": \"a6000\",\n \"sm\": 86, \"entries\": [}",
    };
    char path[200];
    snprintf(path, sizeof path, "%s/damaged.json", folder);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct wisdom_file f;
        struct err err = {""};
        FILE *out = fopen(path, "w");
        fputs(texts[i], out);
        fclose(out);
        assert_int_equal(wisdom_file_read(path, &f, &err), -1);
        assert_non_null(strstr(err.msg, "damaged.json"));
        warnings = 0;
        look("a6000", "d=64 t=bf16", "tokens=1024 held=2112");
        assert_int_equal(warnings, 1);
    }
    struct wisdom_file f;
    struct err err = {""};
    assert_int_equal(wisdom_file_parse(texts[5], strlen(texts[5]), "x", &f, &err), -1);
    assert_non_null(strstr(err.msg, "x:3:"));
    remove(path);
}

static void merging_keeps_what_is_worth_more(void **state)
{
    struct wisdom_file a = {.gpu = "a6000", .sm = 86}, b = {.gpu = "a6000", .sm = 86};
    struct err err = {""};
    const struct wisdom_entry predicted = entry("d=64 t=bf16", "tokens=1", tile_b, 0.5, ""),
                              measured = entry("d=64 t=bf16", "tokens=1", tile_a, 1, "2026-01-02"),
                              later = entry("d=64 t=bf16", "tokens=1", tile_c, 2, "2026-02-02"),
                              else_where = entry("d=80 t=bf16", "tokens=1", tile_c, 2, "");
    assert_int_equal(wisdom_put(&a, &measured, &err), 0);
    assert_int_equal(wisdom_put(&b, &predicted, &err), 0);
    assert_int_equal(wisdom_put(&b, &else_where, &err), 0);
    assert_int_equal(wisdom_file_merge(&a, &b, &err), 0);
    assert_int_equal(a.nentries, 2);
    assert_string_equal(a.entry[0].measured, "2026-01-02");
    assert_int_equal(wisdom_put(&a, &later, &err), 0);
    assert_int_equal(a.nentries, 2);
    assert_string_equal(a.entry[0].measured, "2026-02-02");
    strcpy(b.gpu, "a100-80");
    assert_int_equal(wisdom_file_merge(&a, &b, &err), -1);
    wisdom_file_free(&a);
    wisdom_file_free(&b);
}

/* An entry that a decoding step has confirmed stays where a search of launches alone comes later; one of a later step takes its place.
 * Look-up prefers it, and files with and without it are read. */
static void a_step_is_worth_more(void **state)
{
    struct wisdom_file f = {.gpu = "a6000", .sm = 86};
    struct wisdom_entry old = entry("d=80 t=bf16", "tokens=1024 held=2112", tile_a, 1, "2026-01-02"),
                        step = entry("d=80 t=bf16", "tokens=1024 held=2112", tile_b, 1, "2026-01-02"), again = old;
    struct err err = {""};
    char path[80];
    (void)state;
    snprintf(step.step, sizeof step.step, "llama-3.1-8b q4_0 W=1024");
    step.step_ms = 1.7;
    snprintf(again.measured, sizeof again.measured, "2026-03-04");
    again.ms = 0.5;
    assert_int_equal(wisdom_put(&f, &old, &err), 0);
    assert_int_equal(wisdom_put(&f, &step, &err), 0);
    assert_int_equal(wisdom_put(&f, &again, &err), 0);
    assert_int_equal(f.nentries, 1);
    assert_string_equal(f.entry[0].step, "llama-3.1-8b q4_0 W=1024");
    again.ms = 7;
    snprintf(again.step, sizeof again.step, "another");
    assert_int_equal(wisdom_put(&f, &again, &err), 0);
    assert_string_equal(f.entry[0].step, "another");
    wisdom_file_free(&f);

    write_file("a6000", 86, &step, 1);
    snprintf(path, sizeof path, "%s/a6000.json", folder);
    assert_int_equal(wisdom_file_read(path, &f, &err), 0);
    int at = 0;
    while (at < f.nentries && !f.entry[at].step[0])
        at++;
    assert_true(at < f.nentries);
    assert_string_equal(f.entry[at].step, step.step);
    assert_true(f.entry[at].step_ms > 1.69 && f.entry[at].step_ms < 1.71);
    wisdom_file_free(&f);
    struct wisdom_found found = look("a6000", "d=80 t=bf16", "tokens=1024 held=2112");
    assert_non_null(strstr(found.line, "in the step of llama-3.1-8b"));

    /* A prediction has no step, and what another program may write beside it is passed over. */
    static const char text[] =
        "{\"weir_wisdom\": 1, \"gpu\": \"a6000\", \"sm\": 86, \"new\": [1], \"entries\": [{\"kernel\": \"k\", "
        "\"shape\": {}, \"sizes\": {}, \"config\": {}, \"ms\": 1, \"predicted\": \"p\", \"step\": \"m\", "
        "\"step_ms\": 3, \"new\": {}}]}";
    assert_int_equal(wisdom_file_parse(text, sizeof text - 1, "x", &f, &err), 0);
    assert_string_equal(f.entry[0].step, "");
    assert_true(f.entry[0].step_ms == 0);
    wisdom_file_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nearest_that_fits_wins),
        cmocka_unit_test(another_kernel_comes_last),
        cmocka_unit_test(damaged_wisdom_is_one_warning),
        cmocka_unit_test(merging_keeps_what_is_worth_more),
        cmocka_unit_test(a_step_is_worth_more),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
