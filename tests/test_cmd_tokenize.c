/* weir tokenize as a user calls it: a text given in each way, options, files that are missing or damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program.h"
#include "scratch.h"
#include "tokenizer_kit.h"

static int setup(void **state)
{
    size_t len;
    if (program_setup(state) != 0)
        return -1;
    cJSON *vocab = vector_json("tokenizer_bpe.json");
    struct gguf_writer w = {0};
    kit_metadata(&w, vocab, "smollm");
    gguf_put_u32(&w, "tokenizer.ggml.bos_token_id", 1);
    struct bytes file = gguf_writer_finish(&w);
    file_write(in_scratch("vocab.gguf").text, file.data, file.size);
    file_write(in_scratch("cut.gguf").text, file.data, file.size / 2);
    free(file.data);
    kit_metadata(&w, vocab, "martian");
    file = gguf_writer_finish(&w);
    file_write(in_scratch("martian.gguf").text, file.data, file.size);
    free(file.data);
    char *text = vector_file("tokenizer.txt", &len);
    file_write(in_scratch("text").text, text, len);
    free(text);
    cJSON_Delete(vocab);
    return 0;
}

static void a_text_comes_in_each_way(void **state)
{
    static char first[sizeof out];
    cJSON *vocab = vector_json("tokenizer_bpe.json"), *ids;
    assert_int_equal(weir("tokenize -m vocab.gguf -f text"), 0);
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
    assert_int_equal(weir("tokenize --model=vocab.gguf --file - < text"), 0);
    assert_string_equal(out, first);
    assert_int_equal(weir("tokenize -m vocab.gguf -p ''"), 0);
    assert_string_equal(out, "[]\n");
    cJSON_Delete(ids);
    cJSON_Delete(vocab);
}

static void bos_and_special_tokens_only_when_asked_for(void **state)
{
    assert_int_equal(weir("tokenize -m vocab.gguf -p '<|im_end|>' --special"), 0);
    assert_string_equal(out, "[2]\n");
    assert_int_equal(weir("tokenize -m vocab.gguf -p '<|im_end|>' --special --bos"), 0);
    assert_string_equal(out, "[1,2]\n");
    assert_int_equal(weir("tokenize -m vocab.gguf -p '<|im_end|>'"), 0);
    assert_true(strlen(out) > 10);
    assert_int_equal(weir("tokenize -m vocab.gguf -p '' --bos"), 0);
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
        int status = weir("tokenize %s", cases[i].args);
        const char *end = strchr(errors, '\n');
        if (status != cases[i].status || !strstr(errors, cases[i].says) || !end || end[1])
            fail_msg("weir tokenize %s: status %d, '%s'", cases[i].args, status, errors);
    }
    assert_int_equal(weir("tokenize --help"), 0);
    assert_non_null(strstr(out, "usage: weir tokenize"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_comes_in_each_way),
        cmocka_unit_test(bos_and_special_tokens_only_when_asked_for),
        cmocka_unit_test(wrong_use_and_bad_files_are_one_line),
    };
    return cmocka_run_group_tests_name("cmd_tokenize", tests, setup, scratch_remove);
}
