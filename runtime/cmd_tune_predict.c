#include "cmd_tune_predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tuner/validate.h"
#include "cmd.h"

void cmd_tune_offline_free(struct tune_offline *o)
{
    for (int i = 0; i < o->ngpus; i++) {
        free(o->gpu[i].problem);
        if (o->gpu[i].trials.path[0])
            trials_close(&o->gpu[i].trials);
    }
}

/* One problem on all GPUs. */
struct side {
    struct tune_space space;
    struct predict_space predicted;
    bool open, known;
};

static int open_side(const struct tune_offline *o, int gpu, int problem, struct side *s, struct err *err)
{
    const struct tune_offline_gpu *g = &o->gpu[gpu];
    if (tune_space_open(&s->space, o->gen, g->arg, &g->problem[problem], o->fixed, err) != 0)
        return -1;
    s->open = true;
    if (isatty(2))
        fprintf(stderr, "\r\033[K%s on %s: %d configs, %d compiled", g->problem[problem].kernel, s->space.gpu.name,
                s->space.nvalid, o->compile < s->space.nvalid ? o->compile : s->space.nvalid);
    if (predict_space(&s->space, o->compile, NULL, NULL, &s->predicted, err) != 0)
        return -1;
    s->known = true;
    return 0;
}

static void close_sides(struct side *s, int n)
{
    for (int i = 0; i < n; i++) {
        if (s[i].known)
            predict_space_free(&s[i].predicted);
        if (s[i].open)
            tune_space_close(&s[i].space);
    }
}

static double limit_of(const struct tune_space *s)
{
    return fmax(s->gpu.tensor_tflops > 0 ? s->flops / s->gpu.tensor_tflops / 1e9 : 0,
                s->gpu.dram_gbs > 0 ? s->bytes / s->gpu.dram_gbs / 1e6 : 0);
}

static void pick_tile(const struct side *s, struct pairs *tile, char text[PAIRS_TEXT_MAX])
{
    tune_space_config(&s->space, s->space.valid[s->predicted.pick], tile);
    pairs_text(tile, text);
}

/* Index into valid of a config of all, -1. */
static int valid_index(const struct tune_space *s, int config)
{
    for (int i = 0; i < s->nvalid; i++)
        if (s->valid[i] == config)
            return i;
    return -1;
}

/* What the pick of one GPU would be on the other: "" where it is the pick there, too. */
static void say_elsewhere(const struct side *from, struct side *to, char out[200])
{
    struct pairs tile, own;
    char text[PAIRS_TEXT_MAX], own_text[PAIRS_TEXT_MAX];
    pick_tile(from, &tile, text);
    pick_tile(to, &own, own_text);
    out[0] = 0;
    if (pairs_equal(&tile, &own))
        return;
    int config = tune_space_find(&to->space, &tile), index = config >= 0 ? valid_index(&to->space, config) : -1;
    if (index < 0) {
        snprintf(out, 200, "the tile of %s breaks the restriction '%s' here", from->space.gpu.name,
                 config >= 0 ? to->space.all.config[config].broken : "values");
        return;
    }
    struct err ignored;
    int pick = to->predicted.pick;
    if (to->predicted.compiled && !(to->predicted.sim[index].ms > 0) &&
        predict_space_add(&to->space, &to->predicted, index, &ignored) != 0)
        return;
    double there = predict_space_of(&to->predicted, index)->ms, here = predict_space_of(&to->predicted, pick)->ms;
    const struct prediction *p = predict_space_of(&to->predicted, index);
    snprintf(out, 200, "the tile of %s would take %.4g ms here, %+.0f %%, with %d block%s an SM", from->space.gpu.name,
             there, 100 * (there / here - 1), p->blocks_per_sm, p->blocks_per_sm == 1 ? "" : "s");
}

static void print_sides(const struct tune_problem *problem, struct side *s, int n)
{
    char text[PROBLEM_TEXT_MAX];
    tune_problem_text(problem, text);
    if (isatty(2))
        fprintf(stderr, "\r\033[K");
    printf("%s\n", text);
    for (int i = 0; i < n; i++) {
        struct pairs tile;
        char config[PAIRS_TEXT_MAX], elsewhere[200] = "";
        if (n > 1)
            say_elsewhere(&s[i ? 0 : 1], &s[i], elsewhere);
        const struct prediction *p = predict_space_of(&s[i].predicted, s[i].predicted.pick);
        pick_tile(&s[i], &tile, config);
        printf("  %-9s %-44s %9.4f ms, %3.0f %% of the limit\n            %s\n", s[i].space.gpu.name, config, p->ms,
               100 * limit_of(&s[i].space) / p->ms, p->why);
        if (elsewhere[0])
            printf("            %s\n", elsewhere);
    }
    fflush(stdout);
}

static void make_entry(const struct side *s, struct wisdom_entry *e)
{
    const struct prediction *p = predict_space_of(&s->predicted, s->predicted.pick);
    char text[PAIRS_TEXT_MAX];
    memset(e, 0, sizeof *e);
    snprintf(e->kernel, sizeof e->kernel, "%s", s->space.problem.kernel);
    e->shape = s->space.problem.shape;
    e->sizes = s->space.problem.sizes;
    pick_tile(s, &e->config, text);
    e->ms = p->ms;
    snprintf(e->predicted, sizeof e->predicted, "%s", predict_model);
    snprintf(e->why, sizeof e->why, "%s", p->why);
}

static bool has_kernel(const struct wisdom_entry *e, int n, const char *kernel)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(e[i].kernel, kernel))
            return true;
    return false;
}

/* A default that stands because the prediction can hardly tell says nothing. */
static const double tells_little = 0.25;

/* Adds what was predicted for a GPU to its file: e[n], and of each whether it is the kernel's default. Where that says nothing it is left
 * out, unless here or in the file the kernel has other entries, which a look-up would take in its place. */
static int keep(const struct tune_offline_gpu *g, struct wisdom_entry *e, const bool *usual, int n, struct err *err)
{
    struct wisdom_file file = {0};
    struct wisdom_entry *kept = err_calloc((size_t)n + 1, sizeof *kept, "wisdom", err);
    int nkept = 0, status = kept ? 0 : -1;
    if (status == 0 && access(g->wisdom, F_OK) == 0)
        status = wisdom_file_read(g->wisdom, &file, err);
    for (int i = 0; i < n && status == 0; i++)
        if (!usual[i] || predict_tells(e[i].kernel) < tells_little)
            kept[nkept++] = e[i];
    for (int i = 0, others = nkept; i < n && status == 0; i++)
        if (usual[i] && predict_tells(e[i].kernel) >= tells_little &&
            (has_kernel(kept, others, e[i].kernel) || has_kernel(file.entry, file.nentries, e[i].kernel)))
            kept[nkept++] = e[i];
    if (status == 0)
        status = wisdom_file_add(g->wisdom, &g->head, kept, nkept, err);
    wisdom_file_free(&file);
    free(kept);
    return status;
}

int cmd_tune_predict(struct tune_offline *o, struct err *err)
{
    int n = o->gpu[0].nproblems, status = 0;
    size_t all = (size_t)n * (size_t)o->ngpus + 1;
    struct wisdom_entry *entry = err_calloc(all, sizeof *entry, "wisdom", err);
    bool *usual = err_calloc(all, sizeof *usual, "wisdom", err); /* the kernel's default */
    if (!entry || !usual) {
        free(entry);
        free(usual);
        return CMD_FAILED;
    }
    for (int i = 0; i < n && status == 0; i++) {
        struct side s[TUNE_GPUS_MAX] = {0};
        for (int g = 0; g < o->ngpus && status == 0; g++)
            status = open_side(o, g, i, &s[g], err);
        if (status == 0) {
            print_sides(&o->gpu[0].problem[i], s, o->ngpus);
            for (int g = 0; g < o->ngpus; g++) {
                make_entry(&s[g], &entry[g * n + i]);
                usual[g * n + i] = s[g].space.valid[s[g].predicted.pick] == s[g].space.by_default;
            }
        }
        close_sides(s, o->ngpus);
    }
    for (int g = 0; g < o->ngpus && status == 0; g++) {
        snprintf(o->gpu[g].head.model, sizeof o->gpu[g].head.model, "%s", predict_model);
        status = keep(&o->gpu[g], entry + g * n, usual + g * n, n, err);
        if (status == 0)
            fprintf(stderr, "wisdom of %s is in %s\n", o->gpu[g].head.gpu, o->gpu[g].wisdom);
    }
    free(entry);
    free(usual);
    return status == 0 ? CMD_OK : CMD_FAILED;
}

/* ------------------------------------------------------------------------------------------------ validation */

static void print_worth(const char *problem, const char *stage, const struct validation *v)
{
    printf("| %s | %s | %d | %d | %.2f | %.1f %% | %.1f %% | %d | %.2f |\n", problem, stage, v->n, v->near, v->spearman,
           100 * v->regret, 100 * v->regret5, v->best_rank, v->bias);
    fflush(stdout);
}

/* Measured and predicted times of a space; sim: of its second stage. Returns how many are measured. */
static int fill_times(const struct tune_space *s, const struct trials *t, const struct predict_space *p,
                      const struct trial **slot, double *measured, double *spec, double *sim)
{
    int n = 0;
    trials_of_space(t, s, true, slot);
    for (int i = 0; i < s->nvalid; i++) {
        const struct trial *trial = slot[s->valid[i]];
        measured[i] = trial && trial->validity == TRIAL_CORRECT ? trial->ms : 0;
        spec[i] = p->all[i].ms;
        sim[i] = p->sim[i].ms;
        n += measured[i] > 0;
    }
    return n;
}

static int validate_one(const struct tune_offline *o, int gpu, int problem, struct err *err)
{
    struct side s = {0};
    char text[PROBLEM_TEXT_MAX];
    int status = -1;
    const struct trial **slot = NULL;
    double *time = NULL;
    if (open_side(o, gpu, problem, &s, err) != 0)
        goto done;
    size_t n = (size_t)s.space.nvalid;
    slot = err_calloc((size_t)s.space.all.nconfigs + 1, sizeof *slot, "a validation", err);
    time = err_calloc(3 * n + 1, sizeof *time, "a validation", err);
    if (!slot || !time)
        goto done;
    double *measured = time, *spec = time + n, *sim = time + 2 * n;
    status = 0;
    if (fill_times(&s.space, &o->gpu[gpu].trials, &s.predicted, slot, measured, spec, sim) < 3)
        goto done; /* not measured: nothing to say */
    struct validation v;
    tune_problem_text(&s.space.problem, text);
    for (char *bar = text; (bar = strchr(bar, '|'));)
        *bar = ';';
    if (validate(measured, spec, (int)n, &v, err) == 0)
        print_worth(text, "spec", &v);
    if (validate(measured, sim, (int)n, &v, NULL) == 0) {
        /* Regret is against the best of all, not of the compiled ones. */
        double best = INFINITY;
        for (size_t i = 0; i < n; i++)
            best = measured[i] > 0 ? fmin(best, measured[i]) : best;
        v.regret = (1 + v.regret) * measured[v.best] / best - 1;
        v.regret5 = (1 + v.regret5) * measured[v.best] / best - 1;
        print_worth(text, "machine code", &v);
    }
done:
    free(slot);
    free(time);
    close_sides(&s, 1);
    return status;
}

int cmd_tune_validate(struct tune_offline *o, struct err *err)
{
    int seen = 0;
    printf("| problem | predicted from | configs | within 2x | Spearman there | regret | of the best 5 | rank of the "
           "best | "
           "predicted / measured |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for (int g = 0; g < o->ngpus; g++) {
        seen += o->gpu[g].trials.n;
        for (int i = 0; i < o->gpu[g].nproblems; i++)
            if (validate_one(o, g, i, err) != 0)
                return CMD_FAILED;
    }
    if (!seen)
        return err_set(err, "no trials of %s to validate by: measure first, or give a log with --log",
                       o->gpu[0].head.gpu),
               CMD_FAILED;
    return CMD_OK;
}

/* ------------------------------------------------------------------------------------------------ the report */

int cmd_tune_report(struct tune_offline *o, const char *path, struct err *err)
{
    struct report *r;
    int status = 0;
    if (report_open(&r, o->gen, err) != 0)
        return CMD_FAILED;
    for (int i = 0; i < o->gpu[0].nproblems && status == 0; i++)
        for (int g = 0; g < o->ngpus && status == 0; g++) {
            struct side s = {0};
            status = open_side(o, g, i, &s, err);
            if (status == 0)
                status = report_add(r, &s.space, &o->gpu[g].trials, &s.predicted, err);
            close_sides(&s, 1);
        }
    if (status == 0)
        status = report_write(r, path, err);
    report_close(r);
    if (status == 0)
        fprintf(stderr, "%sthe report is in %s\n", isatty(2) ? "\r\033[K" : "", path);
    return status == 0 ? CMD_OK : CMD_FAILED;
}
