#ifndef WEIR_MATVEC_CHAIN_H
#define WEIR_MATVEC_CHAIN_H

/* One token's product with a matrix as decoding runs it: launches in a row, each over a matrix of its own, so many that no L2 keeps
 * them; each overlaps with the one ahead. The bench and the tuner both time this. */

#include "bench.h"

/* A product: what becomes of it is "half", "add", "gate" or "f32" (gen/kernels/matvec.lua). */
struct matvec_product {
    enum quant_type type;
    int n, rows; /* inputs, outputs; gate's matrix has two rows for each output */
    bool norm;
    char to[8];
};

struct matvec_chain {
    struct bench *b; /* the caller's: its device and data type */
    struct matvec_product p;
    size_t matrix; /* bytes from one to the next */
    int matrices;
    bool apart;                        /* launches that do not overlap */
    devptr weights, x, norm_weight, y; /* owned. y: [rows] of the first matrix's outputs, then those of all others */

    /* What the device holds, for who computes it again; owned. */
    unsigned char *block; /* [MATVEC_PERIOD] blocks of the type, of which the matrices consist, again and again */
    float *in, *by;       /* [n] inputs (rounded to 16 bits unless they are normed), weights of the norm */
};

/* A prime, so that no two rows that are near begin with the same block. */
enum { MATVEC_PERIOD = 4093 };

/* least: bytes that the matrices are to have together; there are at least three, and at most 16. Close it also after an error. */
int matvec_chain_open(struct matvec_chain *c, struct bench *b, const struct matvec_product *p, size_t least,
                      struct err *err);
void matvec_chain_close(struct matvec_chain *c);

/* Enqueues a launch for each matrix, or for the first one alone; blocks: of a launch a multiprocessor at most. */
int matvec_chain_enqueue(const struct matvec_chain *c, const struct kernel *k, bool first_only, int blocks,
                         struct err *err);

#endif
