/* A GGUF file that ends with a text (GGUF does not mind bytes behind its data). Whatever the file says, opening it ends in one line
 * or in a tokenizer that is safe, and the ids of the text do not depend on the pieces that it comes in. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "runtime/tokenizer.h"

enum { TEXT = 400 }; /* bytes of text, at most half of the input */

static const char *const tokens[] = {"<unk>",
                                     "<s>",
                                     "</s>",
                                     "<0x0A>",
                                     "<0x41>",
                                     "\xe2\x96\x81",
                                     "a",
                                     "b",
                                     "ab",
                                     "aa",
                                     "1",
                                     "\xc4\xa0",
                                     "\xc4\xa0"
                                     "a",
                                     "[x]",
                                     "'s",
                                     "\xe2\x96\x81"
                                     "a"};
enum { TOKENS = sizeof tokens / sizeof *tokens };

struct bytes fuzz_seed(int i)
{
    static const char *const pre[] = {"gpt-2", "smollm", "llama-bpe", "qwen2", "default"};
    static const char *const merges[] = {"a b", "a a", "\xc4\xa0 a"};
    static const char text[] =
        "ab aab 123  a's\xe2\x96\x81[x]<s>\n\n\tab\xff\xe2\x96 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n!!\n";
    struct gguf_writer w = {0};
    int32_t type[TOKENS];
    float score[TOKENS];
    if (i > 5)
        return (struct bytes){0};
    for (int k = 0; k < TOKENS; k++) {
        type[k] = k == 0 ? 2 : k < 3 ? 3 : k < 5 ? 6 : k == 13 ? 4 : 1;
        score[k] = -(float)(k / 2);
    }
    gguf_put_str(&w, "tokenizer.ggml.model", i < 5 ? "gpt2" : "llama");
    if (i < 5)
        gguf_put_str(&w, "tokenizer.ggml.pre", pre[i]);
    gguf_put_strs(&w, "tokenizer.ggml.tokens", tokens, TOKENS);
    gguf_put_i32s(&w, "tokenizer.ggml.token_type", type, TOKENS);
    gguf_put_f32s(&w, "tokenizer.ggml.scores", score, TOKENS);
    if (i < 5)
        gguf_put_strs(&w, "tokenizer.ggml.merges", merges, 3);
    gguf_put_u32(&w, "tokenizer.ggml.bos_token_id", 1);
    struct bytes out = gguf_writer_finish(&w);
    bytes_put(&out, text, sizeof text - 1);
    return out;
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check_error(const struct err *err)
{
    must(err->msg[0] && !strchr(err->msg, '\n'));
}

static void check_decoding(const struct tokenizer *t, const struct ids *ids)
{
    struct decoder d = {0};
    for (size_t i = 0; i < ids->count; i++) {
        size_t n;
        must(ids->id[i] >= 0 && ids->id[i] < tokenizer_vocab(t));
        tokenizer_piece(t, ids->id[i], &n);
        char *out = malloc(n + 4);
        must(out && decoder_push(&d, t, ids->id[i], out, n + 4) <= n + 3);
        free(out);
    }
    char rest[4];
    must(decoder_flush(&d, rest, sizeof rest) <= 3);
}

static void check_text(const struct tokenizer *t, const char *text, size_t len, int flags)
{
    struct ids whole = {0}, pieces = {0};
    struct encoder *e;
    struct err err = {""};
    must(tokenizer_encode(t, text, len, flags, &whole, &err) == 0 && encoder_open(&e, t, flags, &err) == 0);
    for (size_t at = 0, n = 1; at < len; at += n, n = n * 5 % 7 + 1) {
        n = n < len - at ? n : len - at;
        must(encoder_push(e, text + at, n, at + n == len, &pieces, &err) == 0);
    }
    must(whole.count == pieces.count);
    must(whole.count == 0 || !memcmp(whole.id, pieces.id, whole.count * sizeof *whole.id));
    check_decoding(t, &whole);
    encoder_close(e);
    ids_free(&whole);
    ids_free(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g;
    struct tokenizer *t;
    struct err err = {""};
    size_t text = size / 2 < TEXT ? size / 2 : TEXT;
    if (gguf_open_memory(&g, data, size, "input", &err)) {
        check_error(&err);
        return 0;
    }
    if (tokenizer_open(&t, g, &err)) {
        check_error(&err);
    } else {
        char *copy = malloc(text + 1); /* of its own, so that a look beyond its end shows */
        must(copy != NULL);
        if (text)
            memcpy(copy, data + size - text, text);
        check_text(t, copy, text, 0);
        check_text(t, copy, text, TOKENIZE_SPECIAL);
        free(copy);
        tokenizer_close(t);
    }
    gguf_close(g);
    return 0;
}
