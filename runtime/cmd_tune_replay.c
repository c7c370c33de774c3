/* weir tune --replay: what the searches are worth, replayed over spaces whose every config was measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tuner/replay.h"
#include "../tuner/tune.h"
#include "cmd.h"
#include "cmd_tune_predict.h"

enum { POINTS_MIN = 50 }; /* a smaller space is measured whole */
static const double near[] = {0.05, 0.02};
enum { NEARS = sizeof near / sizeof *near };

/* A space reduced to the configs that were measured. */
struct points {
    int n, dims, first;
    long *at;
    double *predicted, *ms;
};

static void points_free(struct points *p)
{
    free(p->at);
    free(p->predicted);
    free(p->ms);
}

static int points_make(struct points *p, const struct tune_space *s, const struct trials *t, struct err *err)
{
    size_t n = (size_t)s->nvalid + 1;
    double *predicted = err_calloc(n, sizeof *predicted, "a replay", err);
    const struct trial **slot = err_calloc((size_t)s->all.nconfigs + 1, sizeof *slot, "a replay", err);
    *p = (struct points){.dims = s->all.ntile, .first = -1};
    p->at = err_calloc(n * (size_t)(p->dims + 1), sizeof *p->at, "a replay", err);
    p->predicted = err_calloc(n, sizeof *p->predicted, "a replay", err);
    p->ms = err_calloc(n, sizeof *p->ms, "a replay", err);
    int status = predicted && slot && p->at && p->predicted && p->ms ? tune_predict(s, predicted, err) : -1;
    if (status == 0)
        trials_of_space(t, s, true, slot);
    for (int i = 0; i < s->nvalid && status == 0; i++) {
        const struct trial *one = slot[s->valid[i]];
        if (!one)
            continue;
        for (int k = 0; k < p->dims; k++)
            p->at[p->n * p->dims + k] = s->all.config[s->valid[i]].value[k];
        if (s->valid[i] == s->by_default)
            p->first = p->n;
        p->predicted[p->n] = predicted[i];
        p->ms[p->n++] = one->validity == TRIAL_CORRECT ? one->ms : 0;
    }
    free(predicted);
    free(slot);
    return status;
}

static int replay_problem(struct gen *g, const char *gpu, const struct tune_problem *what, const struct trials *t,
                          int seeds, struct err *err)
{
    static const enum search_kind kinds[] = {SEARCH_GUIDED, SEARCH_LOCAL, SEARCH_RANDOM};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    struct tune_space s;
    struct points p;
    struct replay r;
    char text[PROBLEM_TEXT_MAX];
    if (tune_space_open(&s, g, gpu, what, NULL, err) != 0)
        return -1;
    int status = points_make(&p, &s, t, err);
    tune_problem_text(what, text);
    *strchr(text, '|') = ';';
    if (status == 0 && p.n >= POINTS_MIN) {
        printf("| %s | %d |", text, p.n);
        for (size_t i = 0; i < KINDS * NEARS && status == 0; i++) {
            enum search_kind kind = kinds[i / NEARS];
            int rounds = kind == SEARCH_GUIDED ? 1 : seeds; /* that one draws no lots */
            status =
                replay_search(kind, p.n, p.dims, p.at, p.predicted, p.ms, p.first, rounds, near[i % NEARS], &r, err);
            printf(" %.0f | %.0f | %.0f %% |", r.median, r.worst, 100.0 * r.reached / rounds);
        }
        printf("\n");
        fflush(stdout);
    }
    points_free(&p);
    tune_space_close(&s);
    return status;
}

int cmd_tune_replay(struct tune_offline *o, int seeds, struct err *err)
{
    const struct tune_offline_gpu *g = &o->gpu[0];
    const struct trials *t = &g->trials;
    if (t->n == 0)
        return err_set(err, "--replay wants a trial log with whole spaces: --log FILE"), CMD_FAILED;
    printf("Trials until a config within 5 %% and within 2 %% of the best: median and worst of the seeds, and how many "
           "get there in a "
           "tenth of the space.\n\n| problem | configs |");
    static const char *const names[] = {"guided", "local", "random"};
    for (int i = 0; i < 3 * NEARS; i++)
        printf(" %s, %.0f %%: median | worst | in a tenth |", names[i / NEARS], 100 * near[i % NEARS]);
    printf("\n|---|---:|");
    for (int i = 0; i < 3 * NEARS; i++)
        printf("---:|---:|---:|");
    printf("\n");
    for (int i = 0; i < t->n; i++) {
        bool seen = false;
        for (int j = 0; j < i && !seen; j++)
            seen = tune_problem_equal(&t->trial[j].problem, &t->trial[i].problem);
        if (!seen && replay_problem(o->gen, g->arg, &t->trial[i].problem, t, seeds, err) != 0)
            return CMD_FAILED;
    }
    return CMD_OK;
}
