/* How the blocks of a launch follow one another: each multiprocessor takes the next block as soon as one of its own ends, and blocks that
 * share it slow each other down. Tails and causal grids, whose blocks differ, come out by themselves. */
#include "predict_private.h"

#include <math.h>
#include <stdlib.h>

struct processor {
    double now;                /* cycle up to which its blocks have advanced */
    double left[RESIDENT_MAX]; /* turns */
    int n;                     /* blocks */
};

/* The cycle at which its next block ends. */
static double next_end(const struct predict_grid *grid, const struct processor *p)
{
    double least = INFINITY;
    for (int i = 0; i < p->n; i++)
        least = fmin(least, p->left[i]);
    return p->n ? p->now + least * grid->turn[p->n] : INFINITY;
}

static void advance(const struct predict_grid *grid, struct processor *p, double to)
{
    double turns = p->n ? (to - p->now) / grid->turn[p->n] : 0;
    int kept = 0;
    for (int i = 0; i < p->n; i++) {
        p->left[i] -= turns;
        if (p->left[i] > 1e-6)
            p->left[kept++] = p->left[i];
    }
    p->n = kept;
    p->now = to;
}

double predict_makespan(const struct predict_grid *grid, int sms)
{
    struct processor *p = calloc((size_t)sms, sizeof *p);
    double *end = malloc((size_t)sms * sizeof *end);
    double now = 0;
    int next = 0;
    if (!p || !end) {
        free(p);
        free(end);
        return INFINITY;
    }
    /* The first blocks go round the multiprocessors. */
    for (int i = 0; i < grid->resident; i++)
        for (int s = 0; s < sms && next < grid->blocks; s++)
            p[s].left[p[s].n++] = fmax(grid->work(grid->user, next++), 1e-3);
    for (int s = 0; s < sms; s++)
        end[s] = next_end(grid, &p[s]);
    for (;;) {
        int first = 0;
        for (int s = 1; s < sms; s++)
            if (end[s] < end[first])
                first = s;
        if (end[first] == INFINITY)
            break;
        now = end[first];
        advance(grid, &p[first], now);
        while (p[first].n < grid->resident && next < grid->blocks)
            p[first].left[p[first].n++] = fmax(grid->work(grid->user, next++), 1e-3);
        end[first] = next_end(grid, &p[first]);
    }
    free(p);
    free(end);
    return now;
}
