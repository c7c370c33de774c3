#include "refine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double within = 1.15;      /* of the fastest launch */
static const double least_gain = 0.003; /* of the step */
static const double no_more = 1.005;    /* a tile that was so far behind is not tried again */

/* ------------------------------------------------------------------------------------------------ what to try */

struct leader {
    const struct trial *trial;
    int config, threads;
};

static int faster_first(const void *a, const void *b)
{
    const struct leader *x = a, *y = b;
    return x->trial->ms != y->trial->ms ? (x->trial->ms > y->trial->ms) - (x->trial->ms < y->trial->ms)
                                        : x->config - y->config;
}

/* Whether the trial is of the text that its config is rendered as now. */
static bool holds(const struct tune_space *s, const struct leader *l)
{
    return !strcmp(l->trial->revision, tune_space_revision(s, l->config));
}

static void add(struct refine_kernel *k, const struct leader *l)
{
    for (int i = 0; i < k->n; i++)
        if (pairs_equal(&k->tile[i].config, &l->trial->config))
            return;
    k->tile[k->n++] =
        (struct refine_tile){.config = l->trial->config, .ms = l->trial->ms, .spread_ms = l->trial->spread_ms};
}

static bool same_kind(const struct leader *a, const struct leader *b)
{
    return a->threads == b->threads && a->trial->blocks_per_sm == b->trial->blocks_per_sm;
}

/* The leaders [n], fastest first: in a first pass one of each kind, then whatever is next. */
static void add_leaders(struct refine_kernel *k, const struct leader *l, int n)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n && k->n < REFINE_LEADERS; i++) {
            bool new_kind = true;
            for (int j = 0; j < i && pass == 0; j++)
                new_kind = new_kind && !same_kind(&l[i], &l[j]);
            if (new_kind)
                add(k, &l[i]);
        }
}

static int threads_of(const struct tune_space *s, int config)
{
    struct gen_kernel spec;
    if (tune_space_spec(s, config, &spec, NULL) != 0)
        return 0;
    int threads = (int)spec.threads;
    gen_kernel_free(&spec);
    return threads;
}

/* The correct trials of the space that hold, fastest first, as far as they are wanted: leaders; the default's and the present tile's are among
 * them wherever they stand. Returns how many. */
static int find_leaders(struct refine_kernel *k, const struct tune_space *s, const struct trial **slot, int present,
                        struct leader *all)
{
    int n = 0, kept = 0;
    for (int i = 0; i < s->nvalid; i++) {
        int c = s->valid[i];
        if (slot[c] && slot[c]->validity == TRIAL_CORRECT)
            all[n++] = (struct leader){slot[c], c, 0};
    }
    qsort(all, (size_t)n, sizeof *all, faster_first);
    k->trials = n;
    double best = INFINITY;
    for (int i = 0; i < n; i++) {
        bool near = all[i].trial->ms <= within * best,
             wanted = all[i].config == s->by_default || all[i].config == present;
        if ((!near && !wanted) || !holds(s, &all[i]))
            continue;
        best = fmin(best, all[i].trial->ms);
        all[kept] = all[i];
        all[kept].threads = threads_of(s, all[kept].config);
        kept++;
    }
    return kept;
}

int refine_candidates(struct refine_kernel *k, const struct trials *trials, const struct tune_space *space,
                      const struct pairs *present, struct err *err)
{
    size_t room = (size_t)space->all.nconfigs + 1;
    const struct trial **slot = err_calloc(room, sizeof *slot, "known trials", err);
    struct leader *all = err_calloc(room, sizeof *all, "known trials", err);
    int status = slot && all ? 0 : -1, now = tune_space_find(space, present);
    k->n = k->trials = 0;
    k->before = *present;
    if (status == 0) {
        trials_of_space(trials, space, true, slot); /* whether one holds is asked of few */
        int n = find_leaders(k, space, slot, now, all), near = 0;
        while (near < n && all[near].trial->ms <= within * all[0].trial->ms)
            near++;
        add_leaders(k, all, near);
        for (int i = 0; i < n; i++)
            if (all[i].config == space->by_default || all[i].config == now)
                add(k, &all[i]);
    }
    free(slot);
    free(all);
    return status;
}

/* ------------------------------------------------------------------------------------------------ the descent */

static bool is_better(const struct step_time *t)
{
    double gain = 1 - t->ratio;
    return !t->failed[0] && gain > least_gain && gain > t->spread / 2;
}

static bool stopped(struct refine *r)
{
    r->stopped = r->stopped || (r->stop && *r->stop);
    return r->stopped;
}

/* One tile in the place of kernel i's. 1 where it stays. */
static int try_tile(struct refine *r, struct step_meter *m, int i, struct refine_tile *tile, struct err *err)
{
    struct refine_kernel *k = &r->kernel[i];
    struct step_time time;
    if (r->progress)
        r->progress(r->user, r, i);
    if (m->exchange(m, i, &tile->config, &time, err) != 0)
        return -1;
    k->tried++;
    if (time.failed[0]) {
        tile->failed = true;
        k->failed++;
        memcpy(k->failure, time.failed, sizeof k->failure);
        return 0;
    }
    tile->ratio = time.ratio;
    if (r->base_ms <= 0)
        r->base_ms = time.base_ms;
    if (!is_better(&time))
        return 0;
    k->base_ms = time.base_ms;
    k->ms = time.ms;
    return m->keep(m, err) == 0 ? 1 : -1;
}

/* All kernels once. Returns how many exchanges stayed. */
static int one_round(struct refine *r, struct step_meter *m, struct err *err)
{
    int stayed = 0;
    for (int i = 0; i < m->n; i++) {
        struct refine_kernel *k = &r->kernel[i];
        for (int j = 0; j < k->n && m->kernel[i].launched && !stopped(r); j++) {
            struct refine_tile *tile = &k->tile[j];
            if (tile->failed || tile->ratio > no_more || pairs_equal(&tile->config, &m->kernel[i].tile))
                continue;
            int rc = try_tile(r, m, i, tile, err);
            if (rc < 0)
                return -1;
            stayed += rc;
        }
    }
    return stayed;
}

/* What single steps up to here have gained must be there in the whole. */
static int check_whole(struct refine *r, struct step_meter *m, struct err *err)
{
    struct step_time time;
    if (m->whole(m, &time, err) != 0)
        return -1;
    r->exchanged = 0;
    for (int i = 0; i < m->n; i++) {
        if (!is_better(&time) && m->kernel[i].launched)
            m->kernel[i].tile = r->kernel[i].before;
        r->exchanged += m->kernel[i].launched && !pairs_equal(&m->kernel[i].tile, &r->kernel[i].before);
    }
    if (!time.failed[0])
        r->base_ms = time.base_ms;
    r->ms = r->exchanged ? time.ms : r->base_ms;
    return 0;
}

int refine_step(struct refine *r, struct step_meter *m, struct err *err)
{
    enum { ROUNDS = 2 };
    int stayed = 1;
    r->exchanged = 0;
    r->base_ms = r->ms = 0;
    r->stopped = false;
    for (int round = 0; round < ROUNDS && stayed > 0 && !stopped(r); round++)
        if ((stayed = one_round(r, m, err)) < 0)
            return -1;
    return check_whole(r, m, err);
}

bool refine_entry(const struct refine *r, const struct step_meter *m, int kernel, const char *name,
                  struct wisdom_entry *out)
{
    const struct refine_kernel *k = &r->kernel[kernel];
    const struct step_kernel *s = &m->kernel[kernel];
    time_t now = time(NULL);
    struct tm day;
    int i = 0;
    while (i < k->n && !pairs_equal(&k->tile[i].config, &s->tile))
        i++;
    if (i == k->n || !s->launched || k->tried == 0)
        return false;
    memset(out, 0, sizeof *out);
    memcpy(out->kernel, s->problem.kernel, sizeof out->kernel);
    out->shape = s->problem.shape;
    out->sizes = s->problem.sizes;
    out->config = s->tile;
    out->ms = k->tile[i].ms;
    out->spread_ms = k->tile[i].spread_ms;
    out->trials = k->trials;
    snprintf(out->step, sizeof out->step, "%s", name);
    out->step_ms = r->ms;
    gmtime_r(&now, &day);
    strftime(out->measured, sizeof out->measured, "%Y-%m-%d", &day);
    return true;
}
