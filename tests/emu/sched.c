#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct run *emu_run;

static uint64_t next_random(struct run *r) /* splitmix64 */
{
    uint64_t z = r->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The order in which n things run. */
static void make_order(struct run *r, int *order, int n)
{
    for (int i = 0; i < n; i++)
        order[i] = r->schedule == EMU_REVERSE ? n - 1 - i : i;
    if (r->schedule != EMU_RANDOM)
        return;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(next_random(r) % (uint64_t)(i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

static void report(struct run *r, int t, const char *at, const void *pc, const char *fmt, va_list ap)
{
    if (r->failed)
        return;
    r->failed = true;
    r->at = at;
    r->pc = pc;
    size_t n = (size_t)snprintf(r->message, sizeof r->message, "kernel %.200s, block (%u,%u,%u)", r->kernel, r->bid[0],
                                r->bid[1], r->bid[2]);
    if (t >= 0)
        n += (size_t)snprintf(r->message + n, sizeof r->message - n, ", thread %d (warp %d, lane %d)", t, t / WARP,
                              t % WARP);
    n += (size_t)snprintf(r->message + n, sizeof r->message - n, ": ");
    vsnprintf(r->message + n, sizeof r->message - n, fmt, ap);
}

void run_report(struct run *r, int t, const char *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(r, t, at, NULL, fmt, ap);
    va_end(ap);
}

void run_fail(const char *at, const void *pc, const char *fmt, ...)
{
    struct run *r = emu_run;
    va_list ap;
    va_start(ap, fmt);
    report(r, r->current, at, pc, fmt, ap);
    va_end(ap);
    for (;;)
        fiber_yield(r->fibers); /* the scheduler never comes back to it */
}

struct thread *run_thread(void)
{
    return &emu_run->thread[emu_run->current];
}

void run_wait(struct thread *t, enum wait wait, const char *at)
{
    t->wait = wait;
    t->at = at;
    fiber_yield(emu_run->fibers);
}

/* First function of every fiber. */
static void thread_main(void)
{
    struct run *r = emu_run;
    r->entry(r->args);
    struct thread *t = run_thread();
    for (;;)
        run_wait(t, WAIT_EXIT, NULL);
}

/* All lanes of warp w have stopped: they must have stopped at the same place. -1 after a report. */
static int check_together(struct run *r, int w)
{
    struct thread *lane = &r->thread[w * WARP];
    int first = 0, exited = 0;
    for (int i = 0; i < r->warp[w].lanes; i++) {
        exited += lane[i].wait == WAIT_EXIT;
        if (lane[first].wait == WAIT_EXIT && lane[i].wait != WAIT_EXIT)
            first = i;
    }
    if (exited == r->warp[w].lanes)
        return 0;
    struct thread *a = &lane[first];
    for (int i = 0; i < r->warp[w].lanes; i++) {
        struct thread *b = &lane[i];
        if (b->wait == WAIT_EXIT) {
            run_report(r, w * WARP + first, a->at, "waits in %s for lane %d of its warp, which has exited",
                       wait_name(a->wait), i);
            return -1;
        }
        if (b->wait != a->wait || (b->at != a->at && strcmp(b->at, a->at) != 0)) {
            run_report(r, w * WARP + first, a->at, "divergent: it waits in %s, lane %d of its warp in %s at %s",
                       wait_name(a->wait), i, wait_name(b->wait), b->at);
            return -1;
        }
        if ((a->wait == WAIT_SYNC_NAMED || a->wait == WAIT_ARRIVE_NAMED) && (b->arg != a->arg || b->arg2 != a->arg2)) {
            run_report(r, w * WARP + first, a->at,
                       "waits at barrier %d for %d threads, lane %d of its warp at barrier %d for %d", a->arg, a->arg2,
                       i, b->arg, b->arg2);
            return -1;
        }
    }
    return 0;
}

static void release(struct run *r, uint32_t warps)
{
    shadow_join(r, warps);
    r->opened = true;
    for (int w = 0; w < r->nwarps; w++)
        if (warps >> w & 1) {
            r->warp[w].waits = false;
            for (int i = 0; i < r->warp[w].lanes; i++)
                r->thread[w * WARP + i].wait = WAIT_NONE;
        }
}

/* What those who counted in at a barrier knew and had done is known to the warps that wait there. */
static void learn(struct run *r, struct barrier *b, uint32_t warps)
{
    for (int w = 0; w < r->nwarps; w++)
        for (int v = 0; v < r->nwarps && (warps >> w & 1); v++)
            r->warp[w].clock[v] = b->clock[v] > r->warp[w].clock[v] ? b->clock[v] : r->warp[w].clock[v];
    memset(b, 0, sizeof *b);
}

/* Warp w counts in at a named barrier, and goes on. */
static void count_in(struct run *r, int w)
{
    struct barrier *b = &r->barrier[r->thread[w * WARP].arg];
    struct warp *wp = &r->warp[w];
    wp->clock[w]++;
    b->threads += wp->lanes;
    for (int v = 0; v < r->nwarps; v++)
        b->clock[v] = wp->clock[v] > b->clock[v] ? wp->clock[v] : b->clock[v];
    for (int i = 0; i < wp->lanes; i++)
        r->thread[w * WARP + i].wait = WAIT_NONE;
}

/* Warp w has come to a barrier of the block; opens it when it was the last. -1 after a report. */
static int arrive(struct run *r, int w)
{
    struct thread *t = &r->thread[w * WARP];
    bool only_counts = t->wait == WAIT_ARRIVE_NAMED, named = only_counts || t->wait == WAIT_SYNC_NAMED;
    enum wait wait = only_counts ? WAIT_SYNC_NAMED : t->wait;
    struct barrier *b = named ? &r->barrier[t->arg] : NULL;
    uint32_t waiting = 0;
    int threads = 0;
    if (only_counts)
        count_in(r, w);
    else
        r->warp[w].waits = true;
    for (int v = 0; v < r->nwarps; v++) {
        struct thread *o = &r->thread[v * WARP];
        if (!r->warp[v].waits || o->wait != wait || (named && o->arg != t->arg))
            continue;
        if (named && o->arg2 != t->arg2) {
            run_report(r, w * WARP, t->at, "waits at barrier %d for %d threads, warp %d waits there for %d", t->arg,
                       t->arg2, v, o->arg2);
            return -1;
        }
        if (!named && strcmp(o->at, t->at) != 0) {
            run_report(r, w * WARP, t->at, "divergent: it waits in sync_block here, warp %d in another, at %s", v,
                       o->at);
            return -1;
        }
        waiting |= 1u << v;
        threads += r->warp[v].lanes;
    }
    if (threads + (b ? b->threads : 0) == (named ? t->arg2 : (int)r->threads)) {
        release(r, waiting);
        if (b)
            learn(r, b, waiting);
    }
    return 0;
}

/* Warp w has come to a product of its warpgroup; does it when all four are there. -1 after a report. */
static int arrive_at_product(struct run *r, int w)
{
    int first = w / 4 * 4;
    struct thread *t = &r->thread[w * WARP];
    if (first + 4 > r->nwarps || r->warp[w].lanes < WARP) {
        run_report(r, w * WARP, t->at, "a product of a warpgroup that has not four warps");
        return -1;
    }
    r->warp[w].waits = true;
    for (int v = first; v < first + 4; v++) {
        struct thread *o = &r->thread[v * WARP];
        if (!r->warp[v].waits)
            return 0;
        if (o->wait != WAIT_WGMMA || strcmp(o->at, t->at) != 0) {
            run_report(r, w * WARP, t->at, "divergent: it waits in wgmma, warp %d of its warpgroup in %s at %s", v,
                       wait_name(o->wait), o->at);
            return -1;
        }
    }
    if (wgmma_perform(r, w) != 0)
        return -1;
    r->opened = true;
    for (int v = first; v < first + 4; v++) {
        r->warp[v].waits = false;
        for (int i = 0; i < WARP; i++)
            r->thread[v * WARP + i].wait = WAIT_NONE;
    }
    return 0;
}

/* No warp can run and not all have ended: says who waits for whom. */
static void report_deadlock(struct run *r)
{
    int waits = -1, ended = -1, other = -1;
    for (int w = 0; w < r->nwarps; w++) {
        if (r->warp[w].waits && waits < 0)
            waits = w;
        if (r->warp[w].ended)
            ended = w;
    }
    struct thread *t = &r->thread[waits * WARP];
    for (int w = waits + 1; w < r->nwarps; w++)
        if (r->warp[w].waits && (r->thread[w * WARP].wait != t->wait || r->thread[w * WARP].arg != t->arg))
            other = w;
    const char *what = wait_name(t->wait);
    if (other >= 0)
        run_report(r, waits * WARP, t->at, "divergent: it waits in %s for ever, warp %d waits in %s at %s", what, other,
                   wait_name(r->thread[other * WARP].wait), r->thread[other * WARP].at);
    else if (ended >= 0)
        run_report(r, waits * WARP, t->at, "waits in %s for ever: warp %d has exited", what, ended);
    else
        run_report(r, waits * WARP, t->at, "waits in %s for %d threads, more than come", what, t->arg2);
}

/* Runs warp w until its lanes have all stopped, then does what they wait for. -1 when the run has failed. */
static int step_warp(struct run *r, int w)
{
    int order[WARP];
    struct warp *wp = &r->warp[w];
    make_order(r, order, wp->lanes);
    for (int i = 0; i < wp->lanes; i++) {
        int t = w * WARP + order[i];
        if (r->thread[t].wait != WAIT_NONE)
            continue;
        r->current = t;
        fiber_resume(r->fibers, t);
        if (r->failed)
            return -1;
    }
    r->current = -1;
    if (r->expired) {
        run_report(r, w * WARP, r->thread[w * WARP].at, "the launch does not end within %g s", r->seconds);
        return -1;
    }
    if (check_together(r, w) != 0)
        return -1;
    r->stats.collectives++;
    switch (r->thread[w * WARP].wait) {
    case WAIT_EXIT:
        wp->ended = true;
        if (!wgmma_under_way(w))
            return 0;
        run_report(r, w * WARP, NULL, "it ends with products under way");
        return -1;
    case WAIT_SYNC_BLOCK:
    case WAIT_SYNC_NAMED:
    case WAIT_ARRIVE_NAMED:
        return arrive(r, w);
    case WAIT_WGMMA:
        return arrive_at_product(r, w);
    default:
        return warp_perform(r, w);
    }
}

/* The warp to run next, or -1: the same one up to the next barrier, then the first in order; at random, any. */
static int pick_warp(struct run *r, int last)
{
    int order[MAX_WARPS];
    bool keep = r->schedule != EMU_RANDOM && last >= 0 && !r->opened;
    r->opened = false;
    if (keep && !r->warp[last].waits && !r->warp[last].ended)
        return last;
    make_order(r, order, r->nwarps);
    for (int i = 0; i < r->nwarps; i++)
        if (!r->warp[order[i]].waits && !r->warp[order[i]].ended)
            return order[i];
    return -1;
}

static int run_block(struct run *r)
{
    r->serial++;
    r->opened = false;
    r->stats.blocks++;
    shadow_begin_block(r);
    order_begin_block();
    wgmma_begin_block(r);
    memset(r->barrier, 0, sizeof r->barrier);
    memset(r->fence_at, 0, sizeof r->fence_at);
    for (int w = 0; w < r->nwarps; w++) {
        struct warp *wp = &r->warp[w];
        int left = (int)r->threads - w * WARP;
        wp->lanes = left < WARP ? left : WARP;
        wp->waits = wp->ended = false;
        memset(wp->clock, 0, sizeof wp->clock);
        wp->clock[w] = 1;
    }
    for (int i = 0; i < (int)r->threads; i++) {
        r->thread[i].wait = WAIT_NONE;
        r->thread[i].ncopies = 0;
        r->thread[i].group = 0;
        fiber_start(r->fibers, i, thread_main);
    }
    for (int w = -1; (w = pick_warp(r, w)) >= 0;)
        if (step_warp(r, w) != 0)
            return -1;
    for (int w = 0; w < r->nwarps; w++)
        if (!r->warp[w].ended) {
            report_deadlock(r);
            return -1;
        }
    return 0;
}

int run_grid(struct run *r)
{
    uint64_t blocks = (uint64_t)r->grid[0] * r->grid[1] * r->grid[2];
    uint64_t start = 0, stride = 1;
    if (r->schedule == EMU_REVERSE) {
        start = blocks - 1;
        stride = blocks - 1;
    } else if (r->schedule == EMU_RANDOM) {
        /* i -> start + i * stride visits every block once when stride and their number have no common divisor. */
        start = next_random(r) % blocks;
        uint64_t a, b;
        do {
            stride = 1 + next_random(r) % blocks;
            for (a = blocks, b = stride; b;) {
                uint64_t c = a % b;
                a = b;
                b = c;
            }
        } while (a != 1);
    }
    r->expired = false;
    r->launch_first = r->serial + 1;
    order_begin_launch();
    r->failed = false;
    r->stats.launches++;
    int rc = 0;
    emu_run = r;
    for (uint64_t i = 0; i < blocks && rc == 0; i++) {
        uint64_t b = (start + i % blocks * stride) % blocks;
        r->bid[0] = (unsigned)(b % r->grid[0]);
        r->bid[1] = (unsigned)(b / r->grid[0] % r->grid[1]);
        r->bid[2] = (unsigned)(b / r->grid[0] / r->grid[1]);
        rc = run_block(r);
    }
    emu_run = NULL;
    r->current = -1;
    return rc;
}
