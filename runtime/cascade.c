#include "cascade.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything below rests on one observation. A span reaches sub-cache i only by passing the sub-caches before it, all of
 * which must be full and accept at that clock. With eager fill off that is every multiple of lcm(every[0..i-1]), from the
 * clock on at which sub-cache i-1 has filled up; so counts and places follow from divisions. */
struct rhythm {
    int spans;                             /* w/B: spans that a sub-cache holds */
    int64_t eager;                         /* at clocks below this every sub-cache accepts */
    int64_t period[CASCADE_MAX_SUBCACHES]; /* [N] later on sub-cache i accepts an arrival at multiples of this */
    int64_t first[CASCADE_MAX_SUBCACHES];  /* [N] clock of the first arrival at sub-cache i */
};

static int64_t add_sat(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

static int64_t mul_sat(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

/* Both are positive; INT64_MAX where the result is larger, which means: at no clock that can be reached. */
static int64_t lcm_sat(int64_t a, int64_t b)
{
    int64_t x = a, y = b;
    while (y) {
        int64_t r = x % y;
        x = y;
        y = r;
    }
    return mul_sat(a / x, b);
}

static void rhythm_of(const struct cascade_params *p, struct rhythm *r)
{
    r->spans = p->window / p->subcaches / p->span;
    /* Span n enters with token t = S + (n + 1) B - 1, so t <= W + S means (n + 1) B <= W + 1: W/B spans, and one more for B = 1. */
    r->eager = p->eager ? ((int64_t)p->window + 1) / p->span : 0;
    int64_t period = 1, first = 0;
    for (int i = 0; i < p->subcaches; i++) {
        period = lcm_sat(period, p->every[i]);
        r->period[i] = period;
        r->first[i] = first;
        if (p->eager) {
            first += r->spans;
            continue;
        }
        /* The first arrival is taken at any clock, the others at multiples of the period; the arrival after the one that
         * fills sub-cache i pushes the first span into i + 1. */
        int64_t full = r->spans == 1 ? first : mul_sat(add_sat(first / period, r->spans - 1), period);
        first = mul_sat(add_sat(full / period, 1), period);
    }
}

/* Multiples of m in [from, to). */
static int64_t multiples(int64_t m, int64_t from, int64_t to)
{
    return to <= from ? 0 : (to / m + (to % m != 0)) - (from / m + (from % m != 0));
}

/* Spans that sub-cache i has given a slot to at clocks 0..n-1, those gone again included. They take the slots of its ring in
 * turn. */
static int64_t placed(const struct rhythm *r, int i, int64_t n)
{
    int64_t first = r->first[i];
    if (n <= first)
        return 0;
    int64_t early = first < r->eager ? (n < r->eager ? n : r->eager) - first : 1;
    return early + multiples(r->period[i], first + early, n);
}

static int64_t spans_at(const struct cascade_params *p, int64_t t)
{
    return t <= p->sinks ? 0 : (t - p->sinks) / p->span;
}

struct cascade_params cascade_defaults(void)
{
    struct cascade_params p = {.sinks = 64,
                               .subcaches = 4,
                               .window = 2048,
                               .span = 16,
                               .stride = 1024,
                               .ema = 0.9999,
                               .eager = true,
                               .reduction = REDUCE_MEAN,
                               .policy = POLICY_INDEPENDENT,
                               .positions = POSITIONS_CACHE,
                               .select = SELECT_SCORE,
                               .span_score = SPAN_MAX};
    for (int i = 0; i < CASCADE_MAX_SUBCACHES; i++)
        p.every[i] = (int64_t)1 << i;
    return p;
}

int cascade_check(const struct cascade_params *p, struct err *err)
{
    if (p->sinks < 0)
        return err_set(err, "--sinks %d: must be 0 or more", p->sinks);
    if (p->subcaches < 1 || p->subcaches > CASCADE_MAX_SUBCACHES)
        return err_set(err, "--subcaches %d: must be 1 to %d", p->subcaches, CASCADE_MAX_SUBCACHES);
    if (p->window < p->subcaches)
        return err_set(err, "--window %d: must be at least the number of sub-caches, %d", p->window, p->subcaches);
    if (p->window % p->subcaches != 0)
        return err_set(err, "--window %d: must be a multiple of --subcaches %d", p->window, p->subcaches);
    int w = p->window / p->subcaches;
    if (p->span < 1)
        return err_set(err, "--span %d: must be 1 or more", p->span);
    if (w % p->span != 0)
        return err_set(err, "--span %d: must divide the %d tokens of a sub-cache (--window %d / --subcaches %d)",
                       p->span, w, p->window, p->subcaches);
    if (p->stride < 1)
        return err_set(err, "--stride %d: must be 1 or more", p->stride);
    if (!(p->ema >= 0.0 && p->ema <= 1.0))
        return err_set(err, "--ema %g: must be between 0 and 1", p->ema);
    for (int i = 0; i < p->subcaches; i++) {
        if (i == 0 && p->every[0] != 1)
            return err_set(err, "--schedule: sub-cache 0 must accept every span, so the list begins with 1, not %lld",
                           (long long)p->every[0]);
        if (i > 0 && p->every[i] < p->every[i - 1])
            return err_set(err, "--schedule: %lld after %lld; the list must not fall", (long long)p->every[i],
                           (long long)p->every[i - 1]);
    }
    int64_t angles = (int64_t)p->sinks + p->window + w + p->span + p->stride;
    if (angles > INT_MAX)
        return err_set(err, "--window %d with --sinks %d and --stride %d: more than %d positions", p->window, p->sinks,
                       p->stride, INT_MAX);
    return 0;
}

bool cascade_equal(const struct cascade_params *a, const struct cascade_params *b)
{
    return a->sinks == b->sinks && a->subcaches == b->subcaches && a->window == b->window && a->span == b->span &&
           a->stride == b->stride && a->ema == b->ema && a->eager == b->eager && a->reduction == b->reduction &&
           a->policy == b->policy && a->positions == b->positions && a->select == b->select &&
           a->span_score == b->span_score && !memcmp(a->every, b->every, (size_t)a->subcaches * sizeof *a->every);
}

int cascade_rows(const struct cascade_params *p)
{
    return p->sinks + p->window + p->span;
}

int cascade_ring_row(const struct cascade_params *p, int i)
{
    return p->sinks + i * (p->window / p->subcaches) + (i > 0 ? p->span : 0);
}

int cascade_ring_slots(const struct cascade_params *p, int i)
{
    return p->window / p->subcaches / p->span + (i == 0);
}

int64_t cascade_reach(const struct cascade_params *p)
{
    struct rhythm r;
    rhythm_of(p, &r);
    int64_t reach = p->sinks;
    for (int i = 0; i < p->subcaches; i++)
        reach = add_sat(reach, mul_sat(p->window / p->subcaches, r.period[i]));
    return reach;
}

void cascade_state_at(const struct cascade_params *p, int64_t t, struct cascade_state *s)
{
    assert(t >= 0);
    struct rhythm r;
    rhythm_of(p, &r);
    int64_t n = spans_at(p, t);
    memset(s, 0, sizeof *s);
    s->t = t;
    s->sinks = t < p->sinks ? (int)t : p->sinks;
    s->pending = t < p->sinks ? 0 : (int)((t - p->sinks) % p->span);
    for (int i = 0; i < p->subcaches; i++) {
        int64_t all = placed(&r, i, n);
        s->ring[i].count = all < r.spans ? (int)all : r.spans;
        s->ring[i].start = (int)((all - s->ring[i].count) % cascade_ring_slots(p, i));
    }
}

int cascade_held(const struct cascade_params *p, const struct cascade_state *s)
{
    int held = s->sinks + s->pending;
    for (int i = 0; i < p->subcaches; i++)
        held += s->ring[i].count * p->span;
    return held;
}

int cascade_runs(const struct cascade_params *p, const struct cascade_state *s, struct cascade_run *runs)
{
    int n = 0, pos = s->sinks;
    if (s->sinks > 0)
        runs[n++] = (struct cascade_run){.row = 0, .len = s->sinks, .shift = 0};
    for (int i = p->subcaches - 1; i >= 0; i--) {
        int rows = cascade_ring_slots(p, i) * p->span, row = cascade_ring_row(p, i);
        int begin = s->ring[i].start * p->span;
        int len = s->ring[i].count * p->span + (i == 0 ? s->pending : 0);
        int head = len < rows - begin ? len : rows - begin; /* before the ring's seam */
        if (head > 0)
            runs[n++] = (struct cascade_run){.row = row + begin, .len = head, .shift = pos - begin};
        if (len > head)
            runs[n++] = (struct cascade_run){.row = row, .len = len - head, .shift = pos + head};
        pos += len;
    }
    assert(n <= CASCADE_MAX_RUNS);
    return n;
}

/* Arrivals at one sub-cache in one part, at most: spans that a part completes. */
static int part_spans(const struct cascade_params *p)
{
    int64_t spans = ((int64_t)p->stride + p->span - 1) / p->span;
    int most = p->window / p->subcaches / p->span;
    return spans < most ? (int)spans : most;
}

int cascade_plan_init(struct cascade_plan *plan, const struct cascade_params *p, struct err *err)
{
    memset(plan, 0, sizeof *plan);
    size_t most = (size_t)part_spans(p) * (size_t)(p->subcaches - 1);
    plan->group = err_alloc(most, sizeof *plan->group, "the insertion plan", err);
    plan->source = err_alloc(most, sizeof *plan->source, "the insertion plan", err);
    if (!plan->group || !plan->source) {
        cascade_plan_free(plan);
        return -1;
    }
    return 0;
}

void cascade_plan_free(struct cascade_plan *plan)
{
    free(plan->group);
    free(plan->source);
    memset(plan, 0, sizeof *plan);
}

/* Adds the groups of sub-cache i for clocks [from, to). */
static void plan_subcache(struct cascade_plan *plan, const struct rhythm *r, const struct cascade_params *p, int i,
                          int64_t from, int64_t to)
{
    /* A span arrives when sub-cache i-1, full, accepts one itself and gives up its oldest. */
    int64_t m = from > r->first[i] ? from : r->first[i];
    if (m >= to)
        return;
    int64_t pass = r->period[i - 1];
    int64_t given = placed(r, i - 1, m) - r->spans; /* spans that sub-cache i-1 has given up before clock m */
    int64_t taken = placed(r, i, m);
    int slots = cascade_ring_slots(p, i), source_slots = cascade_ring_slots(p, i - 1);
    struct cascade_group *g = NULL;
    while (m < to) {
        if (m >= r->eager && m % pass != 0) {
            if (to - m <= pass - m % pass)
                break;
            m += pass - m % pass;
        }
        bool accepts = m < r->eager || m % r->period[i] == 0 || taken == 0;
        if (accepts)
            taken++;
        if (accepts || !g) {
            g = &plan->group[plan->ngroups++];
            *g = (struct cascade_group){
                .sub = i, .slot = (int32_t)((taken - 1) % slots), .first = plan->nsources, .holder = !accepts};
        }
        plan->source[plan->nsources++] = (int32_t)(given++ % source_slots);
        g->count++;
        m++;
    }
}

void cascade_plan_make(struct cascade_plan *plan, const struct cascade_params *p, const struct cascade_state *before,
                       int left)
{
    assert(left > 0 && left <= p->stride);
    int64_t room = (before->t < p->sinks ? p->sinks - before->t : 0) + p->window / p->subcaches;
    struct rhythm r;
    rhythm_of(p, &r);
    plan->before = *before;
    plan->tokens = left < room ? left : (int)room;
    cascade_state_at(p, before->t + plan->tokens, &plan->after);
    plan->ngroups = plan->nsources = 0;
    int64_t from = spans_at(p, before->t), to = spans_at(p, plan->after.t);
    for (int i = p->subcaches - 1; i >= 1; i--)
        plan_subcache(plan, &r, p, i, from, to);
    assert(plan->nsources <= part_spans(p) * (p->subcaches - 1));
}

int cascade_token_row(const struct cascade_params *p, const struct cascade_plan *plan, int i)
{
    int64_t t = plan->before.t + i;
    if (t < p->sinks)
        return (int)t;
    return p->sinks + (int)((t - p->sinks) % (cascade_ring_slots(p, 0) * (int64_t)p->span));
}

int cascade_source_row(const struct cascade_params *p, const struct cascade_plan *plan, const struct cascade_group *g,
                       int32_t k)
{
    return cascade_ring_row(p, g->sub - 1) + plan->source[k] * p->span;
}

int cascade_group_row(const struct cascade_params *p, const struct cascade_group *g)
{
    return cascade_ring_row(p, g->sub) + g->slot * p->span;
}

uint64_t cascade_hash(int64_t origin, uint64_t seed)
{
    uint64_t z = (uint64_t)origin + seed * 0x9e3779b97f4a7c15u + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* What is compared: the larger one stays, the later one of equals. Doubles hold every score, token number (to 2^53) and hash
 * (its upper 53 bits) as they are. */
static double span_merit(const struct cascade_params *p, const float *score, const int64_t *origin, int row,
                         uint64_t seed)
{
    switch (p->select) {
    case SELECT_NEWEST:
        return (double)origin[row];
    case SELECT_OLDEST:
        return -(double)origin[row];
    case SELECT_RANDOM:
        return (double)(cascade_hash(origin[row], seed) >> 11);
    case SELECT_SCORE:
        break;
    }
    double max = -INFINITY, sum = 0;
    for (int j = 0; j < p->span; j++) {
        double s = isnan(score[row + j]) ? -INFINITY : (double)score[row + j];
        max = s > max ? s : max;
        sum += s;
    }
    if (p->span_score == SPAN_MAX)
        return max;
    return isnan(sum) ? -INFINITY : sum; /* spans are of one length: the order of sums is that of means */
}

void cascade_decide(const struct cascade_params *p, const struct cascade_plan *plan, const float *score,
                    const int64_t *origin, uint64_t seed, int32_t *winner)
{
    for (int i = 0; i < plan->ngroups; i++) {
        const struct cascade_group *g = &plan->group[i];
        double best = g->holder ? span_merit(p, score, origin, cascade_group_row(p, g), seed) : -INFINITY;
        winner[i] = -1;
        for (int32_t k = g->first; k < g->first + g->count; k++) {
            double merit = span_merit(p, score, origin, cascade_source_row(p, plan, g, k), seed);
            if (merit >= best) {
                best = merit;
                winner[i] = k;
            }
        }
    }
}

void cascade_carry(const struct cascade_params *p, const struct cascade_plan *plan, const int32_t *winner, float *score,
                   int64_t *origin, const float *chunk_score)
{
    size_t span = (size_t)p->span;
    for (int i = 0; i < plan->ngroups; i++) {
        const struct cascade_group *g = &plan->group[i];
        if (winner[i] < 0)
            continue;
        int to = cascade_group_row(p, g), from = cascade_source_row(p, plan, g, winner[i]);
        memcpy(score + to, score + from, span * sizeof *score);
        memcpy(origin + to, origin + from, span * sizeof *origin);
    }
    for (int i = 0; i < plan->tokens; i++) {
        int row = cascade_token_row(p, plan, i);
        score[row] = chunk_score[i];
        origin[row] = plan->before.t + i;
    }
}
