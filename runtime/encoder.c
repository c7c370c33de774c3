/* Text to ids, in pieces of any size. Text goes through two stages: the first finds special tokens and holds back what could still
 * become one; the second cuts the text between them into words, holds back the one that more text could change, and merges
 * within each. What is held is bounded by the vocabulary (see bpe_cut), however long the text or a word in it. */
#include <stdlib.h>
#include <string.h>

#include "bpe.h"

enum {
    SLICE = 1 << 16,     /* bytes that are taken in at a time */
    LONG_WORD = 1 << 13, /* bytes of an unfinished word from which on it is cut */
    CACHE_SLOTS = 1 << 14,
    CACHED_BYTES = 24,
    CACHED_IDS = 9,
};

/* A word that was met before, and its ids. */
struct cached {
    uint64_t key[CACHED_BYTES / 8]; /* the word, padded with zeros */
    uint8_t len, count;             /* bytes of the word, 0 in an empty slot; ids */
    int32_t id[CACHED_IDS];
};

struct buffer {
    char *data; /* [room + CACHED_BYTES], owned: readable beyond its end */
    size_t len, room;
};

struct encoder {
    const struct tokenizer *t;
    const struct special_set *specials; /* what the first stage looks for, NULL for nothing */
    struct buffer text, words;          /* held by the first and the second stage */
    bool begun;                         /* the text between two special tokens has begun */
    bool inside;                        /* `words` begins inside a word that was cut */
    bool after_unknown;                 /* the last id was for an unknown character */
    enum pretoken_state state;
    size_t scan_at; /* bytes in `words` from which on it is worth looking at them */
    size_t cut_at;  /* bytes of an unfinished word from which on a cut is looked for */
    struct bpe bpe;
    struct cached *cache; /* [CACHE_SLOTS], owned */
};

static int ids_push(struct ids *ids, int32_t id, struct err *err)
{
    if (ids->count == ids->room) {
        size_t room = ids->room ? 2 * ids->room : 256;
        int32_t *more = room <= SIZE_MAX / sizeof *more ? realloc(ids->id, room * sizeof *more) : NULL;
        if (!more)
            return err_set(err, "out of memory for %zu ids", room);
        ids->id = more;
        ids->room = room;
    }
    ids->id[ids->count++] = id;
    return 0;
}

static int buffer_append(struct buffer *b, const char *s, size_t len, struct err *err)
{
    if (len > b->room - b->len) {
        size_t room = b->len + len + b->len / 2;
        char *more = room < SIZE_MAX - CACHED_BYTES ? realloc(b->data, room + CACHED_BYTES) : NULL;
        if (!more)
            return err_set(err, "out of memory for %zu bytes of text", room);
        memset(more + room, 0, CACHED_BYTES);
        b->data = more;
        b->room = room;
    }
    if (len)
        memcpy(b->data + b->len, s, len);
    b->len += len;
    return 0;
}

static void buffer_drop(struct buffer *b, size_t n)
{
    b->len -= n;
    if (n > 0 && b->len > 0)
        memmove(b->data, b->data + n, b->len);
}

/* What a text is searched for, NULL for nothing. */
static const struct special_set *special_set(const struct tokenizer *t, int flags)
{
    const struct special_set *set = flags & TOKENIZE_SPECIAL ? &t->special : &t->user;
    return set->count ? set : NULL;
}

int encoder_open(struct encoder **out, const struct tokenizer *t, int flags, struct err *err)
{
    struct encoder *e = err_calloc(1, sizeof *e, "the encoder", err);
    struct cached *cache = err_calloc(CACHE_SLOTS, sizeof *cache, "the encoder", err);
    if (!e || !cache) {
        free(e);
        free(cache);
        return -1;
    }
    e->t = t;
    e->specials = special_set(t, flags);
    e->cache = cache;
    *out = e;
    return 0;
}

void encoder_close(struct encoder *e)
{
    if (!e)
        return;
    free(e->text.data);
    free(e->words.data);
    free(e->cache);
    bpe_free(&e->bpe);
    free(e);
}

/* Ids of a symbol that is no token: the bytes it is made of, or "unknown", once for neighbours. */
static int push_unknown(struct encoder *e, const char *s, size_t len, struct ids *out, struct err *err)
{
    const struct tokenizer *t = e->t;
    for (size_t i = 0; i < len; i++) {
        int32_t byte = t->byte_fallback ? t->byte_id[(unsigned char)s[i]] : -1;
        if (byte >= 0) {
            e->after_unknown = false;
            if (ids_push(out, byte, err))
                return -1;
        } else if (t->unk >= 0 && !e->after_unknown) {
            e->after_unknown = true;
            if (ids_push(out, t->unk, err))
                return -1;
        }
    }
    return 0;
}

static int push_merged(struct encoder *e, const char *s, size_t len, struct ids *out, struct err *err)
{
    struct bpe *b = &e->bpe;
    if (bpe_split(b, e->t, s, len, err) || bpe_merge(b, e->t, err))
        return -1;
    for (size_t i = 0; i < b->count; i++) {
        const struct bpe_symbol *x = &b->symbol[i];
        size_t end = i + 1 < b->count ? x[1].start : len;
        if (x->id < 0 || x->id >= e->t->count) {
            if (push_unknown(e, s + x->start, end - x->start, out, err))
                return -1;
            continue;
        }
        e->after_unknown = false;
        if (ids_push(out, x->id, err))
            return -1;
    }
    return 0;
}

/* The slot that a word of 1..CACHED_BYTES bytes belongs to; key is filled. s is readable for CACHED_BYTES bytes. */
static struct cached *cache_slot(struct encoder *e, const char *s, size_t len, uint64_t key[CACHED_BYTES / 8])
{
    uint64_t hash = len;
    memcpy(key, s, CACHED_BYTES);
    for (size_t i = 0; i < CACHED_BYTES / 8; i++) {
        size_t bytes = len > 8 * i ? len - 8 * i : 0;
        if (bytes < 8)
            key[i] &= ((uint64_t)1 << 8 * bytes) - 1; /* little endian */
        hash = (hash ^ key[i]) * UINT64_C(0x9fb21c651e98df25);
        hash ^= hash >> 32;
    }
    return &e->cache[hash % CACHE_SLOTS];
}

/* `whole`: the word is all of one pre-token. */
static int push_word(struct encoder *e, const char *s, size_t len, bool whole, struct ids *out, struct err *err)
{
    const struct tokenizer *t = e->t;
    /* Where something can be unknown, a word's ids depend on whether the one before it ended so. */
    bool cacheable = whole && len <= CACHED_BYTES && (!t->spm || t->every_byte);
    struct cached *c = NULL;
    uint64_t key[CACHED_BYTES / 8];
    if (cacheable) {
        c = cache_slot(e, s, len, key);
        if (c->len == len && !memcmp(c->key, key, sizeof key)) {
            for (int i = 0; i < c->count; i++)
                if (ids_push(out, c->id[i], err))
                    return -1;
            return 0;
        }
    }
    size_t first = out->count;
    int32_t id = whole && !t->spm && t->pretoken->whole_words && len <= t->longest ? vocab_find(t, s, len) : -1;
    if (id >= 0 ? ids_push(out, id, err) : push_merged(e, s, len, out, err))
        return -1;
    if (c && out->count - first <= CACHED_IDS) {
        memcpy(c->key, key, sizeof key);
        c->len = (uint8_t)len;
        c->count = (uint8_t)(out->count - first);
        if (c->count)
            memcpy(c->id, out->id + first, c->count * sizeof *c->id);
    }
    return 0;
}

static bool joins_space(const struct tokenizer *t, uint32_t code)
{
    size_t lo = 0, hi = t->nbefore_space;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (t->before_space[mid] < code)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < t->nbefore_space && t->before_space[lo] == code;
}

/* SentencePiece merges across the whole text, but never across a place that no token spans: between a character and a space that
 * follow each other in no token. Same results as pretoken_next. */
static size_t next_sentencepiece(const struct tokenizer *t, const char *s, size_t len, bool last,
                                 struct pretoken_open *open)
{
    uint32_t before = 0, code;
    for (size_t i = 0; i < len;) {
        int n = utf8_decode(s + i, len - i, &code);
        if (n == 0 && !last) {
            *open = (struct pretoken_open){.sure = i, .tail = SIZE_MAX};
            return 0;
        }
        if (n == 0 || code == UTF8_INVALID) {
            n = 1;
            code = UTF8_INVALID + (unsigned char)s[i];
        }
        if (code == 0x2581)
            code = ' ';
        if (code == ' ' && i > 0 && !joins_space(t, before))
            return i;
        before = code;
        i += (size_t)n;
    }
    *open = (struct pretoken_open){.sure = len, .tail = SIZE_MAX};
    return last ? len : 0;
}

/* Second stage: encodes the words that are complete in e->words. `last`: no text follows them. */
static int scan_words(struct encoder *e, bool last, struct ids *out, struct err *err)
{
    const struct tokenizer *t = e->t;
    size_t at = 0, limit = 2 * t->longest > LONG_WORD ? 2 * t->longest : LONG_WORD;
    while (at < e->words.len) {
        const char *s = e->words.data + at;
        size_t left = e->words.len - at;
        struct pretoken_open open;
        size_t n = t->spm ? next_sentencepiece(t, s, left, last, &open)
                          : pretoken_next(t->pretoken, &t->classes, s, left, last, &e->state, &open);
        if (n > 0) {
            if (push_word(e, s, n, !e->inside, out, err))
                return -1;
            e->inside = false;
            e->cut_at = limit;
            at += n;
            continue;
        }
        if (open.sure <= limit || open.sure < e->cut_at)
            break;
        ptrdiff_t cut = bpe_cut(&e->bpe, t, s, open.sure, err);
        if (cut < 0)
            return -1;
        e->cut_at = cut ? limit : 2 * open.sure;
        if (cut == 0)
            break;
        if (push_merged(e, s, (size_t)cut, out, err))
            return -1;
        e->inside = true;
        e->state = pretoken_cut_state(&open, (size_t)cut);
        at += (size_t)cut;
    }
    buffer_drop(&e->words, at);
    /* An unfinished word is looked at again when it has grown by a part of itself, so that small pieces cost no more. */
    e->scan_at = e->words.len + e->words.len / 4 + 1;
    return 0;
}

static int push_text(struct encoder *e, const char *s, size_t len, struct ids *out, struct err *err)
{
    if (len == 0)
        return 0;
    if (!e->begun && e->t->space_prefix && buffer_append(&e->words, " ", 1, err))
        return -1;
    e->begun = true;
    if (buffer_append(&e->words, s, len, err))
        return -1;
    return e->words.len >= e->scan_at ? scan_words(e, false, out, err) : 0;
}

static int end_text(struct encoder *e, struct ids *out, struct err *err)
{
    int failed = scan_words(e, true, out, err);
    e->begun = e->inside = false;
    e->state = PRETOKEN_FRESH;
    e->scan_at = 0;
    return failed;
}

/* First stage. */
static int push_slice(struct encoder *e, const char *s, size_t len, bool last, struct ids *out, struct err *err)
{
    if (!e->specials)
        return push_text(e, s, len, out, err);
    if (buffer_append(&e->text, s, len, err))
        return -1;
    const char *text = e->text.data;
    size_t at = 0, from = 0, n = e->text.len;
    while (at < n) {
        bool more;
        if (!e->specials->first[(unsigned char)text[at]]) {
            at++;
            continue;
        }
        int32_t id = vocab_special_at(e->t, e->specials, text + at, n - at, &more);
        if (more && !last)
            break;
        if (id < 0) {
            at++;
            continue;
        }
        if (push_text(e, text + from, at - from, out, err) || end_text(e, out, err) || ids_push(out, id, err))
            return -1;
        e->after_unknown = false;
        at += e->t->start[id + 1] - e->t->start[id];
        from = at;
    }
    if (push_text(e, text + from, at - from, out, err))
        return -1;
    buffer_drop(&e->text, at);
    return 0;
}

int encoder_push(struct encoder *e, const char *text, size_t len, bool last, struct ids *out, struct err *err)
{
    do {
        size_t n = len < SLICE ? len : SLICE;
        if (push_slice(e, text, n, last && n == len, out, err))
            return -1;
        text += n;
        len -= n;
    } while (len > 0);
    if (!last)
        return 0;
    int failed = end_text(e, out, err);
    e->after_unknown = false;
    return failed;
}

int encoder_flags(struct encoder *e, int flags, struct ids *out, struct err *err)
{
    if (push_slice(e, "", 0, true, out, err))
        return -1;
    e->specials = special_set(e->t, flags);
    return 0;
}

void ids_free(struct ids *ids)
{
    free(ids->id);
    *ids = (struct ids){0};
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, int flags, struct ids *out,
                     struct err *err)
{
    struct encoder *e;
    if (encoder_open(&e, t, flags, err))
        return -1;
    int failed = encoder_push(e, text, len, true, out, err);
    encoder_close(e);
    return failed;
}
