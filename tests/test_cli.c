/* The built program as a user drives it: help, mistakes, `run` and `eval` on a model of random weights. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "program.h"
#include "scratch.h"

static void help(void **state)
{
    (void)state;
    static const char *const commands[] = {"run", "chat", "eval", "eval ppl", "eval passkey", "trace"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_int_equal(weir("%s --help", commands[i]), 0);
        assert_non_null(strstr(out, "usage: weir"));
        assert_string_equal(errors, "");
    }
    assert_int_equal(weir("help"), 0);
    assert_non_null(strstr(out, "trace"));
}

static void usage_errors(void **state)
{
    (void)state;
    static const struct {
        const char *args, *says;
    } bad[] = {
        {"run -m tiny.gguf -p x --window 2047", "--window 2047"},
        {"run -m tiny.gguf -p x --stride 0", "--stride 0"},
        {"run -m tiny.gguf -p x --window 1000000000", "--window 1000000000"},
        {"run -m tiny.gguf -p x --sinks -1", "--sinks -1"},
        {"run -m tiny.gguf -p x --windows 64", "--windows"},
        {"run -m tiny.gguf -p x --select best", "--select best"},
        {"run -m tiny.gguf -p x --temp -1", "--temp -1"},
        {"run -m tiny.gguf -p x -n -1", "-n -1"},
        {"run -m tiny.gguf", "-p TEXT"},
        {"run -m tiny.gguf -p x -f y", "-p TEXT"},
        {"run -m tiny.gguf -p x --cpu --gpu 0", "--gpu"},
        {"run -m tiny.gguf -p x --set bm", "--set bm"},
        {"run", "-p TEXT"},
        {"chat -m tiny.gguf --span 7", "--span 7"},
        {"eval", "ppl or passkey"},
        {"eval quiz", "quiz"},
        {"eval ppl -m tiny.gguf", "-f FILE"},
        {"eval ppl -m tiny.gguf -p x --max-tokens 1", "--max-tokens 1"},
        {"eval ppl -m tiny.gguf -p x --compare '--subcaches 99'", "--subcaches 99"},
        {"eval ppl -m tiny.gguf -p x --dump d --compare '' --compare '--span 1'", "--dump"},
        {"eval passkey -m tiny.gguf --lengths 4096,x", "--lengths 4096,x"},
        {"eval ppl -m tiny.gguf -p x --lengths 64,32", "--lengths 64,32"},
        {"eval ppl -m tiny.gguf -p x --lengths 64 --max-tokens 64", "--max-tokens"},
        {"eval passkey -m tiny.gguf --depths 0", "--depths 0"},
        {"trace", "--scores"},
        {"trace --scores s --chunk 0", "--chunk 0"},
        {"nonsense", "nonsense"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(weir("%s", bad[i].args), 2);
        failed_with(bad[i].says);
    }
}

static void failed_jobs(void **state)
{
    (void)state;
    spill("bad.gguf", "GGUF is not this");
    spill("words", "1\n0.5\nmany\n");
    spill("empty", "");
    static const struct {
        const char *args, *says;
    } bad[] = {
        {"run -m none.gguf -p x", "none.gguf"},
        {"run -m bad.gguf -p x", "bad.gguf"},
        {"run -m . -p x", "."},
        {"run -p x", "make model"},
        {"run -m tiny.gguf -f none.txt", "none.txt"},
        {"run -m tiny.gguf -f empty", "empty"},
        {"eval ppl -m tiny.gguf -f none", "none"},
        {"eval ppl -m tiny.gguf -f empty", "empty"},
        {"eval ppl -m tiny.gguf -p xyz --dump no/such/folder", "no/such/folder"},
        {"eval passkey -m tiny.gguf --filler none", "none"},
        {"trace --scores none", "none"},
        {"trace --scores words", "words:3"},
        {"trace --scores .", "."},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(weir("%s", bad[i].args), 1);
        failed_with(bad[i].says);
    }
}

/* Reads a dump of numbers, one a line; returns how many. */
static int read_dump(const char *name, double *v, int room)
{
    static char text[1 << 16];
    slurp(name, text, sizeof text);
    int n = 0;
    for (char *at = text, *end; *at; at = end + 1) {
        assert_true(n < room);
        v[n++] = strtod(at, &end);
        assert_int_equal(*end, '\n');
    }
    return n;
}

static const char prose[] =
    "A weir is a low dam that water falls over, step by step. Below it the river goes on, slower and "
    "wider than before, and what it carried settles on the stones; \xc3\xa4\xe2\x82\xac \xff\xfe.\n";

static void perplexity(void **state)
{
    (void)state;
    char text[4096] = "";
    for (int i = 0; i < 8; i++)
        strcat(text, prose);
    spill("prose", text);
    static double a[2048], b[2048];
    double mean = 0;
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose --dump a --json"), 0);
    int n = read_dump("a", a, 2048);
    assert_true(n > 1024); /* more than one chunk, the first of full size */
    for (int i = 0; i < n; i++)
        mean += a[i] / n;
    cJSON *j = cJSON_Parse(out);
    const cJSON *r = cJSON_GetArrayItem(cJSON_GetObjectItem(j, "results"), 0);
    assert_int_equal(cJSON_GetObjectItem(r, "tokens")->valueint, n);
    assert_true(fabs(cJSON_GetObjectItem(r, "nats_per_token")->valuedouble - mean) < 1e-6);
    assert_true(fabs(cJSON_GetObjectItem(r, "perplexity")->valuedouble / exp(mean) - 1) < 1e-5);
    cJSON_Delete(j);

    /* While the window holds the whole text, neither chunks nor sub-caches matter. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -f - --stride 7 -N 2 --dump b <prose"), 0);
    assert_int_equal(read_dump("b", b, 2048), n);
    for (int i = 0; i < n; i++)
        assert_true(fabs(a[i] - b[i]) < 1e-4);

    /* The first K tokens, and the rows of a comparison. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose --max-tokens 20 --dump b"), 0);
    assert_int_equal(read_dump("b", b, 2048), 19);
    for (int i = 0; i < 19; i++)
        assert_true(fabs(a[i] - b[i]) < 1e-4);
    /* A row for each length: the same as of a text that ends there. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose --lengths 20,1024,1100 --json"), 0);
    j = cJSON_Parse(out);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "results")), 3);
    for (int k = 0; k < 3; k++) {
        const int length[] = {20, 1024, 1100};
        r = cJSON_GetArrayItem(cJSON_GetObjectItem(j, "results"), k);
        assert_int_equal(cJSON_GetObjectItem(r, "tokens")->valueint, length[k] - 1);
        mean = 0;
        for (int i = 0; i < length[k] - 1; i++)
            mean += a[i] / (length[k] - 1);
        assert_true(fabs(cJSON_GetObjectItem(r, "nats_per_token")->valuedouble - mean) < 1e-5);
    }
    cJSON_Delete(j);
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose --lengths 20,4000"), 1);
    failed_with("--lengths 4000");
    assert_int_equal(weir("eval ppl -m tiny.gguf -f prose -W 64 -S 4 -T 16 --compare '-N 1' --compare '--span 4' "
                          "--compare '--schedule 1,1,3,9'"),
                     0);
    assert_non_null(strstr(out, "N=1 W=64 B=2 T=16 S=4\n"));
    assert_non_null(strstr(out, "N=4 W=64 B=4 T=16 mean S=4\n"));
    assert_non_null(strstr(out, "schedule=1,1,3,9\n"));

    /* Nothing half-written beside the dump, and none at all after a failure. */
    assert_int_equal(weir("eval ppl -m tiny.gguf -p x --dump c"), 1);
    char command[256];
    snprintf(command, sizeof command, "cd %s && ls | grep -c -e tmp -e '^c$' >out", in_scratch("").text);
    (void)!system(command);
    slurp("out", out, sizeof out);
    assert_string_equal(out, "0\n");
}

static void runs(void **state)
{
    (void)state;
    static char first[1 << 16];
    spill("prose", prose);
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 40 --greedy --ignore-end"), 0);
    strcpy(first, out);
    assert_non_null(strstr(errors, "generated: 40 tokens"));
    assert_non_null(strstr(errors, "window 2048"));
    assert_non_null(strstr(errors, "reach 7744 tokens"));
    assert_true(strchr(errors, '\n')[1] == 0);
    assert_int_equal(weir("run --model=tiny.gguf -f - -n 40 --greedy --ignore-end --threads 1 <prose"), 0);
    assert_string_equal(out, first);
    assert_int_equal(weir("run -m tiny.gguf -p \"$(cat prose)\n\" -n 0"), 0);
    assert_string_equal(out, "\n");

    /* A seed gives its text again; a stream far longer than the window goes on. */
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 300 -W 32 -S 4 -T 16 --ignore-end --seed 5 --temp 1"), 0);
    strcpy(first, out);
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 300 -W 32 -S 4 -T 16 --ignore-end --seed 5 --temp 1"), 0);
    assert_string_equal(out, first);
    assert_int_equal(weir("run -m tiny.gguf -f prose -n 300 -W 32 -S 4 -T 16 --ignore-end --seed 6 --temp 1"), 0);
    assert_string_not_equal(out, first);

    assert_int_equal(weir("run -m tiny.gguf -f prose -n 12 --json --ignore-end"), 0);
    cJSON *j = cJSON_Parse(out);
    assert_non_null(j);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "tokens")), 12);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(j, "stopped_by")), "limit");
    assert_int_equal(cJSON_GetObjectItem(j, "generated_tokens")->valueint, 12);
    assert_true(cJSON_GetObjectItem(j, "prompt_tokens")->valueint > 20);
    cJSON_Delete(j);
}

static void model_is_found(void **state)
{
    (void)state;
    spill("prose", prose);
    assert_int_equal(weir("run -p x -n 1"), 1);
    failed_with("SmolLM2-135M-Instruct.Q4_1.gguf");
    setenv("WEIR_MODEL", "tiny.gguf", 1);
    assert_int_equal(weir("run -p x -n 1"), 0);
    assert_int_equal(weir("run -m none -p x -n 1"), 1); /* -m wins */
    unsetenv("WEIR_MODEL");
}

/* With WEIR_VERBOSE a run tells where its time went, in the order of it; without, nothing. */
static void time_is_told(void **state)
{
    static const char *const notes[] = {"model mapped", "tokenizer", "prompt", "first token", "end"};
    const char *at;
    setenv("WEIR_VERBOSE", "1", 1);
    assert_int_equal(weir("run -m tiny.gguf --cpu -p 'some words' -n 2 --ignore-end"), 0);
    unsetenv("WEIR_VERBOSE");
    at = errors;
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        char line[64];
        snprintf(line, sizeof line, " ms  %s\n", notes[i]);
        at = strstr(at, line);
        if (!at)
            fail_msg("no '%s' in: %s", notes[i], errors);
    }
    assert_int_equal(weir("run -m tiny.gguf --cpu -p 'some words' -n 2 --ignore-end"), 0);
    assert_null(strstr(errors, "time:"));
}

static void pass_keys(void **state)
{
    (void)state;
    spill("filler", "One sentence. Another one! A third? and a tail without an end");
    assert_int_equal(
        weir("eval passkey -m tiny.gguf --lengths 1200,1300 --depths 2 --json --compare '-N 1' --compare ''"), 0);
    cJSON *j = cJSON_Parse(out);
    const cJSON *list = cJSON_GetObjectItem(j, "results");
    assert_int_equal(cJSON_GetArraySize(list), 4);
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 3), "tokens")->valueint, 1300);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 0), "depths")), 2);
    cJSON_Delete(j);
    assert_int_equal(weir("eval passkey -m tiny.gguf --lengths 1200 --depths 3 --filler filler -T 64 -W 64"), 0);
    assert_non_null(strstr(out, "0/3  ...\n"));
    assert_int_equal(weir("eval passkey -m tiny.gguf --lengths 1200 --depths 2 --seeds 3 --compare '-N 1' --json"), 0);
    j = cJSON_Parse(out);
    list = cJSON_GetObjectItem(j, "results");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 2), "seed")->valueint, 3);
    cJSON_Delete(j);
    assert_int_equal(weir("eval passkey -m tiny.gguf --lengths 1200 --depths 2 --seeds 3 --compare '-N 1'"), 0);
    assert_non_null(strstr(out, "0/6  ..\n"));
    assert_int_equal(weir("eval passkey -m tiny.gguf --lengths 128"), 1); /* bytes are tokens here */
    failed_with("--lengths 128");
}

/* Of a kernel of which nothing but the default is predicted, a file need not say so; beside another tile of it, it must. */
static void predicted_defaults_are_kept_beside_others(void **state)
{
    char text[4096];
    static const char predict[] =
        "tune swiglu --predict --compile 0 --gpu a6000 --model-shape smollm2-135m --window 2048 --stride 1024 "
        "--wisdom a6000.json";
    (void)state;
    assert_int_equal(weir("%s", predict), 0);
    assert_non_null(strstr(out, "wp=8"));
    slurp("a6000.json", text, sizeof text);
    assert_null(strstr(text, "swiglu"));
    spill("a6000.json",
          "{\"weir_wisdom\": 1, \"gpu\": \"a6000\", \"sm\": 86, \"entries\": [{\"kernel\": \"swiglu\", \"shape\": "
          "{\"t\": \"bf16\"}, \"sizes\": {\"tokens\": \"4096\", \"ffn\": \"1536\"}, \"config\": {\"wp\": \"2\"}, "
          "\"ms\": 1, \"predicted\": \"p\"}]}");
    assert_int_equal(weir("%s", predict), 0);
    slurp("a6000.json", text, sizeof text);
    assert_non_null(strstr(text, "\"tokens\":\"4096\",\"ffn\":\"1536\"},\"config\":{\"wp\":\"2\"}"));
    assert_non_null(strstr(text, "\"tokens\":\"1024\",\"ffn\":\"1536\"},\"config\":{\"wp\":\"8\"}"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help),
        cmocka_unit_test(usage_errors),
        cmocka_unit_test(failed_jobs),
        cmocka_unit_test(perplexity),
        cmocka_unit_test(runs),
        cmocka_unit_test(model_is_found),
        cmocka_unit_test(time_is_told),
        cmocka_unit_test(pass_keys),
        cmocka_unit_test(predicted_defaults_are_kept_beside_others),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, program_setup_model, scratch_remove);
}
