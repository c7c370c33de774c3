#include "tune.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What one run holds; index: from a config to its place among the valid ones. */
struct run {
    struct tune *t;
    const struct tune_space *space;
    struct search search;
    long *at;               /* [nvalid][ntile] */
    int *index;             /* [nconfigs], -1 */
    struct compiled *slots; /* [nconfigs] */
    struct tune_state now;
    struct meter_standing standing;
    int idle; /* trials since the one that is the best */
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int open_run(struct run *r, const double *predicted, struct err *err)
{
    const struct tune_space *s = r->space;
    size_t all = (size_t)s->all.nconfigs + 1;
    int tiles = s->all.ntile;
    if (!(r->at = err_calloc(((size_t)s->nvalid + 1) * (size_t)(tiles + 1), sizeof *r->at, "a search", err)) ||
        !(r->index = err_calloc(all, sizeof *r->index, "a search", err)) ||
        !(r->slots = err_calloc(all, sizeof *r->slots, "a search", err)))
        return -1;
    for (int c = 0; c < s->all.nconfigs; c++)
        r->index[c] = -1;
    for (int i = 0; i < s->nvalid; i++) {
        r->index[s->valid[i]] = i;
        for (int k = 0; k < tiles; k++)
            r->at[i * tiles + k] = s->all.config[s->valid[i]].value[k];
    }
    return search_open(&r->search, r->t->search, s->nvalid, tiles, r->at, predicted,
                       s->by_default >= 0 ? r->index[s->by_default] : -1, r->t->seed, err);
}

static void close_run(struct run *r)
{
    search_close(&r->search);
    free(r->at);
    free(r->index);
    free(r->slots);
}

static void take(struct run *r, int config, const struct trial *trial)
{
    double ms = trial->validity == TRIAL_CORRECT ? trial->ms : 0;
    int best = r->search.best;
    search_report(&r->search, r->index[config], ms);
    if (r->search.best >= 0) {
        r->now.best = r->space->valid[r->search.best];
        r->now.best_ms = r->search.ms[r->search.best];
    }
    r->idle = r->search.best != best ? 0 : r->idle + 1;
    r->standing.best = r->now.best;
    r->standing.best_ms = r->now.best_ms;
    if (config == r->space->by_default)
        r->now.default_ms = ms;
    /* The default where it can be had: of all that was measured before, it is what an earlier run began with, too. */
    if (ms > 0 && (r->standing.anchor < 0 || config == r->space->by_default)) {
        r->standing.anchor = config;
        r->standing.anchor_ms = ms;
    }
}

/* Whatever is in the log and not yet known to the search: of earlier runs, and of another tuner's. */
static int take_known(struct run *r, struct err *err)
{
    if (trials_refresh(r->t->trials, err) != 0)
        return -1;
    const struct trial **slot = err_calloc((size_t)r->space->all.nconfigs + 1, sizeof *slot, "known trials", err);
    if (!slot)
        return -1;
    trials_of_space(r->t->trials, r->space, false, slot);
    for (int i = 0; i < r->space->nvalid; i++) {
        int c = r->space->valid[i];
        if (slot[c] && r->search.ms[i] == 0) {
            take(r, c, slot[c]);
            r->now.known++;
        }
    }
    const struct trial *first = NULL; /* as fast as the best; the log has them as they were made */
    for (int i = 0; i < r->space->nvalid; i++) {
        const struct trial *t = slot[r->space->valid[i]];
        if (t && t->validity == TRIAL_CORRECT && t->ms <= r->now.best_ms && (!first || t < first))
            first = t;
    }
    r->idle = 0;
    for (int i = 0; i < r->space->nvalid; i++)
        r->idle += first && slot[r->space->valid[i]] > first;
    free(slot);
    return 0;
}

/* 1 when the next trial was made, 0 when there is none to make. */
static int one_trial(struct run *r, struct err *err)
{
    struct meter *m = r->t->meter;
    struct trial trial;
    int want[64], config[64], most = m->cores + 1 < 64 ? m->cores + 1 : 64;
    int n = search_next(&r->search, most, want);
    if (n == 0)
        return 0;
    for (int i = 0; i < n; i++)
        config[i] = r->space->valid[want[i]];
    if (m->ahead(m, r->space, config, n, r->slots, err) != 0 ||
        m->measure(m, r->space, config[0], &r->standing, r->slots, &trial, err) != 0)
        return -1;
    int seen = r->t->trials->n;
    if (trials_add(r->t->trials, &trial, err) != 0)
        return -1;
    take(r, config[0], &trial);
    r->now.trials++;
    r->now.failed += trial.validity != TRIAL_CORRECT;
    r->now.last = &trial;
    if (r->t->progress)
        r->t->progress(r->t->user, &r->now);
    r->now.last = NULL;
    return r->t->trials->n > seen + 1 && take_known(r, err) != 0 ? -1 : 1; /* another tuner writes too */
}

int tune_run(struct tune *t, const struct tune_space *space, const double *predicted, struct tune_state *out,
             struct err *err)
{
    struct run r = {
        .t = t, .space = space, .now = {.space = space, .best = -1}, .standing = {.anchor = -1, .best = -1}};
    double began = seconds();
    int status = -1;
    if (open_run(&r, predicted, err) != 0 || take_known(&r, err) != 0)
        goto done;
    for (status = 1; status > 0;) {
        r.now.seconds = seconds() - began;
        r.now.stopped = t->stop && *t->stop;
        if (r.now.stopped || (t->max_trials && r.now.trials >= t->max_trials) ||
            (t->max_seconds > 0 && r.now.seconds >= t->max_seconds) ||
            (t->patience && r.idle >= t->patience + space->nvalid / 20))
            break;
        status = one_trial(&r, err);
        if (status < 0 && t->stop && *t->stop) { /* the signal ended a wait */
            r.now.stopped = true;
            status = 0;
        }
    }
    r.now.seconds = seconds() - began;
    status = status < 0 ? -1 : 0;
done:
    t->meter->leave(t->meter);
    close_run(&r);
    *out = r.now;
    return status;
}
