/* Every kernel's cases in the emulator (tests/emu): the text that a GPU would get, on this machine's CPU. All cases under each
 * schedule, then every value of every tile parameter at every head dimension. The jobs run in forked workers beforehand; the
 * cmocka tests say how they ended. An argument is a pattern (`decode*`): only the tests whose names match it. */
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_copy.h"
#include "cases_decode.h"
#include "cases_llama.h"
#include "cases_prefill.h"
#include "cases_sample.h"
#include "cases_update.h"
#include "device_kit.h"
#include "emu/case.h"
#include "emu/parallel.h"
#include "sanitized.h"

static const struct CMUnitTest cases[] = {
    DECODE_CASES(cmocka_unit_test), PREFILL_CASES(cmocka_unit_test), UPDATE_CASES(cmocka_unit_test),
    COPY_CASES(cmocka_unit_test),   LLAMA_CASES(cmocka_unit_test),   SAMPLE_CASES(cmocka_unit_test),
};
enum { NCASES = sizeof cases / sizeof cases[0], NSCHEDULES = 3 };

/* Which case walks a kernel's head dimensions, and shape parameters that it needs besides the dimension, if any: those that leave
 * the least room for tiles. A declared kernel that is not here fails. */
static const struct covered {
    const char *kernel;
    CMUnitTestFunction run;
    struct gen_param shape, also;
} covered[] = {
    {"attn_decode", decode_every_shape, {"g", "16"}, {0}},
    {"attn_decode_scores", decode_every_shape, {"r", "16"}, {0}},
    {"attn_turn", prefill_every_shape, {"t", "bf16"}, {0}},
    {"attn_prefill", prefill_every_shape, {"t", "bf16"}, {0}},
    {"attn_prefill_wgmma", prefill_every_shape, {"t", "bf16"}, {0}},
    {"attn_scores", prefill_every_shape, {"t", "bf16"}, {0}},
    {"attn_score_reduce", prefill_reductions, {"reduce", "mean"}, {0}},
    {"cascade_update", update_every_shape, {"b", "8"}, {0}},
    {"stream_copy", copy_every_length, {"t", "bf16"}, {0}},
    {"embed", llama_embed, {"w", "q4_k"}, {0}},
    {"dequantise", llama_dequantise, {"w", "q4_k"}, {0}},
    {"rms_norm", llama_rms_norm, {"t", "bf16"}, {0}},
    {"swiglu", llama_swiglu, {"t", "bf16"}, {0}},
    {"add_bias", llama_add_bias, {"t", "bf16"}, {0}},
    {"matvec", llama_matvec_plain, {"w", "bf16"}, {"to", "gate"}},
    {"matvec", llama_matvec_quants, {"w", "q5_1"}, {"n", "4064"}},
    {"sample", sample_greedy, {"t", "bf16"}, {0}},
    {"likelihood", llama_likelihood, {"t", "bf16"}, {0}},
};
enum { NCOVERED = sizeof covered / sizeof covered[0] };
static const char *const dims[] = {"64", "80", "96", "128", "256"};
enum { NDIMS = sizeof dims / sizeof dims[0] };

struct job {
    struct emu_case run;
    int test; /* index into the cmocka tests */
};

static struct job *jobs; /* [njobs] */
static int njobs;
static struct err *outcome; /* [njobs] */

static int run_job(int i, void *arg, struct err *err)
{
    (void)arg;
    return emu_case_run(&jobs[i].run, err);
}

/* Says how the jobs of the running test ended. */
static void report(void **state)
{
    int test = (int)(intptr_t)*state, failed = 0, first = -1;
    for (int i = njobs - 1; i >= 0; i--)
        if (jobs[i].test == test && outcome[i].msg[0]) {
            failed++;
            first = i;
        }
    if (failed)
        fail_msg("%d failed; %s", failed, outcome[first].msg);
}

static struct emu_case *add_job(const char *name, CMUnitTestFunction run, int schedule, int sm, int test)
{
    struct job *grown = realloc(jobs, (size_t)(njobs + 1) * sizeof *jobs);
    if (!grown)
        abort();
    jobs = grown;
    struct job *j = &jobs[njobs];
    *j = (struct job){.run = {.name = name, .run = run, .schedule = (enum emu_schedule)schedule, .sm = sm},
                      .test = test};
    j->run.seed = (uint64_t)njobs++;
    return &j->run;
}

/* Jobs that bring every value of every tile parameter that some valid configuration has, in few configurations: each time the one
 * with the most values that were not seen yet. d NULL: the kernel knows no head dimension. */
static int add_tiles(struct gen *g, const struct covered *c, const char *d, int test, struct err *err)
{
    struct gen_param p[3] = {c->shape};
    struct gen_space s;
    int np = 1;
    if (c->also.name)
        p[np++] = c->also;
    if (d)
        p[np++] = (struct gen_param){"d", d};
    if (gen_space(g, c->kernel, "sm_90", p, np, &s, err) != 0)
        return -1;
    char *seen =
        calloc((size_t)s.nconfigs * 12 + 1, 1); /* whether configuration i's value of parameter t was in a chosen one */
    for (;;) {
        int best = -1, most = 0;
        for (int i = 0; i < s.nconfigs; i++) {
            int fresh = 0;
            for (int t = 0; t < s.ntile && !s.config[i].broken[0]; t++)
                fresh += !seen[i * 12 + t];
            if (fresh > most) {
                most = fresh;
                best = i;
            }
        }
        if (best < 0)
            break;
        struct emu_case *j = add_job(c->kernel, c->run, njobs % NSCHEDULES, 90, test);
        j->tile_of = c->kernel;
        j->only_d = d ? atoi(d) : 0;
        for (int t = 0; t < s.ntile; t++) {
            size_t n = strlen(j->tile);
            snprintf(j->tile + n, sizeof j->tile - n, "%s%s=%ld", t ? " " : "", s.tile[t], s.config[best].value[t]);
            for (int i = 0; i < s.nconfigs; i++)
                seen[i * 12 + t] |= s.config[i].value[t] == s.config[best].value[t];
        }
    }
    free(seen);
    gen_space_free(&s);
    return 0;
}

/* Every declared kernel has a case here, and in the emulator only its prelude is exchanged. */
static void every_kernel_is_here(void **state)
{
    struct gen *g;
    struct err err = {""};
    char *names = NULL, *rest, *name;
    (void)state;
    if (gen_open(&g, NULL, &err) != 0 || gen_kernels(g, &names, &err) != 0)
        fail_msg("%s", err.msg);
    rest = names;
    while ((name = strtok_r(rest, "\n", &rest))) {
        int at = 0;
        while (at < NCOVERED && strcmp(covered[at].kernel, name) != 0)
            at++;
        if (at == NCOVERED)
            fail_msg("kernel %s has no case in the emulator: give it one, and a line in covered[]", name);
    }
    free(names);
    gen_close(g);
}

static void only_the_prelude_is_exchanged(void **state)
{
    static const char begin[] = "/* ---- prelude ---- */", end[] = "/* ---- end of prelude ---- */";
    struct gen *g;
    struct err err = {""};
    (void)state;
    if (gen_open(&g, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < NCOVERED; i++)
        for (int type = 0; type < 2; type++) {
            struct gen_param p[3] = {covered[i].shape};
            struct gen_kernel k;
            char *text = NULL;
            int n = 1;
            if (gen_has_param(g, covered[i].kernel, "t", &err))
                p[strcmp(p[0].name, "t") == 0 ? 0 : n++] = (struct gen_param){"t", type ? "bf16" : "fp16"};
            if (gen_has_param(g, covered[i].kernel, "d", &err))
                p[n++] = (struct gen_param){"d", "128"};
            if (gen_render(g, covered[i].kernel, "h100", p, n, &k, &err) != 0 || gen_host_text(g, &k, &text, &err) != 0)
                fail_msg("%s", err.msg);
            const char *a = strstr(k.source, begin), *b = strstr(text, begin);
            const char *a_end = strstr(k.source, end), *b_end = strstr(text, end);
            assert_true(a && b && a_end && b_end);
            assert_int_equal(a - k.source, b - text);
            assert_memory_equal(k.source, text, (size_t)(a - k.source));
            assert_string_equal(a_end, b_end);
            assert_non_null(strstr(a, "asm volatile"));
            assert_null(strstr(b, "asm"));
            assert_null(strstr(text, "#include"));
            free(text);
            gen_kernel_free(&k);
        }
    gen_close(g);
}

int main(int argc, char **argv)
{
    enum { FIXED = 2, NTESTS = FIXED + NCASES + NCOVERED };
    struct CMUnitTest tests[NTESTS] = {cmocka_unit_test(every_kernel_is_here),
                                       cmocka_unit_test(only_the_prelude_is_exchanged)};
    char names[NCOVERED][64];
    struct gen *g;
    struct err err = {""};
    const char *pattern = argc > 1 ? argv[1] : "*";
    int rc = gen_open(&g, NULL, &err);
    for (int i = 0; i < NCASES; i++) {
        int test = FIXED + i;
        tests[test] =
            (struct CMUnitTest){.name = cases[i].name, .test_func = report, .initial_state = (void *)(intptr_t)test};
        for (int s = sanitized_step(2) > 1 ? EMU_RANDOM : 0; s < NSCHEDULES && fnmatch(pattern, cases[i].name, 0) == 0;
             s++)
            add_job(cases[i].name, cases[i].test_func, s, strstr(cases[i].name, "wgmma") ? 90 : 80, test)->only_faults =
                s != EMU_RANDOM;
    }
    for (int i = 0; i < NCOVERED; i++) {
        int test = FIXED + NCASES + i;
        snprintf(names[i], sizeof names[i], "tiles_of_%s", covered[i].kernel);
        tests[test] =
            (struct CMUnitTest){.name = names[i], .test_func = report, .initial_state = (void *)(intptr_t)test};
        if (fnmatch(pattern, names[i], 0) != 0)
            continue;
        int has_d = rc == 0 && gen_has_param(g, covered[i].kernel, "d", &err) == GEN_SHAPE;
        for (int d = 0; d < (has_d ? NDIMS : 1); d += sanitized_step(3))
            rc = rc ? rc : add_tiles(g, &covered[i], has_d ? dims[d] : NULL, test, &err);
    }
    outcome = calloc((size_t)njobs + 1, sizeof *outcome);
    if (rc != 0 || !outcome) {
        fprintf(stderr, "%s\n", rc ? err.msg : "out of memory");
        return 1;
    }
    gen_close(g);
    parallel_run(njobs, run_job, NULL, outcome);
    cmocka_set_test_filter(pattern); /* not before: the jobs' own tests have other names */
    int failed = cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
    free(outcome);
    free(jobs);
    return failed;
}
