/* The model-guided search. What a model of the machine says of each point is right up to a factor that changes slowly over the space;
 * a Gaussian process over log(measured / predicted) learns that factor from the trials so far, and next comes the point whose time, so
 * corrected, could be shortest (its lower confidence bound). Where there is no prediction it learns log(measured) itself. And where the
 * trials say that the predictions are worth little, these count for half or for nothing (`judge`): the search then goes from the best
 * tiles seen so far to their neighbours and to where little is known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search.h"

enum {
    SEEN_MAX = 128, /* trials that the process is fitted to: a step costs their square for each point */
    FEWEST = 8      /* trials that a judgement of the predictions wants */
};

/* What the process is before it is judged. */
static const double near_by = 0.45; /* over which coordinates from 0 to 1 the factor stays alike */
static const double spread = 0.15;  /* standard deviation of log(measured / predicted) */
static const double wide = 0.7;     /* the same of log(measured), where nothing is predicted */

static const double noise = 0.01;   /* of a measurement */
static const double failed = 0.7;   /* what a failed config counts as: so much worse than its prediction, as a log */
static const double boldness = 0.8; /* standard deviations below the mean that a time may be hoped for */

struct guide {
    int nseen, seen[SEEN_MAX];
    double chol[SEEN_MAX][SEEN_MAX]; /* of the covariance of what was seen, lower half */
    double weight[SEEN_MAX];         /* covariance^-1 (y - mean) */
    double mean;
    struct shape {
        double trust;  /* share of the logarithm of a prediction that is taken off before the process sees a time */
        double width;  /* standard deviation of what is left */
        double length; /* over which coordinates from 0 to 1 that stays alike */
    } shape;
    int judged;    /* trials that the shape was chosen by */
    double *score; /* [n] */
};

int guide_open(struct search *s, struct err *err)
{
    s->guide = err_calloc(1, sizeof *s->guide, "the guided search", err);
    if (!s->guide)
        return -1;
    s->guide->score = err_calloc((size_t)s->n + 1, sizeof *s->guide->score, "the guided search", err);
    return s->guide->score ? 0 : -1;
}

void guide_close(struct search *s)
{
    free(s->guide->score);
    free(s->guide);
    s->guide = NULL;
}

static double prior(const struct search *s, int point)
{
    return s->predicted[point] > 0 ? s->guide->shape.trust * log(s->predicted[point]) : 0;
}

static double covariance(const struct search *s, int a, int b)
{
    double far = 0;
    for (int k = 0; k < s->dims; k++) {
        double by = s->unit[a * s->dims + k] - s->unit[b * s->dims + k];
        far += by * by;
    }
    return s->guide->shape.width * s->guide->shape.width *
           exp(-far / (2 * s->guide->shape.length * s->guide->shape.length));
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

/* Cholesky factor of the covariance, and the weights. Returns the logarithm of how likely what was seen is, up to a constant. */
static double fit(struct search *s)
{
    struct guide *g = s->guide;
    double y[SEEN_MAX], likely = 0;
    int good = 0;
    g->mean = 0;
    for (int i = 0; i < g->nseen; i++)
        if (isfinite(s->ms[g->seen[i]])) {
            y[i] = log(s->ms[g->seen[i]]) - prior(s, g->seen[i]);
            g->mean += y[i];
            good++;
        }
    g->mean /= good ? good : 1;
    for (int i = 0; i < g->nseen; i++)
        y[i] = isfinite(s->ms[g->seen[i]]) ? y[i] - g->mean : failed;
    for (int i = 0; i < g->nseen; i++)
        for (int j = 0; j <= i; j++) {
            double sum = covariance(s, g->seen[i], g->seen[j]) + (i == j ? noise * noise : 0);
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
    return likely;
}

/* The log of the time that may be hoped for. */
static double hope(const struct search *s, int point)
{
    const struct guide *g = s->guide;
    double mean = g->mean, variance = g->shape.width * g->shape.width, v[SEEN_MAX];
    for (int i = 0; i < g->nseen; i++) {
        double c = covariance(s, point, g->seen[i]), sum = c;
        mean += c * g->weight[i];
        for (int k = 0; k < i; k++)
            sum -= g->chol[i][k] * v[k];
        v[i] = sum / g->chol[i][i];
        variance -= v[i] * v[i];
    }
    return prior(s, point) + mean - boldness * sqrt(fmax(variance, 0));
}

/* How far the predictions are believed, and how the process is shaped: as makes the trials so far most likely. With few of them the
 * predictions are taken as they are. It is judged again after every eighth part more of them. */
static void judge(struct search *s)
{
    static const double trusts[] = {1, 0.5, 0}, widths[] = {0.15, 0.07, 0.3, 0.04, 0.7}, lengths[] = {0.45, 0.9, 0.25};
    struct guide *g = s->guide;
    bool blind = s->n == 0 || s->predicted[s->order[0]] <= 0;
    struct shape best = {blind ? 0 : 1, blind ? wide : spread, near_by};
    double most = -INFINITY;
    if (s->measured >= FEWEST && s->measured >= g->judged + g->judged / 8) {
        g->judged = s->measured;
        for (size_t t = blind ? 2 : 0; t < 3; t++)
            for (size_t w = 0; w < 5; w++)
                for (size_t l = 0; l < 3; l++) {
                    g->shape = (struct shape){trusts[t], widths[w], lengths[l]};
                    double likely = fit(s);
                    if (likely > most) {
                        most = likely;
                        best = g->shape;
                    }
                }
        g->shape = best;
    } else if (s->measured < FEWEST) {
        g->shape = best;
    }
}

int guide_next(struct search *s, int want, int *point)
{
    struct guide *g = s->guide;
    int n = 0;
    if (s->measured == 0 && want > 0 && s->n > 0) /* the default, or the best prediction */
        point[n++] = s->order[0];
    choose_seen(s);
    judge(s);
    fit(s);
    for (int i = 0; i < s->n; i++)
        g->score[i] = s->ms[i] == 0 ? hope(s, i) : INFINITY;
    for (; n < want; n++) {
        int best = -1;
        for (int i = 0; i < s->n; i++)
            if (isfinite(g->score[i]) && (n == 0 || i != point[0]) && (best < 0 || g->score[i] < g->score[best]))
                best = i;
        if (best < 0)
            break;
        point[n] = best;
        g->score[best] = INFINITY;
    }
    return n;
}
