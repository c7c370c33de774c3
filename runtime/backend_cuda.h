#ifndef WEIR_BACKEND_CUDA_H
#define WEIR_BACKEND_CUDA_H

/* What the files of the CUDA backend share. It sees a GPU only as a struct device, so the emulator runs it too.
 *
 * half: fp16 or bf16, the type of all that matrix products and attention read. The residual stream, norms' weights, biases, scores and
 * sums are fp32. Keys and queries hold pairs (2i, 2i+1); the rows of wq and wk are put into that order when they are loaded.
 *
 * A chunk goes through matrix products of cuBLAS and the kernels for chunks (backend_cuda_prompt.c), one token through kernels for
 * one token, captured in a graph and replayed (backend_cuda_decode.c). Both work on the same caches. */

#include "backend.h"
#include "cuda_kernels.h"
#include "device.h"
#include "move_plan.h"
#include "rope.h"
#include "sample_state.h"
#include "step.h"

/* Kernels that are the same for all layers. Those for matrices are in struct cuda_matrix. */
enum cuda_kernel {
    CK_EMBED,
    CK_NORM,
    CK_SWIGLU,
    CK_BIAS, /* only where the model has biases */
    CK_TURN,
    CK_PREFILL,
    CK_SCORES,
    CK_REDUCE,
    CK_UPDATE,
    CK_DECODE,
    CK_DECODE_SCORES,
    CK_LIKELIHOOD,
    CK_SAMPLE,
    CK_COPY, /* only where weights repeat a pattern */
    CUDA_KERNELS
};

/* A matrix of weights [rows][inputs], in the blocks of the file. */
struct cuda_matrix {
    const struct tensor *from;
    enum quant_type type;
    int rows, inputs;
    size_t bytes;
    devptr at;
    bool direct;    /* of the type `half`: products read it as it is */
    int matvec;     /* number in the set of kernels */
    int dequantise; /* likewise, -1 where direct */
};

enum { CUDA_PARTS = 3 };

/* A product of the forward pass: matrices that share their input, outputs side by side. Those of one type are one matrix. */
struct cuda_linear {
    int parts, rows, inputs; /* rows: of all parts */
    bool halved;             /* the matvec makes one output of two rows: gate and up */
    struct cuda_matrix part[CUDA_PARTS];
};

struct cuda_layer {
    struct cuda_linear qkv, wo, gate_up, down;
    bool combine; /* gate_up's matvec does what swiglu does; not where gate and up are of two types */
    bool has_bias;
    devptr attn_norm, ffn_norm; /* [hidden] fp32 */
    devptr bias;                /* [qkv] fp32, 0 where the model has none */
};

/* What decoding's graph uploads: all that depends on the token count, and the token. */
struct cuda_packet {
    int32_t token, unused[3];
    struct attn_step step;
    /* struct move_plan and what belongs to it, at a multiple of 16 bytes; then, with original positions, the token's angles */
};

/* What the kernel `sample` reads and keeps. */
enum { CUDA_RECENT = 1024 };
struct cuda_pick {
    struct sample_state state;
    int32_t token, recent[CUDA_RECENT];
};

struct cuda_products_opening; /* backend_cuda_products.c */

struct cuda_backend {
    const struct model *m;
    const struct model_shape *shape; /* &m->shape */
    struct cascade_params p;
    struct device dev; /* owned */
    bool bf16;
    struct cuda_products_opening *opening; /* owned */
    struct cuda_kernels *kernels;
    int kernel[CUDA_KERNELS]; /* numbers in the set */
    struct rope rope;

    /* Sizes. */
    int rows, cascades, group, reduced; /* cascade_rows; P; query heads a key head; query heads a cascade */
    int q, kv, qkv;                     /* elements a token: heads * d, kv_heads * d, q + 2 kv */
    int positions;                      /* of the table of angles */
    int few;                            /* rows of a chunk that are still multiplied one by one */
    int logit_rows;                     /* rows whose logits are made at a time */
    int splits, slices, logit_stride;   /* of decoding */
    int most_splits;                    /* whatever attn_decode's tile */
    int scored;                         /* layers whose scores one launch of it makes */
    size_t plan_room;                   /* bytes of a part's plan */
    size_t packet_bytes, packet_angles; /* all of it; where in it the angles are */
    int parts;                          /* of a chunk, at most */

    /* The stream. */
    struct cascade_state state; /* before the chunk in work */
    struct attn_step step;      /* its */
    int T, ended;               /* tokens of the chunk; rows whose logits can be had */
    bool has_logits;            /* of row 0: decoding made them */
    struct cascade_plan part, one;
    struct move_planner planner, planner_one; /* for chunks, and for one token */
    struct cuda_move {                        /* launches of cascade_update for the chunk */
        size_t at;                            /* bytes into `plans` */
        size_t trees;
    } * move; /* [most_moves], owned */
    int nmoves, most_moves;
    enum cuda_chunk_way { CHUNK_LAUNCHED, CHUNK_CAPTURED, CHUNK_REPLAYED } chunk;
    struct cuda_chunk { /* what the launches of the last chunk came from: where that is the same, so are they */
        int T, held, nmoves;
        struct cuda_move *move; /* [most_moves], owned */
        void *graph;            /* of them, NULL until it is captured */
    } last;

    /* Page-locked memory; what was uploaded from it has arrived once MARK_STAGED has been passed. */
    unsigned char *staged; /* tokens, step, plans, angles of a chunk */
    size_t staged_bytes;
    struct cuda_packet *packet;

    struct cuda_pick *pick; /* page-locked: what the sampler starts from, and the token that comes back */

    void *graph;    /* of one token, NULL until it is captured */
    bool *launched; /* [cuda_kernels_count] set where a kernel is launched; NULL while nobody asks */

    /* Device memory (backend_cuda_memory.c), all owned. */
    size_t weight_bytes;
    devptr weights;
    struct cuda_layer *layer; /* [layers], owned */
    struct cuda_linear output;
    struct cuda_matrix embed; /* same memory as output where tied */
    devptr out_norm;
    devptr k, v;          /* [layers][KV][rows][d] half */
    devptr score, origin; /* [layers][P][rows] fp32, int64 */
    devptr x;             /* [stride][hidden] fp32 */
    devptr xn;            /* [stride][hidden] half */
    devptr qkv_rows;      /* [max(stride, layers)][qkv] half: of a chunk, or of one token in all layers */
    devptr qr;            /* [stride][q] half, turned */
    devptr kr;            /* [stride][kv] half, turned; or [layers][qkv], the first kv of each in use: of one token */
    devptr att;           /* [stride][q] half */
    devptr gu;            /* [stride][2 ffn] half */
    devptr h;             /* [stride][ffn] half */
    devptr lse;           /* [heads][stride] fp32 */
    devptr sums;          /* [heads][rows + stride] fp32 */
    devptr chunk_score;   /* [P][stride], or [layers][P] fp32 */
    devptr angles;        /* [positions][d/2] cos, sin */
    devptr chunk_angles;  /* [stride][d/2], with original positions */
    devptr tokens, chunk_step, plans;
    devptr moves, arrived;          /* of cascade_update */
    devptr packet_at;               /* the packet on the device */
    devptr logits;                  /* [logit_rows][vocab] fp32, or pieces of more rows */
    devptr nats, softmax, targets;  /* [stride] fp32, [stride][4] fp32, [stride] int32: of likelihoods */
    devptr scratch;                 /* weights as half, for products of a chunk; 0 where all are direct */
    devptr pick_at, pick_work;      /* struct cuda_pick; scratch of `sample` */
    devptr part_o, part_ml, column; /* of decoding: [KV][splits][group][d], [..][2]; logits [scored][heads][stride] */
    devptr token_lse, met;          /* likewise: [scored][heads] fp32; [KV] counters that are left at zero */
};

enum { MARK_STAGED = 15, MARK_LOAD = 12 /* and 13 */ };

/* backend_cuda_memory.c */

/* Takes all device memory; sizes and weights are planned before. -1 with one line that says how much is needed, how much there is,
 * and which window would fit. */
int cuda_memory_open(struct cuda_backend *c, struct err *err);
void cuda_memory_close(struct cuda_backend *c);
size_t cuda_cache_bytes(const struct cuda_backend *c);
/* Bytes of c->arrived, counters that kernels leave at zero. */
size_t cuda_arrived_bytes(const struct cuda_backend *c);

/* backend_cuda_weights.c */

/* What the matrices are, which kernels they want, how many bytes they take: c->layer, c->output, c->embed, c->weight_bytes. */
int cuda_weights_plan(struct cuda_backend *c, struct err *err);
/* Copies them to c->weights. */
int cuda_weights_load(struct cuda_backend *c, const struct backend_options *o, struct err *err);

/* backend_cuda_products.c */

/* Starts to open the library that makes products of matrices; -1 only where memory is out. */
int cuda_products_start(struct cuda_backend *c, struct err *err);
/* -1 where it is known by now that it cannot be opened, as it is soon where there is none. Does not wait. */
int cuda_products_check(struct cuda_backend *c, struct err *err);
/* One product; the first waits until the library is open. */
int cuda_product(struct cuda_backend *c, const struct gemm *g, struct err *err);
void cuda_products_close(struct cuda_backend *c);

/* backend_cuda_prompt.c */

/* Plans and uploads what the chunk of c->T tokens needs, and embeds it. */
int cuda_prompt_begin(struct cuda_backend *c, const int32_t *tokens, struct err *err);
/* Bytes of c->staged. */
size_t cuda_staged_bytes(const struct cuda_backend *c);
int cuda_prompt_attend(struct cuda_backend *c, int layer, struct err *err);
int cuda_prompt_feed_forward(struct cuda_backend *c, int layer, struct err *err);
/* Logits of rows of the chunk into c->logits, at most logit_rows. */
int cuda_prompt_logits(struct cuda_backend *c, int row, int n, struct err *err);
/* Rows [row, row + n) of the chunk into c->xn, as the output's weights want them. */
int cuda_norm_output(struct cuda_backend *c, int row, int n, struct err *err);
/* Rows [first, first + rows) of a matrix as half: where they are, or expanded into the scratch memory, until the next ones are. */
int cuda_weights_of(struct cuda_backend *c, const struct cuda_matrix *m, int first, int rows, devptr *at,
                    struct err *err);

/* backend_cuda_likelihood.c: as struct backend's likelihoods. */
int cuda_likelihoods(struct cuda_backend *c, int row, int n, const int32_t *token, float *nats, struct err *err);

/* backend_cuda_chunk.c */

/* Behind the uploads of a chunk, whose step and moves are planned: how it will be made. CHUNK_REPLAYED: nothing is to be launched. */
int cuda_chunk_begin(struct cuda_backend *c, struct err *err);
/* After a launch that failed; returns -1. */
int cuda_chunk_failed(struct cuda_backend *c);
/* Behind the last launch. */
int cuda_chunk_end(struct cuda_backend *c, struct err *err);
void cuda_chunk_close(struct cuda_backend *c);

/* backend_cuda_decode.c */

enum cuda_decode_part { /* what a decode step is made of, for benches */
                        DECODE_EMBED = 1,
                        DECODE_QKV = 2,
                        DECODE_ATTENTION = 4,
                        DECODE_SCORES = 8,
                        DECODE_WO = 16,
                        DECODE_GATE_UP = 32,
                        DECODE_DOWN = 64,
                        DECODE_UPDATE = 128,
                        DECODE_LOGITS = 256,
                        DECODE_ALL = 511
};

/* Writes the packet for the next token. */
void cuda_decode_packet(struct cuda_backend *c, int32_t token);
/* Launches the parts of one token's step that are asked for. */
int cuda_decode_enqueue(struct cuda_backend *c, unsigned parts, struct err *err);
/* One token: the packet is there; captures the graph at first, replays it. Where the device knows no graphs, launches. */
int cuda_decode_run(struct cuda_backend *c, struct err *err);

/* backend_cuda_sample.c: as struct backend's pick. */
int cuda_pick(struct cuda_backend *c, struct sampler *s, int row, int32_t *id, struct err *err);

/* y = w x for one token: y half, fp32, or fp32 added to, as the linear's kernels were made; norm_weight 0 where they do not norm. */
int cuda_matvec(struct cuda_backend *c, const struct cuda_linear *l, devptr x, devptr y, devptr norm_weight,
                devptr bias, bool overlap, struct err *err);

/* Exchanges a kernel of the set for one with another tile (cuda_kernels_build), and back: grids follow, and what the backend captured is
 * captured anew. Graphs that the caller captured go on with the kernels that they have, as long as those are loaded. */
void cuda_exchange(struct cuda_backend *c, int kernel, struct cuda_tile *other);

/* Launches kernel number `kernel` of the set. */
int cuda_run(struct cuda_backend *c, int kernel, int64_t x, int y, int z, bool overlap, void **args, struct err *err);

/* Adds the kernels that a model wants to a list (model_kernels.h); type "fp16", "bf16" or NULL: what the backend would take. */
struct model_kernels;
int backend_cuda_kernels(struct model_kernels *list, const struct model *m, const struct cascade_params *p,
                         const char *type, struct err *err);

/* For tests: the CUDA backend on a device that is open; takes it over, also where it fails. */
int backend_cuda_open_on(struct backend *be, struct device *dev, const struct model *m, const struct cascade_params *p,
                         const struct backend_options *o, struct err *err);

/* Of what type a GPU computes with this model, "fp16" or "bf16", unless it is told. */
const char *backend_cuda_type(const struct model *m);

#endif
