/* What can be said of a kernel before it is compiled: registers, spills, and how long a turn of its loop takes. The instructions are
 * counted by the templates' text; what they cost comes from the same rates as those of the machine code. */
#include "predict_private.h"

#include <math.h>
#include <string.h>

/* How floor and latency of a turn go together: 1 they add up, more: the greater one hides the other. This and what a warp alone needs are
 * fitted to what the model of the multiprocessor (machine.c) makes of the machine code, not to measurements. */
static const double OVERLAP = 1.7;

/* Registers beside O, S and Q or K: addresses, the pieces that are under way, and what the compiler wants for the schedule. */
enum { REGISTERS_BESIDE = 56, BESIDE_KEYS = 84, REGISTERS_MAX = 255, REGISTER_UNIT = 8 };

/* attn_decode: what ptxas 13.0 takes for sm_90, most within 20. */
static long decode_registers(const struct predict_job *job)
{
    long d = predict_param(job, "d", 64);
    long regs = 66 + 42 * d / 64 + 2 * (predict_param(job, "bn", 16) - 16) + 4 * (predict_param(job, "cg", 1) - 1);
    return d <= 64 && predict_param(job, "wp", 4) >= 6 ? regs * 4 / 5 : regs; /* blocks of many warps are given fewer */
}

void predict_registers(struct predict_job *job)
{
    bool decode = !strcmp(job->in->spec->kernel, "attn_decode");
    long state = predict_param(job, "state", 0), pieces = 4 * predict_param(job, "pd", 1);
    long threads = predict_param(job, "threads", 128), blocks = predict_param(job, "min_blocks", 1);
    long most = job->in->gpu->regs_per_sm / (threads * (blocks > 0 ? blocks : 1)) / REGISTER_UNIT * REGISTER_UNIT;
    if (most > REGISTERS_MAX)
        most = REGISTERS_MAX;
    long beside = predict_param(job, "mk", 0) ? BESIDE_KEYS : REGISTERS_BESIDE;
    long wanted = decode ? decode_registers(job) : state ? state + pieces + beside : 40;
    job->regs = (int)(wanted < most ? wanted : most);
    job->spills = wanted > most ? (int)(4 * (wanted - most)) : 0;
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
    double alone = m->tensor * c->tensor + 0.5 * (c->fma + c->alu) + c->sfu + c->waits;
    return pow(pow(floor, OVERLAP) + pow(alone, OVERLAP), 1 / OVERLAP);
}
