#ifndef WEIR_SASS_H
#define WEIR_SASS_H

/* The machine code of a cubin, as far as its speed depends on it: which unit each instruction keeps busy, how long the compiler
 * makes the next one wait, and which barriers of the scoreboard it sets and waits for. Registers and operands are not read.
 *
 * Instructions of sm_80 to sm_90 have 16 bytes. Bits 0..11 say what it is, 12..15 its predicate, 105..125 how it is scheduled: 4 bits of
 * stall cycles, the yield hint, the barrier set when its result is there, the one set when its operands have been read (7: none), and
 * a mask of barriers to wait for. NVIDIA documents none of this; it is what nvdisasm shows. Code that does not decode to a loop of
 * matrix products is an error, and the caller then does without. */

#include <stdbool.h>
#include <stddef.h>

#include "runtime/err.h"

enum sass_unit {
    SASS_ALU,    /* integer and logic, comparisons, conversions */
    SASS_FMA,    /* fp32 and integer multiply-add */
    SASS_TENSOR, /* m16n8k16 */
    SASS_SFU,    /* 2^x, logarithms, reciprocals */
    SASS_SHARED, /* shared memory: ldmatrix, loads, stores, shuffles */
    SASS_COPY,   /* cp.async */
    SASS_GLOBAL, /* loads and stores of global memory */
    SASS_LOCAL,  /* of spilled registers */
    SASS_SYNC,   /* __syncthreads */
    SASS_COMMIT, /* ends a group of copies */
    SASS_WAIT,   /* waits for groups of copies */
    SASS_BRANCH,
    SASS_EXIT,
    SASS_OTHER, /* an issue slot and nothing else */
    SASS_UNITS,
};

struct sass_op {
    unsigned char unit;  /* enum sass_unit */
    unsigned char stall; /* cycles until the warp's next instruction */
    unsigned char wait;  /* mask of barriers */
    signed char sets;    /* barrier that ends with the result, -1: none */
    signed char reads;   /* barrier that ends with the reading of the operands, -1: none */
    signed char
        count;   /* shared, copy, global, local: pieces of 128 bytes a warp moves; wait: groups that may be under way */
    bool always; /* not predicated */
    int target;  /* of a branch: index of an instruction, -1: outside */
};

/* A straight run of instructions, as one warp executes them. */
struct sass {
    struct sass_op *op; /* [n], owned */
    int n;
};

/* The first function of a cubin. -1 where the image is no cubin or holds no code. Free with sass_free. */
int sass_decode(const void *image, size_t bytes, int sm, struct sass *out, struct err *err);
void sass_free(struct sass *s);

/* What one turn of the loop that does the matrix products executes, inner loops unrolled.
 *   outermost  whether the outermost such loop is meant (its inner loops turn `trips` times), or the shortest of the innermost
 * Of branches that lead past an instruction or not, the way with the most products is taken, then the one with the most copies, then
 * the shortest: what is rare (rescaling, a segment's end, masks) is left out. -1 where there is none. The caller frees. */
int sass_loop(const struct sass *code, bool outermost, int trips, struct sass *out, struct err *err);

/* How many instructions keep a unit busy. */
int sass_count(const struct sass *s, enum sass_unit unit);

#endif
