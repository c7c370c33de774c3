#include "threads.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* `state` is all that threads agree on: the number of the loop, whether it is open, and how many threads are in it. Joining is
 * one compare-and-swap, so that none can enter after the caller has closed the loop and gone on. */
enum { OPEN = 1 << 15, INSIDE = OPEN - 1 };
#define LOOP(state) ((state) >> 16)

struct pool {
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) _Atomic int next; /* item */
    _Alignas(64) _Atomic int sleepers;
    int items;
    pool_fn *fn;
    void *context;

    int threads; /* the caller among them */
    struct worker {
        struct pool *pool;
        pthread_t thread;
        int number;
    } worker[POOL_MAX_THREADS];
    bool stop; /* under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

enum { LOOKS_BEFORE_YIELD = 2000, IDLE_NS = 200000 };

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void work(struct pool *p, int thread)
{
    for (;;) {
        int item = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (item >= p->items)
            return;
        p->fn(p->context, item, thread);
    }
}

/* Whether the open loop that `state` tells of was joined. */
static bool join(struct pool *p, uint64_t state)
{
    while (state & OPEN)
        if (atomic_compare_exchange_weak_explicit(&p->state, &state, state + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* Sleeps until a loop other than `last` is open. Returns false when the pool closes. */
static bool sleep_until_loop(struct pool *p, uint64_t last)
{
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    for (;;) {
        uint64_t state = atomic_load(&p->state);
        if (p->stop || (LOOP(state) != last && (state & OPEN)))
            break;
        pthread_cond_wait(&p->wake, &p->mutex);
    }
    atomic_fetch_sub(&p->sleepers, 1);
    bool go = !p->stop;
    pthread_mutex_unlock(&p->mutex);
    return go;
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct pool *p = w->pool;
    uint64_t last = 0;
    for (;;) {
        uint64_t state = atomic_load_explicit(&p->state, memory_order_relaxed);
        int64_t deadline = 0;
        for (int looks = 0; LOOP(state) == last || !(state & OPEN); looks++) {
            if (looks == LOOKS_BEFORE_YIELD) { /* somebody else may need this core to finish what we wait for */
                int64_t now = now_ns();
                if (!deadline)
                    deadline = now + IDLE_NS;
                if (now < deadline)
                    sched_yield();
                else if (!sleep_until_loop(p, last))
                    return NULL;
                else
                    deadline = 0;
                looks = 0;
            }
            pause_cpu();
            state = atomic_load_explicit(&p->state, memory_order_relaxed);
        }
        last = LOOP(state);
        if (!join(p, state))
            continue;
        work(p, w->number);
        atomic_fetch_sub_explicit(&p->state, 1, memory_order_release);
    }
}

void pool_run(struct pool *p, int items, pool_fn *fn, void *context)
{
    if (p->threads == 1 || items <= 1) {
        for (int i = 0; i < items; i++)
            fn(context, i, 0);
        return;
    }
    uint64_t state = atomic_load_explicit(&p->state, memory_order_relaxed);
    assert(!(state & (OPEN | INSIDE)));
    p->items = items;
    p->fn = fn;
    p->context = context;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store(&p->state, (LOOP(state) + 1) << 16 | OPEN);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
    work(p, 0);
    state = atomic_fetch_and(&p->state, ~(uint64_t)OPEN);
    for (int looks = 0; state & INSIDE; looks++) {
        if (looks >= LOOKS_BEFORE_YIELD)
            sched_yield();
        pause_cpu();
        state = atomic_load_explicit(&p->state, memory_order_acquire);
    }
}

int pool_cores(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return cores < POOL_MAX_THREADS ? cores : POOL_MAX_THREADS;
}

int pool_open(struct pool **out, int threads, struct err *err)
{
    *out = NULL;
    if (threads < 0 || threads > POOL_MAX_THREADS)
        return err_set(err, "%d threads: give 1 to %d, or 0 for one a core", threads, POOL_MAX_THREADS);
    if (threads == 0)
        threads = pool_cores();
    struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (!p)
        return err_set(err, "out of memory: %zu bytes for the thread pool", sizeof *p);
    *p = (struct pool){.threads = 1};
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    /* Signals are for the thread that runs the program. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    for (int i = 1; i < threads; i++) {
        struct worker *w = &p->worker[i];
        *w = (struct worker){.pool = p, .number = i};
        if (pthread_create(&w->thread, NULL, worker_main, w))
            break;
        p->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    *out = p;
    return 0;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}
