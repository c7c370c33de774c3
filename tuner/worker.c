#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's life. Ctrl-C is for the parent, which then ends it. */
static void serve(int fd, const struct worker_job *job, pid_t parent)
{
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    void *state = job->begin(job->user), *request = malloc(job->request), *reply = malloc(job->reply);
    bool going = request && reply;
    while (going) {
        ssize_t n = recv(fd, request, job->request, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)job->request)
            break;
        memset(reply, 0, job->reply);
        going = job->serve(state, request, reply);
        if (send(fd, reply, job->reply, MSG_NOSIGNAL) != (ssize_t)job->reply)
            break;
    }
    _exit(0);
}

int worker_start(struct worker *w, const struct worker_job *job, struct err *err)
{
    int pair[2];
    memset(w, 0, sizeof *w);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_set(err, "a worker's socket: %s", strerror(errno));
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        close(pair[0]);
        serve(pair[1], job, parent);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_set(err, "a worker process: %s", strerror(errno));
    }
    *w = (struct worker){pid, pair[0], job};
    return 0;
}

/* How it ended, in words. */
static void reap(struct worker *w, struct err *why)
{
    int status = 0;
    close(w->fd);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    w->pid = 0;
    if (WIFSIGNALED(status))
        err_set(why, "its process was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        err_set(why, "its process ended with status %d", WEXITSTATUS(status));
}

void worker_stop(struct worker *w)
{
    if (w->pid == 0)
        return;
    kill(w->pid, SIGKILL);
    reap(w, NULL);
}

int worker_ask(struct worker *w, const void *request, struct err *err)
{
    if (send(w->fd, request, w->job->request, MSG_NOSIGNAL) != (ssize_t)w->job->request)
        return err_set(err, "a worker takes no request: %s", strerror(errno));
    return 0;
}

enum worker_answer worker_wait(struct worker *w, void *reply, double seconds, struct err *why)
{
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    int n = poll(&p, 1, (int)(seconds * 1000));
    if (n < 0 && errno == EINTR)
        return WORKER_INTERRUPTED;
    if (n == 0) {
        worker_stop(w);
        err_set(why, "no answer within %g s; its process was killed", seconds);
        return WORKER_LATE;
    }
    if (recv(w->fd, reply, w->job->reply, 0) == (ssize_t)w->job->reply)
        return WORKER_REPLIED;
    kill(w->pid, SIGKILL); /* it has closed its end: this only makes sure */
    reap(w, why);
    return WORKER_DIED;
}
