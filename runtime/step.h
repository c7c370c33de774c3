#ifndef WEIR_STEP_H
#define WEIR_STEP_H

/* What the kernels are told of one step, as it lies in device memory. Both structures are made from the token count alone, are
 * the same for all layers and heads, and are uploaded once a step; so a captured graph serves every step. */

#include "cascade.h"

/* The host's side of templates/attn_step.cu.t. */
struct attn_run {
    int32_t row, len; /* rows [row, row + len) of each head's cache */
    int32_t shift;    /* queries are turned by position - shift for this run */
    int32_t pos;      /* position of the first key */
};
struct attn_step {
    int32_t T, held, nruns, rows; /* tokens of the chunk; keys held before it; rows of one head's cache */
    struct attn_run run[CASCADE_MAX_RUNS];
};

/* Attention of T tokens over the cache in state *s. With original positions the queries come turned already, and every shift
 * is such that a query of a one-token chunk stays as it is. */
void attn_step_make(struct attn_step *step, const struct cascade_params *p, const struct cascade_state *s, int T);

#endif
