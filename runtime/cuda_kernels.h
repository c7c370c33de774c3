#ifndef WEIR_CUDA_KERNELS_H
#define WEIR_CUDA_KERNELS_H

/* The kernels of a model, built side by side: whoever needs one names it and gets a number; then threads with a generator each render
 * and compile them (or take them from the cubin cache) while the caller does something else. */

#include "wisdom.h"

struct cuda_kernels; /* opaque */

/* dev NULL: for a list of what is wanted, and no more. */
int cuda_kernels_new(struct cuda_kernels **out, struct device *dev, struct err *err);
void cuda_kernels_free(struct cuda_kernels *s);

/* The number of a kernel with its parameters, "d=128 g=4 t=bf16"; the same for the same. -1 when memory is out. */
int cuda_kernels_want(struct cuda_kernels *s, struct err *err, const char *kernel, const char *params, ...)
    __attribute__((format(printf, 4, 5)));

/* A size that the kernel runs with and that is not the model's, such as the rows of a matvec; given several times, the largest counts.
 * Its sizes for wisdom are the model's and these. */
int cuda_kernels_size(struct cuda_kernels *s, int number, const char *name, long value, struct err *err);

/* Tile parameters that are not given come from wisdom, for these sizes of a run (names of the kernels' args), on a device that takes
 * cubins. say: told of each look-up and of wisdom that cannot be read; NULL: nobody. */
void cuda_kernels_tune(struct cuda_kernels *s, const struct pairs *sizes, wisdom_say *say);

/* Starts to build all that are wanted and to load them on the device. set: tile parameters NAME=VALUE or KERNEL.NAME=VALUE with commas between, or NULL. threads 0: one
 * a core. */
int cuda_kernels_start(struct cuda_kernels *s, const char *set, int threads, struct err *err);
/* Waits for them. -1 with the first error. */
int cuda_kernels_finish(struct cuda_kernels *s, struct err *err);

/* A kernel of the set as it is built, with the blocks a multiprocessor holds of it, at least 1. */
struct cuda_tile {
    struct kernel built;
    int blocks;
};

/* Builds and loads a kernel of the set, after cuda_kernels_finish, with the given tile parameters, for cuda_kernels_swap; the others are
 * the kernel's defaults. The caller frees out->built, which is empty where it fails. One thread at a time. */
int cuda_kernels_build(struct cuda_kernels *s, int number, const struct pairs *tile, struct cuda_tile *out,
                       struct err *err);
/* Exchanges what stands in the set for what was built beside it. */
void cuda_kernels_swap(struct cuda_kernels *s, int number, struct cuda_tile *other);
/* The tile parameters that a kernel was built with, all of them. One thread at a time. */
int cuda_kernels_tile(struct cuda_kernels *s, int number, struct pairs *tile, struct err *err);

/* A kernel after cuda_kernels_finish, by the number that cuda_kernels_want gave. Valid until cuda_kernels_free. */
const struct kernel *cuda_kernels_get(const struct cuda_kernels *s, int number);
/* Name and parameters of a kernel that is wanted; returns the sizes of its own that it was given. */
const struct pairs *cuda_kernels_wanted(const struct cuda_kernels *s, int number, const char **kernel,
                                        const char **params);
/* How many are wanted; their numbers are 0 .. count - 1. */
int cuda_kernels_count(const struct cuda_kernels *s);
/* Resident blocks a multiprocessor, at least 1. */
int cuda_kernels_blocks(const struct cuda_kernels *s, int number);

#endif
