/* weir tune: the best tile of each kernel for a GPU, by search on the GPU, and what is known about it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tuner/formats.h"
#include "../tuner/tune_session.h"
#include "../tuner/tune_shapes.h"
#include "attn_grid.h"
#include "backend_cuda.h"
#include "cascade_options.h"
#include "cmd.h"
#include "cmd_tune_predict.h"
#include "cmd_tune_step.h"
#include "model_random.h"
#include "options.h"
#include "tune_show.h"

enum step_stage { STEP_ON, STEP_OFF, STEP_ONLY }; /* --step */

enum { WORDS_MAX = 16, PROBLEMS_MAX = 256, GPUS_MAX = TUNE_GPUS_MAX, LEADERS = 32 };

struct tune_command {
    struct cascade_options cascade;
    const char *gpu, *shapes, *model, *weights, *budget, *simulate, *log, *wisdom, *export, *templates, *set;
    int type, search, seed, replay, step;
    bool list, quick, merge, search_given, type_given, predict, validate, step_given;
    const char *report;
    int compile;
    const char *word[WORDS_MAX];
    int nwords;
    struct option table[32];

    struct pairs fixed; /* --set */
    struct gen *gen;
    struct tune_session session; /* of the GPU that is in work */
    struct tune_show show;
    struct tune_problem problem[PROBLEMS_MAX];
    int nproblems;
};

static volatile sig_atomic_t stop;

/* The first Ctrl-C ends the search in order, the second ends the program. */
static void on_interrupt(int signal)
{
    stop = 1;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(signal, &plain, NULL);
}

/* ------------------------------------------------------------------------------------------------ what to tune */

/* The prediction of matvec has not been held against measured spaces: whoever wants it asks for it. */
static bool wanted(const struct tune_command *c, const char *kernel)
{
    for (int i = 0; i < c->nwords; i++)
        if (!strcmp(c->word[i], kernel))
            return true;
    return c->nwords == 0 && !(c->predict && !strcmp(kernel, "matvec"));
}

/* Without measuring: GPUs that are not here, or a log. */
static bool is_offline(const struct tune_command *c)
{
    return c->predict || c->validate || c->report || c->replay || c->export;
}

/* Whether the GPU has the problem's kernel, and a model launches it there. attn_prefill runs on all GPUs: where another kernel serves it is
 * tuned if it is named, and what is said without measuring is about it, since there is no prediction of attn_prefill_wgmma. */
static bool serves(const struct tune_command *c, const struct tune_problem *p)
{
    bool mma = !strcmp(p->kernel, "attn_prefill"), wgmma = !strcmp(p->kernel, "attn_prefill_wgmma");
    if (c->nwords > 0 ? mma : is_offline(c) && (mma || wgmma))
        return mma;
    return attn_kernel_serves(p->kernel, c->session.facts.sm, (int)pairs_long(&p->shape, "d", 0));
}

/* Those of `some` that are wanted and not there yet; n < 0: an error was in the way. */
static int add_some(struct tune_command *c, const struct tune_problem *some, int n, struct err *err)
{
    for (int i = 0; i < n; i++) {
        bool there = !wanted(c, some[i].kernel) || !serves(c, &some[i]);
        for (int j = 0; j < c->nproblems && !there; j++)
            there = tune_problem_equal(&c->problem[j], &some[i]);
        if (there)
            continue;
        if (c->nproblems == PROBLEMS_MAX)
            return err_set(err, "more than %d problems; name fewer shapes", PROBLEMS_MAX);
        c->problem[c->nproblems++] = some[i];
    }
    return n < 0 ? -1 : 0;
}

/* The problems of a shape, those that depend on its weights once for each type that --weights lists. */
static int add_shape(struct tune_command *c, const struct model_shape *shape, struct err *err)
{
    struct tune_problem some[TUNE_PROBLEMS_MAX];
    struct cascade_params p[2];
    const char *half = c->type_given ? c->type ? "bf16" : "fp16" : NULL; /* NULL: what inference takes for them */
    char names[128], *save = NULL;
    int cascades = tune_cascades(&c->cascade, p);
    for (int i = 0; i < cascades; i++)
        if (add_some(c, some, tune_shape_problems(shape, &p[i], c->type ? "bf16" : "fp16", some, err), err) != 0)
            return -1;
    snprintf(names, sizeof names, "%s", c->weights ? c->weights : "bf16");
    for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        int type = quant_type_named(name);
        if (type < 0)
            return err_set(err, "--weights: '%s' is no type of weights", name);
        for (int i = 0; i < cascades; i++)
            if (add_some(c, some, tune_weight_problems(shape, (enum quant_type)type, &p[i], half, some, err), err) != 0)
                return -1;
    }
    return 0;
}

/* The problems of a model under the cascade that was asked for; else under the default one, and under a long one. */
static int add_model(struct tune_command *c, struct err *err)
{
    struct tune_problem some[TUNE_PROBLEMS_MAX];
    struct cascade_params p[2];
    struct model m;
    if (model_open(&m, c->model, err) != 0)
        return -1;
    const char *type = c->type_given ? c->type ? "bf16" : "fp16" : NULL;
    int cascades = tune_cascades(&c->cascade, p), status = 0;
    for (int i = 0; i < cascades && status == 0; i++)
        status = add_some(c, some, tune_model_problems(&m, &p[i], type, some, err), err);
    model_close(&m);
    return status;
}

static int find_problems(struct tune_command *c, struct err *err)
{
    struct model_shape shape;
    char names[512], *save = NULL;
    c->nproblems = 0;
    if (c->model)
        return add_model(c, err);
    snprintf(names, sizeof names, "%s", c->shapes ? c->shapes : "llama-3.1-8b");
    for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
        if (model_random_shape(&shape, name, err) != 0 || add_shape(c, &shape, err) != 0)
            return -1;
    return c->nproblems
               ? 0
               : err_set(err, "%s: no kernel to tune for these models; weir tune --list shows them", c->word[0]);
}

/* ------------------------------------------------------------------------------------------------ tuning */

/* "200" is trials, "30s" seconds. */
static int read_budget(const struct tune_command *c, struct tune *t, struct err *err)
{
    char *end = NULL;
    double v = c->budget ? strtod(c->budget, &end) : 0;
    if (!c->budget && c->quick)
        t->max_trials = TUNE_QUICK_TRIALS;
    else if (!c->budget)
        t->patience = t->search == SEARCH_GUIDED ? TUNE_PATIENCE : 0;
    else if (end == c->budget || !(v > 0 && v < 1e9) || (end[0] && (end[0] != 's' || end[1])))
        return err_set(err, "--budget %s: wants a number of trials (200) or of seconds (30s), for each problem",
                       c->budget);
    else if (end[0] == 's')
        t->max_seconds = v;
    else
        t->max_trials = (int)v;
    return 0;
}

/* The last stage: where all kernels are tuned with time to spare, unless it was asked for or off. A table of trials has no steps. */
static bool wants_step(const struct tune_command *c)
{
    return c->step_given ? c->step != STEP_OFF : c->nwords == 0 && !c->quick && !c->simulate;
}

static int refine_steps(struct tune_command *c, struct err *err)
{
    const struct tune_steps t = {.session = &c->session,
                                 .cascade = &c->cascade,
                                 .model = c->model,
                                 .shapes = c->shapes,
                                 .weights = c->weights,
                                 .type = c->type_given ? c->type ? "bf16" : "fp16" : NULL,
                                 .wisdom = c->wisdom,
                                 .asked = c->step_given,
                                 .show = &c->show,
                                 .stop = &stop};
    return cmd_tune_steps(&t, err);
}

static int tune_all(struct tune_command *c, struct err *err)
{
    struct tune_session *s = &c->session;
    struct tune t = {.search = (enum search_kind)c->search,
                     .seed = (uint64_t)c->seed,
                     .stop = &stop,
                     .progress = tune_show_progress,
                     .user = &c->show};
    struct sigaction act = {.sa_handler = on_interrupt};
    if (read_budget(c, &t, err) != 0)
        return CMD_USAGE;
    tune_session_paths(s, c->log, c->wisdom, c->simulate, false);
    if (tune_session_log(s, err) != 0)
        return CMD_FAILED;
    if (s->trials.damaged)
        fprintf(stderr, "weir tune: warning: %s: %d lines are no trials and are left out\n", s->log, s->trials.damaged);
    sigaction(SIGINT, &act, NULL);
    for (int i = 0; i < c->nproblems && !stop && c->step != STEP_ONLY; i++)
        if (tune_session_run(s, &t, &c->problem[i], tune_show_result, &c->show, err) != 0)
            return CMD_FAILED;
    if (!stop && wants_step(c) && refine_steps(c, err) != 0)
        return CMD_FAILED;
    fprintf(stderr, "%swisdom is in %s, trials in %s\n", stop ? "stopped; " : "", s->wisdom, s->log);
    return CMD_OK;
}

/* ------------------------------------------------------------------------------------------------ what is known */

static int list(struct tune_command *c, struct err *err)
{
    for (int i = 0; i < c->nproblems; i++) {
        struct tune_space s;
        if (tune_space_open(&s, c->gen, c->session.gpu, &c->problem[i], &c->fixed, err) != 0)
            return CMD_FAILED;
        tune_space_print(&s, stdout);
        tune_space_close(&s);
    }
    return CMD_OK;
}

static int merge(struct tune_command *c, struct err *err)
{
    struct wisdom_file a, b;
    if (c->nwords != 2)
        return err_set(err, "--merge wants two files: the second is merged into the first"), CMD_USAGE;
    if (wisdom_file_read(c->word[0], &a, err) != 0)
        return CMD_FAILED;
    int status = wisdom_file_read(c->word[1], &b, err);
    if (status == 0) {
        status = wisdom_file_merge(&a, &b, err);
        wisdom_file_free(&b);
    }
    if (status == 0)
        status = wisdom_file_write(&a, c->word[0], err);
    wisdom_file_free(&a);
    return status == 0 ? CMD_OK : CMD_FAILED;
}

/* ------------------------------------------------------------------------------------------------ without measuring */

/* What the log has of the GPU, if there is one. */
static int read_trials(const struct tune_command *c, struct trials *t, struct err *err)
{
    const char *log = c->session.log;
    struct err missing;
    if (c->simulate || c->log)
        return trials_load(t, c->simulate ? c->simulate : c->log, err);
    if (access(log, R_OK) != 0 || trials_open(t, log, false, &missing) != 0)
        memset(t, 0, sizeof *t);
    return 0;
}

/* Adds the GPU and problems that *c stands at. */
static int add_offline(struct tune_command *c, struct tune_offline *o, struct err *err)
{
    struct tune_offline_gpu *g = &o->gpu[o->ngpus];
    tune_session_paths(&c->session, c->log, c->wisdom, c->simulate, false);
    g->problem = err_alloc((size_t)c->nproblems, sizeof *g->problem, "problems", err);
    if (!g->problem || read_trials(c, &g->trials, err) != 0) {
        free(g->problem);
        return -1;
    }
    o->ngpus++;
    memcpy(g->problem, c->problem, (size_t)c->nproblems * sizeof *g->problem);
    g->nproblems = c->nproblems;
    snprintf(g->arg, sizeof g->arg, "%s", c->session.gpu);
    snprintf(g->wisdom, sizeof g->wisdom, "%s", c->session.wisdom);
    tune_session_head(&c->session, &g->head);
    return 0;
}

static int run_offline(struct tune_command *c, const struct tune_offline *given, struct err *err)
{
    struct tune_offline o = *given;
    o.compile = c->compile;
    if (c->replay)
        return cmd_tune_replay(&o, c->replay, err);
    if (c->export)
        return cmd_tune_export(&o, c->export, err);
    int status = c->predict ? cmd_tune_predict(&o, err) : c->validate ? cmd_tune_validate(&o, err) : CMD_OK;
    return status == CMD_OK && c->report ? cmd_tune_report(&o, c->report, err) : status;
}

/* ------------------------------------------------------------------------------------------------ the command */

static int run(struct tune_command *c, struct err *err)
{
    char names[512], *save = NULL;
    const char *gpu[GPUS_MAX + 1] = {NULL};
    int ngpus = 0, status = CMD_OK;
    snprintf(names, sizeof names, "%s", c->gpu ? c->gpu : "");
    for (char *name = strtok_r(names, ",", &save); name && ngpus < GPUS_MAX; name = strtok_r(NULL, ",", &save))
        gpu[ngpus++] = name;
    bool offline = is_offline(c), measures = !c->list && !offline;
    struct tune_offline o = {.gen = c->gen, .fixed = &c->fixed};
    if (!measures && ngpus == 0 && !c->validate) {
        gpu[ngpus++] = "a6000";
        gpu[ngpus++] = "a100";
        gpu[ngpus++] = "h200";
    }
    if (c->simulate && c->step_given && c->step != STEP_OFF)
        return err_set(err, "--step: trials in a file say nothing of a decoding step; it takes a GPU"), CMD_USAGE;
    if (measures && tune_session_measure(&c->session, c->simulate, err) != 0) {
        if (!c->simulate)
            err_prefix(err, "no GPU to measure on (--simulate FILE takes a trial log, --predict needs none)");
        return CMD_FAILED;
    }
    if (measures && ngpus > 1) {
        err_set(err, "--gpu %s: one GPU is measured at a time", c->gpu);
        return CMD_USAGE;
    }
    if (c->predict && c->wisdom && ngpus > 1)
        return err_set(err, "--wisdom %s: a file holds one GPU; WEIR_WISDOM=FOLDER takes one of each", c->wisdom),
               CMD_USAGE;
    for (int i = 0; i < (ngpus ? ngpus : 1) && status == CMD_OK; i++) {
        if (tune_session_gpu(&c->session, gpu[i], err) != 0 || find_problems(c, err) != 0)
            status = CMD_USAGE;
        else if (offline)
            status = add_offline(c, &o, err) == 0 ? CMD_OK : CMD_FAILED;
        else
            status = c->list ? list(c, err) : tune_all(c, err);
    }
    if (status == CMD_OK && offline)
        status = run_offline(c, &o, err);
    cmd_tune_offline_free(&o);
    return status;
}

int cmd_tune(int argc, char **argv, struct err *err)
{
    struct tune_command c = {.type = 1, .seed = 1, .search = SEARCH_GUIDED, .compile = LEADERS};
    cascade_options_init(&c.cascade);
    const struct option rows[] = {
        {"--gpu", NULL, OPTION_TEXT, &c.gpu, "NAME[,NAME]",
         "GPUs by name or file (weir gen --list); else the one that is here", 0, 0, NULL},
        {"--model-shape", NULL, OPTION_TEXT, &c.shapes, "NAME[,NAME]", "shapes of known models (llama-3.1-8b)", 0, 0,
         NULL},
        {"--model", "-m", OPTION_TEXT, &c.model, "FILE", "the shapes of this model", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &c.type, "fp16|bf16",
         "data type (of a model, its own; of matvec, dequantise, embed what inference takes for the weights; else "
         "bf16)",
         0, 0, &c.type_given},
        {"--weights", NULL, OPTION_TEXT, &c.weights, "TYPE[,TYPE]",
         "types of the weights that matvec, dequantise and embed are tuned for, of shapes that are named (bf16)", 0, 0,
         NULL},
        {"--list", NULL, OPTION_FLAG, &c.list, NULL,
         "how many configs are valid per GPU, and which restriction cuts the rest", 0, 0, NULL},
        {"--search", NULL, OPTION_CHOICE, &c.search, search_kinds, "in which order (guided)", 0, 0, &c.search_given},
        {"--budget", NULL, OPTION_TEXT, &c.budget, "N|Ns",
         "new trials or seconds, for each problem (guided: until trials bring nothing new; else no limit)", 0, 0, NULL},
        {"--quick", NULL, OPTION_FLAG, &c.quick, NULL, "a good tile in seconds: a dozen trials of each problem", 0, 0,
         NULL},
        {"--step", NULL, OPTION_CHOICE, &c.step, "on|off|only",
         "at the end, the best tiles of a token's kernels inside the model's decoding step; or that alone "
         "(on; off with --quick or a KERNEL)",
         0, 0, &c.step_given},
        {"--set", NULL, OPTION_TEXT, &c.set, "N=V[,...]", "tile parameters that are not searched", 0, 0, NULL},
        {"--seed", NULL, OPTION_INT, &c.seed, "N", "of the random numbers (1)", 0, INT32_MAX, NULL},
        {"--log", NULL, OPTION_TEXT, &c.log, "FILE",
         "trial log (trials/GPU.jsonl in the cache folder); to look at, also a T4 file, FILE.json", 0, 0, NULL},
        {"--wisdom", NULL, OPTION_TEXT, &c.wisdom, "FILE", "wisdom file to add the results to", 0, 0, NULL},
        {"--simulate", NULL, OPTION_TEXT, &c.simulate, "FILE",
         "take times from this trial log (or T4 file, FILE.json) instead of a GPU", 0, 0, NULL},
        {"--predict", NULL, OPTION_FLAG, &c.predict, NULL,
         "measure nothing: predict the best tiles of --gpu (a6000,a100,h200), with reasons, and keep them as wisdom", 0,
         0, NULL},
        {"--validate", NULL, OPTION_FLAG, &c.validate, NULL,
         "what the prediction is worth on the trials in the log of --gpu", 0, 0, NULL},
        {"--replay", NULL, OPTION_INT, &c.replay, "N",
         "how many trials each search needs on the log's spaces, with N seeds", 1, 1000, NULL},
        {"--report", NULL, OPTION_TEXT, &c.report, "FILE.html", "one page on spaces, trials and predictions of --gpu",
         0, 0, NULL},
        {"--export", NULL, OPTION_TEXT, &c.export, "DIR",
         "write spaces (T1) and trials (T4, cache) of --gpu there, in Kernel Tuner's formats", 0, 0, NULL},
        {"--compile", NULL, OPTION_INT, &c.compile, "N",
         "leaders of a prediction that are compiled and looked at closely (32)", 0, 1 << 20, NULL},
        {"--merge", NULL, OPTION_FLAG, &c.merge, NULL, "merge the second of two wisdom files into the first", 0, 0,
         NULL},
        {"--templates", NULL, OPTION_TEXT, &c.templates, "DIR", "folder with gen/ and templates/", 0, 0, NULL},
        {0},
    };
    memcpy(c.table, rows, sizeof rows);
    struct options o = {
        .usage = "weir tune [KERNEL...] [options]",
        .what =
            "Finds the best tile of each kernel of a model for a GPU: compiles configs on all cores, checks each "
            "against\n"
            "the oracle, times it, and keeps every trial in a log, from which a rerun goes on. The best go into the\n"
            "wisdom file that run, chat and bench look into. At the end the best few tiles of a token's kernels are "
            "tried\n"
            "inside the model's decoding step (--step). Without --window: W=2048 with T=1024, and W=16384 with "
            "T=4096.",
        .group = {{"options", c.table}, {"cascade", c.cascade.table}},
        .word = c.word,
        .max_words = WORDS_MAX,
    };
    int status = options_parse(&o, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    c.nwords = o.nwords;
    if (cascade_options_finish(&c.cascade, 0, err) != 0)
        return CMD_USAGE;
    if (c.set && pairs_parse(&c.fixed, c.set, err) != 0)
        return err_prefix(err, "--set"), CMD_USAGE;
    if (c.merge)
        return merge(&c, err);
    if (gen_open(&c.gen, c.templates, err) != 0)
        return CMD_FAILED;
    c.session.gen = c.gen;
    c.session.fixed = &c.fixed;
    status = run(&c, err);
    tune_session_close(&c.session);
    gen_close(c.gen);
    return status;
}
