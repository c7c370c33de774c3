#ifndef WEIR_BENCH_PREFILL_H
#define WEIR_BENCH_PREFILL_H

/* A chunk's attention over the full caches of several layers, or over nothing but itself: for every bench that times it, or one
 * kernel of it, and for the tuner. */

#include "bench_update.h"
#include "runtime/step.h"

enum { CHUNK_TURN = 1, CHUNK_PREFILL = 2, CHUNK_SCORES = 4, CHUNK_REDUCE = 8, CHUNK_UPDATE = 16, CHUNK_ALL = 31 };

struct prefill_bench {
    struct bench *b;
    struct update_bench u; /* the caches, when there are any */
    int T, held, rows, cascades, layers;
    bool cached;
    struct kernel turn, prefill, scores, reduce; /* with their default tiles, or what --set says */
    struct attn_step layout;                     /* what `step` holds */
    devptr q, k, v;                              /* [T][heads][d], [T][kv_heads][d] x 2 */
    devptr qr, kr;                               /* q and k turned by their index in the chunk */
    devptr o, lse;                               /* [T][heads][d], [heads][T] fp32 */
    devptr sums;                                 /* [heads][rows + T] fp32 */
    devptr step, rot;
    int parts; /* what prefill_bench_layer launches, CHUNK_ALL or some of it */
};

/* A chunk of T tokens; over full caches of `window` tokens in b->layers layers, or over itself alone where window is 0. Close what was
 * opened even when it fails. */
int prefill_bench_open(struct prefill_bench *c, struct bench *b, int window, int T, struct err *err);
void prefill_bench_close(struct prefill_bench *c);

/* Milliseconds that the tensor cores need at the least for two products of so many scores. */
double prefill_bench_limit(const struct bench *b, double scores);

/* Enqueues c->parts for one layer. */
int prefill_bench_layer(struct prefill_bench *c, int layer, struct err *err);

#endif
