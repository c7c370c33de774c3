#ifndef TESTS_ORACLE_ATTENTION_H
#define TESTS_ORACLE_ATTENTION_H

/* Attention with exact EMA scores, the design's section 4, in double precision and straight from its text. Keys are kept
 * unrotated with explicit positions and turned when used, so nothing of the runtime's rotation by slot is shared. */

#include <stdbool.h>
#include <stdint.h>

#include "runtime/cascade.h"

/* How a vector is turned at a position. Elements from 2 * pairs on stay. */
struct oracle_rope {
    int pairs;          /* rope_dim / 2 */
    const double *freq; /* [pairs] angle per position */
    bool interleaved;   /* pairs are elements (2i, 2i + 1); else (i, i + pairs) */
};

/* x [d] in place, at position pos. */
void oracle_rotate(const struct oracle_rope *r, double *x, int64_t pos);

/* "P = softmax(q.k / sqrt(d))" of T queries over held + T keys, for the G query heads that share one key head.
 *   q [T][G][d] unrotated, query m at q_pos[m]       k, v [held + T][d] unrotated, key j at k_pos[j]; the last T are the
 *   chunk's own, causal: query m sees keys 0 .. held + m
 * Writes (NULL for what is not wanted)
 *   o [T][G][d]      lse [G][T] natural log of the sum of exp(q.k / sqrt(d))
 *   column [G][held + T] = sum over m of gamma^(T-1-m) * P[m, j] */
void oracle_attend(const struct oracle_rope *r, int T, int G, int held, int d, const double *q, const int64_t *q_pos,
                   const double *k, const double *v, const int64_t *k_pos, double gamma, double *o, double *lse,
                   double *column);

/* "Reduce over heads": column [heads][n] to out [n]. The median of an even count is the lower of the middle two. */
void oracle_reduce(enum cascade_reduction how, int heads, int n, const double *column, double *out);

/* "score_j <- gamma^T * score_j + reduction_j" for n keys; a chunk key starts with score 0. */
void oracle_score_update(double gamma, int T, int n, double *score, const double *reduced);

#endif
