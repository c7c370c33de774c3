#ifndef WEIR_MODEL_KERNELS_H
#define WEIR_MODEL_KERNELS_H

/* Which kernels a model runs with on a GPU, and in which shapes. The CUDA backend loads what this list says, `weir gen --all -m`
 * compiles and ships it: one list, so that a shipped folder lacks nothing. */

#include "cascade.h"
#include "model.h"
#include "pairs.h"

enum { MODEL_KERNELS_MAX = 64 };

struct model_kernel {
    const char *kernel; /* a name of gen/kernels */
    struct pairs shape; /* its shape parameters; tile parameters come from wisdom or are defaults */
};

struct model_kernels {
    int n;
    struct model_kernel at[MODEL_KERNELS_MAX]; /* [n], no two alike */
};

/* type: of activations and cache, "fp16" or "bf16". Returns 0, or -1 with *err where there are too many. */
int model_kernels(struct model_kernels *list, const struct model *m, const struct cascade_params *p, const char *type,
                  struct err *err);

#endif
