/* weir bench update: a chunk of tokens down a full cascade. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_update.h"
#include "runtime/move_plan.h"

static int launch(struct update_bench *c, int part, int layer, int layers, struct err *err)
{
    struct bench *b = c->b;
    int chunk_stride = b->kv_heads * b->head_dim, turning = c->p.positions == POSITIONS_CACHE;
    int select = (int)c->p.select, mean = c->p.span_score == SPAN_MEAN;
    int tpb = (int)gen_value(&c->update.gen, "tpb"), sl = (int)gen_value(&c->update.gen, "sl");
    int64_t chunk_layer = 0; /* all layers may read one chunk: it is 3 % of the bytes, and no L2 keeps it */
    uint64_t seed = 0;
    size_t cache = (size_t)b->kv_heads * (size_t)c->rows * (size_t)b->head_dim * 2, at = (size_t)layer;
    size_t scores = (size_t)c->cascades * (size_t)c->rows;
    devptr k = c->k + at * cache, v = c->v + at * cache, score = c->score + at * scores * sizeof(float),
           origin = c->origin + at * scores * sizeof(int64_t);
    struct launch l = {
        .grid = {(unsigned)((c->trees[part] + tpb - 1) / tpb * sl), (unsigned)b->kv_heads, (unsigned)layers},
        .block = c->update.gen.threads,
        .smem = c->update.gen.smem,
        .args = (void *[]){&k,
                           &v,
                           &score,
                           &origin,
                           &c->k_chunk,
                           &c->v_chunk,
                           &chunk_stride,
                           &chunk_layer,
                           &c->chunk_score,
                           &c->tokens,
                           &c->plan[part],
                           &c->rot,
                           &c->moves,
                           &c->arrived,
                           &c->rows,
                           &c->cascades,
                           &turning,
                           &select,
                           &mean,
                           &seed}};
    return b->dev.launch(&b->dev, c->update.loaded, &l, err);
}

int update_bench_layer(struct update_bench *c, int layer, struct err *err)
{
    for (int part = 0; part < c->nlaunches; part++)
        if (launch(c, part, layer, 1, err) != 0)
            return -1;
    return 0;
}

static int enqueue(void *user, struct err *err)
{
    struct update_bench *c = user;
    for (int layer = 0; layer < c->b->layers && !c->one_launch; layer++)
        if (update_bench_layer(c, layer, err) != 0)
            return -1;
    for (int part = 0; part < c->nlaunches && c->one_launch; part++)
        if (launch(c, part, 0, c->b->layers, err) != 0)
            return -1;
    return 0;
}

int64_t update_bench_at(const struct cascade_params *p)
{
    return p->sinks + (2 * cascade_reach(p) / p->span + 4096) / 4096 * 4096 * p->span;
}

static int put_plans(struct update_bench *c, int *most_nodes, struct err *err)
{
    struct cascade_plan part = {0};
    struct move_planner m = {0};
    struct cascade_state s;
    int status = -1;
    c->t = update_bench_at(&c->p);
    cascade_state_at(&c->p, c->t, &s);
    if (cascade_plan_init(&part, &c->p, err) != 0 || move_planner_init(&m, &c->p, err) != 0)
        goto done;
    *most_nodes = m.most_nodes;
    for (int at = 0; at < c->p.stride; at += part.tokens, s = part.after) {
        cascade_plan_make(&part, &c->p, &s, c->p.stride - at);
        move_plan_make(&m, &part, at);
        if (c->nlaunches + m.waves > UPDATE_LAUNCHES_MAX) {
            err_set(err, "--stride %d: takes more than %d launches; this bench times no such chunks", c->p.stride,
                    UPDATE_LAUNCHES_MAX);
            goto done;
        }
        for (int i = 0; i < part.ngroups; i++)
            c->moved += part.group[i].holder ? 0.5 : 1;
        devptr *buffer = &c->buffer[c->nbuffers];
        if (bench_put(c->b, m.buffer, m.bytes, buffer, err) != 0)
            goto done;
        c->nbuffers++;
        for (int i = 0; i < m.waves; i++) {
            c->trees[c->nlaunches] = m.wave[i].trees;
            c->plan[c->nlaunches++] = *buffer + (devptr)m.wave[i].at;
        }
    }
    status = 0;
done:
    cascade_plan_free(&part);
    move_planner_free(&m);
    return status;
}

static int open_memory(struct update_bench *c, int most_nodes, struct err *err)
{
    struct bench *b = c->b;
    size_t layers = (size_t)b->layers, kv = (size_t)b->kv_heads, d = (size_t)b->head_dim, rows = (size_t)c->rows;
    size_t cascades = (size_t)c->cascades, tokens = (size_t)c->p.stride;
    size_t sl = UPDATE_SLICES_MAX, nodes = (size_t)most_nodes;
    return bench_random(b, layers * kv * rows * d, &c->k, err) || bench_random(b, layers * kv * rows * d, &c->v, err) ||
                   bench_random(b, layers * cascades * rows * 2, &c->score, err) ||
                   bench_put(b, NULL, layers * cascades * rows * sizeof(int64_t), &c->origin, err) ||
                   bench_random(b, tokens * kv * d, &c->k_chunk, err) ||
                   bench_random(b, tokens * kv * d, &c->v_chunk, err) ||
                   bench_random(b, layers * cascades * tokens * 2, &c->chunk_score, err) ||
                   bench_put(b, NULL, layers * kv * sl * nodes * 16, &c->moves, err) ||
                   bench_put(b, NULL, layers * cascades * nodes * sizeof(unsigned), &c->arrived, err) ||
                   bench_angles(b, c->rows, &c->rot, err)
               ? -1
               : 0;
}

void update_bench_close(struct update_bench *c)
{
    devptr all[] = {c->k,       c->v,           c->score, c->origin, c->k_chunk,
                    c->v_chunk, c->chunk_score, c->rot,   c->moves,  c->arrived};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        c->b->dev.release(&c->b->dev, all[i]);
    for (int i = 0; i < c->nbuffers; i++)
        c->b->dev.release(&c->b->dev, c->buffer[i]);
    kernel_free(&c->update);
}

int update_bench_open(struct update_bench *c, struct bench *b, int window, int stride, struct err *err)
{
    char params[64];
    int most_nodes = 0;
    *c = (struct update_bench){.b = b, .p = b->cascade.p};
    c->p.window = window;
    c->p.stride = c->tokens = stride;
    if (cascade_check(&c->p, err) != 0)
        return -1;
    if (bench_sizes(b, stride, c->p.sinks + window, err) != 0)
        return -1;
    c->rows = cascade_rows(&c->p);
    c->cascades = c->p.policy == POLICY_HOMOGENEOUS ? 1 : b->kv_heads;
    snprintf(params, sizeof params, "d=%d b=%d t=%s", b->head_dim, c->p.span, b->type ? "bf16" : "fp16");
    return bench_kernel(b, "cascade_update", params, &c->update, err) || put_plans(c, &most_nodes, err) ||
                   open_memory(c, most_nodes, err)
               ? -1
               : 0;
}

static int run_case(struct bench *b, int window, int stride, struct err *err)
{
    struct update_bench c;
    struct bench_time t;
    char work[96];
    int status = -1;
    if (update_bench_open(&c, b, window, stride, err) != 0)
        goto done;
    double rows = stride + c.moved * c.p.span;
    double limit = rows * b->kv_heads * 2 * (2 * b->head_dim * 2 + 12) / b->copy_gbs / 1e6;
    snprintf(work, sizeof work, "update T=%d W=%d N=%d B=%d %d heads d=%d", stride, window, c.p.subcaches, c.p.span,
             b->kv_heads, b->head_dim);
    for (int one = 0; one < 2; one++) {
        c.one_launch = one;
        if (bench_graph(b, enqueue, &c, &t, err) != 0)
            goto done;
        bench_row(b, work, one ? "all layers in one launch, a layer" : "cascade_update, a layer", t.ms / b->layers,
                  t.spread / b->layers, limit);
    }
    status = 0;
done:
    update_bench_close(&c);
    return status;
}

int bench_update(int argc, char **argv, struct err *err)
{
    struct bench b;
    int status =
        bench_start(&b, "weir bench update [options]",
                    "Times the insertion of a chunk into a full cascade, a layer, in a CUDA graph over the caches of\n"
                    "several layers. Without --window: W=16384 and T=4096.",
                    argc, argv, err);
    if (status == OPTIONS_GO) {
        int window = b.whole_windows ? b.cascade.p.window : 16384;
        status = run_case(&b, window, b.whole_windows ? b.cascade.p.stride : 4096, err) ? CMD_FAILED : CMD_OK;
    }
    bench_end(&b);
    return status;
}
