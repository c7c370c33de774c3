#include "compile_pool.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/kernel.h"
#include "runtime/occupancy.h"

enum { SECONDS_MAX = 60, WORKERS_MAX = 256 };

struct request {
    char kernel[48], gpu[GEN_GPU_MAX];
    struct pairs shape, tile;
};

struct task {
    const struct tune_space *space;
    int config;
    struct compiled *slot;
};

struct compile_pool {
    struct worker_job job;
    int nworkers;
    struct one {
        struct worker worker;
        bool busy;
        double since; /* seconds */
        struct task task;
    } * one; /* [nworkers] */
    int first, ntasks, room;
    struct task *task; /* [ntasks], from `first` on not yet given out */
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ------------------------------------------------------------------------------------------------ in the worker */

struct compiler {
    struct gen *gen;
    struct kernel_cache cache;
    struct err err;
};

static void *begin(void *home)
{
    struct compiler *c = calloc(1, sizeof *c);
    if (c && gen_open(&c->gen, home, &c->err) != 0)
        c->gen = NULL;
    if (c)
        kernel_cache_default(&c->cache);
    return c;
}

static bool serve(void *state, const void *request, void *reply)
{
    struct compiler *c = state;
    const struct request *q = request;
    struct compiled *out = reply;
    struct gen_param params[TUNE_PARAMS_MAX];
    struct gen_gpu gpu;
    struct kernel k;
    struct err err = c ? c->err : (struct err){"out of memory"};
    int n = pairs_params(&q->tile, params, pairs_params(&q->shape, params, 0));
    out->state = COMPILE_DONE;
    out->validity = TRIAL_COMPILE;
    if (c && c->gen && gen_gpu(c->gen, q->gpu, &gpu, &err) == 0 &&
        kernel_build(c->gen, &c->cache, q->kernel, q->gpu, params, n, &k, &err) == 0) {
        out->validity = TRIAL_CORRECT;
        out->regs = k.cubin.regs;
        out->spills = k.cubin.spill_store + k.cubin.spill_load;
        out->stack = k.cubin.stack;
        out->smem = k.cubin.smem + (int)k.gen.smem;
        out->blocks_per_sm = occupancy_of(&gpu, &k.gen, &k.cubin).blocks;
        out->ms = k.cubin_ms;
        kernel_free(&k);
    } else {
        snprintf(out->message, sizeof out->message, "%.190s", err.msg);
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ the pool */

int compile_pool_open(struct compile_pool **out, int workers, const char *home, struct err *err)
{
    struct compile_pool *p = err_calloc(1, sizeof *p, "the compilers", err);
    *out = NULL;
    if (!p)
        return -1;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    p->nworkers = workers > 0 ? workers : cores > 0 ? (int)cores : 1;
    p->nworkers = p->nworkers > WORKERS_MAX ? WORKERS_MAX : p->nworkers;
    p->job = (struct worker_job){sizeof(struct request), sizeof(struct compiled), begin, serve, (void *)home};
    p->one = err_calloc((size_t)p->nworkers, sizeof *p->one, "the compilers", err);
    for (int i = 0; p->one && i < p->nworkers; i++)
        if (worker_start(&p->one[i].worker, &p->job, err) != 0) {
            compile_pool_close(p);
            return -1;
        }
    if (!p->one) {
        compile_pool_close(p);
        return -1;
    }
    *out = p;
    return 0;
}

void compile_pool_close(struct compile_pool *p)
{
    if (!p)
        return;
    for (int i = 0; p->one && i < p->nworkers; i++)
        worker_stop(&p->one[i].worker);
    free(p->one);
    free(p->task);
    free(p);
}

int compile_pool_workers(const struct compile_pool *p)
{
    return p->nworkers;
}

int compile_pool_add(struct compile_pool *p, const struct tune_space *s, int config, struct compiled *slot,
                     struct err *err)
{
    if (slot->state != COMPILE_NONE)
        return 0;
    if (p->ntasks == p->room) {
        int room = p->room ? 2 * p->room : 64;
        struct task *grown = realloc(p->task, (size_t)room * sizeof *grown);
        if (!grown)
            return err_set(err, "out of memory for %d compilations", room);
        p->task = grown;
        p->room = room;
    }
    p->task[p->ntasks++] = (struct task){s, config, slot};
    slot->state = COMPILE_QUEUED;
    return 0;
}

static int give_out(struct compile_pool *p, struct err *err)
{
    for (int i = 0; i < p->nworkers && p->first < p->ntasks; i++) {
        struct one *o = &p->one[i];
        struct request q;
        memset(&q, 0, sizeof q);
        if (o->busy)
            continue;
        if (o->worker.pid == 0 && worker_start(&o->worker, &p->job, err) != 0)
            return -1;
        o->task = p->task[p->first++];
        snprintf(q.kernel, sizeof q.kernel, "%s", o->task.space->problem.kernel);
        snprintf(q.gpu, sizeof q.gpu, "%s", o->task.space->gpu_arg);
        q.shape = o->task.space->problem.shape;
        tune_space_config(o->task.space, o->task.config, &q.tile);
        if (worker_ask(&o->worker, &q, err) != 0)
            return -1;
        o->busy = true;
        o->since = seconds();
    }
    if (p->first == p->ntasks)
        p->first = p->ntasks = 0;
    return 0;
}

/* Takes in what one worker has to say, or its end. */
static void take(struct one *o, double left)
{
    struct compiled got = {.state = COMPILE_NONE};
    struct err why = {""};
    enum worker_answer a = worker_wait(&o->worker, &got, left > 0 ? left : 0, &why);
    if (a == WORKER_INTERRUPTED)
        return;
    if (a != WORKER_REPLIED) {
        got.state = COMPILE_DONE;
        got.validity = a == WORKER_LATE ? TRIAL_TIMEOUT : TRIAL_COMPILE;
        snprintf(got.message, sizeof got.message, "the compiler: %.170s", why.msg);
    }
    *o->task.slot = got;
    o->busy = false;
}

/* One round: gives out work, then waits a moment for answers. */
static int pump(struct compile_pool *p, struct err *err)
{
    struct pollfd fds[WORKERS_MAX];
    int which[WORKERS_MAX], n = 0;
    if (give_out(p, err) != 0)
        return -1;
    for (int i = 0; i < p->nworkers; i++)
        if (p->one[i].busy) {
            fds[n] = (struct pollfd){.fd = p->one[i].worker.fd, .events = POLLIN};
            which[n++] = i;
        }
    int ready = n ? poll(fds, (nfds_t)n, 1000) : 0;
    if (ready < 0)
        return err_set(err, "interrupted");
    for (int i = 0; i < n; i++) {
        struct one *o = &p->one[which[i]];
        if (fds[i].revents || seconds() - o->since > SECONDS_MAX)
            take(o, 0);
    }
    return 0;
}

int compile_pool_wait(struct compile_pool *p, const struct compiled *slot, struct err *err)
{
    while (slot->state == COMPILE_QUEUED)
        if (pump(p, err) != 0)
            return -1;
    return give_out(p, err);
}

void compile_pool_drain(struct compile_pool *p)
{
    for (; p->first < p->ntasks; p->first++)
        p->task[p->first].slot->state = COMPILE_NONE;
    p->first = p->ntasks = 0;
    for (int i = 0; i < p->nworkers; i++)
        while (p->one[i].busy)
            if (pump(p, NULL) != 0 && errno != EINTR)
                return;
}
