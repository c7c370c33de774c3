/* weir tokenize as a user calls it: a text given in each way, options, files that are missing or damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tokenizer_kit.h"

static char folder[] = "/tmp/weir-tokenize-XXXXXX";
static char out[1 << 20], errors[4096];

static void slurp(const char *name, char *buf, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(buf, 1, room - 1, f);
    assert_true(n < room - 1);
    buf[n] = 0;
    fclose(f);
}

/* Runs `weir tokenize ARGS` by the shell in the test's folder; returns its exit status. */
static int tokenize(const char *args)
{
    char command[1024];
    snprintf(command, sizeof command, "cd %s && \"$W\" tokenize %s 2>err%s", folder, args,
             strstr(args, " >/") ? "" : " >out");
    int rc = system(command);
    slurp("out", out, sizeof out);
    slurp("err", errors, sizeof errors);
    assert_true(WIFEXITED(rc));
    return WEXITSTATUS(rc);
}

static void put_file(const char *name, const void *data, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fwrite(data, 1, n, f) == n);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    char path[4096];
    const char *program = getenv("WEIR");
    size_t len;
    if (!mkdtemp(folder) || !realpath(program ? program : "build/weir", path))
        return -1;
    setenv("W", path, 1);
    unsetenv("WEIR_MODEL");
    setenv("WEIR_CACHE", folder, 1);
    cJSON *vocab = vector_json("tokenizer_bpe.json");
    struct gguf_writer w = {0};
    kit_metadata(&w, vocab, "smollm");
    gguf_put_u32(&w, "tokenizer.ggml.bos_token_id", 1);
    struct bytes file = gguf_writer_finish(&w);
    put_file("vocab.gguf", file.data, file.size);
    put_file("cut.gguf", file.data, file.size / 2);
    free(file.data);
    kit_metadata(&w, vocab, "martian");
    file = gguf_writer_finish(&w);
    put_file("martian.gguf", file.data, file.size);
    free(file.data);
    char *text = vector_file("tokenizer.txt", &len);
    put_file("text", text, len);
    free(text);
    put_file("out", "", 0);
    cJSON_Delete(vocab);
    return 0;
}

static int teardown(void **state)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void a_text_comes_in_each_way(void **state)
{
    static char first[sizeof out];
    cJSON *vocab = vector_json("tokenizer_bpe.json"), *ids;
    assert_int_equal(tokenize("-m vocab.gguf -f text"), 0);
    assert_string_equal(errors, "");
    ids = cJSON_Parse(out);
    assert_non_null(ids);
    const cJSON *want = cJSON_GetObjectItem(cJSON_GetObjectItem(vocab, "ids"), "smollm"), *item;
    assert_int_equal(cJSON_GetArraySize(ids), cJSON_GetObjectItem(want, "count")->valueint);
    int32_t thousand[1000];
    int n = 0;
    char hash[20];
    cJSON_ArrayForEach(item, ids) if (n < 1000) thousand[n++] = item->valueint;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)ids_hash(thousand, 1000));
    assert_string_equal(hash, cJSON_GetArrayItem(cJSON_GetObjectItem(want, "thousands"), 0)->valuestring);
    strcpy(first, out);
    assert_int_equal(tokenize("--model=vocab.gguf --file - < text"), 0);
    assert_string_equal(out, first);
    assert_int_equal(tokenize("-m vocab.gguf -p ''"), 0);
    assert_string_equal(out, "[]\n");
    cJSON_Delete(ids);
    cJSON_Delete(vocab);
}

static void bos_and_special_tokens_only_when_asked_for(void **state)
{
    assert_int_equal(tokenize("-m vocab.gguf -p '<|im_end|>' --special"), 0);
    assert_string_equal(out, "[2]\n");
    assert_int_equal(tokenize("-m vocab.gguf -p '<|im_end|>' --special --bos"), 0);
    assert_string_equal(out, "[1,2]\n");
    assert_int_equal(tokenize("-m vocab.gguf -p '<|im_end|>'"), 0);
    assert_true(strlen(out) > 10);
    assert_int_equal(tokenize("-m vocab.gguf -p '' --bos"), 0);
    assert_string_equal(out, "[1]\n");
}

static void wrong_use_and_bad_files_are_one_line(void **state)
{
    static const struct {
        const char *args;
        int status;
        const char *says;
    } cases[] = {
        {"-m vocab.gguf", 2, "-p TEXT"},
        {"-m vocab.gguf -p a -f text", 2, "-p TEXT"},
        {"-m vocab.gguf -p a --bogus", 2, "--bogus"},
        {"-p a", 1, "no model"},
        {"-m missing.gguf -p a", 1, "missing.gguf"},
        {"-m . -p a", 1, "directory"},
        {"-m cut.gguf -p a", 1, "cut.gguf"},
        {"-m text -p a", 1, "text"},
        {"-m martian.gguf -p a", 1, "'martian'"},
        {"-m vocab.gguf -f missing", 1, "missing"},
        {"-m vocab.gguf -f .", 1, "irectory"},
        {"-m martian.gguf -p a --bos", 1, "'martian'"},
        {"-m vocab.gguf -f text >/dev/full", 1, "cannot write"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = tokenize(cases[i].args);
        const char *end = strchr(errors, '\n');
        if (status != cases[i].status || !strstr(errors, cases[i].says) || !end || end[1])
            fail_msg("weir tokenize %s: status %d, '%s'", cases[i].args, status, errors);
    }
    assert_int_equal(tokenize("--help"), 0);
    assert_non_null(strstr(out, "usage: weir tokenize"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_comes_in_each_way),
        cmocka_unit_test(bos_and_special_tokens_only_when_asked_for),
        cmocka_unit_test(wrong_use_and_bad_files_are_one_line),
    };
    return cmocka_run_group_tests_name("cmd_tokenize", tests, setup, teardown);
}
