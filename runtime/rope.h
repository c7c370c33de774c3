#ifndef WEIR_ROPE_H
#define WEIR_ROPE_H

/* Rotary positions: the factors {cos, sin} of any position, made in double from small tables. */

#include <stdint.h>

#include "err.h"
#include "model.h"

struct rope {
    int pairs;     /* head_dim / 2 */
    int turning;   /* rope_dim / 2, the pairs that turn; the others stay as they are */
    double *freq;  /* [turning] angle per position, owned */
    double *table; /* [ROPE_LEVELS][256][turning][2] cos and sin of digit * 256^level * freq, owned */
};

/* Returns 0, or -1 when memory is out. rope_close may be called on a zeroed rope. */
int rope_open(struct rope *r, const struct model *m, struct err *err);
void rope_close(struct rope *r);

/* Writes cs [pairs][2] = {cos, sin} of position pos (may be negative), computed in double and rounded once; {1, 0} for pairs
 * that do not turn. */
void rope_turn(const struct rope *r, int64_t pos, float *cs);

/* Puts a head's elements x [2 * pairs] into the order of pairs (2i, 2i+1), from that of (i, i + turning); room [2 * pairs]. */
void rope_interleave(const struct rope *r, float *x, float *room);

#endif
