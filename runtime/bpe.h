#ifndef WEIR_BPE_H
#define WEIR_BPE_H

/* Byte-pair merging of one word: of all neighbours that can merge, those of the lowest rank do, the leftmost first, until none
 * can. Private to the tokenizer. */

#include "vocab.h"

struct bpe_symbol {
    int32_t id;     /* token or symbol; -1: a character that no token has */
    uint32_t start; /* where it begins in the word, bytes */
};

/* Room that is used again from word to word. Zero-initialise; free with bpe_free. */
struct bpe {
    struct bpe_symbol *symbol; /* [count], owned */
    size_t count, room;
    struct bpe_candidate *heap; /* owned */
    int32_t *link;              /* [2 * count] neighbours, owned */
    size_t heap_room, link_room;
    struct bpe_text
        *sorted; /* the tokens that merging can make, by their bytes; made when a cut is looked for; owned */
    size_t nsorted;
};
/* Frees the room and zeroes *b, which can be used again. */
void bpe_free(struct bpe *b);

/* Takes a word apart into b->symbol. Bytes for which a byte-level vocabulary has no token are left out, as Hugging Face's
 * tokenizers do. len < 2^31. */
int bpe_split(struct bpe *b, const struct tokenizer *t, const char *s, size_t len, struct err *err);

/* Merges what bpe_split left; b->symbol holds the result, with the starts of the first parts. */
int bpe_merge(struct bpe *b, const struct tokenizer *t, struct err *err);

/* Where a word that goes on in a way not known yet can be cut for certain: the largest 0 < q < len that is a boundary between
 * tokens and between characters whatever follows, or 0 where none is found; -1 when memory is out.
 *
 * Merging has the prefix property: if a boundary falls on p, the tokens before p are those of the text before p alone, since
 * merges on either side of it do not see each other. The last boundary at or before `len` is at a p for which the bytes from p to
 * len begin a token, or at len itself. So a boundary that the texts before all such p have in common is certain. */
ptrdiff_t bpe_cut(struct bpe *b, const struct tokenizer *t, const char *s, size_t len, struct err *err);

#endif
