/* weir bench decode: attention of one token with exact scores and eviction, as a captured decode step runs it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_decode.h"
#include "bench_update.h"
#include "runtime/attn_grid.h"
#include "runtime/move_plan.h"

/* The steps behind token t: where the keys lie, and what the token moves. */
static int put_plan(struct decode_bench *c, int64_t t, int which, struct err *err)
{
    struct cascade_plan part = {0};
    struct move_planner m = {0};
    struct cascade_state s;
    int status = -1;
    cascade_state_at(&c->p, t, &s);
    if (which == 0)
        attn_step_make(&c->layout, &c->p, &s, 1);
    if (cascade_plan_init(&part, &c->p, err) != 0 || move_planner_init(&m, &c->p, err) != 0)
        goto done;
    cascade_plan_make(&part, &c->p, &s, 1);
    move_plan_make(&m, &part, 0);
    if ((which == 0 && bench_put(c->b, &c->layout, sizeof c->layout, &c->step, err) != 0) ||
        bench_put(c->b, m.buffer, m.bytes, &c->plan[which], err) != 0)
        goto done;
    status = 0;
done:
    cascade_plan_free(&part);
    move_planner_free(&m);
    return status;
}

static int open_kernels(struct decode_bench *c, struct err *err)
{
    struct bench *b = c->b;
    char params[96];
    const char *type = b->type ? "bf16" : "fp16";
    snprintf(params, sizeof params, "d=%d g=%d t=%s", b->head_dim, b->heads / b->kv_heads, type);
    if (bench_kernel(b, "attn_decode", params, &c->decode, err) != 0)
        return -1;
    snprintf(params, sizeof params, "r=%d reduce=%s", b->heads / c->cascades, cascade_reduction_name(c->p.reduction));
    if (bench_kernel(b, "attn_decode_scores", params, &c->scores, err) != 0)
        return -1;
    snprintf(params, sizeof params, "d=%d b=%d t=%s", b->head_dim, c->p.span, type);
    return bench_kernel(b, "cascade_update", params, &c->update, err);
}

static int open_memory(struct decode_bench *c, struct err *err)
{
    struct bench *b = c->b;
    size_t layers = (size_t)b->layers, heads = (size_t)b->heads, kv = (size_t)b->kv_heads, d = (size_t)b->head_dim;
    size_t rows = (size_t)c->rows, cascades = (size_t)c->cascades, scored = (size_t)c->scored;
    size_t splits = rows / 64 + 1; /* the most that attn_decode_splits can say */
    size_t sl = 8; /* the most slices that the kernel declares: the tuner launches other tiles than the default */
    size_t most_nodes = 3 * CASCADE_MAX_SUBCACHES;
    return bench_random(b, layers * kv * rows * d, &c->k, err) || bench_random(b, layers * kv * rows * d, &c->v, err) ||
                   bench_random(b, layers * heads * d, &c->q, err) ||
                   bench_random(b, layers * kv * d, &c->k_new, err) ||
                   bench_random(b, layers * kv * d, &c->v_new, err) ||
                   bench_put(b, NULL, layers * heads * d * 2, &c->o, err) ||
                   bench_random(b, layers * cascades * rows * 2, &c->score, err) ||
                   bench_put(b, NULL, layers * cascades * rows * sizeof(int64_t), &c->origin, err) ||
                   bench_put(b, NULL, scored * heads * (size_t)c->stride * sizeof(float), &c->logits, err) ||
                   bench_put(b, NULL, heads * splits * d * sizeof(float), &c->part_o, err) ||
                   bench_put(b, NULL, heads * splits * 2 * sizeof(float), &c->part_ml, err) ||
                   bench_put(b, NULL, scored * heads * sizeof(float), &c->lse, err) ||
                   bench_put(b, NULL, kv * sizeof(unsigned), &c->met, err) ||
                   bench_put(b, NULL, layers * cascades * sizeof(float), &c->chunk_score, err) ||
                   bench_put(b, NULL, layers * kv * sl * most_nodes * 16, &c->moves, err) ||
                   bench_put(b, NULL, layers * cascades * MOVE_TREES_DECODE * sizeof(unsigned), &c->arrived, err)
               ? -1
               : 0;
}

void decode_bench_close(struct decode_bench *c)
{
    devptr all[] = {c->k,           c->v,     c->score,   c->origin,  c->q,       c->k_new,   c->v_new,
                    c->o,           c->step,  c->rot,     c->logits,  c->part_o,  c->part_ml, c->lse,
                    c->chunk_score, c->moves, c->arrived, c->plan[0], c->plan[1], c->met};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        c->b->dev.release(&c->b->dev, all[i]);
    kernel_free(&c->decode);
    kernel_free(&c->scores);
    kernel_free(&c->update);
}

static int launch(struct decode_bench *c, const struct kernel *k, unsigned x, unsigned y, unsigned z, void **args,
                  struct err *err)
{
    struct launch l = {
        .grid = {x, y, z}, .block = k->gen.threads, .smem = k->gen.smem, .args = args, .overlap = c->overlap};
    return c->b->dev.launch(&c->b->dev, k->loaded, &l, err);
}

/* One token through all layers. */
int decode_bench_enqueue(void *user, struct err *err)
{
    struct decode_bench *c = user;
    struct bench *b = c->b;
    unsigned kv = (unsigned)b->kv_heads, layers = (unsigned)b->layers;
    size_t cache = (size_t)kv * (size_t)c->rows * (size_t)b->head_dim * 2, d = (size_t)b->head_dim * 2;
    float gamma = (float)c->p.ema;
    for (size_t layer = 0; layer < layers; layer++) {
        devptr k = c->k + layer * cache, v = c->v + layer * cache, q = c->q + layer * (size_t)b->heads * d,
               k_new = c->k_new + layer * kv * d, v_new = c->v_new + layer * kv * d,
               o = c->o + layer * (size_t)b->heads * d;
        size_t first = layer / (size_t)c->scored * (size_t)c->scored, slot = (layer - first) * (size_t)b->heads;
        devptr logits = c->logits + slot * (size_t)c->stride * sizeof(float), lse = c->lse + slot * sizeof(float),
               score = c->score + first * (size_t)c->cascades * (size_t)c->rows * sizeof(float),
               chunk_score = c->chunk_score + first * (size_t)c->cascades * sizeof(float);
        if ((c->parts & TOKEN_DECODE) &&
            launch(c, &c->decode, (unsigned)c->splits, kv, 1,
                   (void *[]){&q, &k, &v, &k_new, &v_new, &c->step, &c->rot, &logits, &o, &lse, &c->part_o, &c->part_ml,
                              &c->met, &c->rows, &c->stride},
                   err) != 0)
            return -1;
        bool whole = layer + 1 == layers || layer + 1 == first + (size_t)c->scored;
        if ((c->parts & TOKEN_SCORES) && whole &&
            launch(c, &c->scores, (unsigned)c->slices, (unsigned)c->cascades, (unsigned)(layer + 1 - first),
                   (void *[]){&c->logits, &c->stride, &c->lse, &c->step, &score, &chunk_score, &gamma, &c->rows},
                   err) != 0)
            return -1;
    }
    int tokens = 1, chunk_stride = b->kv_heads * b->head_dim, turning = c->p.positions == POSITIONS_CACHE;
    int select = (int)c->p.select, mean = c->p.span_score == SPAN_MEAN;
    int tpb = (int)gen_value(&c->update.gen, "tpb"), sl = (int)gen_value(&c->update.gen, "sl");
    int64_t chunk_layer = chunk_stride;
    uint64_t seed = 0;
    if (!(c->parts & TOKEN_UPDATE))
        return 0;
    return launch(c, &c->update, (unsigned)((MOVE_TREES_DECODE + tpb - 1) / tpb * sl), kv, layers,
                  (void *[]){&c->k,
                             &c->v,
                             &c->score,
                             &c->origin,
                             &c->k_new,
                             &c->v_new,
                             &chunk_stride,
                             &chunk_layer,
                             &c->chunk_score,
                             &tokens,
                             &c->plan[c->moving],
                             &c->rot,
                             &c->moves,
                             &c->arrived,
                             &c->rows,
                             &c->cascades,
                             &turning,
                             &select,
                             &mean,
                             &seed},
                  err);
}

static int time_parts(struct decode_bench *c, int parts, int moving, bool overlap, struct bench_time *t,
                      struct err *err)
{
    c->parts = parts;
    c->moving = moving;
    c->overlap = overlap;
    if (bench_graph(c->b, decode_bench_enqueue, c, t, err) != 0)
        return -1;
    t->ms /= c->b->layers;
    t->spread /= c->b->layers;
    return 0;
}

void decode_bench_grids(struct decode_bench *c)
{
    const struct bench *b = c->b;
    int sms = b->dev.facts.sms, blocks = attn_decode_share(&c->decode.gen, bench_blocks(b, &c->decode));
    c->splits = attn_decode_splits(sms, blocks, b->kv_heads, c->rows);
    c->slices = attn_decode_slices(&c->scores.gen, sms, c->cascades * c->scored, c->rows);
}

int decode_bench_open(struct decode_bench *c, struct bench *b, int window, struct err *err)
{
    *c = (struct decode_bench){.b = b, .p = b->cascade.p};
    c->p.window = window;
    c->p.stride = 1;
    if (cascade_check(&c->p, err) != 0)
        return -1;
    c->rows = cascade_rows(&c->p);
    c->stride = attn_decode_stride(c->rows);
    c->cascades = c->p.policy == POLICY_HOMOGENEOUS ? 1 : b->kv_heads;
    c->scored = attn_decode_layers(b->layers, b->heads, c->stride);
    /* Full to the last step, at a clock when every sub-cache accepts. */
    int64_t t = update_bench_at(&c->p);
    if (bench_sizes(b, 1, c->p.sinks + window, err) != 0 || open_kernels(c, err) != 0)
        return -1;
    decode_bench_grids(c);
    return open_memory(c, err) || bench_angles(b, c->rows + window / c->p.subcaches + 1, &c->rot, err) ||
                   put_plan(c, t + c->p.span / 2, 0, err) || put_plan(c, t + c->p.span - 1, 1, err)
               ? -1
               : 0;
}

static int run_case(struct bench *b, int window, struct err *err)
{
    struct decode_bench c;
    struct bench_time plain, moves, apart, one;
    char work[96];
    int status = -1;
    if (decode_bench_open(&c, b, window, err) != 0)
        goto done;
    double keys = c.p.sinks + window + c.p.span / 2;
    double limit = keys * b->kv_heads * b->head_dim * 4 / b->copy_gbs / 1e6;
    snprintf(work, sizeof work, "decode W=%d N=%d %d/%d heads d=%d %s", window, c.p.subcaches, b->heads, b->kv_heads,
             b->head_dim, b->type ? "bf16" : "fp16");
    int all = TOKEN_DECODE | TOKEN_SCORES | TOKEN_UPDATE;
    if (time_parts(&c, all, 0, true, &plain, err) != 0 || time_parts(&c, all, 1, true, &moves, err) != 0)
        goto done;
    double mean = (plain.ms * (c.p.span - 1) + moves.ms) / c.p.span;
    bench_row(b, work, "whole step, a layer", mean, plain.spread, limit);
    bench_row(b, work, "the same when spans move", moves.ms, moves.spread, limit);
    if (time_parts(&c, all, 0, false, &apart, err) != 0)
        goto done;
    bench_row(b, work, "the same without overlap", apart.ms, apart.spread, limit);
    if (time_parts(&c, TOKEN_DECODE, 0, true, &one, err) != 0)
        goto done;
    bench_row(b, work, "attn_decode", one.ms, one.spread, limit);
    if (time_parts(&c, TOKEN_SCORES, 0, true, &one, err) != 0)
        goto done;
    bench_row(b, work, "attn_decode_scores", one.ms, one.spread,
              keys * (b->heads * 4 + c.cascades * 8) / b->copy_gbs / 1e6);
    if (time_parts(&c, TOKEN_UPDATE, 1, true, &one, err) != 0)
        goto done;
    bench_row(b, work, "cascade_update, spans move", one.ms, one.spread, 0);
    fprintf(stderr, "grids: attn_decode %d x %d, attn_decode_scores %d x %d x %d\n", c.splits, b->kv_heads, c.slices,
            c.cascades, c.scored);
    status = 0;
done:
    decode_bench_close(&c);
    return status;
}

int bench_decode(int argc, char **argv, struct err *err)
{
    struct bench b;
    static const int windows[] = {16384, 65536};
    int status =
        bench_start(&b, "weir bench decode [options]",
                    "Times one token's attention with exact scores and eviction, a layer, in a CUDA graph over the\n"
                    "caches of several layers. Without --window: 16384 and 65536.",
                    argc, argv, err);
    if (status == OPTIONS_GO) {
        int failed = 0;
        if (b.whole_windows)
            failed = run_case(&b, b.cascade.p.window, err);
        else
            for (size_t i = 0; i < sizeof windows / sizeof *windows && !failed; i++)
                failed = run_case(&b, windows[i], err);
        status = failed ? CMD_FAILED : CMD_OK;
    }
    bench_end(&b);
    return status;
}
