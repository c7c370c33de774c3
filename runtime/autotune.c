#include "autotune.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../tuner/tune_session.h"
#include "../tuner/tune_shapes.h"
#include "attn_grid.h"
#include "backend_cuda.h"
#include "cmd.h"
#include "tune_show.h"

enum { SECONDS = 20 }; /* in all */

struct autotune {
    struct tune_session *session;
    struct tune_problem problem[TUNE_PROBLEMS_MAX]; /* [n] */
    int n, better;
};

static volatile sig_atomic_t stop;

static void on_interrupt(int signal)
{
    (void)signal;
    stop = 1;
}

/* A tile that was measured on this GPU for this very shape, with these sizes. */
static bool is_known(const struct wisdom *w, const struct tune_problem *p)
{
    struct gen_param params[PAIRS_MAX];
    struct wisdom_found found;
    wisdom_best(w, p->kernel, params, pairs_params(&p->shape, params, 0), &p->sizes, &found);
    return found.match == WISDOM_SAME && found.measured;
}

/* The model's problems that wisdom lacks. */
static int find_problems(struct autotune *a, const struct model *m, const struct cascade_params *p, struct err *err)
{
    struct tune_problem all[TUNE_PROBLEMS_MAX];
    struct tune_session *s = a->session;
    struct wisdom *w = NULL;
    int n = tune_model_problems(m, p, NULL, all, err);
    if (n < 0 || wisdom_open(&w, s->gen, s->gpu, cmd_say, err) != 0)
        return -1;
    for (int i = 0; i < n; i++)
        if (strcmp(all[i].kernel, "stream_copy") != 0 && /* no model runs that one */
            attn_kernel_serves(all[i].kernel, s->facts.sm, m->shape.head_dim) && !is_known(w, &all[i]))
            a->problem[a->n++] = all[i];
    wisdom_close(w);
    return 0;
}

static void count_better(void *user, const struct tune_state *r)
{
    struct autotune *a = user;
    a->better += r->best >= 0 && r->default_ms > 1.01 * r->best_ms;
}

static int tune_all(struct autotune *a, struct err *err)
{
    struct tune t = {.search = SEARCH_GUIDED,
                     .seed = 1,
                     .max_trials = TUNE_QUICK_TRIALS,
                     .stop = &stop,
                     .progress = tune_show_progress};
    struct sigaction act = {.sa_handler = on_interrupt}, before;
    double began = session_clock();
    int status = tune_session_log(a->session, err), done = 0;
    if (status != 0)
        return -1;
    fprintf(stderr, "autotune: %d of the model's kernels have no measured tile for %s; %d s at most\n", a->n,
            a->session->facts.name, SECONDS);
    sigaction(SIGINT, &act, &before);
    for (; done < a->n && status == 0 && !stop; done++) {
        t.max_seconds = SECONDS - (session_clock() - began);
        if (t.max_seconds <= 0)
            break;
        status = tune_session_run(a->session, &t, &a->problem[done], count_better, a, err);
    }
    sigaction(SIGINT, &before, NULL);
    progress_line(NULL);
    if (status == 0)
        fprintf(stderr, "autotune: %d tuned in %.1f s, %d with a better tile than the default; wisdom is in %s\n", done,
                session_clock() - began, a->better, a->session->wisdom);
    return status;
}

int autotune_model(struct tune_session *s, const struct model *m, const struct cascade_params *p, struct err *err)
{
    struct autotune a = {.session = s};
    if (find_problems(&a, m, p, err) != 0)
        return -1;
    return a.n > 0 ? tune_all(&a, err) : 0;
}

/* The model that the options name, under the cascade that they ask for. */
static int tune_model(struct tune_session *s, const struct session_options *o, const struct cascade_options *c,
                      struct err *err)
{
    struct cascade_options cascade = *c;
    struct model m;
    char path[PATH_MAX];
    if (session_model_path(o->model, path, sizeof path, err) != 0 || model_open(&m, path, err) != 0)
        return -1;
    int status = cascade_options_finish(&cascade, m.shape.ctx_train, err);
    if (status == 0)
        status = autotune_model(s, &m, &cascade.p, err);
    model_close(&m);
    return status == 0 ? 0 : -1;
}

int autotune(const struct session_options *o, const struct cascade_options *c, struct err *err)
{
    struct tune_session s = {0};
    struct err none = {""};
    if (o->gpu > 0) {
        err_set(err, "--autotune measures on GPU 0 only, not on --gpu %d", o->gpu);
        return CMD_USAGE;
    }
    if (o->cpu) {
        err_set(err, "--cpu and --autotune exclude each other");
        return CMD_USAGE;
    }
    if (gen_open(&s.gen, NULL, err) != 0)
        return CMD_FAILED;
    int status = 0;
    if (tune_session_measure(&s, NULL, &none) != 0 || tune_session_gpu(&s, NULL, &none) != 0) {
        fprintf(stderr, "autotune: nothing to tune; %s\n", none.msg);
    } else {
        tune_session_paths(&s, NULL, NULL, false, true);
        status = tune_model(&s, o, c, err);
    }
    tune_session_close(&s);
    gen_close(s.gen);
    return status == 0 ? CMD_OK : CMD_FAILED;
}
