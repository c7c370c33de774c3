/* The model-guided search. What a model of the machine says of each point is right up to a factor that changes slowly over the space;
 * a Gaussian process over log(measured / predicted) learns that factor from the trials so far, and next comes the point that is expected
 * to be furthest below the best. A point that is all but the same as one that was measured promises nothing, so it waits.
 *
 * How slowly the factor changes is learnt for each coordinate by itself: most tile parameters matter little beside one or two that do,
 * and which those are differs from kernel to kernel. So is how far the predictions are to be believed: the process has a line over
 * log(predicted) in it, whose slope says so. But it learns that only where it looks, and it looks where the predictions are good. A search
 * may therefore stay among tiles that are predicted well and are all alike, while the best are of a kind that is predicted badly. So after
 * DOUBT trials every second one goes by a second process, of the times alone: a prediction that misleads then costs about twice the trials
 * of a search without one, not all of what is predicted well. Where nothing is predicted there is only that process. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search.h"

enum {
    SEEN_MAX = 128, /* trials that a process is fitted to: a step costs their square for each point */
    DIMS_MAX = 16,
    FEWEST = 4, /* trials that a shape is chosen by */
    DOUBT = 12, /* trials after which every second goes by the times alone */
    OFTEN = 24, /* up to so many trials shapes are chosen anew for each, then for every eighth part more */
    SWEEPS = 4
};

/* A process before it has seen anything, and how far it is likely to be otherwise, as logs. */
static const double width_informed = 0.12; /* standard deviation of log(measured / predicted) */
static const double width_blind = 0.3;     /* the same of log(measured) */
static const double width_spread = 0.6;
static const double length_before = 2; /* over which a coordinate from 0 to 1 matters little */
static const double length_spread = 1.2;
static const double slope = 0.5; /* standard deviation of the power of the prediction that is missing or too much */

static const double noise = 0.007; /* of a measurement */
static const double failed = 0.7;  /* what a failed config counts as: so much worse than the rest, as a log */
static const double margin = 0.01; /* what is nearer to the best than that is no gain */
static const double step = 1.5;    /* between the widths and lengths that are tried */

/* One process: of the factor to the prediction, or of the times alone. */
struct process {
    bool informed;
    double width;            /* standard deviation of what is not the line */
    double length[DIMS_MAX]; /* over which coordinates from 0 to 1 it stays alike */
};

struct guide {
    int nseen, seen[SEEN_MAX];
    double chol[SEEN_MAX][SEEN_MAX]; /* of the covariance of what was seen, lower half */
    double weight[SEEN_MAX];         /* covariance^-1 (y - mean) */
    double mean;
    int nprocesses; /* the last is of the times alone */
    struct process process[2];
    int shaped;      /* trials that their shapes were chosen by */
    double *told;    /* [n] log(predicted), less its mean over the space; 0 where nothing is predicted */
    double *lacking; /* [n] what is said against measuring a point next */
};

int guide_open(struct search *s, struct err *err)
{
    double sum = 0;
    int told = 0;
    assert(s->dims <= DIMS_MAX);
    struct guide *g = s->guide = err_calloc(1, sizeof *s->guide, "the guided search", err);
    if (!g || !(g->told = err_calloc((size_t)s->n + 1, sizeof *g->told, "the guided search", err)) ||
        !(g->lacking = err_calloc((size_t)s->n + 1, sizeof *g->lacking, "the guided search", err)))
        return -1;
    for (int i = 0; i < s->n; i++)
        if (s->predicted[i] > 0) {
            sum += log(s->predicted[i]);
            told++;
        }
    for (int i = 0; i < s->n; i++)
        g->told[i] = s->predicted[i] > 0 ? log(s->predicted[i]) - sum / told : 0;
    g->nprocesses = told ? 2 : 1;
    for (int p = 0; p < g->nprocesses; p++) {
        g->process[p].informed = p < g->nprocesses - 1;
        g->process[p].width = g->process[p].informed ? width_informed : width_blind;
        for (int k = 0; k < s->dims; k++)
            g->process[p].length[k] = length_before;
    }
    return 0;
}

void guide_close(struct search *s)
{
    free(s->guide->told);
    free(s->guide->lacking);
    free(s->guide);
    s->guide = NULL;
}

/* Of the values of two points: a level that is unknown, the line over the prediction, and what changes with the coordinates (Matern 5/2). */
static double covariance(const struct search *s, const struct process *p, int a, int b)
{
    const double *x = s->unit + a * s->dims, *y = s->unit + b * s->dims, *told = s->guide->told;
    double far = 0;
    for (int k = 0; k < s->dims; k++) {
        double by = (x[k] - y[k]) / p->length[k];
        far += by * by;
    }
    double r = sqrt(5 * far);
    return 1 + (p->informed ? slope * slope * told[a] * told[b] : 0) +
           p->width * p->width * (1 + r + r * r / 3) * exp(-r);
}

/* All that was measured; where that is too much, the fastest of it, as many as fit: far from the best, the process need not be right. */
static void choose_seen(struct search *s)
{
    struct guide *g = s->guide;
    bool all = s->measured <= SEEN_MAX;
    for (double within = 2; within > 1.01; within = 1 + (within - 1) / 2) {
        g->nseen = 0;
        for (int i = 0; i < s->n && g->nseen < SEEN_MAX; i++)
            if (s->ms[i] != 0 && (all || (s->best >= 0 && s->ms[i] < within * s->ms[s->best])))
                g->seen[g->nseen++] = i;
        if (all || g->nseen < SEEN_MAX)
            break;
    }
}

/* y[nseen]: logs of what was measured, less the prediction where the process goes by it; g->mean is their mean. */
static void fill_values(struct search *s, const struct process *p, double y[SEEN_MAX])
{
    struct guide *g = s->guide;
    int good = 0;
    g->mean = 0;
    for (int i = 0; i < g->nseen; i++)
        if (isfinite(s->ms[g->seen[i]])) {
            y[i] = log(s->ms[g->seen[i]]) - (p->informed ? g->told[g->seen[i]] : 0);
            g->mean += y[i];
            good++;
        }
    g->mean /= good ? good : 1;
    for (int i = 0; i < g->nseen; i++)
        y[i] = isfinite(s->ms[g->seen[i]]) ? y[i] - g->mean : failed;
}

static double squared(double x)
{
    return x * x;
}

/* Cholesky factor of the covariance, and the weights. Returns the logarithm of how likely this shape and what was seen are together, up to
 * a constant. */
static double fit(struct search *s, const struct process *p)
{
    struct guide *g = s->guide;
    double y[SEEN_MAX], likely = 0;
    fill_values(s, p, y);
    for (int i = 0; i < g->nseen; i++)
        for (int j = 0; j <= i; j++) {
            double sum = covariance(s, p, g->seen[i], g->seen[j]) + (i == j ? noise * noise : 0);
            for (int k = 0; k < j; k++)
                sum -= g->chol[i][k] * g->chol[j][k];
            g->chol[i][j] = i == j ? sqrt(fmax(sum, 1e-9)) : sum / g->chol[j][j];
        }
    for (int i = 0; i < g->nseen; i++) {
        double sum = y[i];
        for (int k = 0; k < i; k++)
            sum -= g->chol[i][k] * g->weight[k];
        g->weight[i] = sum / g->chol[i][i];
        likely -= g->weight[i] * g->weight[i] / 2 + log(g->chol[i][i]);
    }
    for (int i = g->nseen - 1; i >= 0; i--) {
        double sum = g->weight[i];
        for (int k = i + 1; k < g->nseen; k++)
            sum -= g->chol[k][i] * g->weight[k];
        g->weight[i] = sum / g->chol[i][i];
    }
    likely -= squared(log(p->width / (p->informed ? width_informed : width_blind)) / width_spread) / 2;
    for (int k = 0; k < s->dims; k++)
        likely -= squared(log(p->length[k] / length_before) / length_spread) / 2;
    return likely;
}

/* Width and lengths, one after the other, a step up or down where that makes the trials so far more likely, until none does. */
static void choose_shape(struct search *s, struct process *p)
{
    double most = fit(s, p);
    bool better = true;
    for (int sweep = 0; sweep < SWEEPS && better; sweep++) {
        better = false;
        for (int k = -1; k < s->dims; k++) {
            double *what = k < 0 ? &p->width : &p->length[k], was = *what, best = was;
            for (int up = 0; up < 2; up++) {
                *what = up ? was * step : was / step;
                double likely = fit(s, p);
                if (likely > most) {
                    most = likely;
                    best = *what;
                    better = true;
                }
            }
            *what = best;
        }
    }
}

/* The logarithm of how far below `best` a normal variable is to be expected, counting 0 where it is above. */
static double log_gain(double best, double mean, double deviation)
{
    double z = (best - mean) / deviation;
    if (z < -5) /* where the difference below is lost in rounding */
        return log(deviation) - z * z / 2 - 2 * log(-z) - 0.9189385332046727;
    return log(deviation * (z * erfc(-z / sqrt(2)) / 2 + 0.3989422804014327 * exp(-z * z / 2)));
}

/* Less the logarithm of what measuring a point is expected to gain. While nothing is right yet, the time that may be hoped for. */
static double lacking(const struct search *s, const struct process *p, int point)
{
    const struct guide *g = s->guide;
    double mean = g->mean + (p->informed ? g->told[point] : 0), variance = covariance(s, p, point, point), v[SEEN_MAX];
    for (int i = 0; i < g->nseen; i++) {
        double c = covariance(s, p, point, g->seen[i]), sum = c;
        mean += c * g->weight[i];
        for (int k = 0; k < i; k++)
            sum -= g->chol[i][k] * v[k];
        v[i] = sum / g->chol[i][i];
        variance -= v[i] * v[i];
    }
    double deviation = sqrt(fmax(variance, 1e-12));
    return s->best < 0 ? mean - deviation : -log_gain(log(s->ms[s->best]) - margin, mean, deviation);
}

/* Adds to point[n] the points that lack least by the process, as far as they are not there yet, up to `want` in all. Returns how many
 * there are then. */
static int add_points(struct search *s, const struct process *p, int want, int *point, int n)
{
    struct guide *g = s->guide;
    fit(s, p);
    for (int i = 0; i < s->n; i++)
        g->lacking[i] = s->ms[i] == 0 ? lacking(s, p, i) : INFINITY;
    for (int i = 0; i < n; i++)
        g->lacking[point[i]] = INFINITY;
    while (n < want) {
        int best = -1;
        for (int i = 0; i < s->n; i++)
            if (isfinite(g->lacking[i]) && (best < 0 || g->lacking[i] < g->lacking[best]))
                best = i;
        if (best < 0)
            break;
        point[n++] = best;
        g->lacking[best] = INFINITY;
    }
    return n;
}

int guide_next(struct search *s, int want, int *point)
{
    struct guide *g = s->guide;
    int n = 0;
    if (s->measured == 0 && want > 0 && s->n > 0) /* the default, or the best prediction */
        point[n++] = s->order[0];
    choose_seen(s);
    if (s->measured >= FEWEST && (s->measured <= OFTEN || s->measured >= g->shaped + g->shaped / 8)) {
        g->shaped = s->measured;
        for (int p = 0; p < g->nprocesses; p++)
            choose_shape(s, &g->process[p]);
    }
    const struct process *informed = &g->process[0], *blind = &g->process[g->nprocesses - 1];
    bool doubt = s->measured >= DOUBT, turn = doubt && s->measured % 2 == 0;
    n = add_points(s, turn ? blind : informed, doubt && want > 1 ? (want + 1) / 2 : want, point, n);
    return n < want ? add_points(s, turn ? informed : blind, want, point, n) : n; /* whose turn is next */
}
