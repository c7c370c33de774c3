/* The CUDA backend's memory: every array is a row of one table, so what is needed is known before anything is taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_cuda.h"
#include "llama_grid.h"

enum { BUFFERS_MAX = 48, SLACK = 64 << 20 /* bytes left to the driver: modules, cuBLAS's workspace */ };

struct buffer {
    devptr *at;
    double bytes; /* a double cannot overflow */
};

struct buffers {
    int n;
    struct buffer at[BUFFERS_MAX];
};

static void want(struct buffers *b, devptr *at, double count, size_t size)
{
    b->at[b->n++] = (struct buffer){at, count * (double)size};
}

static double most(double a, double b)
{
    return a > b ? a : b;
}

size_t cuda_arrived_bytes(const struct cuda_backend *c)
{
    size_t chunk = (size_t)c->planner.most_nodes, one = (size_t)c->shape->layers * MOVE_TREES_DECODE;
    return (size_t)c->cascades * (chunk > one ? chunk : one) * sizeof(unsigned);
}

static void list_stream(struct cuda_backend *c, struct buffers *b)
{
    double layers = c->shape->layers, rows = c->rows, cache = layers * c->kv * rows;
    double scores = layers * c->cascades * rows, T = c->p.stride;
    want(b, &c->k, cache, 2);
    want(b, &c->v, cache, 2);
    want(b, &c->score, scores, sizeof(float));
    want(b, &c->origin, scores, sizeof(int64_t));
    want(b, &c->angles, (double)c->positions * c->shape->head_dim, sizeof(float));
    if (c->p.positions == POSITIONS_ORIGINAL)
        want(b, &c->chunk_angles, T * c->shape->head_dim, sizeof(float));
    /* 8 slices at most, 16 bytes a node; of a chunk in one layer, or of one token in all. */
    double kv = c->shape->kv_heads, nodes = c->planner.most_nodes, one = c->planner_one.most_nodes;
    want(b, &c->moves, kv * 8 * most(nodes, layers * one), 16);
    want(b, &c->arrived, (double)cuda_arrived_bytes(c), 1);
}

static void list_chunk(struct cuda_backend *c, struct buffers *b)
{
    const struct model_shape *s = c->shape;
    double T = c->p.stride, layers = s->layers;
    want(b, &c->x, T * s->hidden, sizeof(float));
    want(b, &c->xn, most(T, c->logit_rows) * s->hidden, 2);
    want(b, &c->qkv_rows, most(T, layers) * c->qkv, 2);
    want(b, &c->qr, T * c->q, 2);
    want(b, &c->kr, most(T * c->kv, layers * c->qkv), 2);
    want(b, &c->att, T * c->q, 2);
    want(b, &c->gu, T * 2 * s->ffn, 2);
    want(b, &c->h, T * s->ffn, 2);
    want(b, &c->lse, T * s->heads, sizeof(float));
    want(b, &c->sums, s->heads * ((double)c->rows + T), sizeof(float));
    want(b, &c->chunk_score, c->cascades * most(T, layers), sizeof(float));
    want(b, &c->tokens, T, sizeof(int32_t));
    want(b, &c->chunk_step, 1, sizeof(struct attn_step));
    want(b, &c->plans, (double)c->parts * (double)c->plan_room, 1);
    want(b, &c->logits, (double)llama_logit_room(c->shape->vocab, c->p.stride), sizeof(float));
    want(b, &c->nats, T, sizeof(float));
    want(b, &c->softmax, 4 * T, sizeof(float));
    want(b, &c->targets, T, sizeof(int32_t));
}

/* The largest product of a chunk whose weights are expanded first, in elements; the output's is made in pieces. */
static double scratch_elements(const struct cuda_backend *c)
{
    double all = 0;
    for (int i = 0; i < c->shape->layers; i++) {
        const struct cuda_linear *l[] = {&c->layer[i].qkv, &c->layer[i].wo, &c->layer[i].gate_up, &c->layer[i].down};
        for (size_t k = 0; k < sizeof l / sizeof *l; k++)
            for (int p = 0; p < l[k]->parts; p++)
                if (!l[k]->part[p].direct)
                    all = most(all, (double)l[k]->part[p].rows * l[k]->inputs);
    }
    if (!c->output.part[0].direct)
        all = most(all, (double)LLAMA_VOCAB_PIECE * c->shape->hidden);
    return all;
}

static void list_decode(struct cuda_backend *c, struct buffers *b)
{
    const struct model_shape *s = c->shape;
    double heads = s->heads;
    want(b, &c->packet_at, (double)c->packet_bytes, 1);
    want(b, &c->pick_at, 1, sizeof *c->pick);
    want(b, &c->pick_work, (double)llama_sample_room(c->shape->vocab), sizeof(float));
    want(b, &c->part_o, heads * c->most_splits * s->head_dim, sizeof(float));
    want(b, &c->part_ml, heads * c->most_splits * 2, sizeof(float));
    want(b, &c->met, s->kv_heads, sizeof(unsigned));
    want(b, &c->column, heads * c->logit_stride * c->scored, sizeof(float));
    want(b, &c->token_lse, heads * c->scored, sizeof(float));
}

static void list_all(struct cuda_backend *c, struct buffers *b)
{
    b->n = 0;
    want(b, &c->weights, (double)c->weight_bytes, 1);
    list_stream(c, b);
    list_chunk(c, b);
    list_decode(c, b);
    double scratch = scratch_elements(c);
    if (scratch > 0)
        want(b, &c->scratch, scratch, 2);
}

static double total(struct cuda_backend *c)
{
    struct buffers b;
    double bytes = 0;
    list_all(c, &b);
    for (int i = 0; i < b.n; i++)
        bytes += b.at[i].bytes;
    return bytes;
}

/* The largest window, by halves of this one, with which all would fit; 0 where none does. What grows with the window is its cache, so
 * it is worked out from that alone (logits are not: a smaller window keeps those of more layers). */
static int window_that_fits(const struct cuda_backend *c, double needed, double left)
{
    double a_token = 4.0 * c->shape->layers * c->kv + 12.0 * c->shape->layers * c->cascades + 4.0 * c->shape->head_dim;
    for (int64_t window = c->p.window; window >= (int64_t)c->p.subcaches * c->p.span; window /= 2)
        if (needed - (double)(c->p.window - window) * a_token <= left)
            return (int)(window / (c->p.subcaches * c->p.span) * (c->p.subcaches * c->p.span));
    return 0;
}

static int check_room(struct cuda_backend *c, struct err *err)
{
    size_t left;
    char fits[96] = "no window would fit";
    if (c->dev.memory_left(&c->dev, &left, err) != 0)
        return -1;
    double needed = total(c) + SLACK;
    if (needed <= (double)left)
        return 0;
    int window = window_that_fits(c, needed, (double)left);
    if (window > 0)
        snprintf(fits, sizeof fits, "--window %d would fit, and a smaller --stride needs less", window);
    return err_set(err,
                   "--window %d with --stride %d needs %.1f GB of GPU memory (%.1f GB of it weights), and %.1f GB are "
                   "free on %s; %s",
                   c->p.window, c->p.stride, needed / 1e9, (double)c->weight_bytes / 1e9, (double)left / 1e9,
                   c->dev.facts.name, fits);
}

int cuda_memory_open(struct cuda_backend *c, struct err *err)
{
    struct buffers b;
    if (check_room(c, err) != 0)
        return -1;
    list_all(c, &b);
    for (int i = 0; i < b.n; i++)
        if (c->dev.alloc(&c->dev, (size_t)b.at[i].bytes, b.at[i].at, err) != 0)
            return -1;
    return 0;
}

void cuda_memory_close(struct cuda_backend *c)
{
    struct buffers b;
    if (!c->layer)
        return;
    list_all(c, &b);
    for (int i = 0; i < b.n; i++)
        if (*b.at[i].at) {
            c->dev.release(&c->dev, *b.at[i].at);
            *b.at[i].at = 0;
        }
}

size_t cuda_cache_bytes(const struct cuda_backend *c)
{
    double layers = c->shape->layers, rows = c->rows;
    return (size_t)(layers * rows * (4.0 * c->kv + 12.0 * c->cascades));
}
