/* Vocabularies written by hand: what a GGUF's metadata means, and what is said of metadata that is damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer_kit.h"

static void a_space_goes_before_sentencepiece_text(void **state)
{
#define SPACE "\xe2\x96\x81"
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", SPACE, "a", "b", (SPACE "a"), "[x]"};
    static const struct {
        bool prefix;
        const char *text;
        int flags;
        int32_t ids[8];
        size_t n;
    } cases[] = {
        {true, "a", 0, {6}, 1},
        {false, "a", 0, {4}, 1},
        {true, "", 0, {0}, 0},
        {true, "a a", 0, {6, 6}, 2},
        {true, "<s>a</s>b", TOKENIZE_SPECIAL, {1, 6, 2, 3, 5}, 5},
        {true, "[x]a", 0, {7, 6}, 2},
        {true, "az\xc3\xa9q", 0, {6, 0}, 2}, /* no byte tokens: unknown, once for neighbours */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf_writer w = {0};
        struct kit_tokenizer k;
        struct err err = {""};
        gguf_put_str(&w, "tokenizer.ggml.model", "llama");
        gguf_put_strs(&w, "tokenizer.ggml.tokens", tokens, 8);
        gguf_put_i32s(&w, "tokenizer.ggml.token_type", (const int32_t[]){2, 3, 3, 1, 1, 1, 1, 4}, 8);
        gguf_put_f32s(&w, "tokenizer.ggml.scores", (const float[]){0, 0, 0, -1, -2, -3, -4, 0}, 8);
        gguf_put_bool(&w, "tokenizer.ggml.add_space_prefix", cases[i].prefix);
        if (kit_open(&k, &w, &err))
            fail_msg("%s", err.msg);
        struct ids ids = kit_encode(k.t, cases[i].text, strlen(cases[i].text), cases[i].flags);
        assert_int_equal(ids.count, cases[i].n);
        assert_memory_equal(ids.id, cases[i].ids, cases[i].n * sizeof *ids.id);
        assert_true(tokenizer_adds_bos(k.t));
        assert_true(tokenizer_is_end(k.t, 2));
        ids_free(&ids);
        kit_close(&k);
    }
}

/* One damaged piece of metadata each: an error that says what, or tables that are safe to use. */
enum damage {
    NO_MODEL,
    OTHER_MODEL,
    OTHER_PRE,
    NO_TOKENS,
    EMPTY_TOKENS,
    TOKENS_OF_NUMBERS,
    SHORT_TYPES,
    TYPES_OF_STRINGS,
    SHORT_SCORES,
    NO_SCORES,
    NO_MERGES,
    UNKNOWN_MERGE,
    MERGE_WITHOUT_SPACE,
    BOS_BEYOND,
    EOT_BEYOND,
    DAMAGES
};

static void put_damaged(struct gguf_writer *w, enum damage d)
{
    static const char *const tokens[] = {"a", "b", "ab"};
    bool spm = d == SHORT_SCORES || d == NO_SCORES;
    if (d != NO_MODEL)
        gguf_put_str(w, "tokenizer.ggml.model", d == OTHER_MODEL ? "bert" : spm ? "llama" : "gpt2");
    gguf_put_str(w, "tokenizer.ggml.pre", d == OTHER_PRE ? "martian\nbpe" : "gpt-2");
    if (d == TOKENS_OF_NUMBERS)
        gguf_put_i32s(w, "tokenizer.ggml.tokens", (const int32_t[]){1, 2, 3}, 3);
    else if (d != NO_TOKENS)
        gguf_put_strs(w, "tokenizer.ggml.tokens", tokens, d == EMPTY_TOKENS ? 0 : 3);
    if (d == SHORT_TYPES)
        gguf_put_i32s(w, "tokenizer.ggml.token_type", (const int32_t[]){1, 1}, 2);
    if (d == TYPES_OF_STRINGS)
        gguf_put_strs(w, "tokenizer.ggml.token_type", tokens, 3);
    if (d == SHORT_SCORES)
        gguf_put_f32s(w, "tokenizer.ggml.scores", (const float[]){1, 2}, 2);
    if (d != NO_MERGES)
        gguf_put_strs(w, "tokenizer.ggml.merges",
                      (const char *const[]){d == UNKNOWN_MERGE         ? "a c"
                                            : d == MERGE_WITHOUT_SPACE ? "ab"
                                                                       : "a b"},
                      1);
    if (d == BOS_BEYOND)
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 3);
    if (d == EOT_BEYOND)
        gguf_put_i64(w, "tokenizer.ggml.eot_token_id", INT64_MAX);
}

static void damaged_metadata_is_an_error_that_says_what(void **state)
{
    static const char *const says[DAMAGES] = {
        [NO_MODEL] = "tokenizer.ggml.model",
        [OTHER_MODEL] = "'bert'",
        [OTHER_PRE] = "'martian?bpe'",
        [NO_TOKENS] = "tokenizer.ggml.tokens is missing",
        [EMPTY_TOKENS] = "empty",
        [TOKENS_OF_NUMBERS] = "strings",
        [SHORT_TYPES] = "token_type has 2 entries for 3",
        [TYPES_OF_STRINGS] = "token_type",
        [SHORT_SCORES] = "scores has 2 entries for 3",
        [NO_SCORES] = "scores is missing",
        [NO_MERGES] = "merges is missing",
        [UNKNOWN_MERGE] = "merge 0, 'a c'",
        [MERGE_WITHOUT_SPACE] = "merge 0, 'ab'",
        [BOS_BEYOND] = "bos_token_id is 3",
        [EOT_BEYOND] = "eot_token_id",
    };
    for (int d = 0; d < DAMAGES; d++) {
        struct gguf_writer w = {0};
        struct kit_tokenizer k;
        struct err err = {""};
        put_damaged(&w, d);
        assert_int_equal(kit_open(&k, &w, &err), -1);
        if (!strstr(err.msg, says[d]) || strchr(err.msg, '\n'))
            fail_msg("damage %d: '%s' does not say '%s'", d, err.msg, says[d]);
    }
}

static void odd_vocabularies_are_safe(void **state)
{
    /* Duplicates (the last one counts), empty tokens, an alphabet that is not there, no token types, bos = none. */
    static const char *const tokens[] = {"", "a", "a", "\x80\xff", "b", "", "ab", "\xe4\xb8\xad"};
    struct gguf_writer w = {0};
    struct kit_tokenizer k;
    struct err err = {""};
    gguf_put_str(&w, "tokenizer.ggml.model", "gpt2");
    gguf_put_strs(&w, "tokenizer.ggml.tokens", tokens, 8);
    gguf_put_strs(&w, "tokenizer.ggml.merges", (const char *const[]){"a b", "a b"}, 2);
    gguf_put_u32(&w, "tokenizer.ggml.bos_token_id", UINT32_MAX);
    if (kit_open(&k, &w, &err))
        fail_msg("%s", err.msg);
    struct ids ids = kit_encode(k.t, "abaz", 4, TOKENIZE_SPECIAL);
    assert_int_equal(ids.count, 2);
    assert_memory_equal(ids.id, ((const int32_t[]){6, 2}), 2 * sizeof *ids.id);
    assert_int_equal(tokenizer_bos(k.t), -1);
    assert_false(tokenizer_adds_bos(k.t));
    size_t n;
    assert_memory_equal(tokenizer_piece(k.t, 7, &n), "\xe4\xb8\xad", 3);
    tokenizer_piece(k.t, -1, &n);
    assert_int_equal(n, 0);
    tokenizer_piece(k.t, 8, &n);
    assert_int_equal(n, 0);
    ids_free(&ids);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_space_goes_before_sentencepiece_text),
        cmocka_unit_test(damaged_metadata_is_an_error_that_says_what),
        cmocka_unit_test(odd_vocabularies_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
