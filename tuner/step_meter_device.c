/* Decoding steps on this machine's GPU. The process that measures has the CUDA backend open, with the model and a full cache. */
#include "step_meter.h"

#include <stdlib.h>
#include <string.h>

#include "step_gauge.h"
#include "worker.h"

enum {
    OPEN_SECONDS = 400, /* the model's way to the GPU */
    TILE_SECONDS = 30   /* a step that takes longer hangs */
};

struct request {
    enum { OPEN, EXCHANGE, KEEP, WHOLE } what;
    int kernel;
    struct pairs tile;
};

struct reply {
    bool fatal;
    struct err err;
    struct step_time time;
    struct {
        bool launched;
        struct pairs tile;
    } kernel[STEP_KERNELS_MAX];
};
_Static_assert(sizeof(struct reply) <= WORKER_MESSAGE_MAX, "a reply is one message");

struct device_meter {
    struct worker_job job;
    struct worker worker;
    struct step_model what;
    const struct step_meter *meter; /* its kernels' tiles are what a new process begins with */
    int last;                       /* the kernel that was exchanged last; -1: none, or it failed */
    struct pairs last_tile;         /* with which tile */
};

/* ------------------------------------------------------------------------------------------------ in the process that measures */

struct served {
    struct step_gauge *gauge;
    struct err broken; /* why nothing can be measured; "" */
    int n;             /* kernels */
};

static void *begin(void *user)
{
    const struct device_meter *d = user;
    struct served *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->n = d->meter->n;
    if (d->what.wisdom)
        setenv("WEIR_WISDOM", d->what.wisdom, 1);
    if (step_gauge_open(&s->gauge, &d->what, d->meter->kernel, s->n, &s->broken) == 0)
        s->broken.msg[0] = 0;
    return s;
}

static int answer_request(struct served *s, const struct request *q, struct reply *r)
{
    int rc = 0;
    if (q->what == EXCHANGE)
        rc = step_gauge_exchange(s->gauge, q->kernel, &q->tile, &r->time, &r->err);
    else if (q->what == WHOLE)
        rc = step_gauge_whole(s->gauge, &r->time, &r->err);
    else if (q->what == KEEP)
        step_gauge_keep(s->gauge);
    for (int i = 0; i < s->n && rc == 0; i++)
        rc = step_gauge_kernel(s->gauge, i, &r->kernel[i].launched, &r->kernel[i].tile, &r->err);
    return rc;
}

static bool serve(void *state, const void *request, void *reply)
{
    struct served *s = state;
    struct reply *r = reply;
    if (!s || s->broken.msg[0]) {
        r->fatal = true;
        r->err = s ? s->broken : (struct err){"out of memory for a decoding step"};
        return false;
    }
    if (answer_request(s, request, r) == 0)
        return true;
    snprintf(r->time.failed, sizeof r->time.failed, "%.190s", r->err.msg);
    return step_gauge_works(s->gauge);
}

/* ------------------------------------------------------------------------------------------------ in the tuner */

/* One answer, once the process has come to it: a signal (Ctrl-C) waits until then. */
static enum worker_answer answer(struct device_meter *d, const struct request *q, double seconds, struct reply *r,
                                 struct err *why)
{
    enum worker_answer how;
    memset(r, 0, sizeof *r);
    if (worker_ask(&d->worker, q, why) != 0)
        return WORKER_DIED;
    do
        how = worker_wait(&d->worker, r, seconds, why);
    while (how == WORKER_INTERRUPTED);
    return how;
}

static void take_kernels(struct step_meter *m, const struct reply *r)
{
    for (int k = 0; k < m->n; k++) {
        m->kernel[k].launched = r->kernel[k].launched;
        m->kernel[k].tile = r->kernel[k].tile;
    }
}

/* Starts the process, with the step as it stands. */
static int start(struct step_meter *m, struct err *err)
{
    struct device_meter *d = m->state;
    struct reply r;
    if (worker_start(&d->worker, &d->job, err) != 0)
        return -1;
    if (answer(d, &(struct request){.what = OPEN}, OPEN_SECONDS, &r, err) != WORKER_REPLIED)
        return -1;
    if (r.fatal || r.time.failed[0]) {
        worker_stop(&d->worker);
        return err_set(err, "%s", r.err.msg);
    }
    take_kernels(m, &r);
    return 0;
}

/* -1 only where no process can be had. What else goes wrong is out->failed. */
static int ask(struct step_meter *m, const struct request *q, struct step_time *out, struct err *err)
{
    struct device_meter *d = m->state;
    struct err why = {""};
    struct reply r;
    memset(out, 0, sizeof *out);
    if (d->worker.pid == 0 && start(m, err) != 0)
        return -1;
    if (answer(d, q, TILE_SECONDS, &r, &why) != WORKER_REPLIED) {
        worker_stop(&d->worker);
        snprintf(out->failed, sizeof out->failed, "%.190s", why.msg);
        return 0;
    }
    *out = r.time;
    if (!out->failed[0])
        take_kernels(m, &r);
    return 0;
}

static int device_exchange(struct step_meter *m, int i, const struct pairs *tile, struct step_time *out,
                           struct err *err)
{
    struct device_meter *d = m->state;
    int rc = ask(m, &(struct request){.what = EXCHANGE, .kernel = i, .tile = *tile}, out, err);
    d->last = rc == 0 && !out->failed[0] ? i : -1;
    d->last_tile = *tile;
    return rc;
}

static int device_keep(struct step_meter *m, struct err *err)
{
    struct device_meter *d = m->state;
    struct step_time time;
    if (d->last < 0)
        return err_set(err, "there is no exchange to be kept");
    m->kernel[d->last].tile = d->last_tile; /* a process that has ended since is begun with it */
    d->last = -1;
    return d->worker.pid ? ask(m, &(struct request){.what = KEEP}, &time, err) : 0;
}

static int device_whole(struct step_meter *m, struct step_time *out, struct err *err)
{
    return ask(m, &(struct request){.what = WHOLE}, out, err);
}

static void device_close(struct step_meter *m)
{
    struct device_meter *d = m->state;
    if (d)
        worker_stop(&d->worker);
    free(d);
    memset(m, 0, sizeof *m);
}

int step_meter_device_open(struct step_meter *m, const struct step_model *what, struct step_kernel *kernel, int n,
                           struct err *err)
{
    struct device_meter *d = err_calloc(1, sizeof *d, "the meter of a step", err);
    *m = (struct step_meter){d, kernel, n, device_exchange, device_keep, device_whole, device_close};
    if (!d)
        return -1;
    for (int k = 0; k < n; k++) /* the first process finds out what there is */
        kernel[k].tile.n = 0;
    d->job = (struct worker_job){sizeof(struct request), sizeof(struct reply), begin, serve, d};
    d->what = *what;
    d->meter = m;
    d->last = -1;
    if (start(m, err) == 0)
        return 0;
    device_close(m);
    return -1;
}
