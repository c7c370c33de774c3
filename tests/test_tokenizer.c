/* Token ids against those of Hugging Face's tokenizers and of SentencePiece (tests/vectors), text in pieces, special tokens,
 * long words and detokenising. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/bpe.h"
#include "tokenizer_kit.h"

static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
enum { PRES = 4 };

static void assert_ids(const struct ids *ids, const int32_t *want, size_t n, const char *what)
{
    size_t at = 0;
    while (at < n && at < ids->count && ids->id[at] == want[at])
        at++;
    if (at < n || at < ids->count)
        fail_msg("%.60s: id %zu of %zu is %d, want %d of %zu", what, at, ids->count,
                 at < ids->count ? (int)ids->id[at] : -1, at < n ? (int)want[at] : -1, n);
}

static void assert_vector(const struct tokenizer *t, const cJSON *vector, const cJSON *texts, const char *text,
                          size_t len)
{
    const cJSON *cases = cJSON_GetObjectItem(vector, "cases"), *thousands = cJSON_GetObjectItem(vector, "thousands");
    for (int i = 0; i < cJSON_GetArraySize(texts); i++) {
        const char *s = cJSON_GetArrayItem(texts, i)->valuestring;
        const cJSON *want = cJSON_GetArrayItem(cases, i), *item;
        int32_t ids[400];
        size_t n = 0;
        cJSON_ArrayForEach(item, want) ids[n++] = item->valueint;
        size_t bytes = strlen(s);
        char *copy = memcpy(malloc(bytes + 1), s, bytes + 1);
        char *nul = strstr(copy, "\xe2\x90\x80"); /* the vectors write NUL as U+2400, since it would end the string */
        if (nul) {
            *nul = 0;
            memmove(nul + 1, nul + 3, strlen(nul + 3));
            bytes -= 2;
        }
        struct ids got = kit_encode(t, copy, bytes, 0);
        assert_ids(&got, ids, n, s);
        ids_free(&got);
        free(copy);
    }
    struct ids got = kit_encode(t, text, len, 0);
    for (size_t k = 0; k * 1000 < got.count; k++) {
        char hash[20];
        size_t n = got.count - k * 1000 < 1000 ? got.count - k * 1000 : 1000;
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)ids_hash(got.id + k * 1000, n));
        const cJSON *want = cJSON_GetArrayItem(thousands, (int)k);
        if (!want || strcmp(hash, want->valuestring))
            fail_msg("ids %zu to %zu of the text differ from the reference", k * 1000, k * 1000 + n - 1);
    }
    assert_int_equal(got.count, cJSON_GetObjectItem(vector, "count")->valueint);
    ids_free(&got);
}

static void ids_equal_those_of_tokenizers(void **state)
{
    size_t len;
    char *text = vector_file("tokenizer.txt", &len);
    cJSON *vocab = vector_json("tokenizer_bpe.json");
    for (int i = 0; i < PRES; i++) {
        struct kit_tokenizer k;
        kit_open_vocab(&k, vocab, pres[i]);
        assert_vector(k.t, cJSON_GetObjectItem(cJSON_GetObjectItem(vocab, "ids"), pres[i]),
                      cJSON_GetObjectItem(vocab, "cases"), text, len);
        kit_close(&k);
    }
    cJSON_Delete(vocab);
    free(text);
}

static void ids_equal_those_of_sentencepiece(void **state)
{
    size_t len;
    char *text = vector_file("tokenizer.txt", &len);
    cJSON *vocab = vector_json("tokenizer_spm.json");
    struct kit_tokenizer k;
    kit_open_vocab(&k, vocab, NULL);
    assert_vector(k.t, cJSON_GetObjectItem(vocab, "ids"), cJSON_GetObjectItem(vocab, "cases"), text, len);
    kit_close(&k);
    cJSON_Delete(vocab);
    free(text);
}

static void ids_of_the_default_model(void **state)
{
    const char *path = getenv("MODEL");
    struct gguf *g = NULL;
    struct tokenizer *t;
    struct err err = {""};
    if (!path || gguf_open(&g, path, &err))
        skip();
    if (tokenizer_open(&t, g, &err))
        fail_msg("%s", err.msg);
    size_t len;
    char *text = vector_file("tokenizer.txt", &len);
    cJSON *vector = vector_json("tokenizer_smollm2.json");
    assert_vector(t, cJSON_GetObjectItem(vector, "ids"), cJSON_GetObjectItem(vector, "cases"), text, len);
    assert_int_equal(tokenizer_vocab(t), 49152);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_false(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_end(t, 2) && tokenizer_is_end(t, 0) && !tokenizer_is_end(t, 1));
    assert_int_equal(tokenizer_special(t, "<|im_end|>"), 2);
    assert_int_equal(tokenizer_special(t, "the"), -1);
    struct ids ids = kit_encode(t, "<|im_start|>user\n", 17, TOKENIZE_SPECIAL);
    assert_ids(&ids, (const int32_t[]){1, 4093, 198}, 3, "special");
    ids_free(&ids);
    assert_non_null(strstr(tokenizer_chat_template(t, &len), "<|im_start|>"));
    cJSON_Delete(vector);
    free(text);
    tokenizer_close(t);
    gguf_close(g);
}

/* Ids of a text in one piece, with nothing cut and nothing remembered: each pre-token is merged as it is. */
static struct ids plain_ids(const struct tokenizer *t, const char *text, size_t len)
{
    struct ids ids = {0};
    struct bpe b = {0};
    struct err err = {""};
    enum pretoken_state from = PRETOKEN_FRESH;
    struct pretoken_open open;
    char *spaced = malloc(len + 2);
    if (t->spm) { /* one word */
        spaced[0] = ' ';
        memcpy(spaced + 1, text, len);
        len++;
    } else {
        memcpy(spaced, text, len);
    }
    ids.id = malloc((len + 1) * sizeof *ids.id);
    for (size_t at = 0; at < len;) {
        size_t n = t->spm ? len : pretoken_next(t->pretoken, &t->classes, spaced + at, len - at, true, &from, &open);
        int32_t whole = !t->spm && t->pretoken->whole_words ? vocab_find(t, spaced + at, n) : -1;
        assert_int_equal(bpe_split(&b, t, spaced + at, n, &err), 0);
        assert_int_equal(bpe_merge(&b, t, &err), 0);
        if (whole >= 0)
            ids.id[ids.count++] = whole;
        for (size_t i = 0; i < b.count && whole < 0; i++) {
            size_t end = i + 1 < b.count ? b.symbol[i + 1].start : n;
            if (b.symbol[i].id >= 0 && b.symbol[i].id < t->count)
                ids.id[ids.count++] = b.symbol[i].id;
            else
                for (size_t k = b.symbol[i].start; k < end; k++)
                    ids.id[ids.count++] = t->byte_id[(unsigned char)spaced[at + k]];
        }
        at += n;
    }
    bpe_free(&b);
    free(spaced);
    return ids;
}

/* Encodes a text in random pieces. *held: the most bytes that the encoder had not turned into ids. */
static struct ids encode_pieces(const struct tokenizer *t, const char *text, size_t len, int flags, int most,
                                uint64_t *seed)
{
    struct encoder *e;
    struct ids ids = {0};
    struct err err = {""};
    assert_int_equal(encoder_open(&e, t, flags, &err), 0);
    for (size_t at = 0; at < len;) {
        size_t n = (size_t)random_int(seed, 0, most);
        n = n < len - at ? n : len - at;
        char *piece = memcpy(malloc(n + 1), text + at, n); /* so that a look beyond its end shows */
        assert_int_equal(encoder_push(e, piece, n, false, &ids, &err), 0);
        free(piece);
        at += n;
    }
    assert_int_equal(encoder_push(e, "", 0, true, &ids, &err), 0);
    encoder_close(e);
    return ids;
}

static void pieces_give_the_ids_of_the_whole(void **state)
{
    size_t len;
    char *text = vector_file("tokenizer.txt", &len);
    cJSON *bpe = vector_json("tokenizer_bpe.json"), *spm = vector_json("tokenizer_spm.json");
    uint64_t seed = 7;
    for (int i = 0; i <= PRES; i++) {
        struct kit_tokenizer k;
        kit_open_vocab(&k, i < PRES ? bpe : spm, i < PRES ? pres[i] : NULL);
        for (int broken = 0; broken < 2; broken++) {
            char *copy = memcpy(malloc(len), text, len);
            for (size_t n = broken ? len / 30 : 0; n > 0; n--)
                copy[random_int(&seed, 0, (int)len - 1)] = (char)random_int(&seed, 0, 255);
            for (int flags = 0; flags <= TOKENIZE_SPECIAL; flags++) {
                struct ids whole = kit_encode(k.t, copy, len, flags);
                static const int most[] = {1, 2, 7, 100, 5000};
                for (size_t m = 0; m < sizeof most / sizeof *most; m++) {
                    struct ids pieces = encode_pieces(k.t, copy, len, flags, most[m], &seed);
                    assert_ids(&pieces, whole.id, whole.count, "pieces");
                    ids_free(&pieces);
                }
                if (flags == 0) {
                    struct ids plain = plain_ids(k.t, copy, len);
                    assert_ids(&whole, plain.id, plain.count, "uncut");
                    ids_free(&plain);
                }
                ids_free(&whole);
            }
            free(copy);
        }
        kit_close(&k);
    }
    cJSON_Delete(bpe);
    cJSON_Delete(spm);
    free(text);
}

/* Runs without any place where a pre-tokeniser cuts. */
static void long_words_are_cut_where_no_merge_crosses(void **state)
{
    static const char *const alphabet[] = {"a",   "etaoinshr", "the",  " ",   "\n", "!",
                                           "!\n", " \n",       "\x80", "=-(", "7",  "a\xc3\xa9"};
    enum { LEN = 50000 };
    cJSON *bpe = vector_json("tokenizer_bpe.json"), *spm = vector_json("tokenizer_spm.json");
    uint64_t seed = 9;
    char *text = malloc(LEN);
    for (int i = 0; i <= PRES; i++) {
        struct kit_tokenizer k;
        kit_open_vocab(&k, i < PRES ? bpe : spm, i < PRES ? pres[i] : NULL);
        for (size_t a = 0; a < sizeof alphabet / sizeof *alphabet; a++) {
            bool in_order = !strcmp(alphabet[a], "the");
            int letters = (int)strlen(alphabet[a]);
            for (int j = 0; j < LEN; j++)
                text[j] = alphabet[a][in_order ? j % letters : random_int(&seed, 0, letters - 1)];
            if (!strcmp(alphabet[a], "!\n")) { /* a run of symbols, then one of line ends */
                memset(text, '!', LEN / 2);
                memset(text + LEN / 2, '\n', LEN / 2);
            }
            memcpy(text + LEN - 4, "\tx's", 4);
            struct ids plain = plain_ids(k.t, text, LEN);
            struct ids pieces = encode_pieces(k.t, text, LEN, 0, 3000, &seed);
            assert_ids(&pieces, plain.id, plain.count, alphabet[a]);
            ids_free(&pieces);
            ids_free(&plain);
        }
        kit_close(&k);
    }
    free(text);
    cJSON_Delete(bpe);
    cJSON_Delete(spm);
}

/* The text of ids; where it is valid UTF-8, what has come so far never ends inside a character. */
static char *decode(const struct tokenizer *t, const struct ids *ids, bool valid, size_t *len)
{
    struct decoder d = {0};
    size_t room = 64, longest = 4;
    for (size_t i = 0; i < ids->count; i++) {
        size_t n;
        tokenizer_piece(t, ids->id[i], &n);
        room += n;
        longest = n + 4 > longest ? n + 4 : longest;
    }
    char *out = malloc(room);
    *len = 0;
    for (size_t i = 0; i < ids->count; i++) {
        size_t n = decoder_push(&d, t, ids->id[i], out + *len, longest);
        *len += n;
        for (size_t back = 1; valid && back < 4 && back <= *len; back++) {
            uint32_t code;
            assert_int_not_equal(utf8_decode(out + *len - back, back, &code), 0);
        }
    }
    *len += decoder_flush(&d, out + *len, 4);
    return out;
}

static void decoding_gives_the_text_back(void **state)
{
    size_t len, n;
    char *text = vector_file("tokenizer.txt", &len);
    cJSON *bpe = vector_json("tokenizer_bpe.json"), *spm = vector_json("tokenizer_spm.json");
    uint64_t seed = 3;
    size_t kept = 0;
    for (size_t i = 0; i < len; i++) { /* byte 4 has no token; U+2581 comes back as a space */
        bool space = len - i >= 3 && !memcmp(text + i, "\xe2\x96\x81", 3);
        if (text[i] != 4)
            text[kept++] = space ? '_' : text[i];
        i += space ? 2 : 0;
    }
    len = kept;
    for (int i = 0; i < 4; i++) {
        struct kit_tokenizer k;
        kit_open_vocab(&k, i < 2 ? bpe : spm, i < 2 ? "smollm" : NULL);
        char *in = memcpy(malloc(len), text, len);
        for (size_t j = 0; i % 2 && j < len / 20; j++)
            in[random_int(&seed, 0, (int)len - 1)] = (char)random_int(&seed, 0xc0, 0xff);
        struct ids ids = kit_encode(k.t, in, len, 0);
        char *back = decode(k.t, &ids, i % 2 == 0, &n);
        assert_int_equal(n, len);
        assert_memory_equal(back, in, len);
        free(in);
        free(back);
        ids_free(&ids);
        kit_close(&k);
    }
    free(text);
    cJSON_Delete(bpe);
    cJSON_Delete(spm);
}

static void a_byte_without_a_token_is_left_out(void **state)
{
    cJSON *bpe = vector_json("tokenizer_bpe.json");
    struct kit_tokenizer k;
    size_t n;
    kit_open_vocab(&k, bpe, "smollm");
    struct ids ids = kit_encode(k.t, "a\x04 b\0c", 6, 0);
    char *back = decode(k.t, &ids, true, &n);
    assert_int_equal(n, 5);
    assert_memory_equal(back, "a b\0c", 5);
    free(back);
    ids_free(&ids);
    kit_close(&k);
    cJSON_Delete(bpe);
}

/* A vocabulary by hand: a b c, ab, special tokens one of which begins another, and a user-defined one. */
static void put_small(struct gguf_writer *w)
{
    static const char *const tokens[] = {"a", "b", "c", "ab", "<s>", "<s>>", "<<s>>", "[x]", "<", "s", ">"};
    gguf_put_str(w, "tokenizer.ggml.model", "gpt2");
    gguf_put_strs(w, "tokenizer.ggml.tokens", tokens, 11);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", (const int32_t[]){1, 1, 1, 1, 3, 3, 3, 4, 1, 1, 1}, 11);
    gguf_put_strs(w, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 1);
}

static void special_tokens_only_when_asked_for(void **state)
{
    static const struct {
        const char *text;
        int flags;
        int32_t ids[12];
        size_t n;
    } cases[] = {
        {"ab<s>c", 0, {3, 8, 9, 10, 2}, 5},        {"ab<s>c", TOKENIZE_SPECIAL, {3, 4, 2}, 3},
        {"<s>>a", TOKENIZE_SPECIAL, {5, 0}, 2},    {"<s>", TOKENIZE_SPECIAL, {4}, 1},
        {"<<s>>", TOKENIZE_SPECIAL, {6}, 1},       {"<<s>a", TOKENIZE_SPECIAL, {8, 4, 0}, 3},
        {"a<s", TOKENIZE_SPECIAL, {0, 8, 9}, 3},   {"a[x]b", 0, {0, 7, 1}, 3},
        {"a[x]b", TOKENIZE_SPECIAL, {0, 7, 1}, 3}, {"a[x<s>[x]", TOKENIZE_SPECIAL, {0, 4, 7}, 3},
    };
    struct gguf_writer w = {0};
    struct kit_tokenizer k;
    struct err err = {""};
    uint64_t seed = 1;
    put_small(&w);
    gguf_put_str(&w, "tokenizer.ggml.pre", "gpt-2");
    if (kit_open(&k, &w, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int most = 0; most < 4; most++) {
            size_t len = strlen(cases[i].text);
            struct ids ids = most ? encode_pieces(k.t, cases[i].text, len, cases[i].flags, most, &seed)
                                  : kit_encode(k.t, cases[i].text, len, cases[i].flags);
            if (i == 9) /* '[' and 'x' are no tokens */
                assert_ids(&ids, cases[i].ids, cases[i].n, "missing letters");
            else
                assert_ids(&ids, cases[i].ids, cases[i].n, cases[i].text);
            ids_free(&ids);
        }
    assert_int_equal(tokenizer_special(k.t, "<s>"), 4);
    assert_int_equal(tokenizer_special(k.t, "<s"), -1);
    kit_close(&k);
}

/* One id for neighbours that nothing is known of, also where a word comes again behind something else, and at the end of the text (found by fuzzing): with one
 * token for a byte there is fallback, but not for all. */
static void unknown_neighbours_are_one(void **state)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "<0x41>", "a"};
    static const int32_t type[] = {2, 3, 3, 6, 1};
    static const float score[] = {0, 0, 0, 0, -1};
    struct gguf_writer w = {0};
    struct kit_tokenizer k;
    struct err err = {""};
    gguf_put_str(&w, "tokenizer.ggml.model", "llama");
    gguf_put_strs(&w, "tokenizer.ggml.tokens", tokens, 5);
    gguf_put_i32s(&w, "tokenizer.ggml.token_type", type, 5);
    gguf_put_f32s(&w, "tokenizer.ggml.scores", score, 5);
    gguf_put_u32(&w, "tokenizer.ggml.unknown_token_id", 0);
    gguf_put_bool(&w, "tokenizer.ggml.add_space_prefix", false);
    assert_int_equal(kit_open(&k, &w, &err), 0);
    struct ids ids = kit_encode(k.t, "x x a x ", 8, 0);
    assert_ids(&ids, (const int32_t[]){0, 4, 0}, 3, "x x a x ");
    ids_free(&ids);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_those_of_tokenizers),
        cmocka_unit_test(ids_equal_those_of_sentencepiece),
        cmocka_unit_test(ids_of_the_default_model),
        cmocka_unit_test(pieces_give_the_ids_of_the_whole),
        cmocka_unit_test(long_words_are_cut_where_no_merge_crosses),
        cmocka_unit_test(decoding_gives_the_text_back),
        cmocka_unit_test(a_byte_without_a_token_is_left_out),
        cmocka_unit_test(special_tokens_only_when_asked_for),
        cmocka_unit_test(unknown_neighbours_are_one),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
