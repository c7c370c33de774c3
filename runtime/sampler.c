#include "sample_state.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float logit;
    int32_t id;
};

struct sampler {
    struct sampler_params p;
    int vocab;
    uint64_t random;
    int32_t *recent;        /* [p.repeat_last] a ring, owned */
    int nrecent, next;      /* held; slot that is written next */
    struct candidate *list; /* [vocab], owned */
    bool *penalised;        /* [vocab] all false between calls, owned */
};

struct sampler_params sampler_defaults(void)
{
    return (struct sampler_params){
        .temperature = 0.8,
        .top_k = 40,
        .top_p = 0.95,
        .min_p = 0.05,
        .repeat_penalty = 1,
        .repeat_last = 64,
    };
}

int sampler_check(const struct sampler_params *p, struct err *err)
{
    enum { MOST_RECENT = 1 << 20 };
    if (!(p->temperature >= 0 && p->temperature <= 1e6))
        return err_set(err, "--temp %g is not in 0..1000000", p->temperature);
    if (p->top_k < 0)
        return err_set(err, "--top-k %d is negative; 0 means all", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return err_set(err, "--top-p %g is not above 0 and at most 1", p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return err_set(err, "--min-p %g is not in 0..1", p->min_p);
    if (!(p->repeat_penalty > 0 && p->repeat_penalty <= 1e6))
        return err_set(err, "--repeat-penalty %g is not above 0; 1 means none", p->repeat_penalty);
    if (p->repeat_last < 0 || p->repeat_last > MOST_RECENT)
        return err_set(err, "--repeat-last %d is not in 0..%d", p->repeat_last, MOST_RECENT);
    return 0;
}

int sampler_open(struct sampler **out, const struct sampler_params *p, int vocab, struct err *err)
{
    struct sampler *s = err_calloc(1, sizeof *s, "the sampler", err);
    if (!s)
        return -1;
    s->p = *p;
    s->vocab = vocab;
    s->random = p->seed;
    s->recent = err_alloc((size_t)p->repeat_last, sizeof *s->recent, "--repeat-last", err);
    s->list = err_alloc((size_t)vocab, sizeof *s->list, "the sampler", err);
    s->penalised = err_calloc((size_t)vocab, sizeof *s->penalised, "the sampler", err);
    if (!s->recent || !s->list || !s->penalised) {
        sampler_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void sampler_close(struct sampler *s)
{
    if (!s)
        return;
    free(s->recent);
    free(s->list);
    free(s->penalised);
    free(s);
}

void sampler_accept(struct sampler *s, int32_t id)
{
    if (s->p.repeat_last == 0 || id < 0 || id >= s->vocab)
        return;
    s->recent[s->next] = id;
    s->next = (s->next + 1) % s->p.repeat_last;
    if (s->nrecent < s->p.repeat_last)
        s->nrecent++;
}

int sampler_save(const struct sampler *s, struct sampler_state *out, struct err *err)
{
    *out = (struct sampler_state){.p = s->p, .random = s->random, .nrecent = s->nrecent};
    out->recent = err_alloc((size_t)s->nrecent, sizeof *out->recent, "the sampler's state", err);
    if (!out->recent)
        return -1;
    int oldest = s->nrecent < s->p.repeat_last ? 0 : s->next;
    for (int i = 0; i < s->nrecent; i++)
        out->recent[i] = s->recent[(oldest + i) % s->p.repeat_last];
    return 0;
}

void sampler_restore(struct sampler *s, const struct sampler_state *from)
{
    sampler_reset(s);
    if (s->p.seed == from->p.seed)
        s->random = from->random;
    for (int i = 0; i < from->nrecent; i++)
        sampler_accept(s, from->recent[i]);
}

void sampler_reset(struct sampler *s)
{
    s->random = s->p.seed;
    s->nrecent = s->next = 0;
}

/* Uniform in [0, 1): splitmix64. */
static double draw(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

static int compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id < y->id ? -1 : x->id > y->id;
}

/* Moves the k best of list[0..n) to its front, in any order. */
static void select_best(struct candidate *list, int n, int k)
{
    int lo = 0, hi = n;
    while (hi - lo > 1) {
        struct candidate pivot = list[lo + (hi - lo) / 2];
        int i = lo, j = hi - 1;
        while (i <= j) {
            while (compare(&list[i], &pivot) < 0)
                i++;
            while (compare(&list[j], &pivot) > 0)
                j--;
            if (i <= j) {
                struct candidate c = list[i];
                list[i++] = list[j];
                list[j--] = c;
            }
        }
        if (k <= j + 1)
            hi = j + 1;
        else if (k > i)
            lo = i;
        else
            return;
    }
}

/* The logits with the penalty for recent tokens. */
static void fill_list(struct sampler *s, const float *logits)
{
    float penalty = (float)s->p.repeat_penalty;
    for (int i = 0; i < s->vocab; i++)
        s->list[i] = (struct candidate){isnan(logits[i]) ? -INFINITY : logits[i], i};
    if (penalty == 1)
        return;
    for (int i = 0; i < s->nrecent; i++) {
        float *logit = &s->list[s->recent[i]].logit;
        if (!s->penalised[s->recent[i]])
            *logit = *logit > 0 ? *logit / penalty : *logit * penalty;
        s->penalised[s->recent[i]] = true;
    }
    for (int i = 0; i < s->nrecent; i++)
        s->penalised[s->recent[i]] = false;
}

int32_t sampler_pick(struct sampler *s, const float *logits)
{
    const struct sampler_params *p = &s->p;
    struct candidate *list = s->list, best;
    int n = s->vocab;
    fill_list(s, logits);
    best = list[0];
    for (int i = 1; i < n; i++)
        if (list[i].logit > best.logit)
            best = list[i];
    if (p->temperature == 0 || p->top_k == 1 || isinf(best.logit))
        return best.id;

    if (p->top_k > 0 && p->top_k < n) {
        select_best(list, n, p->top_k);
        n = p->top_k;
    }
    /* top-p counts all that top-k left, those that min-p takes out too. */
    double all = 0, floor = p->min_p > 0 ? (double)best.logit + log(p->min_p) : -INFINITY;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        all += p->top_p < 1 ? exp((double)list[i].logit - (double)best.logit) : 0;
        if ((double)list[i].logit >= floor)
            list[kept++] = list[i];
    }
    n = kept;
    qsort(list, (size_t)n, sizeof *list, compare);
    double sum = 0;
    for (int i = 0; p->top_p < 1 && i < n; i++) {
        sum += exp((double)list[i].logit - (double)best.logit);
        if (sum >= p->top_p * all)
            n = i + 1;
    }
    sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(((double)list[i].logit - (double)best.logit) / p->temperature);
    double left = draw(&s->random) * sum;
    for (int i = 0; i < n; i++) {
        left -= exp(((double)list[i].logit - (double)best.logit) / p->temperature);
        if (left < 0)
            return list[i].id;
    }
    return list[0].id; /* rounding took the draw past the last one */
}

bool sampler_device_state(const struct sampler *s, struct sample_state *out, int32_t *recent, int room)
{
    bool penalty = s->p.repeat_penalty != 1;
    sample_state_make(out, &s->p);
    out->random = s->random;
    if (!penalty) {
        out->repeat_last = 0;
        return true;
    }
    if (s->p.repeat_last > room)
        return false;
    out->nrecent = s->nrecent;
    out->next = s->next;
    memcpy(recent, s->recent, (size_t)s->nrecent * sizeof *recent);
    return true;
}

void sampler_picked(struct sampler *s, uint64_t random)
{
    s->random = random;
}
