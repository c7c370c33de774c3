#ifndef WEIR_BENCH_UPDATE_H
#define WEIR_BENCH_UPDATE_H

/* A chunk's insertion into the full caches of several layers, for every bench that times it alone or as a part. */

#include "bench.h"

/* slices: the most that the kernel declares, since the tuner launches other tiles than the default. */
enum { UPDATE_LAUNCHES_MAX = 512, UPDATE_SLICES_MAX = 8 };

struct update_bench {
    struct bench *b;
    struct cascade_params p;
    int64_t t;                     /* tokens before the chunk */
    int tokens;                    /* of the chunk */
    int rows, cascades, nlaunches; /* a layer */
    double moved;                  /* spans that one head moves, about: of those who meet a holder, half win */
    struct kernel update;
    devptr k, v, score, origin; /* of all layers */
    devptr k_chunk, v_chunk, chunk_score, rot, moves, arrived;
    devptr buffer[UPDATE_LAUNCHES_MAX],
        plan[UPDATE_LAUNCHES_MAX]; /* a part's buffer, and where in it a wave's plan is */
    int nbuffers;
    int trees[UPDATE_LAUNCHES_MAX];
    bool one_launch; /* a launch for all layers at once */
};

/* Everything but the launches; close what was opened even when it fails. */
int update_bench_open(struct update_bench *c, struct bench *b, int window, int stride, struct err *err);
void update_bench_close(struct update_bench *c);

/* Tokens before the chunk or the token that benches and the tuner time: so many that every sub-cache is full. What is predicted of a
 * chunk is that state. */
int64_t update_bench_at(const struct cascade_params *p);

/* Enqueues the chunk's insertion into one layer. */
int update_bench_layer(struct update_bench *c, int layer, struct err *err);

#endif
