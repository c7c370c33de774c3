/* A tokenizer's tables from GGUF metadata. Whatever a damaged or hostile file says ends in one line or in tables that are safe
 * to use: each id that is kept lies inside the vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "vocab.h"

/* What the file says, as it lies there. */
struct source {
    const char *path;
    const char **text; /* [n], owned */
    size_t *len;       /* [n], owned */
    int32_t *type;     /* [n] or NULL, owned */
    float *score;      /* [n] or NULL, owned */
    size_t n;
};

static void source_free(struct source *s)
{
    free(s->text);
    free(s->len);
    free(s->type);
    free(s->score);
}

static int check_len(const struct source *s, const char *key, int64_t len, struct err *err)
{
    if (len == (int64_t)s->n)
        return 0;
    return err_set(err, "%s: %s has %lld entries for %zu tokens; the file is damaged", s->path, key, (long long)len,
                   s->n);
}

static int read_source(struct source *s, const struct gguf *g, struct err *err)
{
    enum { MOST = 1 << 24 };
    int64_t n = gguf_array_len(g, "tokenizer.ggml.tokens");
    s->path = gguf_path(g);
    if (n <= 0 || n > MOST)
        return err_set(err, "%s: tokenizer.ggml.tokens %s; the file holds no usable vocabulary", s->path,
                       n < 0 ? "is missing"
                       : n   ? "has absurdly many entries"
                             : "is empty");
    s->n = (size_t)n;
    s->text = err_alloc(s->n, sizeof *s->text, "the vocabulary", err);
    s->len = err_alloc(s->n, sizeof *s->len, "the vocabulary", err);
    if (!s->text || !s->len)
        return -1;
    if (!gguf_array_strs(g, "tokenizer.ggml.tokens", s->text, s->len))
        return err_set(err, "%s: tokenizer.ggml.tokens is no array of strings", s->path);

    const char *key = "tokenizer.ggml.token_type";
    if (gguf_has(g, key)) {
        if (check_len(s, key, gguf_array_len(g, key), err) || !(s->type = err_alloc(s->n, sizeof *s->type, key, err)))
            return -1;
        if (!gguf_array_ints(g, key, s->type))
            return err_set(err, "%s: %s is no array of integers", s->path, key);
    }
    key = "tokenizer.ggml.scores";
    if (gguf_has(g, key)) {
        if (check_len(s, key, gguf_array_len(g, key), err) || !(s->score = err_alloc(s->n, sizeof *s->score, key, err)))
            return -1;
        if (!gguf_array_floats(g, key, s->score))
            return err_set(err, "%s: %s is no array of numbers", s->path, key);
    }
    return 0;
}

/* GPT-2's alphabet of bytes: printable Latin-1 stands for itself, the other 68 bytes for 256, 257, ... Entry -1: no byte. */
enum { ALPHABET = 256 + 68 };

static void byte_alphabet(int16_t byte_of[ALPHABET])
{
    memset(byte_of, -1, ALPHABET * sizeof byte_of[0]);
    int next = 256;
    for (int b = 0; b < 256; b++) {
        bool itself = (b > 32 && b < 127) || (b > 160 && b != 173);
        byte_of[itself ? b : next++] = (int16_t)b;
    }
}

/* Bytes that a byte-level text stands for, written to out[len]; -1 where a character is not of the alphabet. */
static ptrdiff_t from_alphabet(const int16_t byte_of[ALPHABET], const char *s, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t code;
        int used = utf8_decode(s + i, len - i, &code);
        if (used == 0 || code >= ALPHABET || byte_of[code] < 0)
            return -1;
        out[n++] = (char)byte_of[code];
        i += (size_t)used;
    }
    return (ptrdiff_t)n;
}

/* U+2581, SentencePiece's visible space, becomes a space. -1 where there is a real space, which no text can turn into. */
static ptrdiff_t from_visible_spaces(const char *s, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == ' ')
            return -1;
        bool space = len - i >= 3 && !memcmp(s + i, "\xe2\x96\x81", 3);
        out[n++] = space ? ' ' : s[i];
        i += space ? 2 : 0;
    }
    return (ptrdiff_t)n;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* Value of "<0x0A>", or -1. */
static int byte_token(const char *s, size_t len)
{
    if (len != 6 || memcmp(s, "<0x", 3) || s[5] != '>' || hex(s[3]) < 0 || hex(s[4]) < 0)
        return -1;
    return hex(s[3]) * 16 + hex(s[4]);
}

static bool is_special(int type)
{
    return type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_USER;
}

/* Types and bytes of all tokens, and the index of those that text can turn into. */
static int load_tokens(struct tokenizer *t, const struct source *s, struct err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < s->n; i++)
        total += s->len[i];
    t->count = t->symbols = (int32_t)s->n;
    t->start = err_alloc(s->n + 1, sizeof *t->start, "the vocabulary", err);
    t->bytes = err_alloc(total, 1, "the vocabulary", err);
    t->type = err_alloc(s->n, 1, "the vocabulary", err);
    t->ends = err_calloc(s->n, sizeof *t->ends, "the vocabulary", err);
    if (!t->start || !t->bytes || !t->type || !t->ends || vocab_index_init(t, s->n, err))
        return -1;
    int16_t byte_of[ALPHABET];
    byte_alphabet(byte_of);
    memset(t->byte_id, -1, sizeof t->byte_id);

    size_t at = 0;
    for (int32_t i = 0; i < t->count; i++) {
        const char *text = s->text[i];
        size_t len = s->len[i];
        int type = s->type ? s->type[i] : TOKEN_NORMAL, byte = t->spm ? byte_token(text, len) : -1;
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
            type = TOKEN_NORMAL;
        if (byte >= 0 && !s->type)
            type = TOKEN_BYTE;
        ptrdiff_t n = -1;
        if (type == TOKEN_BYTE && byte >= 0) {
            t->bytes[at] = (char)byte;
            t->byte_id[byte] = i;
            t->byte_fallback = true;
            n = 1;
        } else if (!is_special(type)) {
            n = t->spm ? from_visible_spaces(text, len, t->bytes + at)
                       : from_alphabet(byte_of, text, len, t->bytes + at);
            type = n < 0 ? TOKEN_OPAQUE : type;
        }
        if (n < 0) {
            memcpy(t->bytes + at, text, len);
            n = (ptrdiff_t)len;
        }
        t->type[i] = (uint8_t)type;
        t->start[i] = at;
        at += (size_t)n;
        t->start[i + 1] = at;
        if (!vocab_is_made(t, i))
            continue;
        vocab_index_put(t, i);
        if ((size_t)n > t->longest)
            t->longest = (size_t)n;
        if (!t->spm && n == 1)
            t->byte_id[(unsigned char)t->bytes[t->start[i]]] = i;
    }
    return 0;
}

static int load_merges(struct tokenizer *t, const struct source *s, const struct gguf *g, struct err *err)
{
    const char *key = "tokenizer.ggml.merges";
    int64_t count = gguf_array_len(g, key);
    if (count < 0)
        return err_set(err, "%s: %s is missing; a byte-level vocabulary needs it", s->path, key);
    size_t n = (size_t)count, room = 1;
    const char **text = err_alloc(n, sizeof *text, key, err);
    size_t *len = err_alloc(n, sizeof *len, key, err);
    char *bytes = NULL;
    int failed = -1;
    if (!text || !len)
        goto done;
    if (!gguf_array_strs(g, key, text, len)) {
        err_set(err, "%s: %s is no array of strings", s->path, key);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        room = len[i] > room ? len[i] : room;
    bytes = err_alloc(room, 1, key, err);
    if (!bytes || vocab_merges_init(t, n, err))
        goto done;
    int16_t byte_of[ALPHABET];
    byte_alphabet(byte_of);
    for (size_t i = 0; i < n; i++) {
        const char *space = len[i] > 1 ? memchr(text[i] + 1, ' ', len[i] - 1) : NULL;
        size_t cut = space ? (size_t)(space - text[i]) : len[i];
        ptrdiff_t a = from_alphabet(byte_of, text[i], cut, bytes), b = -1;
        if (a > 0 && space)
            b = from_alphabet(byte_of, space + 1, len[i] - cut - 1, bytes + a);
        int32_t left = b > 0 ? vocab_find(t, bytes, (size_t)a) : -1;
        int32_t right = b > 0 ? vocab_find(t, bytes + a, (size_t)b) : -1;
        int32_t both = b > 0 ? vocab_find(t, bytes, (size_t)(a + b)) : -1;
        if (left < 0 || right < 0 || both < 0) {
            err_set(err, "%s: merge %zu, '%s', names a token that is not in the vocabulary; the file is damaged",
                    s->path, i, err_name(text[i], len[i]).text);
            goto done;
        }
        if (vocab_merge_put(t, left, right, (uint32_t)i, both, err))
            goto done;
    }
    failed = 0;
done:
    free(text);
    free(len);
    free(bytes);
    return failed;
}

struct text_id {
    const char *s;
    size_t len;
    int32_t id;
};

static int compare_texts(const void *a, const void *b)
{
    const struct text_id *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);
    if (c != 0)
        return c;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* The tokens of the types in `mask` (bits) that have a text; of two with the same text the first. */
static int load_specials(const struct tokenizer *t, struct special_set *set, unsigned mask, struct err *err)
{
    size_t n = 0;
    for (int32_t id = 0; id < t->count; id++)
        n += mask >> t->type[id] & 1;
    struct text_id *order = err_alloc(n, sizeof *order, "the special tokens", err);
    set->id = err_alloc(n, sizeof *set->id, "the special tokens", err);
    if (!order || !set->id) {
        free(order);
        return -1;
    }
    n = 0;
    for (int32_t id = 0; id < t->count; id++) {
        size_t len;
        const char *bytes = vocab_bytes(t, id, &len);
        if ((mask >> t->type[id] & 1) && len > 0)
            order[n++] = (struct text_id){bytes, len, id};
    }
    qsort(order, n, sizeof *order, compare_texts);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && order[i].len == order[i - 1].len && !memcmp(order[i].s, order[i - 1].s, order[i].len))
            continue;
        set->id[set->count++] = order[i].id;
        set->first[(unsigned char)order[i].s[0]] = true;
        set->longest = order[i].len > set->longest ? order[i].len : set->longest;
    }
    free(order);
    return 0;
}

/* An id by key; `missing` where the file does not say, -1 where it says that there is none. */
static int load_id(const struct tokenizer *t, const struct gguf *g, const char *key, int32_t missing, int32_t *out,
                   struct err *err)
{
    int64_t id;
    *out = missing < t->count ? missing : -1;
    if (!gguf_get_int(g, key, &id))
        return 0;
    if (id >= t->count && id != UINT32_MAX)
        return err_set(err, "%s: %s is %lld, beyond the vocabulary of %d tokens", gguf_path(g), key, (long long)id,
                       (int)t->count);
    *out = id < 0 || id == UINT32_MAX ? -1 : (int32_t)id;
    return 0;
}

/* Ids with a role of their own, and the tokens that end a text: those that the file names, and those of the known families. */
static int load_roles(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    static const char *const ending[] = {"<|eot_id|>", "<|eom_id|>",    "<|im_end|>",      "<|end|>", "<end_of_turn>",
                                         "<EOT>",      "<|endoftext|>", "<|end_of_text|>", "</s>"};
    int32_t eot, eom;
    if (load_id(t, g, "tokenizer.ggml.bos_token_id", t->spm ? 1 : -1, &t->bos, err) ||
        load_id(t, g, "tokenizer.ggml.eos_token_id", t->spm ? 2 : -1, &t->eos, err) ||
        load_id(t, g, "tokenizer.ggml.unknown_token_id", t->spm ? 0 : -1, &t->unk, err) ||
        load_id(t, g, "tokenizer.ggml.eot_token_id", -1, &eot, err) ||
        load_id(t, g, "tokenizer.ggml.eom_token_id", -1, &eom, err))
        return -1;
    const int32_t named[] = {t->eos, eot, eom};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (named[i] >= 0)
            t->ends[named[i]] = true;
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        int32_t id = tokenizer_special(t, ending[i]);
        if (id >= 0)
            t->ends[id] = true;
    }
    int64_t flag = t->spm || (t->pretoken && t->pretoken->adds_bos);
    gguf_get_int(g, "tokenizer.ggml.add_bos_token", &flag);
    t->adds_bos = flag && t->bos >= 0;
    flag = t->spm;
    gguf_get_int(g, "tokenizer.ggml.add_space_prefix", &flag);
    t->space_prefix = t->spm && flag;
    return 0;
}

static int load_chat_template(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const char *s;
    if (!gguf_get_str(g, "tokenizer.chat_template", &s, &t->chat_template_len))
        return 0;
    t->chat_template = err_alloc(t->chat_template_len + 1, 1, "the chat template", err);
    if (!t->chat_template)
        return -1;
    memcpy(t->chat_template, s, t->chat_template_len);
    t->chat_template[t->chat_template_len] = 0;
    return 0;
}

static int load_model(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    const char *model, *pre = "default";
    size_t len, pre_len = strlen(pre);
    if (!gguf_get_str(g, "tokenizer.ggml.model", &model, &len))
        return err_set(err, "%s: tokenizer.ggml.model is missing; the file holds no tokenizer", gguf_path(g));
    t->spm = len == 5 && !memcmp(model, "llama", 5);
    if (!t->spm && (len != 4 || memcmp(model, "gpt2", 4)))
        return err_set(err, "%s: tokenizer '%s' is not known; gpt2 (byte-level BPE) and llama (SentencePiece BPE) are",
                       gguf_path(g), err_name(model, len).text);
    if (t->spm) {
        char_classes_init(&t->classes);
        return 0;
    }
    gguf_get_str(g, "tokenizer.ggml.pre", &pre, &pre_len);
    t->pretoken = pretoken_find(pre, pre_len);
    if (!t->pretoken)
        return err_set(err,
                       "%s: pre-tokenizer '%s' (tokenizer.ggml.pre) is not known; smollm, gpt-2, llama-bpe, qwen2 and "
                       "default are",
                       gguf_path(g), err_name(pre, pre_len).text);
    pretoken_classes(t->pretoken, &t->classes);
    return 0;
}

int vocab_load(struct tokenizer *t, const struct gguf *g, struct err *err)
{
    struct source s = {0};
    int failed = load_model(t, g, err) || read_source(&s, g, err) || load_tokens(t, &s, err);
    if (!failed && t->spm && !s.score)
        failed = err_set(err, "%s: tokenizer.ggml.scores is missing; a SentencePiece vocabulary needs it", s.path);
    if (!failed)
        failed = t->spm ? vocab_load_spm(t, s.score, err) : load_merges(t, &s, g, err);
    source_free(&s);
    return failed || load_specials(t, &t->user, 1u << TOKEN_USER, err) ||
                   load_specials(t, &t->special, 1u << TOKEN_USER | 1u << TOKEN_CONTROL | 1u << TOKEN_UNKNOWN, err) ||
                   load_roles(t, g, err) || load_chat_template(t, g, err)
               ? -1
               : 0;
}
