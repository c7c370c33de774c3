#ifndef WEIR_BACKEND_CPU_H
#define WEIR_BACKEND_CPU_H

/* What the files of the CPU backend share. Everything is fp32. Heads are padded with zeros to dp, a multiple of 16.
 *
 * Keys lie in panels of 16 rows, so that a product with them is one of vectors along the keys: element e of row r at
 * k[(r / 16 * dp + e) * 16 + r % 16]. Values lie row by row. */

#include <stdatomic.h>

#include "backend.h"
#include "rope.h"
#include "simd.h"
#include "threads.h"

enum {
    CPU_BLOCK = 64,       /* outputs of a weight matrix that one item of work makes */
    CPU_ROWS = 512,       /* tokens that one item of work takes, at most */
    CPU_DEPTH = 1536,     /* inputs of a weight matrix that are expanded at once */
    CPU_QUERIES = 48,     /* queries of an attention tile, at most */
    CPU_PARTS = 4,        /* column sums a head are made in so many parts */
    CPU_SPLIT = 512,      /* keys that one item takes in decoding */
    CPU_VALUE_ROWS = 32,  /* values that are multiplied at a time in decoding: what the first-level cache holds */
    CPU_MATVEC_ROWS = 64, /* outputs of a weight matrix that one item makes in decoding */
    CPU_MATVEC_TOKENS = 3 /* up to so many tokens, rows of weights are used as they are */
};

/* Columns of an attention tile: one for each row of the panels that a run touches, then the chunk. Those in a run's first and
 * last panel that are not its own are masked. */
struct cpu_segment {
    int column;    /* first, a multiple of 16 */
    int panel;     /* its first row / 16 */
    int panels;    /* so many columns / 16 */
    int skip, len; /* the run is columns [column + skip, column + skip + len) */
};

/* One layer's cache. */
struct cpu_cache {
    float *k;        /* [KV][panels][dp][16] rotated by slot index */
    float *v;        /* [KV][rows][dp] */
    float *score;    /* [P][rows] */
    int64_t *origin; /* [P][rows] original token number, -1 where none */
};

/* What a thread needs for itself. */
struct cpu_scratch {
    float *expanded; /* [16][CPU_DEPTH] rows of weights in fp32 */
    float *panel;    /* [CPU_DEPTH][CPU_BLOCK] the same in panel form */
    float *tile;     /* [2][CPU_ROWS][CPU_BLOCK] outputs */
    float *logits;   /* [queries][columns_room] attention of a chunk */
    float *query;    /* [CPU_QUERIES][dp] turned for one run; [G][dp] in decoding */
    float *out;      /* [CPU_QUERIES][dp] */
    float *columns;  /* [columns_room] column sums reduced over heads */
    float *key;      /* [2][dp] a key on its way, and the factors that turn it */
    struct cascade_plan plan;
    int32_t *winner; /* [groups of the largest plan] */
};

struct cpu {
    const struct model *m;
    const struct model_shape *shape; /* &m->shape */
    struct cascade_params p;
    const struct simd *simd;
    const struct weave_model *woven; /* of m, or NULL */
    struct pool *pool;
    struct rope rope;
    int threads;

    int dp;          /* head_dim rounded up to 16 */
    int stride_rows; /* stride rounded up to 16 */
    int group;       /* query heads that share a key head */
    int qkv;         /* (heads + 2 kv_heads) * head_dim */
    int rows;        /* cascade_rows: of one head's cache */
    int panels;      /* rows rounded up, / 16 */
    int cascades;    /* P: kv_heads, or 1 with POLICY_HOMOGENEOUS */
    int queries;     /* tokens of an attention tile */
    int columns_room;
    float scale;  /* log2(e) / sqrt(head_dim) */
    void *memory; /* of all arrays below, owned */
    size_t memory_bytes;

    struct cascade_state state; /* before the chunk in work */
    int T, held;
    int turned;                                       /* rows of chunk_turn that are made, with POSITIONS_CACHE */
    int nsegments;                                    /* of the cache */
    struct cpu_segment segment[CASCADE_MAX_RUNS + 1]; /* the last one is the chunk */
    int columns;                                      /* of all segments */
    float decay;                                      /* gamma^T */
    float *weight;                                    /* [stride] gamma^(T-1-m) */
    float *run_turn; /* [CASCADE_MAX_RUNS][dp] factors that turn a query, which is turned by its index, for that run */
    float *chunk_turn; /* [stride][dp] factors of the index in the chunk, or of the token number */

    float *x;     /* [stride][hidden] residual stream */
    float *xn;    /* [stride][hidden] normed */
    float *wide;  /* [stride][max(qkv, ffn)] */
    float *q;     /* [heads][stride][dp] turned by the index in the chunk */
    float *k;     /* [KV][stride][dp] not turned */
    float *kr;    /* [KV][stride/16][dp][16] turned like q */
    float *v;     /* [KV][stride][dp] */
    float *att;   /* [stride][heads * head_dim] */
    float *sums;  /* [heads][CPU_PARTS][columns_room] column sums; in decoding [heads][columns_room] logits */
    float *split; /* [heads][splits][dp + 2] decoding: output, largest logit and sum of a split */
    struct simd_row row[CPU_MATVEC_TOKENS];
    struct cpu_scratch scratch[POOL_MAX_THREADS];
    struct cpu_cache *cache; /* [layers] */
};

/* One product with a weight matrix: y[t] (+)= W x[t] for T rows. */
struct cpu_linear {
    const struct tensor *w;     /* ne = [in, out] */
    const unsigned char *woven; /* the same, woven, or NULL */
    float *y;                   /* [T][y_row] */
    size_t y_row;
    bool add;
};

enum { CPU_MAX_LINEARS = 3 };

/* A layer's woven matrices. */
static inline struct weave_layer cpu_woven(const struct cpu *c, int layer)
{
    return c->woven ? c->woven->layer[layer] : (struct weave_layer){0};
}

/* x [T][x_row] times n matrices that share it. */
void cpu_linears(struct cpu *c, const struct cpu_linear *l, int n, const float *x, size_t x_row, int T);
/* h[t] = silu(gate x[t]) * (up x[t]) with a layer's gate and up, h [T][ffn]. */
void cpu_gated(struct cpu *c, int layer, const float *x, size_t x_row, int T, float *h);

/* As struct backend's likelihoods. */
int cpu_likelihoods(struct backend *be, int row, int n, const int32_t *token, float *nats, struct err *err);

/* q, k, v of the chunk are in place: attention to c->att, scores, insertion. */
void cpu_attention(struct cpu *c, int layer);
/* Takes the chunk's column sums, one array [columns] for each of the heads that share cascade i of the layer, into its scores, and
 * inserts the chunk. */
void cpu_insert(struct cpu *c, struct cpu_scratch *s, int layer, int i, const float *const *sum, int heads);

#endif
