#ifndef WEIR_FORWARD_CASE_H
#define WEIR_FORWARD_CASE_H

/* What a chunk runs beside attention and matrix products (rms_norm, swiglu, add_bias, dequantise, embed, likelihood) with the memory it
 * is launched on, and what must come of it. */

#include "bench.h"
#include "space.h"

enum forward_kernel {
    FORWARD_NORM,
    FORWARD_SWIGLU,
    FORWARD_BIAS,
    FORWARD_DEQUANTISE,
    FORWARD_EMBED,
    FORWARD_LIKELIHOOD
};
enum { FORWARD_KERNELS = 6 };
#define FORWARD_EPS 1e-5 /* of the norm */

struct forward_case {
    struct bench *b; /* the caller's: its device and data type */
    enum forward_kernel kernel;
    enum quant_type type; /* of what is read: of weights, or of activations and logits */
    bool small;
    int tokens;
    int64_t n;                      /* elements of a row, of a matrix (dequantise), of the vocabulary (likelihood) */
    int passes;                     /* that differ in what they read: over as many matrices, or rows of the table */
    int steps;                      /* launches of a pass: pieces of the vocabulary times groups of rows, else 1 */
    int wide, rows;                 /* tokens of such a piece, rows of such a group */
    size_t pass_bytes, out_bytes;   /* from one pass's input to the next; of a pass's output */
    devptr in, by, ids, state, out; /* owned, 0 where there is none. by: weights of the norm, or bias, fp32 [n] */

    /* What the device holds, for who computes it again; owned. */
    unsigned char *period; /* [units] blocks of `type`: each pass's input is this, again and again */
    size_t units;
    float *by_host; /* [n] */
    int *ids_host;  /* tokens to embed, [passes][tokens]; or tokens whose likelihood is wanted, [tokens] */
};

/* The kernel of that name, or -1. */
int forward_kernel_named(const char *name);

/* The problem's case, or a small one of the same shape. least: bytes that the input of all passes is to have where inference finds it in
 * no cache (weights); at most 256 passes. b must outlive it. Close it also after an error. */
int forward_case_open(struct forward_case *c, struct bench *b, const struct tune_problem *what, bool small,
                      size_t least, struct err *err);
void forward_case_close(struct forward_case *c);

/* Enqueues a pass with kernel k. */
int forward_case_run(const struct forward_case *c, const struct kernel *k, int pass, struct err *err);

/* Makes the output NaN, or what it was where the kernel works in place. */
int forward_case_prepare(const struct forward_case *c, struct err *err);

/* Numbers that a pass writes, and whether they are of the data type; else they are fp32. */
size_t forward_case_outputs(const struct forward_case *c);
bool forward_case_halves(const struct forward_case *c);

/* What the first pass must write, in double precision, and how far a right kernel may be from it: both [outputs], for a small case. */
int forward_case_truth(const struct forward_case *c, double *want, double *bound, struct err *err);

#endif
