/* The template engine, through gen_render: what passes through, what is a value, what is an error and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gen/gen.h"
#include "gen_home.h"

static const char *const marker = "/* ---- end of prelude ---- */\n";

/* Renders a template of the kernel axpy with n = 8, for an A100. */
static int render(struct gen_fixture *f, const char *template, struct gen_kernel *k, struct err *err)
{
    const struct gen_param p[] = {{"n", "8"}};
    gen_home_write(&f->home, "templates/axpy.cu.t", template);
    return gen_render(f->gen, "axpy", "a100", p, 1, k, err);
}

static void check_text(struct gen_fixture *f, const char *template, const char *text)
{
    struct gen_kernel k;
    struct err err = {""};
    if (render(f, template, &k, &err) != 0)
        fail_msg("%s", err.msg);
    assert_string_equal(strstr(k.source, marker) + strlen(marker), text);
    gen_kernel_free(&k);
}

static void check_error(struct gen_fixture *f, const char *template, const char *begin, const char *inside)
{
    struct gen_kernel k;
    struct err err = {""};
    if (render(f, template, &k, &err) == 0)
        fail_msg("no error in: %s", template);
    assert_null(k.source);
    if (strncmp(err.msg, begin, strlen(begin)) != 0 || !strstr(err.msg, inside))
        fail_msg("'%s' ... '%s' is wanted, but it says: %s", begin, inside, err.msg);
}

static void text_passes_through(void **state)
{
    struct gen_fixture *f = *state;
    check_text(f, "a\n  b $ {c} } %% d\n\n\te\\n \"'\n", "a\n  b $ {c} } %% d\n\n\te\\n \"'\n");
    check_text(f, "", "\n");
    check_text(f, "no end of line", "no end of line\n");
    check_text(f, "dos\r\n% local x = 1\r\n${x}\r\n", "dos\n1\n");
    check_text(f, "%% x\n  %% y\n a % b\n", "% x\n  % y\n a % b\n");
    check_text(f, "\xc3\xa4\xff\n", "\xc3\xa4\xff\n");
}

static void values(void **state)
{
    struct gen_fixture *f = *state;
    check_text(f, "${n} ${t}${n*2}${ n + 1 }\n", "8 bf16169\n");
    check_text(f, "${n / 2} ${1 / 4} ${2^40} ${0.1} ${-3.0}\n", "4 0.25 1099511627776 0.1 -3\n");
    check_text(f, "${({1, 2})[2]} ${\"}\"} ${(\"%d\"):format(3)} ${\"${\"}\n", "2 } 3 ${\n");
    check_text(f, "${kernel} ${name} ${threads} ${smem} ${sm} ${smem_per_block}\n",
               "axpy axpy__n8_bf16__wp4_st2__sm80 128 256 80 166912\n");
    check_text(f, "${\"one\\ntwo\"}|\n", "one\ntwo|\n");
}

static void lua_lines(void **state)
{
    struct gen_fixture *f = *state;
    check_text(f, "% for i = 0, 2 do\nx${i}\n% if i == 1 then\n  one\n% else\n  other\n% end\n% end\n",
               "x0\n  other\nx1\n  one\nx2\n  other\n");
    check_text(f, "  % local s = {\n% 1, 2,\n% }\n% for i, v in ipairs(s) do\n${i}:${v}\n% end\n", "1:1\n2:2\n");
    check_text(f, "% local function twice(v)\n% return 2 * v\n% end\n${twice(n)}\n", "16\n");
    check_text(f, "% local function line(v)\n  f(${v});\n% end\n% line(1) line('x')\n", "  f(1);\n  f(x);\n");
    check_text(f, "% -- only a comment\nx\n", "x\n");
}

static void includes(void **state)
{
    struct gen_fixture *f = *state;
    gen_home_write(&f->home, "templates/part.cu.t", "part ${n}\n");
    check_text(f, "a\n% include \"part.cu.t\"\nb\n", "a\npart 8\nb\n");
    gen_home_write(&f->home, "templates/part.cu.t", "fine\n${nope}\n");
    check_error(f, "% include \"part.cu.t\"\n", "templates/part.cu.t:2:", "undefined name 'nope'");
    check_error(f, "% include \"absent.cu.t\"\n", "templates/absent.cu.t: no such template", "");
    check_error(f, "% include \"../gen/gpus.lua\"\n", "templates/../gen/gpus.lua:", "");
    check_error(f, "x\n% include \"axpy.cu.t\"\n", "include is nested too deep", "axpy");
}

static void errors_name_template_and_line(void **state)
{
    static const struct {
        const char *template, *begin, *inside;
    } cases[] = {
        {"a\n${nope}\n", "templates/axpy.cu.t:2:", "undefined name 'nope'"},
        {"a\nb ${n} ${n + nope} c\n", "templates/axpy.cu.t:2:", "undefined name 'nope'"},
        {"% local x = nope\n", "templates/axpy.cu.t:1:", "undefined name 'nope'"},
        {"\n\n% if nope then\n% end\n", "templates/axpy.cu.t:3:", "undefined name 'nope'"},
        {"% x = 1\n", "templates/axpy.cu.t:1:", "'x' is set as a global; write 'local x'"},
        {"\n% n = 1\n", "templates/axpy.cu.t:2:", "'n' is set as a global"},
        {"a\n${nil}\n", "templates/axpy.cu.t:2:", "${nil} is nil"},
        {"% local t = {}\n\n${t.x}\n", "templates/axpy.cu.t:3:", "${t.x} is nil"},
        {"${true}\n", "templates/axpy.cu.t:1:", "a boolean"},
        {"${{}}\n", "templates/axpy.cu.t:1:", "a table"},
        {"${1 / 0}\n", "templates/axpy.cu.t:1:", "inf"},
        {"${0 / 0}\n", "templates/axpy.cu.t:1:", "nan"},
        {"x\n${n\n}\n", "templates/axpy.cu.t:2:", "without its }"},
        {"x ${n + } y\n", "templates/axpy.cu.t:1:", "bad expression ${n + }"},
        {"${}\n", "templates/axpy.cu.t:1:", "bad expression ${}"},
        {"${n -- note}\n", "templates/axpy.cu.t:1:", "bad expression"},
        {"x\n% for i = 1, 2 do\ny\n", "templates/axpy.cu.t:", "'end' expected"},
        {"x\n% end\n", "templates/axpy.cu.t:2:", "'end'"},
        {"x\n% local = 3\n", "templates/axpy.cu.t:2:", "expected near '='"},
        {"\n% error('stop here')\n", "templates/axpy.cu.t:2:", "stop here"},
        {"\n\n% assert(n > 100, 'n is small')\n", "templates/axpy.cu.t:3:", "n is small"},
        {"% local x = n .. {}\n", "templates/axpy.cu.t:1:", "concatenate"},
        {"% os.exit(3)\n", "templates/axpy.cu.t:1:", "undefined name 'os'"},
        {"% io.open('/etc/passwd')\n", "templates/axpy.cu.t:1:", "undefined name 'io'"},
        {"% load('x')\n", "templates/axpy.cu.t:1:", "undefined name 'load'"},
        {"% for k in pairs({}) do\n% end\n", "templates/axpy.cu.t:1:", "undefined name 'pairs'"},
        {"${read_file('x')}\n", "templates/axpy.cu.t:1:", "undefined name 'read_file'"},
        {"x\n% local s = ('x'):rep(1 << 40)\n", "", ""},
    };
    struct gen_fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_error(f, cases[i].template, cases[i].begin, cases[i].inside);
}

static void endless_templates_end(void **state)
{
    struct gen_fixture *f = *state;
    check_error(f, "% while true do\n% end\n", "templates/axpy.cu.t:1:", "a loop without an end");
    check_error(f, "% while true do\nx\n% end\n", "", "");
    check_error(f, "% local function r() return 1 + r() end\n% r()\n", "", "");
    /* The state is as good as new. */
    check_text(f, "${n}\n", "8\n");
}

static void nul_bytes_are_refused(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    struct err err = {""};
    const struct gen_param p[] = {{"n", "8"}};
    char path[128];
    snprintf(path, sizeof path, "%s/templates/axpy.cu.t", f->home.path);
    FILE *out = fopen(path, "wb");
    fwrite("a\0b\n", 1, 4, out);
    fclose(out);
    assert_int_equal(gen_render(f->gen, "axpy", "a100", p, 1, &k, &err), -1);
    assert_string_equal(err.msg, "templates/axpy.cu.t: holds a NUL byte; it is not a template");
}

/* #line stays out of comments, continued lines and open parentheses, where it would be text or undefined. */
static void directives_stay_out_of_the_way(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    struct err err = {""};
    char *lined;
    assert_int_equal(render(f,
                            "#define TWO \\\n"
                            "% local x = 1\n"
                            "    ${x} + \\\n"
                            "% x = x + 1\n"
                            "    ${x}\n"
                            "/* a comment (\n"
                            "% x = 3\n"
                            "   over lines */\n"
                            "call(a, \")\", ')',\n"
                            "% x = 4\n"
                            "     b);\n"
                            "// not open (\n"
                            "% x = 5\n"
                            "last\n",
                            &k, &err),
                     0);
    assert_int_equal(gen_lined_text(&k, &lined, &err), 0);
    assert_string_equal(strstr(lined, marker) + strlen(marker), "#line 1 \"templates/axpy.cu.t\"\n"
                                                                "#define TWO \\\n"
                                                                "    1 + \\\n"
                                                                "    2\n"
                                                                "#line 6 \"templates/axpy.cu.t\"\n"
                                                                "/* a comment (\n"
                                                                "   over lines */\n"
                                                                "#line 9 \"templates/axpy.cu.t\"\n"
                                                                "call(a, \")\", ')',\n"
                                                                "     b);\n"
                                                                "#line 12 \"templates/axpy.cu.t\"\n"
                                                                "// not open (\n"
                                                                "#line 14 \"templates/axpy.cu.t\"\n"
                                                                "last\n");
    free(lined);
    gen_kernel_free(&k);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, gen_fixture_open, gen_fixture_close)
    const struct CMUnitTest tests[] = {
        T(text_passes_through),
        T(values),
        T(lua_lines),
        T(includes),
        T(errors_name_template_and_line),
        T(endless_templates_end),
        T(nul_bytes_are_refused),
        T(directives_stay_out_of_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
