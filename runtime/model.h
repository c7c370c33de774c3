#ifndef WEIR_MODEL_H
#define WEIR_MODEL_H

/* A Llama-like model as the forward pass wants it: its shape, and where each weight lies. Vectors (norms, biases, rope_freqs)
 * are QUANT_F32 at a multiple of 4 bytes; matrices are of any type that quant.h knows. */

#include <stdbool.h>

#include "err.h"
#include "gguf.h"
#include "weave.h"

enum rope_scaling { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 };

struct model_shape {
    char arch[32]; /* "llama", "qwen2" */
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    int ctx_train; /* tokens */
    float norm_eps;
    int rope_dim; /* rotated elements of a head, <= head_dim */
    double rope_base;
    enum rope_scaling scaling;
    double rope_factor;                                    /* ROPE_LINEAR, ROPE_LLAMA3 */
    double rope_low_freq, rope_high_freq, rope_ctx_origin; /* ROPE_LLAMA3 */
    bool rope_interleaved; /* the rows of Wq and Wk are ordered so that elements (2i, 2i+1) turn together (GGUF llama);
                              else (i, i + rope_dim/2). Kernels and caches always hold pairs (2i, 2i+1). */
};

struct model_layer {
    const struct tensor *attn_norm;        /* [hidden] */
    const struct tensor *wq, *wk, *wv;     /* ne = [hidden, heads*d], [hidden, kv_heads*d] x 2 */
    const struct tensor *bq, *bk, *bv;     /* [out] or NULL (Qwen2 has them) */
    const struct tensor *wo;               /* ne = [heads*d, hidden] */
    const struct tensor *ffn_norm;         /* [hidden] */
    const struct tensor *gate, *up, *down; /* ne = [hidden, ffn] x 2, [ffn, hidden] */
};

struct model {
    struct gguf *gguf; /* owned */
    struct model_shape shape;
    const struct tensor *embed;      /* ne = [hidden, vocab] */
    const struct tensor *out_norm;   /* [hidden] */
    const struct tensor *output;     /* ne = [hidden, vocab]; == embed when tied */
    const struct tensor *rope_freqs; /* [rope_dim/2] divisors of the frequencies, or NULL (Llama 3.1 in GGUF) */
    struct model_layer *layer;       /* [layers], owned */
    void *owned;                     /* weights that lie in no file, or NULL */
    struct weave *weave; /* the matrices in the CPU's own order, once it has asked for them (weave.h); owned */
};

/* What a model is read from: a GGUF file, or a Hugging Face folder (hf.h), which is one where it has a config.json. */
int model_source(struct gguf **out, const char *path, struct err *err);

/* Opens a model's file or folder and checks that every tensor that the architecture needs is there in the right shape. The caller
 * closes *m. Returns 0, or -1 with one line that names file, key or tensor. */
int model_open(struct model *m, const char *path, struct err *err);
/* The same for a file that is open already. Takes g over, also where it fails. */
int model_from_gguf(struct model *m, struct gguf *g, struct err *err);
void model_close(struct model *m);

/* A fingerprint: SHA-256 of the shape and, of each tensor, type, shape and up to 16 KB of its data (all of a small one, else four
 * pieces spread over it). It tells models and quantisations of one apart; it does not see a change of a few weights in the middle of a
 * large matrix. The tokenizer is not in it. */
void model_digest(const struct model *m, unsigned char digest[32]);

/* Angle per position of rotated pair i (0 .. rope_dim/2 - 1), all scaling applied, in double. */
double model_rope_freq(const struct model *m, int i);

#endif
