#include "search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char search_kinds[] = "exhaustive|random|local|guided";

static uint64_t random_number(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void shuffle(int *list, int n, uint64_t *seed)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(random_number(seed) % (uint64_t)(i + 1)), kept = list[i];
        list[i] = list[j];
        list[j] = kept;
    }
}

/* Coordinates by octaves, since tiles double, each dimension from 0 to 1. */
static void scale_coordinates(struct search *s)
{
    for (int k = 0; k < s->dims; k++) {
        double lo = INFINITY, hi = -INFINITY;
        for (int i = 0; i < s->n; i++) {
            double v = log2((double)s->at[i * s->dims + k] + 1);
            lo = fmin(lo, v);
            hi = fmax(hi, v);
        }
        for (int i = 0; i < s->n; i++)
            s->unit[i * s->dims + k] = hi > lo ? (log2((double)s->at[i * s->dims + k] + 1) - lo) / (hi - lo) : 0;
    }
}

struct ranked {
    double key;
    int point;
};

static int by_key(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : x->point - y->point;
}

/* Best prediction first where there are predictions, so that the hopeless are known as such when they come. */
static int order_by_prediction(struct search *s, struct err *err)
{
    struct ranked *r = err_calloc((size_t)s->n + 1, sizeof *r, "the order of a search", err);
    if (!r)
        return -1;
    for (int i = 0; i < s->n; i++)
        r[i] = (struct ranked){s->predicted[i] > 0 ? s->predicted[i] : INFINITY, i};
    qsort(r, (size_t)s->n, sizeof *r, by_key);
    for (int i = 0; i < s->n; i++)
        s->order[i] = r[i].point;
    free(r);
    return 0;
}

static void put_first(struct search *s, int first)
{
    for (int i = 0; i < s->n; i++)
        if (s->order[i] == first) {
            memmove(s->order + 1, s->order, (size_t)i * sizeof *s->order);
            s->order[0] = first;
            return;
        }
}

int search_open(struct search *s, enum search_kind kind, int n, int dims, const long *at, const double *predicted,
                int first, uint64_t seed, struct err *err)
{
    *s =
        (struct search){.kind = kind, .n = n, .dims = dims, .at = at, .predicted = predicted, .seed = seed, .best = -1};
    size_t room = (size_t)n + 1;
    if (!(s->ms = err_calloc(room, sizeof *s->ms, "a search", err)) ||
        !(s->order = err_calloc(room, sizeof *s->order, "a search", err)) ||
        !(s->unit = err_calloc(room * (size_t)(dims + 1), sizeof *s->unit, "a search", err)))
        goto failed;
    scale_coordinates(s);
    for (int i = 0; i < n; i++)
        s->order[i] = i;
    if (kind == SEARCH_RANDOM || kind == SEARCH_LOCAL)
        shuffle(s->order, n, &s->seed);
    else if (order_by_prediction(s, err) != 0)
        goto failed;
    if (kind != SEARCH_RANDOM)
        put_first(s, first);
    if (kind == SEARCH_GUIDED && guide_open(s, err) != 0)
        goto failed;
    return 0;
failed:
    search_close(s);
    return -1;
}

void search_close(struct search *s)
{
    if (s->guide)
        guide_close(s);
    free(s->ms);
    free(s->order);
    free(s->unit);
    memset(s, 0, sizeof *s);
}

void search_report(struct search *s, int point, double ms)
{
    s->measured += s->ms[point] == 0;
    s->ms[point] = ms > 0 ? ms : INFINITY;
    if (ms > 0 && (s->best < 0 || ms < s->ms[s->best]))
        s->best = point;
}

static int next_in_order(struct search *s, int want, int *point)
{
    int n = 0;
    for (int i = 0; i < s->n && n < want; i++)
        if (s->ms[s->order[i]] == 0)
            point[n++] = s->order[i];
    return n;
}

/* In how many coordinates two points differ. */
static int differing(const struct search *s, int a, int b)
{
    int n = 0;
    for (int k = 0; k < s->dims; k++)
        n += s->at[a * s->dims + k] != s->at[b * s->dims + k];
    return n;
}

/* Points that differ from the best in one coordinate, then in two, in the random order; then another start. */
static int next_local(struct search *s, int want, int *point)
{
    int n = 0;
    for (int far = 1; far <= 2 && s->best >= 0 && n < want; far++)
        for (int i = 0; i < s->n && n < want; i++)
            if (s->ms[s->order[i]] == 0 && differing(s, s->order[i], s->best) == far)
                point[n++] = s->order[i];
    return n ? n : next_in_order(s, want, point);
}

int search_next(struct search *s, int want, int *point)
{
    switch (s->kind) {
    case SEARCH_LOCAL:
        return next_local(s, want, point);
    case SEARCH_GUIDED:
        return guide_next(s, want, point);
    default:
        return next_in_order(s, want, point);
    }
}
