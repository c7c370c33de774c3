/* weir gen and weir doctor as a user calls them: what they print, what they write, what they refuse and with which status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cJSON.h>
#include <cmocka.h>

#include "gen_home.h"
#include "gguf_writer.h"
#include "runtime/cmd.h"
#include "runtime/nvrtc.h"

struct fixture {
    struct gen_home home;
    char out[128]; /* what stdout went to */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char cache[128];
    gen_home_open(&f->home);
    snprintf(f->out, sizeof f->out, "%s/stdout", f->home.path);
    snprintf(cache, sizeof cache, "%s/cache", f->home.path);
    setenv("WEIR_CACHE", cache, 1);
    setenv("WEIR_HOME", f->home.path, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    gen_home_close(&f->home);
    unsetenv("WEIR_CACHE");
    unsetenv("WEIR_HOME");
    free(f);
    return 0;
}

/* Runs a command line (words apart by one blank); its stdout is the text, which the caller frees. */
static int command(struct fixture *f, cmd_fn *cmd, const char *line, char **text, struct err *err)
{
    char copy[1024], *argv[32], *save = NULL;
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w && argc < 31; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    fflush(stdout);
    int keep = dup(1), fd = open(f->out, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(keep >= 0 && fd >= 0);
    dup2(fd, 1);
    close(fd);
    err->msg[0] = 0;
    int status = cmd(argc, argv, err);
    fflush(stdout);
    dup2(keep, 1);
    close(keep);
    *text = gen_home_read(f->out);
    return status;
}

static void prints_the_text(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char *text;
    assert_int_equal(command(f, cmd_gen, "gen axpy --gpu a100 --n 64 --type fp16 --set st=4", &text, &err), CMD_OK);
    assert_ptr_equal(strstr(text, "/* axpy__n64_fp16__wp4_st4__sm80\n"), text);
    assert_null(strstr(text, "#line"));
    free(text);
    assert_int_equal(command(f, cmd_gen, "gen axpy --gpu a100 --n=64 --lines", &text, &err), CMD_OK);
    assert_non_null(strstr(text, "\n#line 1 \"templates/axpy.cu.t\"\nKERNEL(axpy__n64"));
    free(text);
}

static void writes_files(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char *text, line[256], path[256];
    snprintf(line, sizeof line, "gen axpy --gpu a100,h200 --n 64 -o %s/out", f->home.path);
    assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_OK);
    assert_non_null(strstr(text, "/out/axpy__n64_bf16__wp4_st2__sm80.cu\n"));
    assert_non_null(strstr(text, "/out/axpy__n64_bf16__wp8_st2__sm90.cu\n"));
    free(text);
    snprintf(path, sizeof path, "%s/out/axpy__n64_bf16__wp4_st2__sm80.cu", f->home.path);
    text = gen_home_read(path);
    assert_non_null(strstr(text, "KERNEL(axpy__n64_bf16__wp4_st2__sm80, 128, 1)"));
    free(text);
    /* Not into a file. */
    snprintf(line, sizeof line, "gen axpy --gpu a100 --n 64 -o %s/templates/axpy.cu.t", f->home.path);
    assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_FAILED);
    assert_non_null(strstr(err.msg, "cannot be written"));
    free(text);
}

/* With several kernels, one's shape parameter is not another one's tile parameter of the same name. */
static void shape_parameters_are_no_tiles(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char *text;
    gen_home_write(
        &f->home, "gen/kernels/rows.lua",
        "kernel { name = 'rows', template = 'axpy.cu.t', shape = { { 'wp', 'rows', min = 1, max = 99 },\n"
        "  { 'n', 'values of a row', min = 1 } }, tile = { { 'st', 'stages', values = { 1, 2, 4 }, default = 1 } },\n"
        "  launch = { threads = 64 } }\n");
    assert_int_equal(command(f, cmd_gen, "gen axpy rows --gpu a100 --n 64 --wp 3 --set st=4", &text, &err), CMD_OK);
    assert_non_null(strstr(text, "/* axpy__n64_bf16__wp4_st4__sm80\n"));
    assert_non_null(strstr(text, "/* rows__wp3_n64__st4__sm80\n"));
    free(text);
}

/* On an error nothing is written: neither the kernel nor a part of it. */
static void writes_nothing_on_an_error(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char *text, line[256], path[256];
    gen_home_write(&f->home, "templates/axpy.cu.t", "fine\n${nope}\n");
    snprintf(line, sizeof line, "gen axpy --gpu a100 --n 64 -o %s/out", f->home.path);
    assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_FAILED);
    assert_string_equal(err.msg, "templates/axpy.cu.t:2: undefined name 'nope'");
    assert_string_equal(text, "");
    free(text);
    snprintf(path, sizeof path, "%s/out", f->home.path);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void table_and_json(void **state)
{
    struct fixture *f = *state;
    struct err err;
    struct nvrtc_info info;
    char *text, line[256];
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
    snprintf(line, sizeof line, "gen --all --gpu a100,a6000 --n 64 -o %s/out --json", f->home.path);
    /* The folder brings one kernel; the built-in ones want parameters that are not given here. */
    assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_USAGE);
    assert_non_null(strstr(err.msg, " needs "));
    free(text);
    snprintf(line, sizeof line, "gen axpy --gpu a100,a6000 --n 64 --cubin -o %s/out --json", f->home.path);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_OK);
        cJSON *rows = cJSON_Parse(text), *row = cJSON_GetArrayItem(rows, 1);
        assert_int_equal(cJSON_GetArraySize(rows), 2);
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(row, "name")), "axpy__n64_bf16__wp4_st2__sm86");
        assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "registers")) > 0);
        assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "smem")) == 2048);
        assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(row, "cached")), round);
        cJSON_Delete(rows);
        free(text);
    }
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/out/axpy__n64_bf16__wp4_st2__sm86.cubin", f->home.path);
    assert_int_equal(stat(path, &st), 0);
}

/* What is tested in a process that has not opened NVRTC, and finds none. */
static int without_nvrtc(const char *home)
{
    char path[128];
    struct err err = {""};
    char *have[] = {(char *)"gen",
                    (char *)"attn_turn",
                    (char *)"attn_decode_scores",
                    (char *)"-m",
                    path,
                    (char *)"--gpu",
                    (char *)"a100",
                    (char *)"--cubin",
                    (char *)"-o",
                    (char *)home,
                    NULL};
    char *lack[] = {
        (char *)"gen",     (char *)"attn_decode_scores",        (char *)"-m", path, (char *)"--gpu", (char *)"a100",
        (char *)"--cubin", (char *)"--head-policy=homogeneous", NULL};
    snprintf(path, sizeof path, "%s/tiny.gguf", home);
    if (cmd_gen(10, have, &err) != CMD_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    bool good = cmd_gen(8, lack, &err) == CMD_FAILED && strstr(err.msg, "attn_decode_scores__r4_mean") == err.msg &&
                strstr(err.msg, "was not shipped") && strstr(err.msg, "WEIR_NVRTC is /nonexistent");
    if (!good)
        fprintf(stderr, "%s\n", err.msg);
    return good ? 0 : 1;
}

/* A folder that was shipped serves a machine that has no NVRTC: what is in it is found, what is not is an error that says so. */
static void ships_to_machines_without_nvrtc(void **state)
{
    struct fixture *f = *state;
    struct nvrtc_info info;
    struct tiny_model tiny = tiny_model_defaults();
    struct err err;
    char *text, path[128], line[512];
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
    unsetenv("WEIR_HOME"); /* the kernels themselves, not those of the fixture */
    tiny.head_dim = 64;
    snprintf(path, sizeof path, "%s/tiny.gguf", f->home.path);
    tiny_model_file(&tiny, path);
    snprintf(line, sizeof line, "gen attn_turn attn_decode_scores -m %s --gpu a100 --ship %s/ship", path, f->home.path);
    if (command(f, cmd_gen, line, &text, &err) != CMD_OK)
        fail_msg("%s", err.msg);
    assert_non_null(strstr(text, "r2_mean"));
    free(text);
    pid_t pid = fork();
    if (pid == 0) {
        char ship[128], none[128];
        snprintf(ship, sizeof ship, "%s/ship", f->home.path);
        snprintf(none, sizeof none, "%s/none", f->home.path);
        setenv("WEIR_NVRTC", "/nonexistent", 1);
        setenv("WEIR_SHIPPED", ship, 1);
        setenv("WEIR_CACHE", none, 1);
        char *argv[] = {(char *)"test_cmd_gen", (char *)"without_nvrtc", f->home.path, NULL};
        execv("/proc/self/exe", argv);
        _exit(99);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

/* With --all and a model: what that model wants, in the shapes of its cascade, and nothing else. */
static void all_of_a_model(void **state)
{
    struct fixture *f = *state;
    struct tiny_model tiny = tiny_model_defaults();
    struct err err;
    char *text, path[128], line[512];
    tiny.head_dim = 64;
    snprintf(path, sizeof path, "%s/tiny.gguf", f->home.path);
    tiny_model_file(&tiny, path);
    snprintf(line, sizeof line,
             "gen --all -m %s --gpu a100 --stdout --type fp16 --window 512 --span 8 --head-policy homogeneous "
             "--head-reduction max",
             path);
    assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_OK);
    assert_non_null(strstr(text, "/* cascade_update__d64_b8_fp16__"));
    assert_non_null(strstr(text, "/* attn_decode_scores__r4_max__"));
    assert_non_null(strstr(text, "/* attn_decode__d64_g2_fp16__"));
    assert_non_null(strstr(text, "/* attn_score_reduce__max__"));
    assert_non_null(strstr(text, "/* attn_prefill__d64_fp16__"));
    assert_null(strstr(text, "attn_prefill_wgmma"));
    assert_null(strstr(text, "axpy"));
    free(text);
    snprintf(line, sizeof line, "gen --all -m %s --gpu h200 --stdout",
             path); /* the kernel of a chunk's attention there */
    assert_int_equal(command(f, cmd_gen, line, &text, &err), CMD_OK);
    assert_non_null(strstr(text, "/* attn_prefill_wgmma__d64_"));
    assert_non_null(strstr(text, "target  sm_90a"));
    assert_null(strstr(text, "/* attn_prefill__"));
    free(text);
}

static void refused(void **state)
{
    static const struct {
        const char *line;
        int status;
        const char *says;
    } cases[] = {
        {"gen", CMD_USAGE, "no kernel given"},
        {"gen axpy", CMD_USAGE, "--gpu NAME is missing"},
        {"gen axpy --gpu", CMD_USAGE, "--gpu: needs a value"},
        {"gen axpy --gpu , --n 8", CMD_USAGE, "--gpu: no name given"},
        {"gen axpy --gpu a100", CMD_USAGE, "axpy needs n (values of a row)"},
        {"gen axpy --gpu a100 --n 0", CMD_USAGE, "restriction 'n'"},
        {"gen axpy --gpu a100 --n -8", CMD_USAGE, "restriction 'n'"},
        {"gen axpy --gpu a100 --n", CMD_USAGE, "--n: needs a value"},
        {"gen axpy --gpu a100 --n=", CMD_USAGE, "not NAME=VALUE"},
        {"gen axpy --gpu a100 --n 6", CMD_USAGE, "restriction 'whole_rows'"},
        {"gen axpy --gpu a6000 --n 160 --set st=64", CMD_USAGE, "restriction 'smem'"},
        {"gen axpy --gpu a100 --n 8 --type int8", CMD_USAGE, "fp16, bf16"},
        {"gen axpy --gpu a100 --n 8 --set st", CMD_USAGE, "'st' is not NAME=VALUE"},
        {"gen axpy --gpu a100 --n 8 --set =4", CMD_USAGE, "is not NAME=VALUE"},
        {"gen axpy --gpu a100 --n 8 --bogus 1", CMD_USAGE, "axpy has no parameter 'bogus'; it has n, t, wp, st"},
        {"gen axpy axpy --gpu a100 --n 8 --bogus 1", CMD_USAGE, "no kernel has a parameter 'bogus'"},
        {"gen axpy --gpu a100 --n 8 -z", CMD_USAGE, "unknown option '-z'"},
        {"gen axpz --gpu a100 --n 8", CMD_USAGE, "unknown kernel 'axpz'; known: "},
        {"gen axpy --gpu voodoo --n 8", CMD_USAGE, "unknown GPU 'voodoo'; known: "},
        {"gen axpy --all --gpu a100", CMD_USAGE, "--all and 'axpy'"},
        {"gen axpy --gpu a100 --ship /proc/weir --n 8", CMD_FAILED, "/proc/weir cannot be made"},
        {"gen --all --gpu a100 --window 100 --span 3 --ship", CMD_USAGE, "--ship: needs a value"},
        {"gen axpy --gpu a100 -m /nonexistent.gguf", CMD_FAILED, "/nonexistent.gguf"},
        {"gen axpy --gpu a100 --n 8 --templates /nonexistent", CMD_USAGE, "/nonexistent: holds neither"},
        {"doctor --bogus", CMD_USAGE, "unknown option '--bogus'"},
        {"doctor now", CMD_USAGE, "unexpected argument 'now'"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err;
        char *text;
        int status = command(f, cases[i].line[0] == 'g' ? cmd_gen : cmd_doctor, cases[i].line, &text, &err);
        if (status != cases[i].status || !strstr(err.msg, cases[i].says) || strchr(err.msg, '\n') || text[0])
            fail_msg("weir %s: status %d, %s%s", cases[i].line, status, err.msg, text);
        free(text);
    }
}

static void helps_and_lists(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char *text;
    assert_int_equal(command(f, cmd_gen, "gen --help", &text, &err), CMD_OK);
    assert_ptr_equal(strstr(text, "usage: weir gen"), text);
    free(text);
    assert_int_equal(command(f, cmd_gen, "gen --list", &text, &err), CMD_OK);
    assert_non_null(strstr(text, "axpy: y = a x + y"));
    assert_non_null(strstr(text, "limit  whole_rows n % 4 == 0 (rows are moved in 16-byte pieces)"));
    free(text);
    assert_int_equal(command(f, cmd_gen, "gen --list --json", &text, &err), CMD_OK);
    cJSON *list = cJSON_Parse(text);
    assert_true(cJSON_GetArraySize(cJSON_GetObjectItem(list, "gpus")) >= 9);
    cJSON_Delete(list);
    free(text);
}

static void doctor_says_what_is_here(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char *text;
    assert_int_equal(command(f, cmd_doctor, "doctor", &text, &err), CMD_OK);
    assert_non_null(strstr(text, "\nNVRTC "));
    assert_non_null(strstr(text, "\nwill run here\n"));
    assert_non_null(strstr(text, f->home.path));
    free(text);
    assert_int_equal(command(f, cmd_doctor, "doctor --json", &text, &err), CMD_OK);
    cJSON *report = cJSON_Parse(text);
    assert_true(cJSON_IsArray(cJSON_GetObjectItem(report, "gpus")));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetObjectItem(report, "cache"), "writable")));
    cJSON_Delete(report);
    free(text);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "without_nvrtc"))
        return without_nvrtc(argv[2]);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(prints_the_text),
        T(writes_files),
        T(shape_parameters_are_no_tiles),
        T(writes_nothing_on_an_error),
        T(table_and_json),
        T(refused),
        T(helps_and_lists),
        T(doctor_says_what_is_here),
        T(ships_to_machines_without_nvrtc),
        T(all_of_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
