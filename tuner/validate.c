#include "validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct value {
    double v;
    int index;
};

static int by_value(const void *a, const void *b)
{
    const struct value *x = a, *y = b;
    return (x->v > y->v) - (x->v < y->v);
}

/* rank[i]: how many are less than v[i], and half of those that equal it. */
static void fill_ranks(const double *v, int n, struct value *sorted, double *rank)
{
    for (int i = 0; i < n; i++)
        sorted[i] = (struct value){v[i], i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int i = 0, end; i < n; i = end) {
        for (end = i; end < n && sorted[end].v == sorted[i].v; end++)
            ;
        for (int k = i; k < end; k++)
            rank[sorted[k].index] = (i + end - 1) / 2.0;
    }
}

double rank_correlation(const double *a, const double *b, int n)
{
    struct value *sorted = malloc((size_t)n * sizeof *sorted + 1);
    double *rank = malloc(2 * (size_t)n * sizeof *rank + 1), r = NAN;
    if (sorted && rank) {
        double ab = 0, aa = 0, bb = 0, mean = (n - 1) / 2.0;
        fill_ranks(a, n, sorted, rank);
        fill_ranks(b, n, sorted, rank + n);
        for (int i = 0; i < n; i++) {
            double x = rank[i] - mean, y = rank[n + i] - mean;
            ab += x * y;
            aa += x * x;
            bb += y * y;
        }
        r = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
    }
    free(sorted);
    free(rank);
    return r;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Numbers that follow from the prediction's order. order: [m] configs, predicted best first. */
static void judge_order(const double *measured, const struct value *order, int m, struct validation *out)
{
    double least = measured[out->best], best5 = INFINITY;
    out->picked = order[0].index;
    out->regret = measured[out->picked] / least - 1;
    for (int i = 0; i < m && i < 5; i++)
        best5 = fmin(best5, measured[order[i].index]);
    out->regret5 = best5 / least - 1;
    for (int i = 0; i < m; i++)
        if (order[i].index == out->best)
            out->best_rank = i + 1;
}

int validate(const double *measured, const double *predicted, int n, struct validation *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    struct value *order = err_alloc((size_t)n + 1, sizeof *order, "a validation", err);
    double *row = err_alloc(3 * (size_t)n + 1, sizeof *row, "a validation", err);
    int status = -1, m = 0;
    if (!order || !row)
        goto done;
    double *near_measured = row, *near_predicted = row + n, *ratio = row + 2 * n;
    out->best = -1;
    for (int i = 0; i < n; i++) {
        if (!(measured[i] > 0) || !(predicted[i] > 0))
            continue;
        order[m] = (struct value){predicted[i], i};
        ratio[m++] = predicted[i] / measured[i];
        if (out->best < 0 || measured[i] < measured[out->best])
            out->best = i;
    }
    if (m < 3) {
        err_set(err, "only %d configs are both measured and predicted; a validation needs 3", m);
        goto done;
    }
    out->n = m;
    for (int i = 0; i < m; i++)
        if (measured[order[i].index] <= 2 * measured[out->best]) {
            near_measured[out->near] = measured[order[i].index];
            near_predicted[out->near++] = order[i].v;
        }
    out->spearman = rank_correlation(near_measured, near_predicted, out->near);
    qsort(order, (size_t)m, sizeof *order, by_value);
    judge_order(measured, order, m, out);
    qsort(ratio, (size_t)m, sizeof *ratio, by_number);
    out->bias = ratio[m / 2];
    status = 0;
done:
    free(order);
    free(row);
    return status;
}
