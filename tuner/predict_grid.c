/* How the blocks of a launch follow one another: each multiprocessor takes the next block as soon as one of its own ends. Those that share
 * it advance nearly alike, but not quite: blocks that start together do not end together, and after a few waves their places fall free
 * one by one all over the GPU. Where several could go on the schedulers may favour the older (`alike`), and no two blocks are equally
 * fast (`vary`). When few are left they run at what few can draw. Tails and causal grids, whose blocks differ, come out by themselves. */
#include "predict_private.h"

#include <math.h>
#include <stdlib.h>

static const double little = 1e-6; /* turns, cycles: what rounding leaves */

struct block {
    double start; /* cycles until its first turn */
    double turns; /* left */
};

struct processor {
    double now;                       /* cycle up to which its blocks have advanced */
    double end;                       /* cycle of the next event */
    struct block block[RESIDENT_MAX]; /* oldest first */
    int n;                            /* blocks */
};

struct state {
    const struct predict_grid *grid;
    double rate[RESIDENT_MAX + 1][RESIDENT_MAX]; /* [blocks that turn][by age, oldest first] turns a cycle */
    struct processor *sm;
    int *heap; /* [sms] indices into sm, a binary heap by `end` */
    int sms, next;
};

/* Of the part that blocks do not share alike the oldest takes what it could take alone, the next one what is left of what two can take,
 * and so on. */
static void fill_rates(struct state *s)
{
    double alike = s->grid->alike;
    double together[RESIDENT_MAX + 1] = {0}; /* turns a cycle of so many blocks; more blocks never make fewer */
    for (int n = 1; n <= s->grid->resident; n++) {
        together[n] = fmax(n / s->grid->turn[n], together[n - 1]);
        for (int i = 0; i < n; i++)
            s->rate[n][i] = (1 - alike) * (together[i + 1] - together[i]) + alike * together[n] / n;
    }
}

static int turning(const struct processor *p)
{
    int n = 0;
    for (int i = 0; i < p->n; i++)
        n += p->block[i].start <= 0;
    return n;
}

/* A number of -1..1 that is always the same for a block. */
static double chance(int block)
{
    unsigned h = (unsigned)(block + 1) * 2654435761u;
    h = (h ^ h >> 15) * 2246822519u;
    return (h ^ h >> 13) / 2147483648.0 - 1;
}

static void add_block(struct state *s, struct processor *p)
{
    const struct predict_grid *g = s->grid;
    double turns = g->work(g->user, s->next) * (1 + g->vary * chance(s->next));
    p->block[p->n++] = (struct block){g->start, fmax(turns, 1e-3)};
    s->next++;
}

static void find_end(const struct state *s, struct processor *p)
{
    const double *rate = s->rate[turning(p)];
    double least = INFINITY;
    for (int i = 0; i < p->n; i++) {
        const struct block *b = &p->block[i];
        double left = b->start > 0 ? b->start : b->turns / *rate++;
        least = fmin(least, left);
    }
    p->end = p->now + least;
}

/* To the next event: a block begins to turn, or ends. */
static void advance(const struct state *s, struct processor *p)
{
    const double *rate = s->rate[turning(p)];
    double cycles = p->end - p->now;
    int kept = 0;
    for (int i = 0; i < p->n; i++) {
        struct block b = p->block[i];
        if (b.start > 0)
            b.start = b.start - cycles > little ? b.start - cycles : 0;
        else
            b.turns -= cycles * *rate++;
        if (b.start > 0 || b.turns > little)
            p->block[kept++] = b;
    }
    p->n = kept;
    p->now = p->end;
}

/* Restores the heap where its entry `at` may be too late for its place. */
static void sink(struct state *s, int at)
{
    int moved = s->heap[at];
    for (int child; (child = 2 * at + 1) < s->sms; at = child) {
        if (child + 1 < s->sms && s->sm[s->heap[child + 1]].end < s->sm[s->heap[child]].end)
            child++;
        if (s->sm[moved].end <= s->sm[s->heap[child]].end)
            break;
        s->heap[at] = s->heap[child];
    }
    s->heap[at] = moved;
}

double predict_makespan(const struct predict_grid *grid, int sms)
{
    struct state s = {.grid = grid, .sms = sms};
    s.sm = calloc((size_t)sms, sizeof *s.sm);
    s.heap = malloc((size_t)sms * sizeof *s.heap);
    double now = s.sm && s.heap ? 0 : INFINITY;
    if (now > 0)
        goto done;
    fill_rates(&s);
    /* The first blocks go round the multiprocessors. */
    for (int i = 0; i < grid->resident; i++)
        for (int k = 0; k < sms && s.next < grid->blocks; k++)
            add_block(&s, &s.sm[k]);
    for (int k = 0; k < sms; k++) {
        find_end(&s, &s.sm[k]);
        s.heap[k] = k;
    }
    for (int k = sms / 2 - 1; k >= 0; k--)
        sink(&s, k);
    for (;;) {
        struct processor *p = &s.sm[s.heap[0]];
        if (p->n == 0)
            break;
        now = p->end;
        advance(&s, p);
        while (p->n < grid->resident && s.next < grid->blocks)
            add_block(&s, p);
        find_end(&s, p);
        sink(&s, 0);
    }
done:
    free(s.sm);
    free(s.heap);
    return now;
}
