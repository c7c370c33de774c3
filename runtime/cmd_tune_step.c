#include "cmd_tune_step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tuner/refine.h"
#include "../tuner/tune_shapes.h"
#include "backend_cuda.h"
#include "cmd.h"
#include "model_random.h"
#include "session.h"

enum { MODELS_MAX = 16 };

/* A model and the cascade that it decodes with. */
struct step_case {
    const struct model *model;
    struct cascade_params p;
    char name[64]; /* for wisdom: "llama-3.1-8b q4_0 W=1024" */
    int n;
    struct tune_problem problem[TUNE_PROBLEMS_MAX]; /* [n] */
};

struct steps {
    const struct tune_steps *t;
    struct model model[MODELS_MAX]; /* [nmodels], owned */
    int nmodels, ncases, ndone;
    struct step_case *at;      /* [ncases], owned */
    struct tune_problem *done; /* [ndone] that were refined in a case before, owned */
};

int tune_cascades(const struct cascade_options *o, struct cascade_params out[2])
{
    static const int sizes[][2] = {{2048, 1024}, {16384, 4096}};
    for (int i = 0; i < 2; i++) {
        out[i] = o->p;
        if (o->window_given)
            return 1;
        out[i].window = sizes[i][0];
        out[i].stride = sizes[i][1];
    }
    return 2;
}

/* ------------------------------------------------------------------------------------------------ the models */

static const char *half_of(const struct steps *s, const struct model *m)
{
    return s->t->type ? s->t->type : backend_cuda_type(m);
}

/* The model in work (model[nmodels]) under each cascade. */
static int add_cases(struct steps *s, const char *name, struct err *err)
{
    struct cascade_params p[2];
    const struct model *m = &s->model[s->nmodels++];
    int n = tune_cascades(s->t->cascade, p);
    for (int i = 0; i < n; i++) {
        struct step_case *c = &s->at[s->ncases];
        c->model = m;
        c->p = p[i];
        snprintf(c->name, sizeof c->name, "%.44s W=%d", name, p[i].window);
        c->n = tune_step_problems(m, &p[i], half_of(s, m), c->problem, err);
        if (c->n < 0)
            return -1;
        c->n = c->n < STEP_KERNELS_MAX ? c->n : STEP_KERNELS_MAX;
        s->ncases++;
    }
    return 0;
}

/* A known shape with random weights, which the GPU makes. */
static int add_shape(struct steps *s, const char *shape, const char *weights, struct err *err)
{
    char name[96];
    int type = quant_type_named(weights);
    if (type < 0)
        return err_set(err, "--weights: '%s' is no type of weights", weights);
    if (s->nmodels == MODELS_MAX)
        return err_set(err, "more than %d models; name fewer shapes", MODELS_MAX);
    if (model_random(&s->model[s->nmodels], shape, (enum quant_type)type, true, err) != 0)
        return -1;
    snprintf(name, sizeof name, "%s %s", shape, weights);
    return add_cases(s, name, err);
}

static int add_models(struct steps *s, struct err *err)
{
    const struct tune_steps *t = s->t;
    char shapes[512], *save = NULL;
    if (t->model) {
        const char *slash = strrchr(t->model, '/');
        if (model_open(&s->model[0], t->model, err) != 0)
            return -1;
        return add_cases(s, slash && slash[1] ? slash + 1 : t->model, err);
    }
    snprintf(shapes, sizeof shapes, "%s", t->shapes ? t->shapes : "llama-3.1-8b");
    for (char *shape = strtok_r(shapes, ",", &save); shape; shape = strtok_r(NULL, ",", &save)) {
        char types[128], *rest = NULL;
        snprintf(types, sizeof types, "%s", t->weights ? t->weights : "bf16");
        for (char *type = strtok_r(types, ",", &rest); type; type = strtok_r(NULL, ",", &rest))
            if (add_shape(s, shape, type, err) != 0)
                return -1;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ trials to choose from */

/* What the log has to try of a problem, beside the tile `present`. */
static int candidates_of(const struct tune_session *s, const struct tune_problem *p, const struct pairs *present,
                         struct refine_kernel *k, struct err *err)
{
    struct tune_space space;
    if (tune_space_open(&space, s->gen, s->gpu, p, s->fixed, err) != 0)
        return -1;
    int rc = refine_candidates(k, &s->trials, &space, present, err);
    tune_space_close(&space);
    return rc;
}

static void tell_nothing(void *user, const struct tune_state *result)
{
    (void)user;
    (void)result;
}

/* Trials alone: which tile wisdom has is for the step to say. */
static int search_missing(struct steps *s, struct err *err)
{
    const struct tune_steps *t = s->t;
    struct tune search = {.search = SEARCH_GUIDED,
                          .seed = 1,
                          .max_trials = TUNE_QUICK_TRIALS,
                          .stop = t->stop,
                          .progress = tune_show_progress,
                          .user = t->show};
    for (int i = 0; i < s->ncases; i++)
        for (int k = 0; k < s->at[i].n && !*t->stop; k++) {
            const struct tune_problem *p = &s->at[i].problem[k];
            struct refine_kernel known;
            if (candidates_of(t->session, p, &(struct pairs){0}, &known, err) != 0 ||
                (known.n == 0 && tune_session_try(t->session, &search, p, tell_nothing, NULL, err) != 0))
                return -1;
        }
    progress_line(NULL);
    return 0;
}

/* ------------------------------------------------------------------------------------------------ one model */

static void show_progress(void *user, const struct refine *now, int kernel)
{
    const struct step_case *c = user;
    int tried = 0, all = 0;
    for (int i = 0; i < c->n; i++) {
        tried += now->kernel[i].tried;
        all += now->kernel[i].n;
    }
    progress_line("step of %s: %s, %d tried of about %d", c->name, c->problem[kernel].kernel, tried, all);
}

static void print_kernel(const struct refine_kernel *k, const struct step_kernel *s)
{
    char text[PROBLEM_TEXT_MAX], before[PAIRS_TEXT_MAX], after[PAIRS_TEXT_MAX];
    tune_problem_text(&s->problem, text);
    for (char *bar = text; (bar = strchr(bar, '|'));)
        *bar = ';';
    pairs_text(&k->before, before);
    pairs_text(&s->tile, after);
    bool same = pairs_equal(&k->before, &s->tile);
    printf("| %s | %s | %s | ", text, before, same ? "the same" : after);
    if (same)
        printf("- | - |");
    else
        printf("%.4f | %.4f |", k->base_ms, k->ms);
    printf(" %d | %d |\n", k->tried, k->failed);
}

static void print_result(const struct step_case *c, const struct refine *r, const struct step_meter *m)
{
    int tried = 0, failed = 0;
    progress_line(NULL);
    printf("\n| step of %s | tile before | tile after | step before, ms | after, ms | tried | failed "
           "|\n|---|---|---|---:|---:|---:|---:|\n",
           c->name);
    for (int i = 0; i < m->n; i++) {
        if (m->kernel[i].launched)
            print_kernel(&r->kernel[i], &m->kernel[i]);
        tried += r->kernel[i].tried;
        failed += r->kernel[i].failed;
    }
    printf("| whole step | | %d exchanged | %.4f | %.4f | %d | %d |\n", r->exchanged, r->base_ms, r->ms, tried, failed);
    fflush(stdout);
    for (int i = 0; i < m->n; i++)
        if (r->kernel[i].failed > 0)
            fprintf(stderr, "weir tune: %s: %d tiles were left out in the step: %s\n", m->kernel[i].problem.kernel,
                    r->kernel[i].failed, r->kernel[i].failure);
}

static bool is_done(const struct steps *s, const struct tune_problem *p)
{
    for (int i = 0; i < s->ndone; i++)
        if (tune_problem_equal(&s->done[i], p))
            return true;
    return false;
}

/* What is to be tried of each kernel. One that an earlier case has refined is left as it is. */
static int find_candidates(struct steps *s, struct refine *r, const struct step_meter *m, struct err *err)
{
    for (int i = 0; i < m->n; i++) {
        const struct step_kernel *k = &m->kernel[i];
        r->kernel[i].before = k->tile;
        if (k->launched && !is_done(s, &k->problem) &&
            candidates_of(s->t->session, &k->problem, &k->tile, &r->kernel[i], err) != 0)
            return -1;
    }
    return 0;
}

static int keep_found(struct steps *s, const struct step_case *c, const struct refine *r, const struct step_meter *m,
                      struct err *err)
{
    struct wisdom_entry e[STEP_KERNELS_MAX];
    struct wisdom_file head;
    int n = 0;
    for (int i = 0; i < m->n; i++)
        if (refine_entry(r, m, i, c->name, &e[n])) {
            s->done[s->ndone++] = m->kernel[i].problem;
            n++;
        }
    tune_session_head(s->t->session, &head);
    return n ? wisdom_file_add(s->t->session->wisdom, &head, e, n, err) : 0;
}

static int refine_case(struct steps *s, struct step_case *c, struct err *err)
{
    struct step_kernel kernel[STEP_KERNELS_MAX] = {0};
    struct backend_options options = {.say = cmd_say};
    struct step_meter m;
    struct refine *r = err_calloc(1, sizeof *r, "a step", err);
    int status = -1;
    if (!r)
        return -1;
    for (int i = 0; i < c->n; i++)
        kernel[i].problem = c->problem[i];
    options.half = !strcmp(half_of(s, c->model), "bf16") ? BACKEND_HALF_BF16 : BACKEND_HALF_FP16;
    const struct step_model what = {
        .model = c->model, .p = &c->p, .o = &options, .wisdom = s->t->wisdom, .open_device = s->t->open_device};
    progress_line("step of %s: opening the model", c->name);
    if (step_meter_device_open(&m, &what, kernel, c->n, err) != 0) {
        free(r);
        return -1;
    }
    r->stop = s->t->stop;
    r->progress = show_progress;
    r->user = c;
    if (find_candidates(s, r, &m, err) == 0 && refine_step(r, &m, err) == 0) {
        print_result(c, r, &m);
        status = keep_found(s, c, r, &m, err);
    }
    m.close(&m);
    free(r);
    return status;
}

int cmd_tune_steps(const struct tune_steps *t, struct err *err)
{
    struct steps s = {.t = t};
    struct device_facts facts = t->session->meter.facts;
    int status = -1;
    s.at = err_calloc(2 * MODELS_MAX, sizeof *s.at, "the models' steps", err);
    s.done = err_calloc(2 * MODELS_MAX * STEP_KERNELS_MAX, sizeof *s.done, "the models' steps", err);
    if (!s.at || !s.done || add_models(&s, err) != 0 || search_missing(&s, err) != 0)
        goto done;
    t->session->meter.close(&t->session->meter);
    t->session->meter.facts = facts; /* they go into the head of wisdom files */
    status = 0;
    for (int i = 0; i < s.ncases && status == 0 && !*t->stop; i++) {
        status = refine_case(&s, &s.at[i], err);
        progress_line(NULL);
        if (status != 0 && !t->asked) {
            fprintf(stderr, "weir tune: tiles are not refined in the step of %s: %s\n", s.at[i].name, err->msg);
            status = 0;
        }
    }
done:
    for (int i = 0; i < s.nmodels; i++)
        model_close(&s.model[i]);
    free(s.at);
    free(s.done);
    return status;
}
