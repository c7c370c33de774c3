#ifndef WEIR_MODEL_RANDOM_H
#define WEIR_MODEL_RANDOM_H

#include "model.h"

/* Models of known shapes with random weights, for benches: what a model of that shape costs, without its file. */

/* What --help says of --shape, with the names that there are. */
extern const char model_random_help[];

/* A model of a named shape, all matrices of one type, closed by model_close. repeated: a matrix is no more here than the
 * pattern of which it is made (struct tensor's `repeats`), for a GPU that makes the rest. Returns 0, or -1 with *err naming the shapes that
 * there are, or how much memory is wanting. */
int model_random(struct model *m, const char *name, enum quant_type type, bool repeated, struct err *err);

/* The shape alone, of a model named by --model-shape. */
int model_random_shape(struct model_shape *out, const char *name, struct err *err);

/* `blocks` blocks of a type into data, which has room for them: the weights that such models have. */
void model_random_blocks(enum quant_type type, unsigned char *data, size_t blocks, uint64_t seed);

#endif
