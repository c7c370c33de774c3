#ifndef WEIR_PROBLEM_H
#define WEIR_PROBLEM_H

/* A kernel at one shape on a device, with all that it is launched with: what the tuner checks and times. Every family of kernels is
 * a file problem_<family>.c, whose set-up is that of the bench of the same kernels. */

#include "bench.h"
#include "space.h"

struct problem; /* opaque; each family has its own behind this head */

struct problem_family {
    /* *out is NULL where the family does not know the kernel (and 0 is returned). */
    int (*open)(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err);
    void (*close)(struct problem *p);
    /* Enqueues a launch of the problem with kernel k in the place of its own, or several (see `launches`). */
    int (*launch)(struct problem *p, const struct kernel *k, struct err *err);
    /* Runs k on a small case of the same shape and compares every element with the oracle: *error is the largest difference over
     * what rounding may make, and `where` says where, so 1 is the bound. NULL: the family has `whole` only. */
    int (*check)(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err);
    /* The same at the problem's full size against the output of the kernel with its default tile (which check has passed, or the
     * tests). */
    int (*whole)(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err);
    /* k, which was launched or checked, is about to be unloaded. NULL: the family keeps nothing that depends on it. */
    void (*forget)(struct problem *p, const struct kernel *k);
};

struct problem {
    const struct problem_family *family;
    struct bench
        bench; /* a copy of the caller's with this problem's heads, dimension, type; device and generator are the caller's */
    struct tune_problem what;
    int launches; /* of the kernel that one `launch` makes: 1, unless the family sets it */
    bool
        goes_round; /* one `launch` goes over more memory than an L2 keeps, or finds in it what it would in inference, so that
                        nothing need flush it */
};

/* b: an open bench, which must outlive the problem. -1 where no family knows the kernel, or the sizes are none that it can set up. */
int problem_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err);
void problem_close(struct problem *p);

/* The families. */
extern const struct problem_family problem_chunk, problem_token, problem_memory, problem_matvec, problem_forward,
    problem_sample;

/* Before a kernel is unloaded that the problem may have launched. */
void problem_forget(struct problem *p, const struct kernel *k);

/* For families: allocates `size` bytes that begin with a struct problem, filled in from b and `what`. */
void *problem_new(size_t size, const struct problem_family *family, const struct bench *b,
                  const struct tune_problem *what, struct err *err);

/* For families: a copy of device memory, which the caller frees. */
void *problem_fetch(struct bench *b, devptr from, size_t bytes, struct err *err);

/* For families: the largest difference of two results over its bound, as `check` has it. Halves in rows of d elements (each row's
 * difference is measured by the row's length: bound 4 roundings), or fp32 numbers (bound 1e-3 of the number and 1e-6). */
double problem_compare_halves(int type, const uint16_t *got, const uint16_t *want, size_t rows, int d, char where[120]);
double problem_compare_floats(const float *got, const float *want, size_t n, char where[120]);

#endif
