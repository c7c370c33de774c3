#include "attn_truth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant.h"
#include "tests/oracle_attention.h"

static double value(int type, uint16_t h)
{
    return type ? quant_bfloat_to_float(h) : quant_half_to_float(h);
}

static double rounding(int type)
{
    return type ? 0x1p-8 : 0x1p-11;
}

void attn_inputs_free(struct attn_inputs *in)
{
    void *all[] = {in->q, in->k, in->v, in->k_cache, in->v_cache, in->score};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    memset(in, 0, sizeof *in);
}

void attn_truth_free(struct attn_truth *t)
{
    void *all[] = {t->o, t->o_bound, t->lse, t->lse_bound, t->score, t->score_bound};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    memset(t, 0, sizeof *t);
}

/* Row and slot of a held key by its position. */
struct place {
    int row;
    int64_t slot;
};

static void find_places(const struct attn_step *s, struct place *at)
{
    for (int i = 0; i < s->nruns; i++)
        for (int j = 0; j < s->run[i].len; j++)
            at[s->run[i].pos + j] = (struct place){s->run[i].row + j, s->run[i].pos + j - s->run[i].shift};
}

/* The query heads of one key head, in double. */
struct head {
    double *q, *k, *v, *abs_v;        /* [T][g][d], [keys][d] x 3: unrotated, in order of position */
    double *o, *abs_o, *lse, *column; /* [T][g][d] x 2, [g][T], [g][keys] */
    int64_t *pos;                     /* [keys] */
    double *freq;                     /* [d / 2] */
};

static void head_free(struct head *h)
{
    void *all[] = {h->q, h->k, h->v, h->abs_v, h->o, h->abs_o, h->lse, h->column, h->pos, h->freq};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static int head_alloc(struct head *h, const struct attn_inputs *in, int keys, struct err *err)
{
    size_t rows = (size_t)in->T * (size_t)in->g, d = (size_t)in->d, n = (size_t)keys, g = (size_t)in->g;
    const struct {
        double **to;
        size_t count;
    } want[] = {{&h->q, rows * d},     {&h->k, n * d},  {&h->v, n * d},      {&h->abs_v, n * d}, {&h->o, rows * d},
                {&h->abs_o, rows * d}, {&h->lse, rows}, {&h->column, g * n}, {&h->freq, d}};
    memset(h, 0, sizeof *h);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (!(*want[i].to = err_calloc(want[i].count, sizeof(double), "the oracle", err)))
            return -1;
    h->pos = err_calloc(n, sizeof *h->pos, "the oracle", err);
    return h->pos ? 0 : -1;
}

static void head_fill(struct head *h, const struct attn_inputs *in, int head, const struct place *at)
{
    int d = in->d, held = in->layout->held, keys = held + in->T, rows = in->layout->rows;
    const struct oracle_rope rope = {.pairs = d / 2, .freq = h->freq, .interleaved = true};
    for (int i = 0; i < d / 2; i++)
        h->freq[i] = pow(in->theta, -2.0 * i / d);
    for (int m = 0; m < in->T; m++)
        for (int i = 0; i < in->g * d; i++)
            h->q[m * in->g * d + i] = value(in->type, in->q[((size_t)m * in->kv + head) * in->g * d + i]);
    for (int j = 0; j < keys; j++) {
        size_t from = j < held ? ((size_t)head * rows + at[j].row) * d : ((size_t)(j - held) * in->kv + head) * d;
        const uint16_t *k = (j < held ? in->k_cache : in->k) + from, *v = (j < held ? in->v_cache : in->v) + from;
        h->pos[j] = j;
        for (int e = 0; e < d; e++) {
            h->k[j * d + e] = value(in->type, k[e]);
            h->v[j * d + e] = value(in->type, v[e]);
            h->abs_v[j * d + e] = fabs(h->v[j * d + e]);
        }
        if (j < held)
            oracle_rotate(&rope, h->k + j * d, -at[j].slot); /* as it was before it was stored */
    }
    oracle_attend(&rope, in->T, in->g, held, d, h->q, h->pos + held, h->k, h->abs_v, h->pos, in->ema, h->abs_o, NULL,
                  NULL);
    oracle_attend(&rope, in->T, in->g, held, d, h->q, h->pos + held, h->k, h->v, h->pos, in->ema, h->o, h->lse,
                  h->column);
}

static double norm(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* The largest error of one head's logits, powers of 2: query and key are rounded once each after a turn. */
static double doubt_of(const struct head *h, const struct attn_inputs *in, int g, int keys)
{
    double q = 0, k = 0;
    for (int m = 0; m < in->T; m++)
        q = fmax(q, norm(h->q + (m * in->g + g) * in->d, in->d));
    for (int j = 0; j < keys; j++)
        k = fmax(k, norm(h->k + j * in->d, in->d));
    return (2 * rounding(in->type) + 1e-6) * q * k * M_LOG2E / sqrt(in->d);
}

/* Takes one key head's results over; column [heads][keys] and spread [heads][keys] (the bounds of the column sums) too. A probability
 * is off by at most a factor of 2^(2 doubt), its own and the normaliser's; the kernels also round the probabilities that they multiply
 * with the values, and the output; all else is fp32. */
static void take_head(struct attn_truth *t, const struct attn_inputs *in, const struct head *h, int head,
                      double *column, double *spread)
{
    const double eps = rounding(in->type);
    for (int g = 0; g < in->g; g++) {
        int all = head * in->g + g;
        double doubt = doubt_of(h, in, g, t->keys), factor = exp2(2 * doubt) - 1;
        for (int m = 0; m < in->T; m++) {
            double lse = h->lse[g * in->T + m] * M_LOG2E;
            t->lse[all * in->T + m] = lse;
            t->lse_bound[all * in->T + m] = doubt + 1e-5 + 1e-6 * fabs(lse);
            for (int e = 0; e < in->d; e++) {
                size_t to = ((size_t)m * t->heads + all) * in->d + e, from = ((size_t)m * in->g + g) * in->d + e;
                t->o[to] = h->o[from];
                t->o_bound[to] = h->abs_o[from] * (factor + eps + 1e-5) + fabs(h->o[from]) * eps + 1e-7;
            }
        }
        for (int j = 0; j < t->keys; j++) {
            column[(size_t)all * t->keys + j] = h->column[g * t->keys + j];
            spread[(size_t)all * t->keys + j] = h->column[g * t->keys + j] * (factor + 1e-5);
        }
    }
}

static void make_scores(struct attn_truth *t, const struct attn_inputs *in, const struct place *at,
                        const double *column, const double *spread, double *reduced)
{
    int group = t->heads / in->cascades, n = t->keys, held = in->layout->held;
    for (int c = 0; c < in->cascades; c++) {
        double *score = t->score + (size_t)c * n, *bound = t->score_bound + (size_t)c * n;
        oracle_reduce(in->reduction, group, n, column + (size_t)c * group * n, reduced);
        for (int j = 0; j < n; j++) {
            score[j] = j < held ? in->score[(size_t)c * in->layout->rows + at[j].row] : 0;
            for (int h = c * group; h < (c + 1) * group;
                 h++) /* a reduction moves no more than the furthest of its heads */
                bound[j] = fmax(bound[j], spread[(size_t)h * n + j]);
        }
        oracle_score_update(in->ema, in->T, n, score, reduced);
        for (int j = 0; j < n; j++)
            bound[j] += fabs(score[j]) * 1e-6 + 1e-30;
    }
}

int attn_truth_make(struct attn_truth *t, const struct attn_inputs *in, struct err *err)
{
    size_t heads = (size_t)in->g * (size_t)in->kv, T = (size_t)in->T, keys = (size_t)in->layout->held + T;
    struct place *at = err_calloc(keys, sizeof *at, "the oracle", err);
    double *column = err_calloc(2 * heads * keys + keys, sizeof *column, "the oracle", err);
    int status = -1;
    *t = (struct attn_truth){.heads = (int)heads, .keys = (int)keys};
    const struct {
        double **to;
        size_t count;
    } want[] = {{&t->o, T * heads * (size_t)in->d},
                {&t->o_bound, T * heads * (size_t)in->d},
                {&t->lse, heads * T},
                {&t->lse_bound, heads * T},
                {&t->score, (size_t)in->cascades * keys},
                {&t->score_bound, (size_t)in->cascades * keys}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (!(*want[i].to = err_calloc(want[i].count, sizeof(double), "the oracle", err)))
            goto done;
    if (!at || !column)
        goto done;
    find_places(in->layout, at);
    for (int head = 0; head < in->kv; head++) {
        struct head h;
        if (head_alloc(&h, in, (int)keys, err) != 0) {
            head_free(&h);
            goto done;
        }
        head_fill(&h, in, head, at);
        take_head(t, in, &h, head, column, column + heads * keys);
        head_free(&h);
    }
    make_scores(t, in, at, column, column + heads * keys, column + 2 * heads * keys);
    status = 0;
done:
    if (status != 0)
        attn_truth_free(t);
    free(at);
    free(column);
    return status;
}

/* The worst so far of |got - want| / bound. */
static void look(double *worst, char where[120], const char *what, long at, double got, double want, double bound)
{
    double ratio = fabs(got - want) / bound;
    if (isnan(ratio))
        ratio = INFINITY;
    if (ratio > *worst) {
        *worst = ratio;
        snprintf(where, 120, "%s %ld: %.6g instead of %.6g, bound %.2g", what, at, got, want, bound);
    }
}

double attn_truth_compare(const struct attn_truth *t, const struct attn_inputs *in, const uint16_t *o, const float *lse,
                          const float *score, const float *chunk_score, char where[120])
{
    double worst = 0;
    int held = in->layout->held;
    where[0] = 0;
    for (long i = 0; i < (long)in->T * t->heads * in->d; i++)
        look(&worst, where, "output", i, value(in->type, o[i]), t->o[i], t->o_bound[i]);
    for (long i = 0; i < (long)in->T * t->heads; i++)
        look(&worst, where, "log-sum-exp", i, lse[i], t->lse[i], t->lse_bound[i]);
    for (int c = 0; c < in->cascades; c++) {
        const double *want = t->score + (size_t)c * t->keys, *bound = t->score_bound + (size_t)c * t->keys;
        for (int i = 0; i < in->layout->nruns; i++)
            for (int j = 0; j < in->layout->run[i].len; j++) {
                int key = in->layout->run[i].pos + j;
                look(&worst, where, "score of held key", key,
                     score[(size_t)c * in->layout->rows + in->layout->run[i].row + j], want[key], bound[key]);
            }
        for (int m = 0; m < in->T; m++)
            look(&worst, where, "score of chunk key", m, chunk_score[(size_t)c * in->T + m], want[held + m],
                 bound[held + m]);
    }
    return worst;
}
