#include "oracle_attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *need(size_t n)
{
    double *p = calloc(n + 1, sizeof *p);
    if (!p) {
        fprintf(stderr, "oracle: out of memory\n");
        abort();
    }
    return p;
}

void oracle_rotate(const struct oracle_rope *r, double *x, int64_t pos)
{
    for (int i = 0; i < r->pairs; i++) {
        double *a = x + (r->interleaved ? 2 * i : i), *b = x + (r->interleaved ? 2 * i + 1 : i + r->pairs);
        double angle = (double)pos * r->freq[i], c = cos(angle), s = sin(angle);
        double turned_a = *a * c - *b * s, turned_b = *a * s + *b * c;
        *a = turned_a;
        *b = turned_b;
    }
}

static double dot(const double *a, const double *b, int n)
{
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += a[i] * b[i];
        s1 += a[i + 1] * b[i + 1];
        s2 += a[i + 2] * b[i + 2];
        s3 += a[i + 3] * b[i + 3];
    }
    for (; i < n; i++)
        s0 += a[i] * b[i];
    return s0 + s1 + s2 + s3;
}

/* p [n] holds the logits and becomes the probabilities. Returns the log of the sum of exponentials. */
static double softmax(double *p, int n)
{
    double largest = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++)
        largest = fmax(largest, p[j]);
    for (int j = 0; j < n; j++)
        sum += p[j] = exp(p[j] - largest);
    for (int j = 0; j < n; j++)
        p[j] /= sum;
    return largest + log(sum);
}

void oracle_attend(const struct oracle_rope *r, int T, int G, int held, int d, const double *q, const int64_t *q_pos,
                   const double *k, const double *v, const int64_t *k_pos, double gamma, double *o, double *lse,
                   double *column)
{
    int keys = held + T;
    double *turned = need((size_t)keys * (size_t)d), *query = need((size_t)d), *P = need((size_t)keys);
    memcpy(turned, k, (size_t)keys * (size_t)d * sizeof *k);
    for (int j = 0; j < keys; j++)
        oracle_rotate(r, turned + (size_t)j * (size_t)d, k_pos[j]);
    if (column)
        memset(column, 0, (size_t)G * (size_t)keys * sizeof *column);
    for (int m = 0; m < T; m++)
        for (int g = 0; g < G; g++) {
            int seen = held + m + 1;
            memcpy(query, q + ((size_t)m * (size_t)G + (size_t)g) * (size_t)d, (size_t)d * sizeof *query);
            oracle_rotate(r, query, q_pos[m]);
            for (int j = 0; j < seen; j++)
                P[j] = dot(query, turned + (size_t)j * (size_t)d, d) / sqrt(d);
            double log_sum = softmax(P, seen);
            if (lse)
                lse[(size_t)g * (size_t)T + (size_t)m] = log_sum;
            if (o) {
                double *out = o + ((size_t)m * (size_t)G + (size_t)g) * (size_t)d;
                memset(out, 0, (size_t)d * sizeof *out);
                for (int j = 0; j < seen; j++)
                    for (int e = 0; e < d; e++)
                        out[e] += P[j] * v[(size_t)j * (size_t)d + (size_t)e];
            }
            double weight = pow(gamma, T - 1 - m);
            for (int j = 0; column && j < seen; j++)
                column[(size_t)g * (size_t)keys + (size_t)j] += weight * P[j];
        }
    free(turned);
    free(query);
    free(P);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void oracle_reduce(enum cascade_reduction how, int heads, int n, const double *column, double *out)
{
    double *at = need((size_t)heads);
    for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int h = 0; h < heads; h++)
            sum += at[h] = column[(size_t)h * (size_t)n + (size_t)j];
        qsort(at, (size_t)heads, sizeof *at, compare_doubles);
        out[j] = how == REDUCE_MEAN ? sum / heads : how == REDUCE_MAX ? at[heads - 1] : at[(heads - 1) / 2];
    }
    free(at);
}

void oracle_score_update(double gamma, int T, int n, double *score, const double *reduced)
{
    double decay = pow(gamma, T);
    for (int j = 0; j < n; j++)
        score[j] = decay * score[j] + reduced[j];
}
