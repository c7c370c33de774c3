#ifndef TESTS_ORACLE_LLAMA_H
#define TESTS_ORACLE_LLAMA_H

/* The whole forward pass of a Llama-like model with the cascade, in double precision: oracle_cascade and oracle_attention put
 * together chunk by chunk ("first attention over the cache as it was left plus the chunk, then the score update of section 4,
 * then insertion token by token"). Keys of all tokens are kept unrotated, and turned by their place in the cache, or by their
 * token number with positions original. Weights are read through gguf.h and quant.h; nothing else of runtime/ is used.
 * Running out of memory ends the test program. */

#include <stddef.h>
#include <stdint.h>

#include "runtime/cascade.h"
#include "runtime/model.h"

struct oracle_llama {
    double *nll;   /* [n - 1] nats of token i + 1 after tokens 0..i */
    double *last;  /* [vocab] logits after the last token */
    int layers;    /* of the model */
    int cascades;  /* a layer: key heads, or 1 with head policy homogeneous */
    int held;      /* tokens in each cache at the end */
    int64_t *kept; /* [layers][cascades][held] their numbers, in order of position */
    double *score; /* [layers][cascades][held] */
    double
        closest; /* smallest relative difference of two scores that were compared: where it is near fp32's rounding, fp32
                         may keep other tokens and yet be right */
};

/* Feeds n >= 1 tokens in chunks of p->stride. Freed by oracle_llama_free. */
void oracle_llama_run(struct oracle_llama *out, const struct model *m, const struct cascade_params *p,
                      const int32_t *tokens, size_t n, int threads);
void oracle_llama_free(struct oracle_llama *o);

#endif
