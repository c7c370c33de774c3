#include "bpe.h"

#include <stdlib.h>
#include <string.h>

struct bpe_candidate {
    uint32_t rank;
    int32_t at;          /* index of the left one */
    int32_t left, right; /* ids; they tell whether the pair is still there */
};

void bpe_free(struct bpe *b)
{
    free(b->symbol);
    free(b->heap);
    free(b->link);
    free(b->sorted);
    memset(b, 0, sizeof *b);
}

/* Makes room for n items of `size` bytes at *p, keeping what is there. */
static int reserve(void *p, size_t *room, size_t n, size_t size, struct err *err)
{
    void **items = p;
    if (n <= *room)
        return 0;
    size_t more = n < SIZE_MAX / 4 ? n + n / 2 : n;
    void *bigger = more <= SIZE_MAX / size ? realloc(*items, more * size) : NULL;
    if (!bigger)
        return err_set(err, "out of memory for a word of %zu bytes", n);
    *items = bigger;
    *room = more;
    return 0;
}

/* One character of a SentencePiece text; a space and U+2581 are the same. */
static int32_t next_symbol(const struct tokenizer *t, const char *s, size_t len, int *n)
{
    if ((unsigned char)*s < 0x80) {
        *n = 1;
        return t->ascii_id[(unsigned char)*s];
    }
    uint32_t code;
    *n = utf8_decode(s, len, &code);
    if (*n == 0)
        *n = 1;
    return *n == 3 && code == 0x2581 ? t->ascii_id[' '] : vocab_find(t, s, (size_t)*n);
}

int bpe_split(struct bpe *b, const struct tokenizer *t, const char *s, size_t len, struct err *err)
{
    if (len > INT32_MAX)
        return err_set(err, "a run of %zu bytes without a place to cut it is too long", len);
    if (reserve(&b->symbol, &b->room, len, sizeof *b->symbol, err))
        return -1;
    struct bpe_symbol *out = b->symbol;
    if (t->spm) {
        int n;
        for (size_t i = 0; i < len; i += (size_t)n, out++) {
            out->id = next_symbol(t, s + i, len - i, &n);
            out->start = (uint32_t)i;
        }
    } else {
        for (size_t i = 0; i < len; i++) {
            out->id = t->byte_id[(unsigned char)s[i]];
            out->start = (uint32_t)i;
            out += out->id >= 0;
        }
    }
    b->count = (size_t)(out - b->symbol);
    return 0;
}

enum { SHORT = 48, NEVER = INT32_MAX }; /* symbols up to which looking at all pairs is fastest; rank of no merge */

static void merge_short(struct bpe *b, const struct tokenizer *t)
{
    struct bpe_symbol *s = b->symbol;
    size_t n = b->count;
    uint32_t rank[SHORT];
    int32_t made[SHORT];
    const struct merge *m;
    for (size_t i = 0; i + 1 < n; i++) {
        m = vocab_merge(t, s[i].id, s[i + 1].id);
        rank[i] = m ? m->rank : NEVER;
        made[i] = m ? m->id : -1;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NEVER)
            break;
        s[best].id = made[best];
        n--;
        memmove(s + best + 1, s + best + 2, (n - best - 1) * sizeof *s);
        memmove(rank + best, rank + best + 1, (n - best) * sizeof *rank);
        memmove(made + best, made + best + 1, (n - best) * sizeof *made);
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            m = vocab_merge(t, s[i].id, s[i + 1].id);
            rank[i] = m ? m->rank : NEVER;
            made[i] = m ? m->id : -1;
        }
    }
    b->count = n;
}

static bool sooner(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_up(struct bpe_candidate *heap, size_t i, struct bpe_candidate c)
{
    for (; i > 0 && sooner(&c, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
}

static void heap_down(struct bpe_candidate *heap, size_t n, struct bpe_candidate c)
{
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && sooner(&heap[child + 1], &heap[child]))
            child++;
        if (!sooner(&heap[child], &c))
            break;
        heap[i] = heap[child];
    }
    heap[i] = c;
}

static void heap_add(struct bpe *b, size_t *n, const struct tokenizer *t, int32_t at, int32_t next)
{
    const struct bpe_symbol *s = b->symbol;
    const struct merge *m = vocab_merge(t, s[at].id, s[next].id);
    if (m)
        heap_up(b->heap, (*n)++, (struct bpe_candidate){m->rank, at, s[at].id, s[next].id});
}

static int merge_long(struct bpe *b, const struct tokenizer *t, struct err *err)
{
    enum { GONE = -2 };
    size_t n = b->count, waiting = 0;
    /* At most n - 1 pairs at first, and two more for each of the n - 1 merges. */
    if (reserve(&b->link, &b->link_room, 2 * n, sizeof *b->link, err) ||
        reserve(&b->heap, &b->heap_room, 3 * n, sizeof *b->heap, err))
        return -1;
    struct bpe_symbol *s = b->symbol;
    int32_t *prev = b->link, *next = b->link + n, last = (int32_t)n - 1;
    for (int32_t i = 0; i <= last; i++) {
        prev[i] = i - 1;
        next[i] = i < last ? i + 1 : -1;
        if (i < last)
            heap_add(b, &waiting, t, i, i + 1);
    }
    while (waiting > 0) {
        struct bpe_candidate top = b->heap[0];
        waiting--;
        heap_down(b->heap, waiting, b->heap[waiting]);
        int32_t at = top.at, right = next[at];
        if (s[at].id != top.left || right < 0 || s[right].id != top.right)
            continue;
        s[at].id = vocab_merge(t, top.left, top.right)->id;
        s[right].id = GONE;
        next[at] = next[right];
        if (next[at] >= 0) {
            prev[next[at]] = at;
            heap_add(b, &waiting, t, at, next[at]);
        }
        if (prev[at] >= 0)
            heap_add(b, &waiting, t, prev[at], at);
    }
    b->count = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i].id != GONE)
            s[b->count++] = s[i];
    return 0;
}

int bpe_merge(struct bpe *b, const struct tokenizer *t, struct err *err)
{
    if (b->count > SHORT)
        return merge_long(b, t, err);
    merge_short(b, t);
    return 0;
}

/* Bytes of a token, to be sorted and searched. */
struct bpe_text {
    const char *s;
    size_t len;
};

static int compare_texts(const void *a, const void *b)
{
    const struct bpe_text *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);
    return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

static int sort_tokens(struct bpe *b, const struct tokenizer *t, struct err *err)
{
    b->sorted = err_alloc((size_t)t->symbols, sizeof *b->sorted, "the sorted vocabulary", err);
    if (!b->sorted)
        return -1;
    for (int32_t id = 0; id < t->symbols; id++)
        if (vocab_is_made(t, id)) {
            struct bpe_text *x = &b->sorted[b->nsorted++];
            x->s = vocab_bytes(t, id, &x->len);
        }
    qsort(b->sorted, b->nsorted, sizeof *b->sorted, compare_texts);
    return 0;
}

/* Whether some token begins with these bytes and is longer. */
static bool begins_token(const struct bpe *b, const char *s, size_t len)
{
    struct bpe_text want = {s, len};
    size_t lo = 0, hi = b->nsorted;
    while (lo < hi) { /* the first that comes after `want` */
        size_t mid = lo + (hi - lo) / 2;
        if (compare_texts(&b->sorted[mid], &want) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < b->nsorted && b->sorted[lo].len > len && !memcmp(b->sorted[lo].s, s, len);
}

enum { MOST_ENDS = 64 }; /* more possible last boundaries than any real vocabulary has: looking at them would not pay */

/* The numbers of symbols before which the last boundary can fall; returns how many, or 0 where there are too many. */
static int last_boundaries(const struct bpe *b, const struct tokenizer *t, char *suffix, size_t *end)
{
    int n = 0;
    size_t at = t->longest;
    end[n++] = b->count;
    for (size_t k = b->count; k-- > 0 && b->symbol[k].id >= 0;) {
        size_t len;
        const char *bytes = vocab_bytes(t, b->symbol[k].id, &len);
        if (len > at)
            break;
        at -= len;
        memcpy(suffix + at, bytes, len);
        if (!begins_token(b, suffix + at, t->longest - at))
            continue;
        if (n == MOST_ENDS)
            return 0;
        end[n++] = k;
    }
    return n;
}

/* Marks where characters begin. */
static void mark_characters(const char *s, size_t len, uint8_t *begins)
{
    memset(begins, 0, len);
    for (size_t i = 0; i < len;) {
        uint32_t code;
        int n = utf8_decode(s + i, len - i, &code);
        begins[i] = 1;
        i += n ? (size_t)n : 1;
    }
}

ptrdiff_t bpe_cut(struct bpe *b, const struct tokenizer *t, const char *s, size_t len, struct err *err)
{
    size_t end[MOST_ENDS], n;
    ptrdiff_t cut = -1;
    struct bpe_symbol *all = NULL;
    char *suffix = err_alloc(t->longest, 1, "a cut", err);
    uint8_t *begins = err_alloc(len, 1, "a cut", err), *votes = NULL;
    if (!suffix || !begins || (!b->sorted && sort_tokens(b, t, err)) || bpe_split(b, t, s, len, err))
        goto done;
    n = b->count;
    all = err_alloc(n, sizeof *all, "a cut", err);
    votes = err_calloc(n + 1, 1, "a cut", err);
    if (!all || !votes)
        goto done;
    memcpy(all, b->symbol, n * sizeof *all);
    mark_characters(s, len, begins);
    int ends = last_boundaries(b, t, suffix, end);
    for (int e = 0; e < ends; e++) {
        b->count = end[e];
        for (size_t i = 0; i < end[e]; i++)
            b->symbol[i] = (struct bpe_symbol){all[i].id, (uint32_t)i};
        if (bpe_merge(b, t, err))
            goto done;
        for (size_t i = 0; i < b->count; i++)
            votes[b->symbol[i].start]++;
        votes[end[e]]++;
    }
    cut = 0;
    for (size_t i = ends ? n : 0; i-- > 1 && !cut;)
        if (votes[i] == ends && begins[all[i].start])
            cut = (ptrdiff_t)all[i].start;
done:
    free(suffix);
    free(begins);
    free(votes);
    free(all);
    return cut;
}
