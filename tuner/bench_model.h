#ifndef WEIR_BENCH_MODEL_H
#define WEIR_BENCH_MODEL_H

/* What weir bench model is, on a CPU (bench_model.c) and on a GPU (bench_model_cuda.c). */

#include "bench.h"
#include "runtime/session.h"

struct model_bench {
    struct session_options session_options;
    struct cascade_options cascade;
    int prompt, tokens, format, rows;
    int count; /* of seconds[] */
    int64_t most;
    bool full;
    const char *shape;
    int type;
    struct option table[8];
    struct session s;
    int32_t *ids;    /* [most] random, owned */
    float *logits;   /* [vocab], owned */
    double *seconds; /* [most], owned */
    int threads;
    double gflops, gbs; /* measured, of `threads` threads */
};

/* The rows of a GPU: s.backend is the CUDA backend. ids [prompt] are random tokens. */
int bench_model_cuda(struct model_bench *b, struct err *err);

#endif
