#include "oracle_cascade.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    if (!p) {
        fprintf(stderr, "oracle: out of memory\n");
        abort();
    }
    return p;
}

void oracle_cascade_open(struct oracle_cascade *c, const struct cascade_params *p)
{
    *c = (struct oracle_cascade){.p = *p, .closest = INFINITY};
    c->sinks = need((size_t)p->sinks, sizeof *c->sinks);
    c->pending = need((size_t)p->span, sizeof *c->pending);
    for (int i = 0; i < p->subcaches; i++)
        c->sub[i] = need((size_t)(p->window / p->subcaches), sizeof *c->sub[i]);
}

void oracle_cascade_close(struct oracle_cascade *c)
{
    free(c->sinks);
    free(c->pending);
    free(c->score);
    for (int i = 0; i < c->p.subcaches; i++)
        free(c->sub[i]);
}

/* "A span's score is the largest of its tokens' scores (or mean). A NaN score counts as minus infinity." */
static double span_score(const struct oracle_cascade *c, const int64_t *span)
{
    double largest = -INFINITY, sum = 0;
    for (int k = 0; k < c->p.span; k++) {
        double s = c->score[span[k]];
        if (isnan(s))
            s = -INFINITY;
        if (s > largest)
            largest = s;
        sum += s;
    }
    double score = c->p.span_score == SPAN_MAX ? largest : sum / c->p.span;
    return isnan(score) ? -INFINITY : score;
}

/* "Take its place if score(incoming) >= score(newest), else drop the incoming one", or what the ablation asks for: the later
 * or the earlier of the two in the text. */
static bool takes_place(struct oracle_cascade *c, const int64_t *incoming, const int64_t *newest)
{
    if (c->p.select == SELECT_NEWEST)
        return incoming[0] > newest[0];
    if (c->p.select == SELECT_OLDEST)
        return incoming[0] < newest[0];
    double a = span_score(c, incoming), b = span_score(c, newest);
    double larger = fmax(fabs(a), fabs(b)), gap = a == b ? 0 : fabs(a - b) / larger;
    if (gap < c->closest)
        c->closest = gap;
    return a >= b;
}

static void append(struct oracle_cascade *c, int i, const int64_t *span)
{
    memcpy(c->sub[i] + c->count[i], span, (size_t)c->p.span * sizeof *span);
    c->count[i] += c->p.span;
}

/* The complete span in c->pending, whose last token is t, enters sub-cache 0 at clock n. */
static void enter(struct oracle_cascade *c, int64_t t, int64_t n)
{
    const struct cascade_params *p = &c->p;
    int w = p->window / p->subcaches, B = p->span;
    size_t span_bytes = (size_t)B * sizeof *c->pending;
    int64_t *incoming = need((size_t)B, sizeof *incoming), *evicted = need((size_t)B, sizeof *evicted);
    memcpy(incoming, c->pending, span_bytes);
    for (int i = 0; i < p->subcaches; i++) {
        bool accepts = (p->eager && t <= (int64_t)p->window + p->sinks) || n % p->every[i] == 0;
        if (accepts && c->count[i] == w) {
            /* Replace the oldest; the evicted span goes on to sub-cache i + 1. */
            memcpy(evicted, c->sub[i], span_bytes);
            memmove(c->sub[i], c->sub[i] + B, (size_t)(w - B) * sizeof *c->sub[i]);
            c->count[i] -= B;
            append(c, i, incoming);
            memcpy(incoming, evicted, span_bytes);
            continue;
        }
        if (accepts || c->count[i] == 0) {
            append(c, i, incoming);
        } else {
            int64_t *newest = c->sub[i] + c->count[i] - B;
            if (takes_place(c, incoming, newest))
                memcpy(newest, incoming, span_bytes);
        }
        break;
    }
    free(incoming);
    free(evicted);
}

void oracle_cascade_insert(struct oracle_cascade *c, double score)
{
    const struct cascade_params *p = &c->p;
    int64_t t = c->t;
    if (t == c->room) {
        c->room = c->room ? 2 * c->room : 1024;
        c->score = realloc(c->score, (size_t)c->room * sizeof *c->score);
        if (!c->score)
            abort();
    }
    c->score[t] = score;
    c->t++;
    if (t < p->sinks) {
        c->sinks[c->nsinks++] = t;
        return;
    }
    c->pending[c->npending++] = t;
    if ((t - p->sinks + 1) % p->span == 0) {
        enter(c, t, (t - p->sinks) / p->span);
        c->npending = 0;
    }
}

int oracle_cascade_held(const struct oracle_cascade *c, int64_t *tokens)
{
    int n = 0;
    for (int k = 0; k < c->nsinks; k++)
        tokens[n++] = c->sinks[k];
    for (int i = c->p.subcaches - 1; i >= 0; i--)
        for (int k = 0; k < c->count[i]; k++)
            tokens[n++] = c->sub[i][k];
    for (int k = 0; k < c->npending; k++)
        tokens[n++] = c->pending[k];
    return n;
}
