/* weir bench prefill: attention of a chunk over the cascade, with exact scores and eviction, and plain causal attention. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_prefill.h"
#include "runtime/attn_grid.h"

static int launch(struct bench *b, const struct kernel *k, long x, int y, void **args, struct err *err)
{
    struct launch l = {
        .grid = {(unsigned)x, (unsigned)y, 1}, .block = k->gen.threads, .smem = k->gen.smem, .args = args};
    return b->dev.launch(&b->dev, k->loaded, &l, err);
}

static long blocks(long n, long tile)
{
    return (n + tile - 1) / tile;
}

int prefill_bench_layer(struct prefill_bench *c, int layer, struct err *err)
{
    struct bench *b = c->b;
    size_t cache = (size_t)b->kv_heads * (size_t)c->rows * (size_t)b->head_dim * 2 * (size_t)layer;
    size_t scores = (size_t)c->cascades * (size_t)c->rows * sizeof(float) * (size_t)layer;
    devptr kc = c->u.k + cache, vc = c->u.v + cache, score = c->u.score + scores, rot = c->cached ? c->rot : 0;
    devptr k = c->cached ? c->kr : c->k;
    int g = b->heads / b->kv_heads, q_stride = b->heads * b->head_dim, k_stride = b->kv_heads * b->head_dim;
    int keys = c->held + c->T, group = b->heads / c->cascades;
    float log2_gamma = (float)log2(b->cascade.p.ema), decay = (float)pow(b->cascade.p.ema, c->T);
    if ((c->parts & CHUNK_TURN) &&
        launch(b, &c->turn, blocks((long)c->T * (b->heads + b->kv_heads) * b->head_dim / 8, c->turn.gen.threads), 1,
               (void *[]){&c->qr, &c->kr, &c->q, &c->k, &c->rot, &c->T, &b->heads, &b->kv_heads, &q_stride, &k_stride},
               err) != 0)
        return -1;
    if ((c->parts & CHUNK_PREFILL) &&
        launch(
            b, &c->prefill, b->heads, (int)blocks(c->T, gen_value(&c->prefill.gen, "bm")),
            (void *[]){&c->o, &c->lse, &c->q, &kc, &vc, &k, &c->v, &rot, &c->step, &g, &q_stride, &k_stride, &k_stride},
            err) != 0)
        return -1;
    if ((c->parts & CHUNK_SCORES) &&
        launch(b, &c->scores, b->heads, (int)blocks(keys, gen_value(&c->scores.gen, "bk")),
               (void *[]){&c->sums, &c->qr, &c->lse, &kc, &k, &rot, &c->step, &g, &q_stride, &k_stride, &log2_gamma},
               err) != 0)
        return -1;
    if ((c->parts & CHUNK_REDUCE) &&
        launch(b, &c->reduce, blocks(keys, c->reduce.gen.threads), c->cascades,
               (void *[]){&score, &c->u.chunk_score, &c->sums, &c->step, &group, &decay}, err) != 0)
        return -1;
    return c->parts & CHUNK_UPDATE ? update_bench_layer(&c->u, layer, err) : 0;
}

static int enqueue(void *user, struct err *err)
{
    struct prefill_bench *c = user;
    for (int layer = 0; layer < c->layers; layer++)
        if (prefill_bench_layer(c, layer, err) != 0)
            return -1;
    return 0;
}

void prefill_bench_close(struct prefill_bench *c)
{
    devptr all[] = {c->q, c->k, c->v, c->qr, c->kr, c->o, c->lse, c->sums, c->step, c->rot};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        c->b->dev.release(&c->b->dev, all[i]);
    if (c->cached)
        update_bench_close(&c->u);
    kernel_free(&c->turn);
    kernel_free(&c->prefill);
    kernel_free(&c->scores);
    kernel_free(&c->reduce);
}

static int open_kernels_and_memory(struct prefill_bench *c, struct err *err)
{
    struct bench *b = c->b;
    char params[64];
    size_t T = (size_t)c->T, heads = (size_t)b->heads, kv = (size_t)b->kv_heads, d = (size_t)b->head_dim;
    if (c->cached) {
        struct cascade_state s;
        cascade_state_at(&c->u.p, c->u.t, &s);
        attn_step_make(&c->layout, &c->u.p, &s, c->T);
    }
    c->held = c->layout.held;
    c->rows = c->layout.rows;
    if (bench_sizes(b, c->T, c->held, err) != 0)
        return -1;
    snprintf(params, sizeof params, "d=%d t=%s", b->head_dim, b->type ? "bf16" : "fp16");
    if (bench_kernel(b, attn_prefill_kernel(b->gpu.sm, b->head_dim), params, &c->prefill, err) != 0)
        return -1;
    if (bench_random(b, T * heads * d, &c->q, err) || bench_random(b, T * kv * d, &c->k, err) ||
        bench_random(b, T * kv * d, &c->v, err) || bench_put(b, NULL, T * heads * d * 2, &c->o, err) ||
        bench_put(b, NULL, T * heads * sizeof(float), &c->lse, err) ||
        bench_put(b, &c->layout, sizeof c->layout, &c->step, err))
        return -1;
    if (!c->cached)
        return 0;
    if (bench_kernel(b, "attn_turn", params, &c->turn, err) != 0 ||
        bench_kernel(b, "attn_scores", params, &c->scores, err) != 0)
        return -1;
    snprintf(params, sizeof params, "reduce=%s", cascade_reduction_name(b->cascade.p.reduction));
    return bench_kernel(b, "attn_score_reduce", params, &c->reduce, err) ||
                   bench_put(b, NULL, T * heads * d * 2, &c->qr, err) ||
                   bench_put(b, NULL, T * kv * d * 2, &c->kr, err) ||
                   bench_put(b, NULL, heads * ((size_t)c->rows + T) * sizeof(float), &c->sums, err) ||
                   bench_angles(b, c->rows + c->u.p.window / c->u.p.subcaches + c->T, &c->rot, err)
               ? -1
               : 0;
}

int prefill_bench_open(struct prefill_bench *c, struct bench *b, int window, int T, struct err *err)
{
    *c = (struct prefill_bench){.b = b, .T = T, .layers = 1, .cascades = 1, .layout = {.T = T}};
    if (window > 0) {
        c->cached = true;
        c->layers = b->layers;
        if (update_bench_open(&c->u, b, window, T, err) != 0)
            return -1;
        c->cascades = c->u.cascades;
    }
    return open_kernels_and_memory(c, err);
}

static int time_parts(struct prefill_bench *c, const char *work, const char *what, int parts, double limit,
                      struct err *err)
{
    struct bench_time t;
    c->parts = parts;
    if (bench_graph(c->b, enqueue, c, &t, err) != 0)
        return -1;
    bench_row(c->b, work, what, t.ms / c->layers, t.spread / c->layers, limit);
    return 0;
}

/* The kernel of a chunk's attention; where that is not attn_prefill, beside it. */
static int time_prefill(struct prefill_bench *c, const char *work, double limit, struct err *err)
{
    struct bench *b = c->b;
    struct kernel own = c->prefill, other;
    char params[64];
    if (time_parts(c, work, own.gen.kernel, CHUNK_PREFILL, limit, err) != 0)
        return -1;
    if (!strcmp(own.gen.kernel, "attn_prefill"))
        return 0;
    snprintf(params, sizeof params, "d=%d t=%s", b->head_dim, b->type ? "bf16" : "fp16");
    if (bench_kernel(b, "attn_prefill", params, &other, err) != 0)
        return -1;
    c->prefill = other;
    int status = time_parts(c, work, other.gen.kernel, CHUNK_PREFILL, limit, err);
    c->prefill = own;
    kernel_free(&other);
    return status;
}

double prefill_bench_limit(const struct bench *b, double scores)
{
    return 4 * scores * b->heads * b->head_dim / b->gpu.tensor_tflops / 1e9;
}

static int run_chunk(struct bench *b, int window, int stride, struct err *err)
{
    struct prefill_bench c;
    char work[96];
    int status = -1;
    if (prefill_bench_open(&c, b, window, stride, err) != 0)
        goto done;
    snprintf(work, sizeof work, "chunk T=%d W=%d N=%d %d/%d heads d=%d %s", stride, window, c.u.p.subcaches, b->heads,
             b->kv_heads, b->head_dim, b->type ? "bf16" : "fp16");
    double scores = (double)stride * c.held + 0.5 * stride * (stride + 1.0), limit = prefill_bench_limit(b, scores);
    double turned = 4.0 * stride * (b->heads + b->kv_heads) * b->head_dim / b->copy_gbs / 1e6;
    double summed = 4.0 * (c.held + stride) * (b->heads + 2 * c.cascades) / b->copy_gbs / 1e6;
    if (time_parts(&c, work, "whole step with exact scores and eviction, a layer", CHUNK_ALL, 1.5 * limit, err) == 0 &&
        time_parts(&c, work, "attn_turn", CHUNK_TURN, turned, err) == 0 && time_prefill(&c, work, limit, err) == 0 &&
        time_parts(&c, work, "attn_scores", CHUNK_SCORES, limit / 2, err) == 0 &&
        time_parts(&c, work, "attn_score_reduce", CHUNK_REDUCE, summed, err) == 0)
        status = 0;
done:
    prefill_bench_close(&c);
    return status;
}

static int run_causal(struct bench *b, int T, struct err *err)
{
    struct prefill_bench c;
    char work[96];
    int status = -1;
    if (prefill_bench_open(&c, b, 0, T, err) == 0) {
        snprintf(work, sizeof work, "causal T=%d %d/%d heads d=%d %s", T, b->heads, b->kv_heads, b->head_dim,
                 b->type ? "bf16" : "fp16");
        status = time_prefill(&c, work, prefill_bench_limit(b, 0.5 * T * (T + 1.0)), err);
    }
    prefill_bench_close(&c);
    return status;
}

int bench_prefill(int argc, char **argv, struct err *err)
{
    struct bench b;
    int status = bench_start(
        &b, "weir bench prefill [options]",
        "Times attention of a chunk with exact scores and eviction, a layer, in a CUDA graph over the caches of\n"
        "several layers, and causal attention over 8K and 16K tokens. Without --window: W=16384 and T=4096. The\n"
        "limit is the rate that the GPU's maker gives for its tensor cores.",
        argc, argv, err);
    if (status == OPTIONS_GO) {
        int window = b.whole_windows ? b.cascade.p.window : 16384, stride = b.whole_windows ? b.cascade.p.stride : 4096;
        status = run_chunk(&b, window, stride, err) || run_causal(&b, 8192, err) || run_causal(&b, 16384, err)
                     ? CMD_FAILED
                     : CMD_OK;
    }
    bench_end(&b);
    return status;
}
