#ifndef WEIR_MODEL_KERNELS_H
#define WEIR_MODEL_KERNELS_H

/* Which kernels a model runs with on a GPU, and in which shapes. The CUDA backend loads what this list says, `weir gen --all -m`
 * compiles and ships it: one list, so that a shipped folder lacks nothing. */

#include "cascade.h"
#include "model.h"
#include "pairs.h"

enum { MODEL_KERNELS_MAX = 97 };

struct model_kernel {
    char kernel[48];    /* a name of gen/kernels */
    struct pairs shape; /* its shape parameters; tile parameters come from wisdom or are defaults */
    struct pairs sizes; /* that are its own and not the model's: the outputs of a matvec (rows), ... */
};

struct model_kernels {
    int n;
    struct model_kernel at[MODEL_KERNELS_MAX]; /* [n], no two alike */
};

/* Adds a kernel with a shape like "d=64 t=bf16", unless it is there. sizes: of its own, or NULL for none. */
int model_kernels_add(struct model_kernels *list, const char *kernel, const char *shape, const struct pairs *sizes,
                      struct err *err);

/* type: of activations and cache, "fp16" or "bf16"; NULL: what inference would take for this model. Returns 0, or -1 with
 * *err where there are too many. */
int model_kernels(struct model_kernels *list, const struct model *m, const struct cascade_params *p, const char *type,
                  struct err *err);

/* What they run with, by the names of the kernels' `args`: tokens of a chunk, keys held when the cache is full, heads, ffn, vocab.
 * Wisdom's look-up wants it. */
int model_sizes(struct pairs *sizes, const struct model_shape *s, const struct cascade_params *p, struct err *err);

/* The sizes of one kernel: the model's, and its own (NULL: none). */
void model_kernel_sizes(struct pairs *sizes, const struct pairs *of_model, const struct pairs *own);

#endif
