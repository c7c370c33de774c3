/* What can be said of a kernel before it is compiled: registers, spills, and how long a turn of its loop takes. The instructions are
 * counted by the templates' text; what they cost comes from the same rates as those of the machine code. */
#include "predict_private.h"

#include <math.h>
#include <string.h>

/* How floor and latency of a turn go together: 1 they add up, more: the greater one hides the other. Fitted (H200), like
 * what a warp alone needs. */
static const double OVERLAP = 3.4;

enum {
    REGISTERS_MAX = 255,
    REGISTER_UNIT = 8,
    PIECE_REGISTERS = 4,
    SQUEEZED = 30 /* what the compiler can do without before it spills */
};

/* attn_decode: what ptxas 13.0 takes for sm_90, most within 20. */
static long decode_registers(const struct predict_job *job)
{
    long d = predict_param(job, "d", 64);
    long regs = 66 + 42 * d / 64 + 2 * (predict_param(job, "bn", 16) - 16) + 4 * (predict_param(job, "cg", 1) - 1);
    return d <= 64 && predict_param(job, "wp", 4) >= 6 ? regs * 4 / 5 : regs; /* blocks of many warps are given fewer */
}

/* attn_scores, likewise: keys, two strips and sums. */
static double scores_registers(const struct predict_job *job)
{
    double mk = (double)predict_param(job, "mk", 1), d = (double)predict_param(job, "d", 64);
    return 62 + mk * (18.7 + 1.29 * d / 4);
}

/* attn_prefill, likewise, but that small tiles get 124 all the same: O, S, Q, and addresses by the rows of a tile. */
static double prefill_registers(const struct predict_job *job)
{
    double mt = (double)predict_param(job, "mt", 1), d = (double)predict_param(job, "d", 64),
           bn = (double)predict_param(job, "bn", 64), qr = (double)predict_param(job, "qr", 0);
    double addresses = (predict_param(job, "st", 1) == 1 ? 0.52 : 0.33) * bn;
    return fmax(124, 66 + mt * (1.2 * d / 2 + 0.74 * bn / 2 + 0.71 * qr * d / 4) + addresses);
}

static double wanted_registers(const struct predict_job *job)
{
    const char *kernel = job->in->spec->kernel;
    double pieces = PIECE_REGISTERS * ((double)predict_param(job, "pd", 1) - 1);
    return !strcmp(kernel, "attn_decode")    ? (double)decode_registers(job)
           : !strcmp(kernel, "attn_scores")  ? scores_registers(job) + pieces
           : !strcmp(kernel, "attn_prefill") ? prefill_registers(job) + pieces
                                             : 40;
}

void predict_registers(struct predict_job *job)
{
    long threads = predict_param(job, "threads", 128), blocks = predict_param(job, "min_blocks", 1);
    long most = job->in->gpu->regs_per_sm / (threads * (blocks > 0 ? blocks : 1)) / REGISTER_UNIT * REGISTER_UNIT;
    if (most > REGISTERS_MAX)
        most = REGISTERS_MAX;
    double wanted = wanted_registers(job), short_of = wanted - SQUEEZED - (double)most;
    job->regs = (int)fmin(wanted, (double)most);
    job->spills = short_of > 0 ? (int)(4 * short_of) : 0;
}

struct machine_load predict_load_by_count(const struct machine *m, const struct predict_counts *c, int warps)
{
    double share = warps / 4.0; /* warps of a partition */
    return (struct machine_load){
        .tensor = share * m->tensor * c->tensor,
        .alu = share * fmax(m->alu * c->alu, m->fma * c->fma),
        .sfu = share * m->sfu * c->sfu,
        .issue = share * (m->tensor * c->tensor + c->shared / 4 + c->sfu + c->fma + c->alu + c->copies),
        .shared = warps * (c->shared + 4 * c->copies),
        .copy = warps * c->copies * 512 / m->copy_bytes,
    };
}

double predict_turn_by_count(const struct machine *m, const struct predict_counts *c, int blocks, int warps)
{
    struct machine_load load = predict_load_by_count(m, c, blocks * warps);
    double floor = fmax(fmax(fmax(load.tensor, load.alu), fmax(load.sfu, load.issue)), fmax(load.shared, load.copy));
    /* What a warp alone needs: its units one after the other, and the waits that nothing hides. */
    double alone = m->tensor * c->tensor + 0.2 * (c->fma + c->alu) + c->sfu + c->waits;
    return pow(pow(floor, OVERLAP) + pow(alone, OVERLAP), 1 / OVERLAP);
}
