/* The model-guided search. What a model of the machine says of each point is right up to a factor that changes slowly over the space;
 * a Gaussian process over log(measured / predicted) learns that factor from the trials so far, and next comes the point whose time, so
 * corrected, could be shortest (its lower confidence bound). Where there is no prediction it learns log(measured) itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "search.h"

enum { SEEN_MAX = 128 }; /* trials that the process is fitted to: a step costs their square for each point */

static const double length = 0.45;  /* over which coordinates from 0 to 1 the factor stays alike */
static const double spread = 0.15;  /* standard deviation of log(measured / predicted) */
static const double wide = 0.7;     /* the same of log(measured), where nothing is predicted */
static const double noise = 0.01;   /* of a measurement */
static const double failed = 0.7;   /* what a failed config counts as: so much worse than its prediction, as a log */
static const double boldness = 0.8; /* standard deviations below the mean that a time may be hoped for */

struct guide {
    int nseen, seen[SEEN_MAX];
    double chol[SEEN_MAX][SEEN_MAX]; /* of the covariance of what was seen, lower half */
    double weight[SEEN_MAX];         /* covariance^-1 (y - mean) */
    double mean, amplitude;
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
    return s->predicted[point] > 0 ? log(s->predicted[point]) : 0;
}

static double covariance(const struct search *s, int a, int b)
{
    double far = 0;
    for (int k = 0; k < s->dims; k++) {
        double by = s->unit[a * s->dims + k] - s->unit[b * s->dims + k];
        far += by * by;
    }
    return s->guide->amplitude * s->guide->amplitude * exp(-far / (2 * length * length));
}

/* The fastest of what was measured, and failures, as many as fit: far from the best, the process need not be right. */
static void choose_seen(struct search *s)
{
    struct guide *g = s->guide;
    g->nseen = 0;
    for (double within = s->measured <= SEEN_MAX ? INFINITY : 2; within > 1.01; within = 1 + (within - 1) / 2) {
        g->nseen = 0;
        for (int i = 0; i < s->n; i++) {
            bool near = isinf(within) || (s->best >= 0 && s->ms[i] < within * s->ms[s->best]);
            if (s->ms[i] != 0 && near && g->nseen < SEEN_MAX)
                g->seen[g->nseen++] = i;
        }
        if (g->nseen < SEEN_MAX)
            break;
    }
}

/* Cholesky factor of the covariance, and the weights. */
static void fit(struct search *s)
{
    struct guide *g = s->guide;
    double y[SEEN_MAX];
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
    }
    for (int i = g->nseen - 1; i >= 0; i--) {
        double sum = g->weight[i];
        for (int k = i + 1; k < g->nseen; k++)
            sum -= g->chol[k][i] * g->weight[k];
        g->weight[i] = sum / g->chol[i][i];
    }
}

/* The log of the time that may be hoped for. */
static double hope(const struct search *s, int point)
{
    const struct guide *g = s->guide;
    double mean = g->mean, variance = g->amplitude * g->amplitude, v[SEEN_MAX];
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

int guide_next(struct search *s, int want, int *point)
{
    struct guide *g = s->guide;
    bool blind = s->n == 0 || s->predicted[s->order[0]] <= 0;
    int n = 0;
    g->amplitude = blind ? wide : spread;
    if (s->measured == 0 && want > 0 && s->n > 0) /* the default, or the best prediction */
        point[n++] = s->order[0];
    choose_seen(s);
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
