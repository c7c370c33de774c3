#include "replay.h"

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int trials_until(struct search *s, const double *ms, double enough)
{
    int point;
    while (search_next(s, 1, &point) == 1) {
        search_report(s, point, ms[point]);
        if (ms[point] > 0 && ms[point] <= enough)
            break;
    }
    return s->measured;
}

int replay_search(enum search_kind kind, int n, int dims, const long *at, const double *predicted, const double *ms,
                  int first, int seeds, double near, struct replay *out, struct err *err)
{
    double *trials = err_calloc((size_t)seeds + 1, sizeof *trials, "a replay", err), best = INFINITY;
    int status = trials ? 0 : -1;
    *out = (struct replay){.seeds = seeds};
    for (int i = 0; i < n; i++)
        best = ms[i] > 0 ? fmin(best, ms[i]) : best;
    for (int i = 0; i < seeds && status == 0; i++) {
        struct search s;
        status = search_open(&s, kind, n, dims, at, predicted, first, (uint64_t)i + 1, err);
        if (status != 0)
            break;
        trials[i] = trials_until(&s, ms, (1 + near) * best);
        out->reached += trials[i] <= ceil(0.1 * n);
        out->worst = fmax(out->worst, trials[i]);
        search_close(&s);
    }
    if (status == 0) {
        qsort(trials, (size_t)seeds, sizeof *trials, by_value);
        out->median = trials[seeds / 2];
    }
    free(trials);
    return status;
}
