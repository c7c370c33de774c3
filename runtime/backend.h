#ifndef WEIR_BACKEND_H
#define WEIR_BACKEND_H

/* The seam between the model (llama.c) and a machine (backend_cpu.c, backend_cuda.c): one struct of functions. A backend owns
 * the activations of one chunk and the cascade state (caches, scores, clock) of one stream; llama.c owns the order of things. */

#include <stdbool.h>
#include <stdint.h>

#include "cascade.h"
#include "err.h"
#include "model.h"
#include "sampler.h"

enum backend_kind {
    BACKEND_AUTO, /* a GPU where there is one, else the CPU */
    BACKEND_CPU,
    BACKEND_CUDA
};

enum backend_half {                    /* of what 16-bit type a GPU computes */
                    BACKEND_HALF_AUTO, /* as the model's weights suggest */
                    BACKEND_HALF_FP16,
                    BACKEND_HALF_BF16
};

/* Told while weights are loaded: bytes so far, of all. */
typedef void backend_progress(void *user, size_t done, size_t all);

struct backend_options {
    enum backend_kind kind;
    int gpu;         /* ordinal of the GPU */
    const char *set; /* CUDA: tile parameters of the kernels, "bm=128,bn=64", or NULL */
    enum backend_half half;
    backend_progress *progress; /* or NULL */
    void *progress_user;
    void (*say)(bool warning, const char *line); /* told which wisdom is used, and what of it cannot be read; or NULL */
    int threads;                                 /* CPU threads; 0: as many as there are cores to run on */
    bool int8_activations; /* faster decoding that costs about 0.05 nats a token; off unless asked for */
    const char *simd;      /* CPU: "avx512", "avx2" or "plain"; NULL: the best that the machine runs */
};

/* One layer's cache, as it is kept in a file (stream_file.h): the same whatever the machine, but for the type of its elements. */
struct cache_layer {
    void *k, *v;     /* [KV][cascade_rows][head_dim] of cache_type, pairs (2i, 2i+1); keys turned as cascade.h says */
    float *score;    /* [P][cascade_rows]; P: key heads, or 1 with POLICY_HOMOGENEOUS */
    int64_t *origin; /* [P][cascade_rows] */
};

struct backend {
    const char *name;           /* "cpu", "cuda" */
    enum quant_type cache_type; /* of keys and values: QUANT_F32, QUANT_F16 or QUANT_BF16 */
    void *state;                /* owned */

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
    /* How likely tokens were: nats[i] = -log softmax(logits of row + i)[token[i]] for n rows of the chunk that has just ended. */
    int (*likelihoods)(struct backend *be, int row, int n, const int32_t *token, float *nats, struct err *err);
    /* Picks the next token from the logits of one row of the chunk that has just ended, on the machine, and leaves the sampler as
     * sampler_pick would. Returns 1 where the machine cannot do what this sampler wants. NULL where it never can. */
    int (*pick)(struct backend *be, struct sampler *s, int row, int32_t *id, struct err *err);
    /* Forgets the stream: empty cache, clock 0. */
    void (*reset)(struct backend *be);
    /* Original token numbers that layer and key head hold, by row [cascade_rows], -1 where none; for tests and --json. */
    int (*origins)(struct backend *be, int layer, int head, int64_t *origin, struct err *err);
    /* Scores by row [cascade_rows], likewise. */
    int (*scores)(struct backend *be, int layer, int head, float *score, struct err *err);
    /* One layer's cache out of the machine, and back; rows that hold nothing come and go as they are. Then set_clock: the stream has
     * seen t tokens, and no chunk has ended whose logits could be had. All three or none: NULL where a stream cannot be saved. */
    int (*read_layer)(struct backend *be, int layer, const struct cache_layer *to, struct err *err);
    int (*write_layer)(struct backend *be, int layer, const struct cache_layer *from, struct err *err);
    int (*set_clock)(struct backend *be, int64_t t, struct err *err);
    void (*close)(struct backend *be);

    int64_t (*seen)(const struct backend *be); /* tokens of the stream so far */
    size_t (*cache_bytes)(const struct backend *be);
};

/* Opens the backend that the options ask for. The model must outlive it. note [room]: "" or what the user should know in one line,
 * such as why it is the CPU. Returns 0, or -1 with *err. */
int backend_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                 const struct backend_options *o, char *note, size_t room, struct err *err);

/* Opens the CPU backend for a model and a cascade (checked by cascade_check). The model must outlive it. */
int backend_cpu_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                     const struct backend_options *o, struct err *err);

/* Opens the CUDA backend on GPU number o->gpu, likewise. -1 with one line where there is no driver, no GPU, too little memory, no NVRTC
 * and no cached kernels, no cuBLAS, or a model that the kernels do not take. */
int backend_cuda_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                      const struct backend_options *o, struct err *err);

/* Bytes that it will take for cache, positions and the activations of a chunk of p->stride tokens: asked before it is opened,
 * so that a window too large for the memory is refused (saturates at SIZE_MAX). */
size_t backend_cpu_bytes(const struct model *m, const struct cascade_params *p);

/* 0 where every one of n tokens is of the vocabulary, else -1 with one line: what each backend asks first. */
int backend_check_tokens(const int32_t *token, int n, int vocab, struct err *err);

#endif
