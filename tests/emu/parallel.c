#include "parallel.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PENDING, RUNNING, PASSED, FAILED };

struct board { /* shared by the workers */
    atomic_int next;
    struct slot {
        int state;
        pid_t worker;
        struct err err;
    } slot[];
};

static void work(struct board *b, int n, parallel_job *job, void *arg)
{
    for (int i; (i = atomic_fetch_add(&b->next, 1)) < n;) {
        struct slot *s = &b->slot[i];
        s->worker = getpid();
        s->state = RUNNING;
        s->state = job(i, arg, &s->err) == 0 ? PASSED : FAILED;
    }
}

static pid_t start(struct board *b, int n, parallel_job *job, void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        work(b, n, job, arg);
        fflush(NULL);
        _exit(0);
    }
    return pid;
}

static int processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > 64 ? 64 : n;
}

int parallel_run(int n, parallel_job *job, void *arg, struct err *errs)
{
    size_t bytes = sizeof(struct board) + (size_t)n * sizeof(struct slot);
    struct board *b = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b == MAP_FAILED) {
        for (int i = 0; i < n; i++)
            err_set(&errs[i], "no memory for %d jobs", n);
        return n;
    }
    int running = 0, workers = processors(), failed = 0;
    for (int i = 0; i < workers && i < n; i++)
        running += start(b, n, job, arg) > 0;
    while (running > 0) {
        int status;
        pid_t pid = wait(&status);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            break;
        running--;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        for (int i = 0; i < n; i++)
            if (b->slot[i].state == RUNNING && b->slot[i].worker == pid) {
                b->slot[i].state = FAILED;
                err_set(&b->slot[i].err, "job %d: its process ended with %s %d", i,
                        WIFSIGNALED(status) ? "signal" : "status",
                        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            }
        running += start(b, n, job, arg) > 0;
    }
    for (int i = 0; i < n; i++) {
        const struct slot *slot = &b->slot[i];
        failed += slot->state != PASSED;
        errs[i].msg[0] = 0;
        if (slot->state != PASSED)
            err_set(&errs[i], "%s", slot->state == FAILED ? slot->err.msg : "not run: no process could be started");
    }
    munmap(b, bytes);
    return failed;
}
