#include "machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sources of the constants. Results a cycle and multiprocessor: CUDA C++ Programming Guide 13.0, "Arithmetic Instructions". Shared
 * memory: 128 bytes a cycle (same, "Shared Memory"). Latencies: Jia et al., "Dissecting the NVIDIA Volta GPU Architecture via
 * Microbenchmarking" (2018), and Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture" (2024), rounded. */
enum {
    PARTITIONS = 4,
    WARPS_MAX = 64,    /* of a multiprocessor */
    BARRIERS = 6,      /* of a warp's scoreboard */
    GROUPS = 8,        /* copies of a warp that may be under way */
    QUEUE = 24,        /* cycles of work that may wait for shared memory before issue stops */
    SYNC_LATENCY = 20, /* of __syncthreads, once the last warp is there */
    READ_LATENCY = 10, /* until an instruction of the memory pipe has read its operands */
    PIECE = 128,       /* bytes of shared memory a cycle */
    FILL = 2,          /* turns of each warp, on average, that fill the pipes and do not count */
    TURNS = 20,        /* turns, likewise, that do: of 6 the time hangs on how the warps happened to begin, by 5 % */
    GIVE_UP = 1 << 21, /* cycles: a loop that waits for what never comes */
};

/* The same of a spilled register, against one of shared memory; its latency too. Fitted (H200). */
enum { LOCAL_COST = 4 };

/* ---- rates ------------------------------------------------------------------------------------------------------------ */

int machine_of(const struct gen_gpu *gpu, struct machine *out, struct err *err)
{
    if (gpu->sms <= 0 || gpu->clock_mhz <= 0 || gpu->tensor_tflops <= 0 || gpu->dram_gbs <= 0)
        return err_set(err, "%s: a prediction needs sms, clock_mhz, tensor_tflops and dram_gbs of the GPU", gpu->name);
    /* Products and sums a cycle and multiprocessor; makers give the rate at a clock near the boost clock, so: the power of 2. */
    double products = gpu->tensor_tflops * 1e12 / (2.0 * gpu->sms * gpu->clock_mhz * 1e6);
    products = exp2(round(log2(products)));
    bool sm80 = gpu->sm == 80 || gpu->sm == 87;
    *out = (struct machine){
        .tensor = (int)(16 * 8 * 16 * PARTITIONS / products),
        .fma = sm80 ? 2 : 1, /* 64 fp32 lanes a multiprocessor, 128 since sm_86 */
        .alu = 2,
        .sfu = 8,
        .shared_latency = 30,
        .sfu_latency = 24,
        .copy_latency = 500, /* while all multiprocessors copy */
        .copy_bytes = 40,    /* of the 47 that the A100's whitepaper gives: 5120 a cycle for 108 multiprocessors */
        .clock_ghz = gpu->clock_mhz / 1e3,
    };
    /* Makers give the rate of wgmma; that mma.sync takes 7 cycles where wgmma takes 4 agrees best with the measured loops. */
    if (gpu->sm == 90)
        out->tensor = out->tensor * 7 / 4;
    return 0;
}

/* ---- execution -------------------------------------------------------------------------------------------------------- */

struct warp {
    int block, at, turn;
    int ready;             /* cycle from which the next instruction may issue, as far as the warp itself goes */
    int barrier[BARRIERS]; /* cycle at which it is released */
    int group[GROUPS];     /* cycle at which a group of copies has come, by its number modulo GROUPS */
    int copied;            /* likewise of the group that is still open */
    int groups;            /* closed ones */
    bool waits;            /* at __syncthreads */
};

struct run {
    const struct machine *m;
    const struct sass *loop;
    struct warp warp[WARPS_MAX];
    int warps, per_block;
    int arrived[WARPS_MAX];           /* [blocks] at __syncthreads */
    int issue[PARTITIONS];            /* cycle from which the next instruction may issue */
    int pipe[PARTITIONS][SASS_UNITS]; /* cycle from which it is free */
    double shared, copy;              /* likewise of those that the partitions share */
    int turns;                        /* that have come to an end, of all warps */
    int filled, done;                 /* cycle at which the last of those ended that fill the pipes, and that count */
};

/* The cycle from which the warp could issue, without regard to others' issue slots. */
static int earliest(const struct run *r, const struct warp *w, int partition)
{
    const struct sass_op *op = &r->loop->op[w->at];
    int t = w->ready;
    for (int b = 0; b < BARRIERS; b++)
        if (op->wait >> b & 1 && w->barrier[b] > t)
            t = w->barrier[b];
    if (r->pipe[partition][op->unit] > t)
        t = r->pipe[partition][op->unit];
    if (op->unit >= SASS_SHARED && op->unit <= SASS_LOCAL && r->shared - QUEUE > t)
        t = (int)ceil(r->shared - QUEUE);
    if (op->unit == SASS_WAIT) {
        int group = w->groups - op->count - 1; /* the last that must have come */
        if (group >= 0 && group >= w->groups - GROUPS && w->group[group % GROUPS] > t)
            t = w->group[group % GROUPS];
    }
    return t;
}

/* Takes the shared pipe for so many cycles; returns when it is through. */
static double take(double *pipe, int now, double cycles)
{
    *pipe = fmax(*pipe, now) + cycles;
    return *pipe;
}

static void meet(struct run *r, struct warp *w, int now)
{
    w->waits = true;
    if (++r->arrived[w->block] < r->per_block)
        return;
    r->arrived[w->block] = 0;
    for (int i = 0; i < r->warps; i++)
        if (r->warp[i].block == w->block && r->warp[i].waits) {
            r->warp[i].waits = false;
            r->warp[i].ready = now + SYNC_LATENCY;
        }
}

static void issue(struct run *r, struct warp *w, int partition, int now)
{
    const struct machine *m = r->m;
    const struct sass_op *op = &r->loop->op[w->at];
    double result = now, read = now + READ_LATENCY;
    int busy = 1;
    w->ready = now + (op->stall > 1 ? op->stall : 1);
    switch ((enum sass_unit)op->unit) {
    case SASS_TENSOR:
        busy = m->tensor;
        result = now + 4 * m->tensor;
        break;
    case SASS_FMA:
        busy = m->fma;
        break;
    case SASS_ALU:
        busy = m->alu;
        result = now + 12; /* those that set a barrier are the slow ones */
        break;
    case SASS_SFU:
        busy = m->sfu;
        result = now + m->sfu_latency;
        break;
    case SASS_SHARED:
        read = take(&r->shared, now, op->count);
        result = read + m->shared_latency;
        break;
    case SASS_LOCAL: /* through L1, tags and all */
        read = take(&r->shared, now, LOCAL_COST * op->count);
        result = read + LOCAL_COST * m->shared_latency;
        break;
    case SASS_COPY: /* the addresses go through the pipe now, the bytes when they come */
        read = take(&r->shared, now, op->count);
        result = take(&r->copy, now, op->count * PIECE / m->copy_bytes) + m->copy_latency;
        w->copied = result > w->copied ? (int)result : w->copied;
        break;
    case SASS_GLOBAL:
        read = take(&r->shared, now, op->count);
        result = take(&r->copy, now, op->count * PIECE / m->copy_bytes) + m->copy_latency;
        break;
    case SASS_COMMIT:
        w->group[w->groups++ % GROUPS] = w->copied;
        w->copied = 0;
        break;
    case SASS_SYNC:
        meet(r, w, now);
        break;
    default:
        break;
    }
    r->pipe[partition][op->unit] = now + busy;
    if (op->sets >= 0)
        w->barrier[op->sets] = (int)ceil(result);
    if (op->reads >= 0)
        w->barrier[op->reads] = (int)ceil(read);
    if (++w->at < r->loop->n)
        return;
    w->at = 0;
    w->turn++;
    r->turns++;
    if (r->turns == FILL * r->warps)
        r->filled = now;
    if (r->turns == (FILL + TURNS) * r->warps)
        r->done = now;
}

/* One issue slot of a partition: the oldest warp that can go on. Returns when the next one could be used. */
static int slot(struct run *r, int partition, int now)
{
    int next = GIVE_UP, chosen = -1;
    if (r->issue[partition] > now)
        return r->issue[partition];
    for (int i = partition; i < r->warps; i += PARTITIONS) {
        struct warp *w = &r->warp[i];
        if (w->waits)
            continue;
        int t = earliest(r, w, partition);
        if (t > now) {
            next = t < next ? t : next;
            continue;
        }
        chosen = i;
        break;
    }
    if (chosen < 0)
        return next;
    /* Nothing else issues while a product does. Found on an H200: the times of 770 loops of attn_scores and attn_prefill are 8.2 to 8.7
     * cycles for each product and 1.0 for any other instruction, added up (within 5 %, where barriers do not matter); the stalls that are
     * not hidden make a part of that. */
    bool product = r->loop->op[r->warp[chosen].at].unit == SASS_TENSOR;
    issue(r, &r->warp[chosen], partition, now);
    r->issue[partition] = now + (product ? r->m->tensor : 1);
    return r->issue[partition];
}

double machine_turn(const struct machine *m, const struct sass *loop, int blocks, int warps)
{
    struct run *r = calloc(1, sizeof *r);
    if (blocks * warps > WARPS_MAX)
        blocks = WARPS_MAX / warps;
    if (!r || blocks < 1 || loop->n < 1) {
        free(r);
        return INFINITY;
    }
    *r = (struct run){.m = m, .loop = loop, .warps = blocks * warps, .per_block = warps};
    for (int i = 0; i < r->warps; i++) {
        r->warp[i].block = i / warps;
        r->warp[i].ready = i / warps * 200; /* blocks do not run in step */
    }
    for (int now = 0; !r->done && now < GIVE_UP;) {
        int next = GIVE_UP;
        for (int p = 0; p < PARTITIONS; p++) {
            int t = slot(r, p, now);
            next = t < next ? t : next;
        }
        now = next > now ? next : now + 1;
    }
    /* Warps that run ahead leave the multiprocessor to others later: what counts is how many turns all of them come to, not how long one
     * takes. */
    double turn = r->done ? (double)(r->done - r->filled) / TURNS : INFINITY;
    free(r);
    return turn;
}

struct machine_load machine_load_of(const struct machine *m, const struct sass *loop, int warps)
{
    struct machine_load load = {0};
    double shared = 0, copied = 0;
    for (int i = 0; i < loop->n; i++) {
        const struct sass_op *op = &loop->op[i];
        shared += op->unit >= SASS_SHARED && op->unit <= SASS_LOCAL ? op->count : 0;
        copied += op->unit == SASS_COPY || op->unit == SASS_GLOBAL ? op->count * PIECE : 0;
    }
    double share = (double)warps / PARTITIONS;
    load.issue = share * (loop->n + (m->tensor - 1) * sass_count(loop, SASS_TENSOR));
    load.tensor = share * m->tensor * sass_count(loop, SASS_TENSOR);
    load.sfu = share * m->sfu * sass_count(loop, SASS_SFU);
    load.alu = share * fmax(m->alu * sass_count(loop, SASS_ALU), m->fma * sass_count(loop, SASS_FMA));
    load.shared = warps * shared;
    load.copy = warps * copied / m->copy_bytes;
    return load;
}
