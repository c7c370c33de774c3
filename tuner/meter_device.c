/* Times on this machine's GPU. The process that measures owns the GPU and is replaced when a kernel hangs or crashes in it; before that,
 * other processes have compiled (compile_pool.h). */
#include "meter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "problem.h"

enum {
    OPEN_SECONDS = 90,  /* setting up a problem, the oracle's part included */
    TRIAL_SECONDS = 20, /* a config that takes longer hangs */
    ROUGH_RUNS = 3,     /* tell the hopeless ones */
    FINE_RUNS = 8,
    MARKS_PER_BATCH = 16,
    FLUSH_MIN = 64 << 20
};
static const double hopeless = 2; /* times the best so far: not worth a finer look */

struct request {
    enum { HELLO, OPEN, TRIAL } what; /* say what GPU it is; set the problem up; try a config */
    bool has_anchor;
    double anchor_ms, best_ms; /* best_ms 0: none yet */
    struct tune_problem problem;
    struct pairs config, anchor;
};

struct reply {
    bool fatal;
    struct err err;
    struct device_facts facts;
    struct trial trial; /* its results; the parent knows the rest */
};

struct device_meter {
    struct worker_job job;
    struct worker worker;
    struct compile_pool *pool;
    char home[512];
    int (*open_bench)(struct bench *b, struct err *err);
    double trial_seconds;     /* a config that takes longer hangs */
    struct tune_problem last; /* what the process has open */
};

/* ------------------------------------------------------------------------------------------------ in the process that measures */

struct gauge {
    struct bench bench;
    struct err broken; /* why nothing can be measured; "" */
    struct problem *problem;
    struct kernel anchor;
    struct pairs anchor_config;
    bool has_anchor;
    devptr flush;
    size_t flush_bytes;
    unsigned char flushed;
};

static void *gauge_begin(void *user)
{
    const struct device_meter *d = user;
    struct gauge *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    bench_init(&g->bench);
    g->bench.quiet = true;
    g->bench.templates = d->home;
    if (d->open_bench(&g->bench, &g->broken) != 0)
        return g;
    g->flush_bytes = (size_t)g->bench.dev.facts.l2_bytes * 2;
    g->flush_bytes = g->flush_bytes > FLUSH_MIN ? g->flush_bytes : FLUSH_MIN;
    if (g->bench.dev.alloc(&g->bench.dev, g->flush_bytes, &g->flush, &g->broken) != 0)
        return g;
    g->broken.msg[0] = 0;
    return g;
}

static void drop_anchor(struct gauge *g)
{
    if (!g->has_anchor)
        return;
    problem_forget(g->problem, &g->anchor);
    kernel_free(&g->anchor);
    g->has_anchor = false;
}

static void forget_problem(struct gauge *g)
{
    drop_anchor(g);
    problem_close(g->problem);
    g->problem = NULL;
}

static int get_kernel(struct gauge *g, const struct pairs *config, struct kernel *out, struct err *err)
{
    struct gen_param params[TUNE_PARAMS_MAX];
    int n = pairs_params(config, params, pairs_params(&g->problem->what.shape, params, 0));
    return kernel_get(g->bench.gen, &g->bench.cache, &g->bench.dev, g->problem->what.kernel, params, n, out, err);
}

static int flush(struct gauge *g, struct err *err)
{
    struct device *dev = &g->bench.dev;
    return g->problem->goes_round ? 0 : dev->fill(dev, g->flush, g->flushed++, g->flush_bytes, err);
}

/* Several launches of each of the kernels in turn, each with an L2 that holds nothing of use: ms[k][0..runs-1]. */
static int time_kernels(struct gauge *g, const struct kernel *const *kernel, int kernels, int runs,
                        double ms[][TRIAL_RUNS_MAX], struct err *err)
{
    struct device *dev = &g->bench.dev;
    int batch = MARKS_PER_BATCH / 2 / kernels;
    for (int done = 0; done < runs; done += batch) {
        int n = runs - done < batch ? runs - done : batch;
        for (int i = 0; i < n * kernels; i++)
            if (flush(g, err) != 0 || dev->mark(dev, 2 * i, err) != 0 ||
                g->problem->family->launch(g->problem, kernel[i % kernels], err) != 0 ||
                dev->mark(dev, 2 * i + 1, err) != 0)
                return -1;
        for (int i = 0; i < n * kernels; i++) {
            float one;
            if (dev->elapsed(dev, 2 * i, 2 * i + 1, &one, err) != 0)
                return -1;
            ms[i % kernels][done + i / kernels] = (double)one / g->problem->launches;
        }
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *ms, int n, double q)
{
    double sorted[TRIAL_RUNS_MAX];
    memcpy(sorted, ms, (size_t)n * sizeof *ms);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return sorted[(int)(q * (n - 1) + 0.5)];
}

/* Takes the times over; `drift`: what the clock has done since the anchor was measured. */
static void take_times(struct trial *t, const double *ms, int n, double drift)
{
    t->nruns = n;
    for (int i = 0; i < n; i++)
        t->run_ms[i] = ms[i] / drift;
    t->ms = quantile(t->run_ms, n, 0.5);
    t->spread_ms = quantile(t->run_ms, n, 0.9) - quantile(t->run_ms, n, 0.1);
}

/* The anchor's time now over its time then, and 1 where the two are no further apart than its runs are from each other. */
static double drift_of(const double *ms, int n, double then)
{
    double now = quantile(ms, n, 0.5), spread = quantile(ms, n, 0.9) - quantile(ms, n, 0.1);
    return fabs(now - then) > spread ? now / then : 1;
}

static int load_anchor(struct gauge *g, const struct request *q, struct err *err)
{
    if (g->has_anchor && pairs_equal(&g->anchor_config, &q->anchor))
        return 0;
    drop_anchor(g);
    g->has_anchor = get_kernel(g, &q->anchor, &g->anchor, err) == 0;
    g->anchor_config = q->anchor;
    return g->has_anchor ? 0 : -1;
}

/* Against the oracle; and at full size against what the default tile makes of it. Returns -1 where the GPU fails. */
static int check(struct gauge *g, const struct kernel *k, bool whole, struct trial *t, struct err *err)
{
    const struct problem_family *f = g->problem->family;
    double error = 0;
    char where[120] = "";
    int (*how)(struct problem *, const struct kernel *, double *, char[120], struct err *) =
        whole ? f->whole : f->check;
    if (how && how(g->problem, k, &error, where, err) != 0)
        return -1;
    t->error = error > t->error ? error : t->error;
    if (!(error <= 1)) {
        t->validity = TRIAL_CORRECTNESS;
        t->error = isfinite(error) ? error : 1e30;
        snprintf(t->message, sizeof t->message, "%s: %.160s", whole ? "at full size" : "against the oracle", where);
    }
    return 0;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int check_and_time(struct gauge *g, const struct request *q, const struct kernel *k, struct trial *t,
                          struct err *err)
{
    double ms[2][TRIAL_RUNS_MAX], began = now_ms();
    const struct kernel *both[2] = {k, &g->anchor};
    if (check(g, k, false, t, err) != 0)
        return -1;
    t->check_ms = now_ms() - began;
    if (t->validity != TRIAL_CORRECT)
        return 0;
    if (time_kernels(g, both, 1, ROUGH_RUNS, ms, err) != 0)
        return -1;
    take_times(t, ms[0], ROUGH_RUNS, 1);
    if (q->best_ms > 0 && t->ms > hopeless * q->best_ms)
        return 0;
    began = now_ms();
    if (check(g, k, true, t, err) != 0)
        return -1;
    t->check_ms += now_ms() - began;
    if (t->validity != TRIAL_CORRECT)
        return 0;
    bool turns = q->has_anchor && !pairs_equal(&q->anchor, &q->config) && load_anchor(g, q, err) == 0;
    if (time_kernels(g, both, turns ? 2 : 1, FINE_RUNS, ms, err) != 0)
        return -1;
    take_times(t, ms[0], FINE_RUNS, turns ? drift_of(ms[1], FINE_RUNS, q->anchor_ms) : 1);
    return 0;
}

static bool gauge_serve(void *state, const void *request, void *reply)
{
    struct gauge *g = state;
    const struct request *q = request;
    struct reply *r = reply;
    struct trial *t = &r->trial;
    struct kernel k;
    if (!g || g->broken.msg[0]) {
        r->fatal = true;
        if (g)
            r->err = g->broken;
        return false;
    }
    r->facts = g->bench.dev.facts;
    if (q->what == OPEN) {
        forget_problem(g);
        r->fatal = problem_open(&g->problem, &g->bench, &q->problem, &r->err) != 0;
    }
    if (q->what != TRIAL)
        return !r->fatal;
    if (get_kernel(g, &q->config, &k, &r->err) != 0) {
        t->validity = TRIAL_COMPILE;
        return true;
    }
    bool alive = true;
    if (check_and_time(g, q, &k, t, &r->err) != 0) {
        t->validity = TRIAL_RUNTIME; /* an error of the GPU stays with its context: this process is done */
        alive = false;
    }
    if (alive) {
        problem_forget(g->problem, &k);
        kernel_free(&k);
    }
    return alive;
}

/* ------------------------------------------------------------------------------------------------ in the tuner */

static int device_ahead(struct meter *m, const struct tune_space *s, const int *config, int n, struct compiled *slots,
                        struct err *err)
{
    struct device_meter *d = m->state;
    for (int i = 0; i < n; i++)
        if (compile_pool_add(d->pool, s, config[i], &slots[config[i]], err) != 0)
            return -1;
    return 0;
}

static int ask(struct device_meter *d, const struct request *q, struct reply *r, double seconds,
               enum worker_answer *how, struct err *err)
{
    if (d->worker.pid == 0) {
        memset(&d->last, 0, sizeof d->last);
        if (worker_start(&d->worker, &d->job, err) != 0)
            return -1;
    }
    if (worker_ask(&d->worker, q, err) != 0)
        return -1;
    /* A signal (Ctrl-C) waits until this one trial has come: it is nearly done, and kept. */
    do
        *how = worker_wait(&d->worker, r, seconds, &r->err);
    while (*how == WORKER_INTERRUPTED);
    return 0;
}

/* Has the process that measures set the problem up, unless it has: this may take longer than a trial. */
static int open_there(struct device_meter *d, const struct tune_space *s, struct request *q, struct err *err)
{
    struct reply r;
    enum worker_answer how;
    if (d->worker.pid == 0 || !tune_problem_equal(&d->last, &s->problem)) {
        q->what = OPEN;
        memset(&r, 0, sizeof r);
        if (ask(d, q, &r, OPEN_SECONDS, &how, err) != 0)
            return -1;
        if (how != WORKER_REPLIED || r.fatal)
            return err_set(err, "%s", r.err.msg);
        d->last = s->problem;
    }
    q->what = TRIAL;
    return 0;
}

static int device_measure(struct meter *m, const struct tune_space *s, int config, const struct meter_standing *now,
                          struct compiled *slots, struct trial *out, struct err *err)
{
    struct device_meter *d = m->state;
    const struct compiled *c = &slots[config];
    struct request q;
    struct reply r;
    enum worker_answer how;
    memset(&q, 0, sizeof q);
    memset(&r, 0, sizeof r);
    meter_begin_trial(s, config, out);
    if (compile_pool_add(d->pool, s, config, &slots[config], err) != 0 || compile_pool_wait(d->pool, c, err) != 0)
        return -1;
    q.problem = s->problem;
    tune_space_config(s, config, &q.config);
    q.has_anchor = now->anchor >= 0;
    q.anchor_ms = now->anchor_ms;
    q.best_ms = now->best >= 0 ? now->best_ms : 0;
    if (q.has_anchor)
        tune_space_config(s, now->anchor, &q.anchor);
    if (c->validity == TRIAL_CORRECT) {
        if (open_there(d, s, &q, err) != 0 || ask(d, &q, &r, d->trial_seconds, &how, err) != 0)
            return -1;
        if (how == WORKER_REPLIED && r.fatal)
            return err_set(err, "%s", r.err.msg);
        if (how == WORKER_REPLIED && r.trial.validity == TRIAL_RUNTIME)
            worker_stop(&d->worker);
        struct trial t = r.trial;
        memcpy(t.gpu, out->gpu, sizeof t.gpu);
        memcpy(t.revision, out->revision, sizeof t.revision);
        t.problem = out->problem;
        t.config = out->config;
        t.at = out->at;
        *out = t;
        if (how != WORKER_REPLIED)
            out->validity = how == WORKER_LATE ? TRIAL_TIMEOUT : TRIAL_RUNTIME;
        if (out->validity != TRIAL_CORRECT && !out->message[0])
            snprintf(out->message, sizeof out->message, "%.190s", r.err.msg);
    } else {
        out->validity = c->validity;
        memcpy(out->message, c->message, sizeof out->message);
    }
    out->compile_ms = c->ms;
    out->regs = c->regs;
    out->spills = c->spills;
    out->stack = c->stack;
    out->smem = c->smem;
    out->blocks_per_sm = c->blocks_per_sm;
    return 0;
}

static void device_leave(struct meter *m)
{
    compile_pool_drain(((struct device_meter *)m->state)->pool);
}

static void device_close(struct meter *m)
{
    struct device_meter *d = m->state;
    if (d) {
        worker_stop(&d->worker);
        compile_pool_close(d->pool);
    }
    free(d);
    memset(m, 0, sizeof *m);
}

int meter_device_open_with(struct meter *m, const char *home, int (*open_bench)(struct bench *b, struct err *err),
                           double trial_seconds, struct err *err)
{
    struct request q;
    struct reply r;
    enum worker_answer how;
    struct device_meter *d = err_calloc(1, sizeof *d, "the meter", err);
    memset(&q, 0, sizeof q);
    memset(&r, 0, sizeof r);
    *m = (struct meter){d, {{0}, 0, 0, 0, 0, 0, 0, 0, 0}, 0, device_ahead, device_measure, device_leave, device_close};
    if (!d)
        return -1;
    snprintf(d->home, sizeof d->home, "%s", home ? home : "");
    d->job = (struct worker_job){sizeof(struct request), sizeof(struct reply), gauge_begin, gauge_serve, d};
    d->open_bench = open_bench;
    d->trial_seconds = trial_seconds;
    q.what = HELLO;
    if (compile_pool_open(&d->pool, 0, d->home, err) == 0 && ask(d, &q, &r, OPEN_SECONDS, &how, err) == 0) {
        if (how == WORKER_REPLIED && !r.fatal) {
            m->facts = r.facts;
            m->cores = compile_pool_workers(d->pool);
            return 0;
        }
        err_set(err, "%s", r.err.msg);
    }
    device_close(m);
    return -1;
}

int meter_device_open(struct meter *m, const char *home, struct err *err)
{
    return meter_device_open_with(m, home, bench_open, TRIAL_SECONDS, err);
}

void meter_begin_trial(const struct tune_space *s, int config, struct trial *out)
{
    memset(out, 0, sizeof *out);
    snprintf(out->gpu, sizeof out->gpu, "%s", s->gpu.name);
    snprintf(out->revision, sizeof out->revision, "%s", tune_space_revision(s, config));
    out->problem = s->problem;
    tune_space_config(s, config, &out->config);
    out->at = (long)time(NULL);
}
