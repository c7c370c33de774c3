#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

/* A child process that answers questions, one at a time. What may hang or crash (a compiler, a kernel under test) runs in one: it is
 * killed with its process, and the caller goes on. Children die with their parent, however it ends. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "runtime/err.h"

enum { WORKER_MESSAGE_MAX = 32 << 10 };

struct worker_job {
    size_t request, reply; /* bytes of each message, WORKER_MESSAGE_MAX at most */
    /* In the child: once, then for every request. *reply comes zeroed. A serve that returns false is the child's last. */
    void *(*begin)(void *user);
    bool (*serve)(void *state, const void *request, void *reply);
    void *user;
};

struct worker {
    pid_t pid; /* 0: none */
    int fd;
    const struct worker_job *job;
};

/* Forks. The job must stay where it is while the worker lives. */
int worker_start(struct worker *w, const struct worker_job *job, struct err *err);

/* Kills and reaps it; fine where there is none. */
void worker_stop(struct worker *w);

int worker_ask(struct worker *w, const void *request, struct err *err);

enum worker_answer { WORKER_REPLIED, WORKER_DIED, WORKER_LATE, WORKER_INTERRUPTED };

/* Waits for the reply. WORKER_DIED and WORKER_LATE have stopped the worker; *why says how it ended. WORKER_INTERRUPTED: a signal
 * came, ask again. */
enum worker_answer worker_wait(struct worker *w, void *reply, double seconds, struct err *why);

#endif
