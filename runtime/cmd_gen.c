/* weir gen: renders kernels, and compiles them for GPUs that need not be there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "aside.h"
#include "attn_grid.h"
#include "cascade_options.h"
#include "cmd.h"
#include "given_params.h"
#include "kernel.h"
#include "model_kernels.h"
#include "occupancy.h"
#include "options.h"
#include "wisdom.h"

enum { KERNELS_MAX = 64, GPUS_MAX = 16, JOBS_MAX = KERNELS_MAX + MODEL_KERNELS_MAX };

/* A kernel to be rendered, and the shape that the model wants it in, or NULL. */
struct job {
    const char *kernel;
    const struct pairs *shape;
    const struct pairs *sizes; /* of its own; NULL: none */
};

struct gen_command {
    bool list, all, cubin, print, lines, json;
    const char *gpu, *model, *set, *folder, *templates;
    struct kernel_cache ship; /* --ship; its folder may be "" */
    struct cascade_options cascade;
    const char *kernel[KERNELS_MAX];
    char *names; /* owned: what kernel[] points into with --all */
    int nkernels;
    struct model_kernels wanted; /* by the model, with -m */
    struct pairs sizes;          /* that it runs them with */
    struct job job[JOBS_MAX];
    int njobs;
    char gpus[512]; /* the GPUs of --gpu, each ended by a NUL */
    const char *gpu_name[GPUS_MAX];
    int ngpus;
    struct wisdom *wisdom[GPUS_MAX]; /* [ngpus] with a model: its tiles are those that inference would take */
    struct wisdom_found tuned;       /* what the parameters of the kernel in work point into */
    struct given_params given;       /* by --NAME VALUE, then by --set; they win over the model's */
    struct gen *gen;
    struct kernel_cache cache;
    bool warned;
    int done, failed;
    struct err first; /* what the first failed kernel says */
};

/* The kernels that a model wants, with the cascade and the type that are given. */
static int ask_model(struct gen_command *c, struct err *err)
{
    const char *type = given_params_value(&c->given, "t");
    struct model m;
    if (model_open(&m, c->model, err) != 0)
        return CMD_FAILED;
    int rc = cascade_options_finish(&c->cascade, m.shape.ctx_train, err);
    if (rc == 0)
        rc = model_kernels(&c->wanted, &m, &c->cascade.p, type, err) ||
             model_sizes(&c->sizes, &m.shape, &c->cascade.p, err);
    model_close(&m);
    return rc == 0 ? CMD_OK : CMD_USAGE;
}

static void add_job(struct gen_command *c, const char *kernel, const struct pairs *shape, const struct pairs *sizes)
{
    if (c->njobs < JOBS_MAX)
        c->job[c->njobs++] = (struct job){kernel, shape, sizes};
}

/* With --all and a model, what the model wants; else each kernel that was named, in every shape that the model wants it in. */
static void make_jobs(struct gen_command *c)
{
    const struct model_kernels *w = &c->wanted;
    for (int k = 0; c->all && k < w->n; k++)
        add_job(c, w->at[k].kernel, &w->at[k].shape, &w->at[k].sizes);
    if (c->njobs > 0)
        return;
    for (int i = 0; i < c->nkernels; i++) {
        int before = c->njobs;
        for (int k = 0; k < w->n; k++)
            if (!strcmp(w->at[k].kernel, c->kernel[i]))
                add_job(c, c->kernel[i], &w->at[k].shape, &w->at[k].sizes);
        if (c->njobs == before)
            add_job(c, c->kernel[i], NULL, NULL);
    }
}

static int split_gpus(struct gen_command *c, struct err *err)
{
    char *save = NULL;
    if (!c->gpu)
        return err_set(err, "--gpu NAME is missing; weir gen --list shows the names");
    if (snprintf(c->gpus, sizeof c->gpus, "%s", c->gpu) >= (int)sizeof c->gpus)
        return err_set(err, "--gpu: too long");
    for (char *g = strtok_r(c->gpus, ",", &save); g; g = strtok_r(NULL, ",", &save)) {
        struct gen_gpu facts;
        if (c->ngpus == GPUS_MAX)
            return err_set(err, "--gpu: more than %d", GPUS_MAX);
        if (gen_gpu(c->gen, g, &facts, err) != 0)
            return -1;
        if (c->model && wisdom_open(&c->wisdom[c->ngpus], c->gen, g, cmd_say, err) != 0)
            return -1;
        c->gpu_name[c->ngpus++] = g;
    }
    return c->ngpus ? 0 : err_set(err, "--gpu: no name given");
}

static int all_kernels(struct gen_command *c, struct err *err)
{
    char *save = NULL;
    if (gen_kernels(c->gen, &c->names, err) != 0)
        return -1;
    for (char *k = strtok_r(c->names, "\n", &save); k && c->nkernels < KERNELS_MAX; k = strtok_r(NULL, "\n", &save))
        c->kernel[c->nkernels++] = k;
    return 0;
}

static bool several(const struct gen_command *c)
{
    return c->all || c->nkernels > 1;
}

/* Settles which of the kernels each given parameter is for. With one kernel all are for that: what it does not have, the generator
 * says. */
static int check_params(struct gen_command *c, struct err *err)
{
    const char *kernel[JOBS_MAX];
    for (int i = 0; i < c->njobs; i++)
        kernel[i] = c->job[i].kernel;
    return several(c) ? given_params_check(&c->given, c->gen, kernel, c->njobs, err) : 0;
}

/* The parameters for one job on GPU number `gpu`: the model's, then those given, then wisdom's tile for the model. -1 on an error. */
static int params_for(struct gen_command *c, const struct job *job, int gpu, struct gen_param *out, struct err *err)
{
    int n = job->shape ? pairs_params(job->shape, out, 0) : 0;
    if (several(c))
        n = given_params_for(&c->given, c->gen, job->kernel, out, n, err);
    else
        for (int i = 0; i < c->given.n; i++)
            out[n++] = c->given.at[i];
    if (n < 0 || !job->shape)
        return n;
    struct pairs sizes;
    model_kernel_sizes(&sizes, &c->sizes, job->sizes);
    wisdom_best(c->wisdom[gpu], job->kernel, out, n, &sizes, &c->tuned);
    return pairs_params(&c->tuned.config, out, n);
}

/* Whether a job of --all is done for a GPU with the parameters that are its: of kernels that do the same for a model the one that serves
 * there, and without a model both where they can run. */
static bool serves(const struct gen_command *c, const struct job *job, int sm, const struct gen_param *p, int n)
{
    int d = 0;
    for (int i = 0; i < n; i++)
        if (!strcmp(p[i].name, "d"))
            d = atoi(p[i].value);
    return !c->all || attn_kernel_serves(job->kernel, sm, d) || (!job->shape && !strcmp(job->kernel, "attn_prefill"));
}

/* Writes <folder>/<name><suffix>, whole or not at all. */
static int write_file(const char *folder, const char *name, const char *suffix, const void *data, size_t bytes,
                      struct err *err)
{
    char path[1024];
    struct aside a;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return err_set(err, "%.400s cannot be made: %s", folder, strerror(errno));
    if (snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix) >= (int)sizeof path)
        return err_set(err, "%.400s: the path is too long", folder);
    if (aside_open(&a, path, err) != 0)
        return -1;
    fwrite(data, 1, bytes, a.f);
    return aside_keep(&a, false, err);
}

/* The part of a canonical name between kernel and target: shape and tile. */
static void spec_text(const struct gen_kernel *k, char *out, size_t size)
{
    const char *begin = strstr(k->name, "__"), *end = strrchr(k->name, '_');
    int len = begin && end > begin + 2 ? (int)(end - 1 - begin - 2) : 0;
    snprintf(out, size, "%.*s", len, begin ? begin + 2 : "");
}

static void print_row(struct gen_command *c, const struct kernel *k, const struct gen_gpu *gpu)
{
    struct occupancy o = occupancy_of(gpu, &k->gen, &k->cubin);
    char spec[GEN_NAME_MAX];
    int smem = k->cubin.smem + (int)k->gen.smem;
    if (c->json) {
        printf("%s{\"name\":\"%s\",\"kernel\":\"%s\",\"gpu\":\"%s\",\"arch\":\"%s\",\"threads\":%u,\"registers\":%d,"
               "\"spill_store\":%d,"
               "\"spill_load\":%d,\"stack\":%d,\"smem\":%d,\"blocks_per_sm\":%d,\"occupancy_percent\":%d,\"limit\":\"%"
               "s\",\"cubin_bytes\":%zu,"
               "\"ms\":%.2f,\"cached\":%s}",
               c->done ? ",\n " : "[", k->gen.name, k->gen.kernel, gpu->name, k->gen.arch, k->gen.threads,
               k->cubin.regs, k->cubin.spill_store, k->cubin.spill_load, k->cubin.stack, smem, o.blocks, o.percent,
               o.limit, k->cubin.bytes, k->cubin_ms, k->cached ? "true" : "false");
        return;
    }
    if (c->done == 0)
        printf("%-18s %-8s %-44s %7s %5s %6s %7s %9s %-14s %6s %7s %s\n", "kernel", "GPU", "shape, tile", "threads",
               "regs", "spills", "smem", "blocks/SM", "warps, limit", "cubin", "ms", "cache");
    spec_text(&k->gen, spec, sizeof spec);
    char warps[40];
    snprintf(warps, sizeof warps, "%d%% %s", o.percent, o.limit);
    printf("%-18s %-8s %-44s %7u %5d %6d %7d %9d %-18.18s %6zu %7.1f %s\n", k->gen.kernel, gpu->name, spec,
           k->gen.threads, k->cubin.regs, k->cubin.spill_store + k->cubin.spill_load, smem, o.blocks, warps,
           k->cubin.bytes, k->cubin_ms, k->cached ? "hit" : "built");
    fflush(stdout);
}

static int print_source(const struct gen_command *c, const struct gen_kernel *k, struct err *err)
{
    char *lined = NULL;
    if (c->lines && gen_lined_text(k, &lined, err) != 0)
        return -1;
    fputs(lined ? lined : k->source, stdout);
    free(lined);
    return 0;
}

/* Renders, and compiles where that is wanted, one kernel for one GPU. */
static int one_kernel(struct gen_command *c, const char *kernel, const char *gpu, const struct gen_param *p, int n,
                      struct err *err)
{
    struct kernel k = {0};
    struct gen_gpu facts;
    int rc = gen_gpu(c->gen, gpu, &facts, err);
    if (rc == 0 && c->cubin)
        rc = kernel_build(c->gen, &c->cache, kernel, gpu, p, n, &k, err);
    else if (rc == 0)
        rc = gen_render(c->gen, kernel, gpu, p, n, &k.gen, err);
    if (rc == 0 && c->folder)
        rc = write_file(c->folder, k.gen.name, ".cu", k.gen.source, k.gen.source_len, err);
    if (rc == 0 && c->folder && c->cubin)
        rc = write_file(c->folder, k.gen.name, ".cubin", k.cubin.image, k.cubin.bytes, err);
    if (rc == 0 && c->ship.folder[0])
        rc = kernel_ship(&k, &c->ship, err);
    if (rc == 0 && c->print)
        rc = print_source(c, &k.gen, err);
    if (rc == 0 && k.warning[0] && !c->warned) {
        fprintf(stderr, "weir gen: warning: %s\n", k.warning);
        c->warned = true;
    }
    if (rc == 0 && !c->print) {
        if (c->cubin)
            print_row(c, &k, &facts);
        else
            printf("%s/%s.cu\n", c->folder, k.gen.name);
    }
    c->done += rc == 0;
    kernel_free(&k);
    return rc;
}

/* Every kernel for every GPU. Whatever the options say wrong is found before anything is rendered. */
static int run(struct gen_command *c, struct err *err)
{
    struct gen_param p[GIVEN_PARAMS_MAX + 2 * PAIRS_MAX];
    int n;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < c->njobs; i++)
            for (int j = 0; j < c->ngpus; j++) {
                const char *kernel = c->job[i].kernel, *gpu = c->gpu_name[j];
                struct err one = {""};
                struct gen_gpu facts;
                if ((n = params_for(c, &c->job[i], j, p, err)) < 0 || gen_gpu(c->gen, gpu, &facts, err) != 0)
                    return CMD_USAGE;
                if (!serves(c, &c->job[i], facts.sm, p, n))
                    continue;
                if (pass == 0 && gen_check(c->gen, kernel, gpu, p, n, err) != 0)
                    return CMD_USAGE;
                if (pass == 1 && c->job[i].shape)
                    cmd_say(false, c->tuned.line);
                if (pass == 1 && one_kernel(c, kernel, gpu, p, n, &one) != 0 && c->failed++ == 0)
                    c->first = one;
            }
    if (c->json && c->cubin && !c->print)
        printf("%s\n", c->done ? "]" : "[]");
    if (!c->failed)
        return CMD_OK;
    *err = c->first;
    if (c->failed > 1)
        err_prefix(err, "%d of %d kernels failed, the first so", c->failed, c->failed + c->done);
    return CMD_FAILED;
}

static int list(struct gen_command *c, struct err *err)
{
    char *text;
    if (gen_list(c->gen, c->json, &text, err) != 0)
        return CMD_FAILED;
    fputs(text, stdout);
    free(text);
    return CMD_OK;
}

static int prepare(struct gen_command *c, struct err *err)
{
    if (c->all && c->nkernels)
        return err_set(err, "--all and '%s': name kernels or take all", c->kernel[0]);
    if (!c->all && !c->nkernels)
        return err_set(err, "no kernel given; weir gen --list shows them, --all takes all");
    if (c->all && all_kernels(c, err) != 0)
        return -1;
    make_jobs(c);
    c->cubin = c->cubin || (c->all && !c->print) || c->ship.folder[0];
    c->print = c->print || c->lines || (!c->cubin && !c->folder);
    if (c->cubin && !c->folder && !c->print && !c->ship.folder[0])
        c->folder = "kernels_out";
    return split_gpus(c, err) != 0 || check_params(c, err) != 0 ? -1 : 0;
}

int cmd_gen(int argc, char **argv, struct err *err)
{
    struct gen_command c = {0};
    const char *ship = NULL;
    cascade_options_init(&c.cascade);
    const struct option table[] = {
        {"--gpu", NULL, OPTION_TEXT, &c.gpu, "NAME[,NAME]",
         "GPUs to specialise on, or files that describe one (FILE.json, FILE.lua)", 0, 0, NULL},
        {"--set", NULL, OPTION_TEXT, &c.set, "N=V[,N=V]",
         "the same for several, tile parameters as a rule: --set bn=64,st=3", 0, 0, NULL},
        {"--model", "-m", OPTION_TEXT, &c.model, "MODEL", "take the shapes from a model's file", 0, 0, NULL},
        {"--all", NULL, OPTION_FLAG, &c.all, NULL,
         "all kernels (with -m, those that the model wants), compiled: a table", 0, 0, NULL},
        {"--cubin", NULL, OPTION_FLAG, &c.cubin, NULL, "compile: registers, spills, shared memory, occupancy", 0, 0,
         NULL},
        {"--out", "-o", OPTION_TEXT, &c.folder, "DIR",
         "write NAME.cu (and NAME.cubin) there (kernels_out, once something is compiled)", 0, 0, NULL},
        {"--ship", NULL, OPTION_TEXT, &ship, "DIR",
         "compile into a folder for machines without NVRTC: WEIR_SHIPPED=DIR there", 0, 0, NULL},
        {"--stdout", NULL, OPTION_FLAG, &c.print, NULL, "print the text (what happens without --cubin and -o)", 0, 0,
         NULL},
        {"--lines", NULL, OPTION_FLAG, &c.lines, NULL, "print it with the #line directives that the compiler gets", 0,
         0, NULL},
        {"--list", NULL, OPTION_FLAG, &c.list, NULL, "kernels with their parameters and restrictions, and GPUs", 0, 0,
         NULL},
        {"--templates", NULL, OPTION_TEXT, &c.templates, "DIR",
         "folder with gen/ and templates/ (WEIR_HOME, else the binary's, else built in)", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &c.json, NULL, "the table, or --list, as JSON", 0, 0, NULL},
        {0},
    };
    struct options o = {
        .usage = "weir gen KERNEL|--all|--list --gpu NAME[,NAME] [options]",
        .what = "Renders kernels as CUDA C for GPUs that need not be here; with --cubin compiles them too.\n"
                "Parameters of the kernel are options as well: --d 128 --g 4 --type bf16 (--list shows them all).",
        .group = {{"options", table}, {"cascade, for the kernels of a model", c.cascade.table}},
        .word = c.kernel,
        .max_words = KERNELS_MAX,
    };
    int status = CMD_USAGE;
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    int left = rest ? given_params_take(&c.given, o.group, argc, argv, rest, err)
                    : err_set(err, "out of memory for the options");
    if (left < 0)
        goto done;
    status = options_parse(&o, left, rest, err);
    c.nkernels = o.nwords;
    if (status != OPTIONS_GO)
        goto done;
    status = CMD_USAGE;
    if (c.set && given_params_add(&c.given, "--set", c.set, err) != 0)
        goto done;
    if (gen_open(&c.gen, c.templates, err) != 0)
        goto done;
    if (c.list) {
        status = list(&c, err);
        goto done;
    }
    if (ship && snprintf(c.ship.folder, sizeof c.ship.folder, "%s", ship) >= (int)sizeof c.ship.folder) {
        err_set(err, "--ship: the path is too long");
        goto done;
    }
    if (c.model && (status = ask_model(&c, err)) != CMD_OK)
        goto done;
    status = CMD_USAGE;
    if (prepare(&c, err) != 0)
        goto done;
    kernel_cache_default(&c.cache);
    status = run(&c, err);
done:
    given_params_free(&c.given);
    free(c.names);
    for (int i = 0; i < c.ngpus; i++)
        wisdom_close(c.wisdom[i]);
    free(rest);
    gen_close(c.gen);
    return status;
}
