/* weir bench stream: a whole long prompt through one layer, chunk by chunk, from an empty cache on. The host plans each chunk and
 * uploads the plan as inference does, while the GPU is busy with the chunk before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_prefill.h"
#include "runtime/move_plan.h"

enum { ROUNDS = 3, MARK_BEGIN = 0, MARK_END = 1, MARK_STAGED = 2 };

struct stream_bench {
    struct prefill_bench c; /* every chunk has the same queries, keys and values: only how many there are takes time */
    struct cascade_state state;
    struct cascade_plan part;
    struct move_planner planner;
    unsigned char *staged; /* page-locked: struct attn_step, then the plans of the chunk's parts */
    devptr plans;
    size_t room;     /* bytes of a part's plan */
    double planning; /* seconds the host spends on plans, of a round */
    double scores;   /* that the round computes, of one head */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t plans_at(void)
{
    return (sizeof(struct attn_step) + 255) / 256 * 256;
}

static void close_stream(struct stream_bench *s)
{
    struct device *dev = &s->c.b->dev;
    if (s->staged)
        dev->release_pinned(dev, s->staged);
    dev->release(dev, s->plans);
    cascade_plan_free(&s->part);
    move_planner_free(&s->planner);
    prefill_bench_close(&s->c);
}

static int open_stream(struct stream_bench *s, struct bench *b, int window, int stride, struct err *err)
{
    struct device *dev = &b->dev;
    memset(s, 0, sizeof *s);
    b->layers = 1;
    if (prefill_bench_open(&s->c, b, window, stride, err) != 0)
        return -1;
    const struct cascade_params *p = &s->c.u.p;
    s->c.parts = CHUNK_ALL;
    if (cascade_plan_init(&s->part, p, err) != 0 || move_planner_init(&s->planner, p, err) != 0)
        return -1;
    int w = p->window / p->subcaches, parts = (stride + w - 1) / w + 1;
    s->room = (s->planner.room + 15) / 16 * 16;
    void *pinned = NULL;
    if (dev->alloc_pinned(dev, plans_at() + (size_t)parts * s->room, &pinned, err) != 0)
        return -1;
    s->staged = pinned;
    return dev->alloc(dev, (size_t)parts * s->room, &s->plans, err);
}

/* Plans the insertion of T tokens into the staging memory; returns the plans' bytes. */
static size_t plan(struct stream_bench *s, int T)
{
    struct update_bench *u = &s->c.u;
    size_t bytes = 0;
    u->tokens = T;
    u->nlaunches = 0;
    for (int done = 0; done < T; done += s->part.tokens, s->state = s->part.after) {
        cascade_plan_make(&s->part, &u->p, &s->state, T - done);
        move_plan_make(&s->planner, &s->part, done);
        memcpy(s->staged + plans_at() + bytes, s->planner.buffer, s->planner.bytes);
        for (int i = 0; i < s->planner.waves; i++) {
            u->trees[u->nlaunches] = s->planner.wave[i].trees;
            u->plan[u->nlaunches++] = s->plans + bytes + (devptr)s->planner.wave[i].at;
        }
        bytes += (s->planner.bytes + 15) / 16 * 16;
    }
    return bytes;
}

static int chunk(struct stream_bench *s, int T, struct err *err)
{
    struct prefill_bench *c = &s->c;
    struct device *dev = &c->b->dev;
    if (dev->wait(dev, MARK_STAGED, err) != 0) /* the chunk before has its plans */
        return -1;
    double begin = now();
    attn_step_make(&c->layout, &c->u.p, &s->state, T);
    memcpy(s->staged, &c->layout, sizeof c->layout);
    size_t bytes = plan(s, T);
    s->planning += now() - begin;
    s->scores += (double)T * c->layout.held + 0.5 * T * (T + 1.0);
    c->T = T;
    c->held = c->layout.held;
    return dev->upload_async(dev, c->step, s->staged, sizeof c->layout, err) ||
                   dev->upload_async(dev, s->plans, s->staged + plans_at(), bytes, err) ||
                   dev->mark(dev, MARK_STAGED, err)
               ? -1
               : prefill_bench_layer(c, 0, err);
}

/* The whole prompt; *ms: from the first launch to the last one's end. */
static int prompt(struct stream_bench *s, float *ms, struct err *err)
{
    struct bench *b = s->c.b;
    struct device *dev = &b->dev;
    cascade_state_at(&s->c.u.p, 0, &s->state);
    s->planning = s->scores = 0;
    if (dev->mark(dev, MARK_BEGIN, err) != 0)
        return -1;
    for (int left = b->tokens, stride = s->c.u.p.stride; left > 0; left -= stride)
        if (chunk(s, left < stride ? left : stride, err) != 0)
            return -1;
    return dev->mark(dev, MARK_END, err) != 0 ? -1 : dev->elapsed(dev, MARK_BEGIN, MARK_END, ms, err);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int run(struct bench *b, int window, int stride, struct err *err)
{
    struct stream_bench s;
    char work[112];
    float first = 0, ms[ROUNDS] = {0};
    int status = -1;
    if (open_stream(&s, b, window, stride, err) != 0)
        goto done;
    int whole = b->tokens;
    b->tokens = 2 * stride < whole ? 2 * stride : whole; /* warms up */
    if (prompt(&s, &first, err) != 0)
        goto done;
    b->tokens = whole;
    for (int i = 0; i < ROUNDS; i++)
        if (prompt(&s, &ms[i], err) != 0)
            goto done;
    qsort(ms, ROUNDS, sizeof *ms, by_value);
    snprintf(work, sizeof work, "prompt of %d tokens, W=%d N=%d T=%d %d/%d heads d=%d %s", b->tokens, window,
             s.c.u.p.subcaches, stride, b->heads, b->kv_heads, b->head_dim, b->type ? "bf16" : "fp16");
    bench_row(b, work, "one layer with exact scores and eviction", (double)ms[ROUNDS / 2],
              (double)(ms[ROUNDS - 1] - ms[0]), 1.5 * prefill_bench_limit(b, s.scores));
    bench_row(b, work, "plans, by the host meanwhile", 1e3 * s.planning, 0, 0);
    status = 0;
done:
    close_stream(&s);
    return status;
}

int bench_stream(int argc, char **argv, struct err *err)
{
    struct bench b;
    int status = bench_start(
        &b, "weir bench stream [options]",
        "Streams a prompt of --tokens tokens through one layer's attention with exact scores and through its cascade,\n"
        "from an empty cache on, planned by the host as it goes. Without --window: W=16384 and T=4096. The limit is\n"
        "the rate that the GPU's maker gives for its tensor cores.",
        argc, argv, err);
    if (status == OPTIONS_GO) {
        int window = b.whole_windows ? b.cascade.p.window : 16384, stride = b.whole_windows ? b.cascade.p.stride : 4096;
        status = run(&b, window, stride, err) ? CMD_FAILED : CMD_OK;
    }
    bench_end(&b);
    return status;
}
