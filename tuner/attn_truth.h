#ifndef WEIR_ATTN_TRUTH_H
#define WEIR_ATTN_TRUTH_H

/* What attention of a chunk (or of one token: T = 1) with exact scores must give, by the project's double-precision oracle, and how
 * far the kernels' rounding may lead away from it. */

#include <stdint.h>

#include "runtime/cascade.h"
#include "runtime/step.h"

/* What the kernels were given, as it lies on the device. */
struct attn_inputs {
    int T, d, g, kv, type; /* g: query heads per key head; type: 0 fp16, 1 bf16 */
    int cascades;          /* 1, or kv */
    enum cascade_reduction reduction;
    double ema, theta;              /* theta: base of the rotary frequencies; pairs are interleaved */
    const struct attn_step *layout; /* where the held keys lie, and how far they are turned */
    uint16_t *q, *k, *v;            /* [T][kv * g][d], [T][kv][d] x 2: the chunk, unrotated; owned */
    uint16_t *k_cache, *v_cache;    /* [kv][rows][d], keys turned by their slot; owned */
    float *score;                   /* [cascades][rows] before; owned */
};

struct attn_truth {
    int heads, keys;             /* keys: held + T */
    double *o, *o_bound;         /* [T][heads][d] */
    double *lse, *lse_bound;     /* [heads][T] base 2 */
    double *score, *score_bound; /* [cascades][keys] after: held keys by position, then the chunk's */
};

void attn_inputs_free(struct attn_inputs *in);
int attn_truth_make(struct attn_truth *t, const struct attn_inputs *in, struct err *err);
void attn_truth_free(struct attn_truth *t);

/* What the kernels made of it: o [T][heads][d], lse [heads][T], score [cascades][rows] after, chunk_score [cascades][T]. Returns the
 * largest difference over its bound (more than 1: wrong; infinite where something is NaN), and says where it is. */
double attn_truth_compare(const struct attn_truth *t, const struct attn_inputs *in, const uint16_t *o, const float *lse,
                          const float *score, const float *chunk_score, char where[120]);

#endif
