#ifndef WEIR_VOCAB_H
#define WEIR_VOCAB_H

/* A tokenizer's tables: the bytes of each token, who may merge with whom, which tokens are special. Private to the tokenizer
 * (tokenizer.c, encoder.c, bpe.c); filled by vocab_load.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "pretoken.h"
#include "tokenizer.h"

/* As in GGUF, but for the first: a text that no merging can make. */
enum token_type { TOKEN_OPAQUE, TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

/* Two symbols that merge, and into what. */
struct merge {
    uint64_t key;  /* left << 32 | right; MERGE_FREE in an empty slot */
    uint32_t rank; /* the lowest goes first */
    int32_t id;
};
#define MERGE_FREE UINT64_MAX

/* Texts that are looked for in the input before anything else, sorted by their bytes. */
struct special_set {
    int32_t *id; /* [count], owned */
    size_t count, longest;
    bool first[256]; /* bytes that one of them begins with */
};

struct tokenizer {
    bool spm;                        /* SentencePiece; else byte-level BPE */
    const struct pretoken *pretoken; /* byte-level BPE only */
    struct char_classes classes;

    int32_t count;   /* tokens */
    int32_t symbols; /* tokens, and behind them characters that occur in tokens but are none (SentencePiece) */
    size_t *start;   /* [symbols + 1] where the bytes of a token begin in `bytes`, owned */
    char *bytes;     /* byte-level and <0x..> decoded, U+2581 as a space; owned */
    uint8_t *type;   /* [symbols] enum token_type, owned */
    bool *ends;      /* [count] generation stops after it, owned */
    size_t longest;  /* bytes of the longest token that merging can make */

    int32_t *slot;      /* [slot_mask + 1] hash table of tokens by bytes, -1 where empty, owned */
    uint32_t *slot_tag; /* the hash values that go with it, owned */
    size_t slot_mask;
    struct merge *merge; /* [merge_mask + 1] hash table, owned */
    size_t merge_mask, merges;

    int32_t byte_id[256];   /* token of one byte (<0x..> in SentencePiece), -1 where there is none */
    int32_t ascii_id[128];  /* SentencePiece: symbol of an ASCII character, -1 */
    bool byte_fallback;     /* SentencePiece: some <0x..> exists */
    bool every_byte;        /* SentencePiece: all 256 do, so that no text is unknown */
    uint32_t *before_space; /* SentencePiece: characters that a token has right before a space, ascending, owned */
    size_t nbefore_space;

    struct special_set user, special; /* user-defined tokens; those with control and unknown ones */
    int32_t bos, eos, unk;            /* -1 where there is none */
    bool adds_bos, space_prefix;
    char *chat_template; /* NUL-terminated copy, or NULL; owned */
    size_t chat_template_len;
};

/* Fills a zeroed tokenizer from GGUF metadata. On failure what was allocated is left for tokenizer_close. */
int vocab_load(struct tokenizer *t, const struct gguf *g, struct err *err);

/* The part for SentencePiece, once tokens and types are there. score [count]. */
int vocab_load_spm(struct tokenizer *t, const float *score, struct err *err);

/* The bytes of a token or other symbol; *len of them, not NUL-terminated. */
static inline const char *vocab_bytes(const struct tokenizer *t, int32_t id, size_t *len)
{
    *len = t->start[id + 1] - t->start[id];
    return t->bytes + t->start[id];
}

/* Whether merging can make this symbol. */
static inline bool vocab_is_made(const struct tokenizer *t, int32_t id)
{
    return (t->type[id] == TOKEN_NORMAL || t->type[id] == TOKEN_UNUSED) && t->start[id] < t->start[id + 1];
}

/* Hash of a text, and of a part of one whose running hashes are known: sum of byte[i] * HASH_BASE^(len - 1 - i). */
#define VOCAB_HASH_BASE UINT64_C(0x9e3779b97f4a7c55)
uint64_t vocab_hash(const char *s, size_t len);

/* Token or other symbol with these bytes that text can turn into, or -1. */
int32_t vocab_find(const struct tokenizer *t, const char *s, size_t len);
int32_t vocab_find_hashed(const struct tokenizer *t, const char *s, size_t len, uint64_t hash);

/* Room for n symbols in the table. */
int vocab_index_init(struct tokenizer *t, size_t n, struct err *err);
void vocab_index_put(struct tokenizer *t, int32_t id); /* replaces one of the same bytes */

/* Room for n pairs in the table. */
int vocab_merges_init(struct tokenizer *t, size_t n, struct err *err);
/* Adds a pair unless it is there. Returns 0, or -1 when memory is out or there are absurdly many. */
int vocab_merge_put(struct tokenizer *t, int32_t left, int32_t right, uint32_t rank, int32_t id, struct err *err);

/* What left and right merge into, or NULL. */
static inline const struct merge *vocab_merge(const struct tokenizer *t, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return NULL;
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right, h = key * UINT64_C(0x9fb21c651e98df25);
    for (size_t i = (size_t)(h >> 32 ^ h >> 52);; i++) {
        const struct merge *m = &t->merge[i & t->merge_mask];
        if (m->key == key)
            return m;
        if (m->key == MERGE_FREE)
            return NULL;
    }
}

/* Longest special token at s[0..len), or -1; *more: whether a longer text could hold a longer one. */
int32_t vocab_special_at(const struct tokenizer *t, const struct special_set *set, const char *s, size_t len,
                         bool *more);

#endif
