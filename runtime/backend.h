#ifndef WEIR_BACKEND_H
#define WEIR_BACKEND_H

/* The seam between the model (llama.c) and a machine (backend_cpu.c, backend_cuda.c): one struct of functions. A backend owns
 * the activations of one chunk and the cascade state (caches, scores, clock) of one stream; llama.c owns the order of things. */

#include <stdbool.h>
#include <stdint.h>

#include "cascade.h"
#include "err.h"
#include "model.h"

struct backend_options {
    int threads;           /* CPU threads; 0: as many as there are cores to run on */
    bool int8_activations; /* faster decoding that costs about 0.05 nats a token; off unless asked for */
    const char *simd;      /* CPU: "avx512", "avx2" or "plain"; NULL: the best that the machine runs */
};

struct backend {
    const char *name; /* "cpu", "cuda" */
    void *state;      /* owned */

    /* Starts a chunk of T tokens: embeds them, and fixes positions and the insertion plan. 1 <= T <= stride. */
    int (*begin)(struct backend *be, const int32_t *tokens, int T, struct err *err);
    /* One layer's attention half: norm, q/k/v products, attention over cache and chunk, exact EMA scores, insertion into the
     * cascade, output product, residual. */
    int (*attend)(struct backend *be, int layer, struct err *err);
    /* The other half: norm, SwiGLU, residual. */
    int (*feed_forward)(struct backend *be, int layer, struct err *err);
    /* Ends the chunk: the clock moves on. */
    int (*end)(struct backend *be, struct err *err);
    /* Logits of rows [row, row + n) of the chunk that has just ended, fp32 [n][vocab]. */
    int (*logits)(struct backend *be, int row, int n, float *out, struct err *err);
    /* Forgets the stream: empty cache, clock 0. */
    void (*reset)(struct backend *be);
    /* Original token numbers that layer and key head hold, by row [cascade_rows], -1 where none; for tests and --json. */
    int (*origins)(struct backend *be, int layer, int head, int64_t *origin, struct err *err);
    /* Scores by row [cascade_rows], likewise. */
    int (*scores)(struct backend *be, int layer, int head, float *score, struct err *err);
    void (*close)(struct backend *be);

    int64_t (*seen)(const struct backend *be); /* tokens of the stream so far */
    size_t (*cache_bytes)(const struct backend *be);
};

/* Opens the CPU backend for a model and a cascade (checked by cascade_check). The model must outlive it. */
int backend_cpu_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                     const struct backend_options *o, struct err *err);

/* Bytes that it will take for cache, positions and the activations of a chunk of p->stride tokens: asked before it is opened,
 * so that a window too large for the memory is refused (saturates at SIZE_MAX). */
size_t backend_cpu_bytes(const struct model *m, const struct cascade_params *p);

#endif
