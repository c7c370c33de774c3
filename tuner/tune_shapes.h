#ifndef WEIR_TUNE_SHAPES_H
#define WEIR_TUNE_SHAPES_H

/* Which problems a model's kernels are: their shapes, and the sizes they run with under a cascade. */

#include "runtime/model_kernels.h"
#include "space.h"

enum { TUNE_PROBLEMS_MAX = MODEL_KERNELS_MAX };

/* A model's problems, its caches full, chunks of p->stride tokens. type: "fp16", "bf16", or NULL for what
 * inference computes in with its weights. Those that take most of the time come first. Writes
 * at most TUNE_PROBLEMS_MAX, returns how many, or -1. */
int tune_model_problems(const struct model *m, const struct cascade_params *p, const char *type,
                        struct tune_problem *out, struct err *err);

/* Those of them that a decoding step may launch, before the next token is picked. Otherwise as above. */
int tune_step_problems(const struct model *m, const struct cascade_params *p, const char *type,
                       struct tune_problem *out, struct err *err);

/* Those of any model of a shape, whatever its weights. Otherwise as above. */
int tune_shape_problems(const struct model_shape *shape, const struct cascade_params *p, const char *type,
                        struct tune_problem *out, struct err *err);

/* And those that the type of its weights decides (matvec, dequantise, embed), where all are of that one and there are no biases; none where
 * its rows are no whole blocks of it. Otherwise as above. */
int tune_weight_problems(const struct model_shape *shape, enum quant_type weights, const struct cascade_params *p,
                         const char *type, struct tune_problem *out, struct err *err);

#endif
