/* SentencePiece BPE: the pairs that merge follow from the tokens and their scores. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vocab.h"

static int compare_codes(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* A growing set of characters; invalid bytes are UTF8_INVALID + byte. */
struct codes {
    uint32_t *code;
    size_t count, room;
};

static int codes_add(struct codes *c, uint32_t code, struct err *err)
{
    if (c->count > 0 && c->code[c->count - 1] == code)
        return 0;
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        uint32_t *more = realloc(c->code, room * sizeof *more);
        if (!more)
            return err_set(err, "out of memory for the vocabulary");
        c->code = more;
        c->room = room;
    }
    c->code[c->count++] = code;
    return 0;
}

static void codes_sort(struct codes *c)
{
    size_t n = 0;
    if (c->count)
        qsort(c->code, c->count, sizeof *c->code, compare_codes);
    for (size_t i = 0; i < c->count; i++)
        if (i == 0 || c->code[i] != c->code[n - 1])
            c->code[n++] = c->code[i];
    c->count = n;
}

/* Next character of a token, as the encoder takes them apart. */
static uint32_t next_char(const char *s, size_t len, int *n)
{
    uint32_t code;
    *n = utf8_decode(s, len, &code);
    if (*n == 0 || code == UTF8_INVALID) {
        *n = 1;
        code = UTF8_INVALID + (unsigned char)*s;
    }
    return code;
}

/* Of two tokens with the same text, the last is the one that counts. */
static bool can_be_made(const struct tokenizer *t, int32_t id)
{
    size_t len;
    const char *bytes = vocab_bytes(t, id, &len);
    return vocab_is_made(t, id) && vocab_find(t, bytes, len) == id;
}

/* Adds the characters that tokens are made of without being tokens as symbols behind the tokens. */
static int add_symbols(struct tokenizer *t, const struct codes *extra, struct err *err)
{
    size_t n = (size_t)t->count + extra->count, at = t->start[t->count];
    if (extra->count == 0)
        return 0;
    size_t *start = realloc(t->start, (n + 1) * sizeof *start);
    t->start = start ? start : t->start;
    char *bytes = realloc(t->bytes, at + 4 * extra->count);
    t->bytes = bytes ? bytes : t->bytes;
    uint8_t *type = realloc(t->type, n);
    t->type = type ? type : t->type;
    if (!start || !bytes || !type)
        return err_set(err, "out of memory for the vocabulary");
    for (size_t i = 0; i < extra->count; i++) {
        uint32_t code = extra->code[i];
        if (code >= UTF8_INVALID)
            bytes[at++] = (char)(code - UTF8_INVALID);
        else
            at += (size_t)utf8_encode(code, bytes + at);
        type[(size_t)t->count + i] = TOKEN_NORMAL;
        start[(size_t)t->count + i + 1] = at;
    }
    t->symbols = (int32_t)n;
    if (vocab_index_init(t, n, err))
        return -1;
    for (int32_t id = 0; id < t->symbols; id++)
        if (vocab_is_made(t, id))
            vocab_index_put(t, id);
    return 0;
}

struct scored {
    float score;
    int32_t id;
};

static int compare_scores(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : x->id < y->id ? -1 : x->id > y->id;
}

/* All pairs of symbols that together are a token; the better the token's score, the sooner they merge. */
static int pair_symbols(struct tokenizer *t, const float *score, struct err *err)
{
    size_t n = (size_t)t->count;
    struct scored *order = err_alloc(n, sizeof *order, "the scores", err);
    uint64_t *hash = err_alloc(t->longest + 1, sizeof *hash, "the longest token", err);
    int failed = order && hash ? vocab_merges_init(t, n, err) : -1;
    for (int32_t i = 0; !failed && i < t->count; i++)
        order[i] = (struct scored){isnan(score[i]) ? -INFINITY : score[i], i};
    if (!failed)
        qsort(order, n, sizeof *order, compare_scores);
    uint32_t rank = 0;
    for (size_t i = 0; !failed && i < n; i++) {
        int32_t id = order[i].id;
        rank += i > 0 && order[i].score != order[i - 1].score;
        if (!can_be_made(t, id))
            continue;
        size_t len;
        const char *bytes = vocab_bytes(t, id, &len);
        uint64_t back = 0, power = 1; /* of the right part, from the end on */
        hash[0] = 0;
        for (size_t k = 0; k < len; k++)
            hash[k + 1] = hash[k] * VOCAB_HASH_BASE + (unsigned char)bytes[k] + 1;
        for (size_t k = len - 1; !failed && k > 0; k--) {
            back += power * ((uint64_t)(unsigned char)bytes[k] + 1);
            power *= VOCAB_HASH_BASE;
            int32_t left = vocab_find_hashed(t, bytes, k, hash[k]);
            int32_t right = left < 0 ? -1 : vocab_find_hashed(t, bytes + k, len - k, back);
            if (right >= 0)
                failed = vocab_merge_put(t, left, right, rank, id, err);
        }
    }
    free(order);
    free(hash);
    return failed;
}

int vocab_load_spm(struct tokenizer *t, const float *score, struct err *err)
{
    struct codes extra = {0}, before = {0};
    int failed = 0, n;
    for (int32_t id = 0; !failed && id < t->count; id++) {
        size_t len;
        const char *bytes = vocab_bytes(t, id, &len);
        uint32_t last = UTF8_INVALID;
        if (!can_be_made(t, id))
            continue;
        for (size_t i = 0; !failed && i < len; i += (size_t)n) {
            uint32_t code = next_char(bytes + i, len - i, &n);
            if (vocab_find(t, bytes + i, (size_t)n) < 0)
                failed = codes_add(&extra, code, err);
            if (!failed && i > 0 && bytes[i] == ' ')
                failed = codes_add(&before, last, err);
            last = code;
        }
    }
    codes_sort(&extra);
    codes_sort(&before);
    failed = failed || add_symbols(t, &extra, err) || pair_symbols(t, score, err);
    free(extra.code);
    t->before_space = before.code;
    t->nbefore_space = before.count;
    t->every_byte = true;
    for (int c = 0; c < 256; c++)
        t->every_byte = t->every_byte && t->byte_id[c] >= 0;
    for (int c = 0; !failed && c < 128; c++)
        t->ascii_id[c] = vocab_find(t, &(char){(char)c}, 1);
    return failed ? -1 : 0;
}
