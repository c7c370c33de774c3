#ifndef WEIR_TUNE_SHAPES_H
#define WEIR_TUNE_SHAPES_H

/* Which problems a model's kernels are: their shapes, and the sizes they run with under a cascade. */

#include "runtime/model_kernels.h"
#include "space.h"

enum { TUNE_PROBLEMS_MAX = MODEL_KERNELS_MAX };

/* The problems of a model of that shape, its caches full, chunks of p->stride tokens. type: "fp16" or "bf16". What depends on the
 * types of weights is not among them. Those that take most of the time come first. Writes at most TUNE_PROBLEMS_MAX, returns how many, or -1. */
int tune_problems_of(const struct model_shape *shape, const struct cascade_params *p, const char *type,
                     struct tune_problem *out, struct err *err);

/* The problems of a model, its products among them, that are a token's and no chunk's: what its decoding step may launch, before the next
 * token is picked. Otherwise
 * as above. */
int tune_step_problems(const struct model *m, const struct cascade_params *p, const char *type,
                       struct tune_problem *out, struct err *err);

/* What a chunk runs because of a model's weights beside products: dequantise, embed, add_bias. type: NULL for what inference computes in
 * with such weights. Otherwise as above. */
int tune_weight_problems(const struct model *m, const struct cascade_params *p, const char *type,
                         struct tune_problem *out, struct err *err);
/* The same for a shape whose matrices are all of one type, without biases; none where its rows are no whole blocks of it. */
int tune_weight_problems_of(const struct model_shape *shape, enum quant_type weights, const struct cascade_params *p,
                            const char *type, struct tune_problem *out, struct err *err);

/* The products of one token with a model's matrices: q|k|v, output, gate|up, down, vocabulary. */
enum { TUNE_PRODUCTS = 5 };

/* Their problems (matvec), weights of the given types, those left out whose rows are no whole blocks of it. type: "fp16", "bf16", or NULL
 * for what inference computes in with such weights. Returns how many it wrote. */
int tune_products_of(const struct model_shape *shape, const enum quant_type weights[TUNE_PRODUCTS], const char *type,
                     struct tune_problem out[TUNE_PRODUCTS], struct err *err);

/* The same with the types of a model's first layer and its output. */
int tune_products_of_model(const struct model *m, const char *type, struct tune_problem out[TUNE_PRODUCTS],
                           struct err *err);

#endif
