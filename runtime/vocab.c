/* Look-ups in a tokenizer's tables. */
#include "vocab.h"

#include <stdlib.h>
#include <string.h>

uint64_t vocab_hash(const char *s, size_t len)
{
    uint64_t h = 0;
    for (size_t i = 0; i < len; i++)
        h = h * VOCAB_HASH_BASE + (unsigned char)s[i] + 1;
    return h;
}

static size_t home(const struct tokenizer *t, uint64_t hash, uint32_t *tag)
{
    hash ^= hash >> 29;
    hash *= UINT64_C(0xbf58476d1ce4e5b9);
    *tag = (uint32_t)hash;
    return (size_t)(hash >> 32) & t->slot_mask;
}

int32_t vocab_find_hashed(const struct tokenizer *t, const char *s, size_t len, uint64_t hash)
{
    uint32_t tag;
    for (size_t i = home(t, hash, &tag); t->slot[i] >= 0; i = (i + 1) & t->slot_mask) {
        size_t n;
        if (t->slot_tag[i] != tag)
            continue;
        const char *bytes = vocab_bytes(t, t->slot[i], &n);
        if (n == len && !memcmp(bytes, s, len))
            return t->slot[i];
    }
    return -1;
}

int32_t vocab_find(const struct tokenizer *t, const char *s, size_t len)
{
    return vocab_find_hashed(t, s, len, vocab_hash(s, len));
}

/* The least power of two that is at least 2n. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

int vocab_index_init(struct tokenizer *t, size_t n, struct err *err)
{
    size_t size = table_size(n);
    free(t->slot);
    free(t->slot_tag);
    t->slot = err_alloc(size, sizeof *t->slot, "the vocabulary", err);
    t->slot_tag = err_alloc(size, sizeof *t->slot_tag, "the vocabulary", err);
    if (!t->slot || !t->slot_tag)
        return -1;
    memset(t->slot, -1, size * sizeof *t->slot);
    t->slot_mask = size - 1;
    return 0;
}

void vocab_index_put(struct tokenizer *t, int32_t id)
{
    size_t len, n;
    uint32_t tag;
    const char *bytes = vocab_bytes(t, id, &len);
    size_t i = home(t, vocab_hash(bytes, len), &tag);
    for (; t->slot[i] >= 0; i = (i + 1) & t->slot_mask) {
        const char *other = vocab_bytes(t, t->slot[i], &n);
        if (t->slot_tag[i] == tag && n == len && !memcmp(bytes, other, len))
            break;
    }
    t->slot[i] = id;
    t->slot_tag[i] = tag;
}

static struct merge *free_table(size_t size, struct err *err)
{
    struct merge *m = err_alloc(size, sizeof *m, "the merges", err);
    for (size_t i = 0; m && i < size; i++)
        m[i].key = MERGE_FREE;
    return m;
}

int vocab_merges_init(struct tokenizer *t, size_t n, struct err *err)
{
    size_t size = table_size(n);
    t->merge = free_table(size, err);
    t->merge_mask = size - 1;
    return t->merge ? 0 : -1;
}

/* Slot of a key, or the free one where it belongs; as vocab_merge looks for it. */
static struct merge *merge_slot(struct merge *table, size_t mask, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9fb21c651e98df25);
    size_t i = (size_t)(h >> 32 ^ h >> 52);
    while (table[i & mask].key != key && table[i & mask].key != MERGE_FREE)
        i++;
    return &table[i & mask];
}

static int merges_grow(struct tokenizer *t, struct err *err)
{
    size_t size = 2 * (t->merge_mask + 1);
    struct merge *bigger = free_table(size, err);
    if (!bigger)
        return -1;
    for (size_t i = 0; i <= t->merge_mask; i++)
        if (t->merge[i].key != MERGE_FREE)
            *merge_slot(bigger, size - 1, t->merge[i].key) = t->merge[i];
    free(t->merge);
    t->merge = bigger;
    t->merge_mask = size - 1;
    return 0;
}

int vocab_merge_put(struct tokenizer *t, int32_t left, int32_t right, uint32_t rank, int32_t id, struct err *err)
{
    enum { MOST = 1 << 24 };
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    struct merge *m = merge_slot(t->merge, t->merge_mask, key);
    if (m->key == key)
        return 0;
    if (t->merges >= MOST)
        return err_set(err, "the vocabulary has more than %d pairs that merge; no real one has", MOST);
    *m = (struct merge){key, rank, id};
    t->merges++;
    return 2 * t->merges > t->merge_mask ? merges_grow(t, err) : 0;
}

int32_t vocab_special_at(const struct tokenizer *t, const struct special_set *set, const char *s, size_t len,
                         bool *more)
{
    int32_t best = -1;
    size_t lo = 0, hi = set->count; /* those that begin with s[0..depth) */
    *more = false;
    for (size_t depth = 0; lo < hi; depth++) {
        size_t n;
        vocab_bytes(t, set->id[lo], &n);
        if (n == depth) /* sorted: the one that ends here is the first */
            best = set->id[lo++];
        if (depth == len) {
            *more = lo < hi;
            break;
        }
        size_t low[2] = {lo, lo};
        for (int side = 0; side < 2; side++) { /* first with a byte at depth >= s[depth], then > */
            size_t end = hi;
            while (low[side] < end) {
                size_t mid = low[side] + (end - low[side]) / 2;
                const char *bytes = vocab_bytes(t, set->id[mid], &n);
                if ((unsigned char)bytes[depth] < (unsigned char)s[depth] + side)
                    low[side] = mid + 1;
                else
                    end = mid;
            }
        }
        lo = low[0];
        hi = low[1];
    }
    return best;
}
