/* What a prediction is put together from: occupancy, the kernel's own model, limits, and the sentence that says why. */
#include "predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "predict_private.h"

/* Fitted on an H200, whole spaces of attn_prefill and attn_scores, (heads)/(key heads): d=128 24/8 over 2112 and 16448, 32/32 over 2112;
 * d=64 32/4 over 2112; attn_scores 9/3 over 2112. On them all that is said to be fitted in predict_loop.c, predict_spec.c and machine.c:
 * what products take, what starts a launch and a block, how blocks share, spills. All per SM and cycle. */
const char predict_model[] =
    "weir-predict 6: tile loop on a model of the SM; fitted on H200 prefill/scores, H100/H200 decode";

/* Between the events around a launch whose data are not in L2: the launch itself, and what first touches cost. */
#define LAUNCH_US 5.5

/* `tells`: on an H200 the tile that is predicted best of a kernel that only moves memory is by chance better or worse than the default. */
static const struct {
    const char *kernel;
    predict_kernel *predict;
    double tells, launch_us; /* launch_us: 0 where the model's time is with what a launch takes */
} models[] = {
    {"attn_prefill", predict_prefill, 0.02, LAUNCH_US},
    {"attn_scores", predict_scores, 0.02, LAUNCH_US},
    {"attn_decode", predict_decode, 0.02, 0},
    {"attn_turn", predict_turn, 0.25, LAUNCH_US},
    {"attn_score_reduce", predict_reduce, 0.25, LAUNCH_US},
    {"cascade_update", predict_update, 0.25, LAUNCH_US},
    {"stream_copy", predict_copy, 0.25, LAUNCH_US},
    {"matvec", predict_matvec, 0.5, LAUNCH_US},
    {"rms_norm", predict_norm, 0.25, LAUNCH_US},
    {"swiglu", predict_swiglu, 0.25, LAUNCH_US},
    {"add_bias", predict_bias, 0.25, LAUNCH_US},
    {"dequantise", predict_dequantise, 0.25, LAUNCH_US},
    {"embed", predict_embed, 0.25, LAUNCH_US},
    {"likelihood", predict_likelihood, 0.25, LAUNCH_US},
    {"attn_decode_scores", predict_token_scores, 0.25, LAUNCH_US},
    {"sample", predict_sample, 0.25, LAUNCH_US},
};
enum { MODELS = sizeof models / sizeof *models };

/* MODELS where there is none. */
static size_t model_of(const char *kernel)
{
    size_t i = 0;
    while (i < MODELS && strcmp(models[i].kernel, kernel) != 0)
        i++;
    return i;
}

double predict_tells(const char *kernel)
{
    size_t i = model_of(kernel);
    return i < MODELS ? models[i].tells : 0;
}

long predict_param(const struct predict_job *job, const char *name, long missing)
{
    const struct gen_kernel *k = job->in->spec;
    for (int i = 0; i < k->nparams; i++)
        if (!strcmp(k->param[i].name, name))
            return k->param[i].value;
    return missing;
}

int predict_size(const struct predict_job *job, const char *name, double *value, struct err *err)
{
    const char *text = pairs_get(job->in->sizes, name);
    char *end = NULL;
    *value = text ? strtod(text, &end) : -1;
    if (!text || end == text || *end || !(*value >= 0 && *value < 1e15))
        return err_set(err, "%s: a prediction needs its size '%s'", job->in->spec->kernel, name);
    return 0;
}

double predict_ms(const struct predict_job *job, double cycles)
{
    return cycles / job->machine.clock_ghz / 1e6;
}

/* Registers and the blocks that they and shared memory leave room for. */
static int find_occupancy(struct predict_job *job, struct err *err)
{
    const struct predict_input *in = job->in;
    struct cubin facts = {0};
    if (in->cubin) {
        facts = *in->cubin;
        job->compiled = true;
        job->regs = facts.regs;
        job->spills = facts.spill_load + facts.spill_store;
    } else {
        predict_registers(job);
        facts.regs = job->regs;
    }
    job->occupancy = occupancy_of(in->gpu, in->spec, &facts);
    if (job->occupancy.blocks < 1)
        return err_set(err, "%s: not one block fits a multiprocessor of %s", in->spec->name, in->gpu->name);
    if (job->occupancy.blocks > RESIDENT_MAX)
        job->occupancy.blocks = RESIDENT_MAX;
    job->out->blocks_per_sm = job->occupancy.blocks;
    return 0;
}

/* The unit that needs the most time for itself, if that is most of the time. */
static void name_limit(struct prediction *p, double kernel_ms)
{
    const struct {
        double ms;
        const char *name;
    } unit[] = {{p->tensor_ms, "tensor"}, {p->smem_ms, "shared memory"}, {p->l2_ms, "L2"}, {p->dram_ms, "DRAM"}};
    double most = 0;
    p->limit = "latency";
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++)
        if (unit[i].ms > most) {
            most = unit[i].ms;
            p->limit = unit[i].name;
        }
    double whole = ceil(p->waves - 1e-9);
    if (most < 0.45 * kernel_ms)
        p->limit = whole > 1 && p->waves / whole < 0.75 ? "waves" : "latency";
}

/* "2 blocks an SM (99 KB of shared memory), tensor cores 81 % busy, ..." */
static void say_why(const struct predict_job *job)
{
    const struct predict_input *in = job->in;
    struct prediction *p = job->out;
    char regs[48] = "";
    if (job->compiled)
        snprintf(regs, sizeof regs, ", %d registers%s", job->regs, job->spills ? " and spills" : "");
    double busy = !strcmp(p->limit, "tensor")          ? p->tensor_ms
                  : !strcmp(p->limit, "shared memory") ? p->smem_ms
                  : !strcmp(p->limit, "L2")            ? p->l2_ms
                                                       : p->dram_ms;
    bool unit = strcmp(p->limit, "latency") != 0 && strcmp(p->limit, "waves") != 0;
    char limit[64];
    if (unit)
        snprintf(limit, sizeof limit, "%s %.0f %% busy", p->limit, 100 * busy / p->ms);
    else if (!strcmp(p->limit, "waves"))
        snprintf(limit, sizeof limit, "%.2f waves of blocks", p->waves);
    else
        snprintf(limit, sizeof limit, "waits for latencies");
    snprintf(p->why, sizeof p->why, "%d block%s an SM by %s (%u of %d KB, %u threads%s); %s", p->blocks_per_sm,
             p->blocks_per_sm == 1 ? "" : "s", job->occupancy.limit, (in->spec->smem + 1023) / 1024,
             in->gpu->smem_per_block / 1024, in->spec->threads, regs, limit);
}

int predict_time(const struct predict_input *in, struct prediction *out, struct err *err)
{
    struct predict_job job = {.in = in, .out = out, .of_peak = BUS_OF_PEAK};
    memset(out, 0, sizeof *out);
    size_t i = model_of(in->spec->kernel);
    if (i == MODELS)
        return err_set(err, "%s: the prediction model does not know this kernel", in->spec->kernel);
    if (machine_of(in->gpu, &job.machine, err) != 0 || find_occupancy(&job, err) != 0 ||
        models[i].predict(&job, err) != 0)
        return -1;
    /* What the work needs at the least, however it is done. */
    out->dram_ms = fmax(out->dram_ms, in->bytes / (job.of_peak * in->gpu->dram_gbs) / 1e6);
    name_limit(out, out->ms);
    out->ms = fmax(out->ms, out->dram_ms) + models[i].launch_us / 1e3;
    if (!isfinite(out->ms))
        return err_set(err, "%s: the model came to no time", in->spec->name);
    out->other_ms = out->ms - fmax(fmax(out->tensor_ms, out->smem_ms), fmax(out->l2_ms, out->dram_ms));
    say_why(&job);
    return 0;
}
