#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gen/gen.h"
#include "gen_home.h"

static void check_render(struct gen *g, const char *gpu, const struct gen_param *p, int n, struct gen_kernel *k)
{
    struct err err = {""};
    if (gen_render(g, "axpy", gpu, p, n, k, &err) != 0)
        fail_msg("%s", err.msg);
}

/* Expects gen_render to fail with every one of the given words in its message. */
static void check_refused(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *p, int n,
                          const char *const *words)
{
    struct err err = {""};
    struct gen_kernel k;
    assert_int_equal(gen_render(g, kernel, gpu, p, n, &k, &err), -1);
    assert_null(k.source);
    assert_null(strchr(err.msg, '\n'));
    for (; *words; words++)
        if (!strstr(err.msg, *words))
            fail_msg("'%s' is not in: %s", *words, err.msg);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define PARAMS(...)                                                                                                    \
    ((const struct gen_param[]){__VA_ARGS__}),                                                                         \
        (int)(sizeof((struct gen_param[]){__VA_ARGS__}) / sizeof(struct gen_param))

static void name_and_values(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    check_render(f->gen, "a100", PARAMS({"n", "64"}), &k);
    assert_string_equal(k.name, "axpy__n64_bf16__wp4_st2__sm80");
    assert_string_equal(k.arch, "sm_80");
    assert_int_equal(k.threads, 128);
    assert_int_equal(k.smem, 2 * 4 * 64 * 4);
    assert_int_equal(gen_value(&k, "n"), 64);
    assert_int_equal(gen_value(&k, "t"), 1);
    assert_int_equal(gen_value(&k, "row_bytes"), 256);
    assert_int_equal(gen_value(&k, "threads"), 128);
    assert_int_equal(k.nspec, 4);
    gen_kernel_free(&k);
    check_render(f->gen, "H200", PARAMS({"n", "64"}, {"t", "fp16"}, {"st", "1"}, {"st", "4"}), &k);
    assert_string_equal(k.name, "axpy__n64_fp16__wp8_st4__sm90");
    gen_kernel_free(&k);
}

static void text_reads_like_the_kernel(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    check_render(f->gen, "a6000", PARAMS({"n", "8"}), &k);
    assert_ptr_equal(strstr(k.source, "/* axpy__n8_bf16__wp4_st2__sm86\n"), k.source);
    assert_non_null(strstr(k.source, "\n/* ---- end of prelude ---- */\nKERNEL(axpy__n8_bf16__wp4_st2__sm86, 128, 1)\n"
                                     "(float *y, const float *x, float a, int rows)\n{\n"
                                     "    float *row = (float *)smem();\n"
                                     "    int i = bid_x() * 128 + tid();\n"
                                     "    row[tid() + 0] = a * 0;\n"
                                     "    row[tid() + 128] = a * 1;\n"
                                     "    if (i < rows * 8)\n"));
    assert_null(strstr(k.source, "#line"));
    assert_null(strstr(k.source, "#include"));
    gen_kernel_free(&k);
}

static void same_sm_same_text(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel a, b;
    check_render(f->gen, "a6000", PARAMS({"n", "8"}), &a);
    check_render(f->gen, "rtx3090", PARAMS({"n", "8"}), &b);
    assert_string_equal(a.source, b.source);
    gen_kernel_free(&a);
    gen_kernel_free(&b);
}

static void host_text_differs_in_the_prelude_only(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    struct err err = {""};
    char *host;
    check_render(f->gen, "a100", PARAMS({"n", "8"}, {"t", "fp16"}), &k);
    assert_int_equal(gen_host_text(f->gen, &k, &host, &err), 0);
    const char *begin = "/* ---- prelude ---- */\n", *end = "/* ---- end of prelude ---- */\n";
    const char *kb = strstr(k.source, begin), *hb = strstr(host, begin);
    assert_int_equal(kb - k.source, hb - host);
    assert_memory_equal(k.source, host, (size_t)(kb - k.source));
    assert_string_equal(strstr(k.source, end), strstr(host, end));
    assert_ptr_equal(strstr(host, "/* host, fp16 */\n#define KERNEL(name, threads, blocks) void name\n"),
                     hb + strlen(begin));
    free(host);
    gen_kernel_free(&k);
}

static void restrictions_are_named(void **state)
{
    struct gen *g = ((struct gen_fixture *)*state)->gen;
    check_refused(g, "axpy", "a100", PARAMS({"n", "0"}), WORDS("restriction 'n'", "n = 0", "1..4096"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "5000"}), WORDS("restriction 'n'", "1..4096"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "ten"}), WORDS("restriction 'n'", "ten"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "99999999999999999999"}), WORDS("restriction 'n'"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "8"}, {"t", "fp8"}), WORDS("restriction 't'", "fp16, bf16"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "8"}, {"wp", "3"}), WORDS("restriction 'wp'", "1, 2, 4, 8"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "6"}), WORDS("restriction 'whole_rows'", "n = 6", "16-byte"));
    check_refused(g, "axpy", "a100", PARAMS({"n", "8"}, {"bn", "3"}), WORDS("no parameter 'bn'", "n, t, wp, st"));
    check_refused(g, "axpy", "a100", NULL, 0, WORDS("needs n", "values of a row"));
    /* 64 stages of 4 rows of 640 bytes: 160 KB fit an A100 and no A6000. */
    struct gen_kernel k;
    check_render(g, "a100", PARAMS({"n", "160"}, {"st", "64"}), &k);
    gen_kernel_free(&k);
    check_refused(g, "axpy", "a6000", PARAMS({"n", "160"}, {"st", "64"}),
                  WORDS("restriction 'smem'", "smem = 163840", "smem_per_block = 101376", "a6000"));
}

static void unknown_names_list_the_known(void **state)
{
    struct gen *g = ((struct gen_fixture *)*state)->gen;
    check_refused(g, "axpz", "a100", NULL, 0, WORDS("unknown kernel 'axpz'", "axpy"));
    check_refused(g, "../gpus", "a100", NULL, 0, WORDS("unknown kernel"));
    check_refused(g, "", "a100", NULL, 0, WORDS("unknown kernel ''"));
    check_refused(
        g, "axpy", "voodoo2", PARAMS({"n", "8"}),
        WORDS("unknown GPU 'voodoo2'", "a100-80 (a100)", "a6000", "h200", "l40s", "rtx3090", "rtx4090", "h100"));
    check_refused(g, "axpy", "sm_42", PARAMS({"n", "8"}), WORDS("unknown GPU"));
    check_refused(g, "axpy", "", PARAMS({"n", "8"}), WORDS("unknown GPU ''"));
}

static void bad_declarations_name_file_and_field(void **state)
{
    static const struct {
        const char *text, *words[3];
    } cases[] = {
        {"", {"gen/kernels/bad.lua", "declares no kernel"}},
        {"kernel {", {"gen/kernels/bad.lua:1:"}},
        {"kernel { name = 'other', launch = { threads = 32 } }", {"'other'", "named after"}},
        {"kernel { name = 'bad', launch = { threads = 32 }, limit = {} }", {"unknown field 'limit'"}},
        {"kernel { name = 'bad' }", {"launch says no threads"}},
        {"kernel { name = 'bad', launch = { threads = 'wq' } }", {"launch.threads", "undefined name 'wq'"}},
        {"kernel { name = 'bad', launch = { threads = '3 +' } }", {"launch.threads", "3 +"}},
        {"kernel { name = 'bad', launch = { threads = 33 } }", {"restriction 'threads'", "threads = 33"}},
        {"kernel { name = 'bad', launch = { threads = 32 }, limits = { { 'odd', '1' } } }",
         {"'odd'", "neither true nor false"}},
        {"kernel { name = 'bad', launch = { threads = 32 }, tile = { { 'a', 'x', values = {1} } } }",
         {"'a'", "default"}},
        {"kernel { name = 'bad', launch = { threads = 32 }, shape = { { 'sm', 'x' } } }", {"'sm' is taken"}},
        {"kernel { name = 'bad', launch = { threads = 32 }, shape = { { 'a', 'x' }, { 'a', 'y' } } }",
         {"'a' is taken"}},
        {"kernel { name = 'bad', launch = { threads = 32 }, derive = { { 'a', 'sms' } } }", {"undefined name 'sms'"}},
        {"os.exit(1)", {"gen/kernels/bad.lua:1: undefined name 'os'"}},
    };
    struct gen_fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {""};
        struct gen *g;
        gen_home_write(&f->home, "gen/kernels/bad.lua", cases[i].text);
        assert_int_equal(gen_open(&g, f->home.path, &err), 0);
        check_refused(g, "bad", "a100", NULL, 0, cases[i].words);
        gen_close(g);
    }
}

static void home_must_hold_something(void **state)
{
    struct gen *g;
    struct err err = {""};
    assert_int_equal(gen_open(&g, "/nonexistent/home", &err), -1);
    assert_non_null(strstr(err.msg, "/nonexistent/home"));
}

/* What the compiler gets: the same lines, and before each one that does not follow, where it came from. */
static void lines_lead_back_to_the_template(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    struct err err = {""};
    char *lined;
    check_render(f->gen, "a100", PARAMS({"n", "8"}), &k);
    assert_int_equal(gen_lined_text(&k, &lined, &err), 0);
    assert_non_null(strstr(lined, "#line 1 \"templates/prelude_cuda.cu.t\"\n#define KERNEL"));
    assert_non_null(
        strstr(lined, "#line 1 \"templates/axpy.cu.t\"\nKERNEL(axpy__n8_bf16__wp4_st2__sm80, 128, 1)\n(float"));
    assert_non_null(strstr(lined, "#line 7 \"templates/axpy.cu.t\"\n    row[tid() + 0] = a * 0;\n"
                                  "#line 7 \"templates/axpy.cu.t\"\n    row[tid() + 128] = a * 1;\n"
                                  "#line 9 \"templates/axpy.cu.t\"\n    if (i < rows * 8)\n        y[i]"));
    /* Without the directives it is the emitted text. */
    char *plain = calloc(1, strlen(lined) + 1);
    for (char *p = lined, *q = plain; *p;) {
        size_t n = strcspn(p, "\n") + 1;
        if (strncmp(p, "#line ", 6) != 0)
            q = (char *)memcpy(q, p, n) + n;
        p += n;
    }
    assert_string_equal(plain, k.source);
    free(plain);
    free(lined);
    gen_kernel_free(&k);
}

/* Whether axpy's essence, with a file of the home replaced, is what it was. */
static bool same_essence(struct gen_fixture *f, const char *path, const char *text)
{
    struct gen *g;
    struct err err = {""};
    char *before = NULL, *after = NULL;
    const struct gen_param p[] = {{"n", "8"}};
    char file[200];
    snprintf(file, sizeof file, "%s/%s", f->home.path, path);
    char *was = gen_home_read(file);
    if (gen_essence(f->gen, "axpy", "a100", p, 1, &before, &err) != 0)
        fail_msg("%s", err.msg);
    gen_home_write(&f->home, path, text);
    if (gen_open(&g, f->home.path, &err) != 0 || gen_essence(g, "axpy", "a100", p, 1, &after, &err) != 0)
        fail_msg("%s", err.msg);
    gen_home_write(&f->home, path, was);
    bool same = !strcmp(before, after);
    gen_close(g);
    free(was);
    free(before);
    free(after);
    return same;
}

/* Comments, a parameter that changes nothing but the name, and functions that the kernel does not come to, do not count; one that it
 * comes to by way of another does. */
static void essence_is_what_decides(void **state)
{
    struct gen_fixture *f = *state;
#define MACROS "#define KERNEL(n, t, b) void n\n#define DEVICE static inline\nextern unsigned char smem_bytes[];\n"
#define USED                                                                                                           \
    "DEVICE int id(void) { return 3; } /* of this thread */\nDEVICE int tid(void)\n{\n    return id();\n}\n"           \
    "DEVICE int bid_x(void) { return 0; }\nDEVICE unsigned char *smem(void) { return smem_bytes; }\n"
    static const char prelude[] = "templates/prelude_cuda.cu.t",
                      other[] = "DEVICE int lane(void)\n{\n    return 1;\n}\n";
    gen_home_write(&f->home, prelude, MACROS USED);
    assert_true(same_essence(f, prelude, MACROS "/* Where it is,\n * of 32. */\n" USED));
    char text[1000];
    snprintf(text, sizeof text, "%s%s%s", MACROS, other, USED);
    assert_true(same_essence(f, prelude, text));
    snprintf(text, sizeof text, "%s", MACROS USED);
    *strchr(strstr(text, "return 3"), '3') = '4';
    assert_false(same_essence(f, prelude, text));
    assert_false(
        same_essence(f, "templates/axpy.cu.t", "KERNEL(${name}, ${threads}, 1)(int *y)\n{\n    y[0] = tid();\n}\n"));
    char *one = NULL, *two = NULL;
    struct err err = {""};
    assert_int_equal(gen_essence(f->gen, "axpy", "a100", PARAMS({"n", "8"}), &one, &err), 0);
    assert_int_equal(gen_essence(f->gen, "axpy", "a100", PARAMS({"n", "12"}), &two, &err), 0);
    assert_string_not_equal(one, two);
    assert_null(strstr(one, "axpy__"));
    free(one);
    free(two);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, gen_fixture_open, gen_fixture_close)
    const struct CMUnitTest tests[] = {
        T(name_and_values),
        T(text_reads_like_the_kernel),
        T(same_sm_same_text),
        T(host_text_differs_in_the_prelude_only),
        T(restrictions_are_named),
        T(unknown_names_list_the_known),
        T(bad_declarations_name_file_and_field),
        T(home_must_hold_something),
        T(lines_lead_back_to_the_template),
        T(essence_is_what_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
