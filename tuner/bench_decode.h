#ifndef WEIR_BENCH_DECODE_H
#define WEIR_BENCH_DECODE_H

/* One token's attention over the full caches of several layers, for the bench that times it and for the tuner. */

#include "bench.h"
#include "runtime/step.h"

enum { TOKEN_DECODE = 1, TOKEN_SCORES = 2, TOKEN_UPDATE = 4 };

struct decode_bench {
    struct bench *b;
    struct cascade_params p;
    int rows, cascades;
    int splits, slices, stride; /* grids of attn_decode and attn_decode_scores; stride: of the logits */
    int scored;                 /* layers whose logits are kept */
    struct attn_step layout;    /* what `step` holds */
    struct kernel decode, scores, update;
    devptr k, v, score, origin; /* of all layers */
    devptr q, k_new, v_new, o;  /* likewise */
    devptr step, rot, logits, lse, part_o, part_ml, met, chunk_score, moves, arrived;
    devptr plan[2];    /* of a token that moves no span, and of one that moves one at every step down */
    int parts, moving; /* what decode_bench_enqueue launches: TOKEN_*; and with which plan */
    bool overlap;
};

/* Full caches of `window` tokens in b->layers layers. Close what was opened even when it fails. */
int decode_bench_open(struct decode_bench *c, struct bench *b, int window, struct err *err);
void decode_bench_close(struct decode_bench *c);

/* Grids for the kernels that are there: splits and slices depend on the tiles. */
void decode_bench_grids(struct decode_bench *c);

/* Enqueues c->parts for all layers; user is a struct decode_bench. */
int decode_bench_enqueue(void *user, struct err *err);

#endif
