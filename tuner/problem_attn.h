#ifndef WEIR_PROBLEM_ATTN_H
#define WEIR_PROBLEM_ATTN_H

/* The small case of attention that the oracle checks, a chunk's and a token's alike: what the bench put on the device is fetched once, and
 * what the kernels make of it compared. */

#include "attn_truth.h"
#include "problem.h"

/* Where a bench has it; shapes as in struct attn_inputs and attn_truth_compare. */
struct attn_places {
    devptr q, k, v, k_cache, v_cache, score;
    devptr o, lse, chunk_score;
};

struct attn_case {
    struct bench *bench; /* its heads, dimension and type */
    struct attn_places at;
    struct attn_inputs in;
    struct attn_truth truth;
    bool open;
};

/* T tokens of b's heads over the keys of `layout`, which must stay where it is. Free also when it fails. */
int attn_case_open(struct attn_case *c, struct bench *b, const struct attn_places *at, const struct attn_step *layout,
                   int T, int cascades, struct err *err);
void attn_case_free(struct attn_case *c);

/* Puts the scores back as they were, and NaN where results will be, so that what is not written shows. */
int attn_case_prepare(struct attn_case *c, struct err *err);

/* What the kernels made of it, against the oracle: as problem_family's check. */
int attn_case_compare(struct attn_case *c, double *error, char where[120], struct err *err);

#endif
