#ifndef WEIR_LLAMA_H
#define WEIR_LLAMA_H

/* The Llama forward pass over any backend. It knows no cascade rule and no machine. */

#include "backend.h"

/* Runs one chunk (1 <= T <= stride) through all layers. Afterwards be->logits gives the logits of its rows. */
int llama_forward(struct backend *be, const struct model *m, const int32_t *tokens, int T, struct err *err);

/* Called after each chunk of llama_feed, while its logits can be had; a non-zero return stops the feeding with that value. */
typedef int (*llama_chunk_fn)(void *user, struct backend *be, const int32_t *tokens, int T);

/* Feeds n tokens in chunks of the stride (a short last one), calling fn (may be NULL) after each. */
int llama_feed(struct backend *be, const struct model *m, const struct cascade_params *p, const int32_t *tokens,
               size_t n, llama_chunk_fn fn, void *user, struct err *err);

#endif
