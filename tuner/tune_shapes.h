#ifndef WEIR_TUNE_SHAPES_H
#define WEIR_TUNE_SHAPES_H

/* Which problems a model's kernels are: their shapes, and the sizes they run with under a cascade. */

#include "runtime/model_kernels.h"
#include "space.h"

enum { TUNE_PROBLEMS_MAX = MODEL_KERNELS_MAX };

/* The problems of a model of that shape, its caches full, chunks of p->stride tokens. type: "fp16" or "bf16". sms: multiprocessors of the
 * GPU, which decide into how many parts decoding is split. Kernels that have no choice worth a search (one tile parameter of a few
 * values) are left out. Writes at most TUNE_PROBLEMS_MAX, returns how many, or -1. */
int tune_problems_of(const struct model_shape *shape, const struct cascade_params *p, const char *type, int sms,
                     struct tune_problem *out, struct err *err);

#endif
