/* Kernels with a loop over tiles: attn_prefill, attn_scores. How long a turn takes comes from the machine code, where there
 * is some, else from counts; how many turns a block has, and how many blocks, from the launch. */
#include "predict_private.h"

#include <math.h>
#include <string.h>

#include "bench_update.h"

enum {
    RUNS = 9,          /* of a full cache in four steps: the sinks, and each sub-cache on both sides of its seam */
    L2_CYCLES = 600,   /* a load's way through L2, under load */
    DRAM_CYCLES = 900, /* and from DRAM */
    PIECE_CYCLES =
        33, /* until a piece comes out of shared memory, as far as nothing hides them; fitted as in predict_spec.c */
    SYNC_CYCLES = 170,   /* likewise of a turn's barrier, and of filling the pipes behind it */
    START_CYCLES = 2000, /* a block's own: arguments, runs, results */
    FIRST_CYCLES =
        10000 /* of attn_prefill, beside them: first tiles, whatever waits for DRAM or instructions. Fitted (H200) */
};

/* Cycles of a turn for 1..resident blocks. The machine code is believed where its loop has as many products as the template's. */
static void fill_turns(struct predict_job *job, const struct predict_counts *counts, bool outermost, int trips,
                       double turn[RESIDENT_MAX + 1], struct machine_load *load)
{
    const struct cubin *cubin = job->in->cubin;
    int warps = (int)job->in->spec->threads / 32, resident = job->occupancy.blocks;
    struct sass code = {0}, loop = {0};
    struct err unreadable;
    if (cubin && cubin->image && sass_decode(cubin->image, cubin->bytes, job->in->gpu->sm, &code, &unreadable) == 0 &&
        sass_loop(&code, outermost, trips, &loop, &unreadable) == 0 &&
        sass_count(&loop, SASS_TENSOR) == (int)counts->tensor) {
        job->simulated = true;
        for (int b = 1; b <= resident; b++)
            turn[b] = machine_turn(&job->machine, &loop, b, warps);
        *load = machine_load_of(&job->machine, &loop, resident * warps);
    } else {
        for (int b = 1; b <= resident; b++)
            turn[b] = predict_turn_by_count(&job->machine, counts, b, warps);
        *load = predict_load_by_count(&job->machine, counts, resident * warps);
    }
    sass_free(&code);
    sass_free(&loop);
}

/* Prediction from the makespan: `turns` of all blocks together, each loading its multiprocessor as `load` says for a full one. */
static void settle(struct predict_job *job, const struct predict_grid *grid, double turns,
                   const struct machine_load *load)
{
    struct prediction *p = job->out;
    double full = turns / grid->resident / job->in->gpu->sms; /* turns of full multiprocessors */
    p->ms = predict_ms(job, predict_makespan(grid, job->in->gpu->sms));
    p->waves = (double)grid->blocks / ((double)job->in->gpu->sms * grid->resident);
    p->tensor_ms = predict_ms(job, full * load->tensor);
    p->smem_ms = predict_ms(job, full * load->shared);
    p->l2_ms = predict_ms(job, full * load->copy);
}

/* Where tiles come from: the blocks of the first wave walk the same rows at the same time, and the first to ask waits for DRAM; to later
 * waves they come from L2. For copies and what waits for them. */
static void find_latency(struct predict_job *job, double blocks)
{
    double waves = blocks / ((double)job->in->gpu->sms * job->occupancy.blocks);
    job->machine.copy_latency += (int)((DRAM_CYCLES - job->machine.copy_latency) * fmin(1, 1 / waves));
}

/* ---- attn_prefill ------------------------------------------------------------------------------------------------------- */

struct prefill_work {
    int heads, tokens, bm, bn, tiles; /* tiles of queries */
    int runs;                         /* of held keys */
    double held_turns;                /* for them, runs' last tiles included */
};

/* How much of a multiprocessor blocks share alike that do nothing but turn; and what part of their time pauses must be for them to share
 * all of it alike. Fitted (H200). */
static const double AGED = 0.7, PAUSES = 0.1;

static const double MASKED = 0.15; /* what a masked tile costs more, in turns */

/* Held keys lie in runs that begin a tile each, as in the cache that the tuner times; where there is no cache of that size, in as many as most have. */
static void find_runs(struct prefill_work *w, double held)
{
    struct cascade_params p = cascade_defaults();
    struct cascade_run run[CASCADE_MAX_RUNS];
    struct cascade_state state;
    struct err no_cache;
    if (held <= 0)
        return;
    p.window = (int)held - p.sinks;
    p.stride = w->tokens;
    if (cascade_check(&p, &no_cache) != 0) {
        w->runs = RUNS;
        w->held_turns = ceil(held / w->bn) + RUNS * (0.5 + MASKED);
        return;
    }
    cascade_state_at(&p, update_bench_at(&p), &state);
    w->runs = cascade_runs(&p, &state, run);
    for (int i = 0; i < w->runs; i++)
        w->held_turns += (run[i].len + w->bn - 1) / w->bn + (run[i].len % w->bn ? MASKED : 0);
}

/* Turns of a block: heads are the fastest index, the tiles that see most keys come first. */
static double prefill_turns(const void *user, int block)
{
    const struct prefill_work *w = user;
    int tile = w->tiles - 1 - block / w->heads, first = tile * w->bm;
    int end = first + w->bm < w->tokens ? first + w->bm : w->tokens;
    double own = ceil((double)end / w->bn), whole = floor(fmin(first + 1.0, end) / w->bn);
    return w->held_turns + own + MASKED * (own - whole);
}

/* A spilled register goes to memory and back once a turn, and is waited for. Fitted (H200). */
static void add_spills(struct predict_counts *c, int bytes)
{
    c->shared += bytes / 4 * 2;
    c->waits += 6 * bytes;
}

static struct predict_counts prefill_counts(const struct predict_job *job)
{
    double d = (double)predict_param(job, "d", 0), bn = (double)predict_param(job, "bn", 0),
           mt = (double)predict_param(job, "mt", 1), st = (double)predict_param(job, "st", 1),
           pd = (double)predict_param(job, "pd", 1), threads = job->in->spec->threads;
    bool in_registers = predict_param(job, "qr", 0);
    double scores = mt * bn / 2; /* of a lane */
    struct predict_counts c = {
        .tensor = mt * bn * d / 64,
        .shared = 4 * (d / 16 * bn / 16 * 2 + (in_registers ? 0 : mt * d / 16)),
        .sfu = scores,
        .fma = 2.2 * scores + 10,
        .alu = 1.6 * scores + 50 + 3 * bn * d / 4 / threads,
        .copies = bn * d / 4 / threads,
    };
    /* Pieces that are asked for too late, and barriers: two with one buffer, each with a part of what a copy lasts longer than half a
     * turn's work; other blocks hide the rest. */
    double late = 0.22 * fmax(0, job->machine.copy_latency - job->machine.tensor * c.tensor / 2);
    c.waits = PIECE_CYCLES / pd * (d / 16 + bn / 16) + (st == 1 ? 2 * (SYNC_CYCLES + late) : SYNC_CYCLES);
    add_spills(&c, job->spills);
    return c;
}

int predict_prefill(struct predict_job *job, struct err *err)
{
    double tokens, held, heads, kv_heads;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "held", &held, err) ||
        predict_size(job, "heads", &heads, err) || predict_size(job, "kv_heads", &kv_heads, err))
        return -1;
    struct predict_grid grid = {.work = prefill_turns, .resident = job->occupancy.blocks, .vary = 0.07};
    struct machine_load load;
    int d = (int)predict_param(job, "d", 0);
    struct prefill_work w = {.heads = (int)heads,
                             .tokens = (int)tokens,
                             .bm = (int)predict_param(job, "bm", 0),
                             .bn = (int)predict_param(job, "bn", 0)};
    w.tiles = (w.tokens + w.bm - 1) / w.bm;
    grid.user = &w;
    grid.blocks = w.heads * w.tiles;
    find_latency(job, grid.blocks);
    struct predict_counts counts = prefill_counts(job);
    fill_turns(job, &counts, false, 1, grid.turn, &load);
    /* Queries are staged anew for each run, and turned where there are runs, four pieces at a time, else one by one. */
    double pieces = (double)predict_param(job, "mt", 1) * d / 16;
    find_runs(&w, held);
    double staging = held > 0 ? (w.runs + 1) * ceil(pieces / 4) * 2 * L2_CYCLES : pieces * L2_CYCLES;
    grid.start = START_CYCLES + FIRST_CYCLES + staging;
    double turns = 0;
    for (int i = 0; i < w.tiles; i++)
        turns += heads * prefill_turns(&w, i * w.heads);
    /* A block that runs ahead comes to its next run first, and stages queries while the others catch up. */
    double waiting = grid.start / (grid.start + turns / grid.blocks * grid.turn[grid.resident]);
    grid.alike = AGED + (1 - AGED) * fmin(1, waiting / PAUSES);
    settle(job, &grid, turns, &load);
    return 0;
}

/* ---- attn_scores -------------------------------------------------------------------------------------------------------- */

struct scores_work {
    int heads, tokens, held, bk, bq;
};

static double scores_turns(const void *user, int block)
{
    const struct scores_work *w = user;
    int key0 = block / w->heads * w->bk, first = key0 > w->held ? (key0 - w->held) / w->bq * w->bq : 0;
    return ceil((double)(w->tokens - first) / w->bq);
}

static struct predict_counts scores_counts(const struct predict_job *job)
{
    double d = (double)predict_param(job, "d", 0), bq = (double)predict_param(job, "bq", 0),
           mk = (double)predict_param(job, "mk", 1), pd = (double)predict_param(job, "pd", 1),
           threads = job->in->spec->threads;
    double scores = mk * bq / 2;
    struct predict_counts c = {
        .tensor = mk * bq * d / 128,
        .shared = 4 * d / 16 * bq / 16 + bq / 4,
        .sfu = scores,
        .fma = 2 * scores + 10,
        .alu = 0.3 * scores + bq / 4 + 40 + 1.5 * bq * d / 8 / threads,
        .copies = bq * d / 8 / threads,
    };
    c.waits = PIECE_CYCLES / pd * bq / 16 * 2 + SYNC_CYCLES;
    add_spills(&c, job->spills);
    return c;
}

/* The keys' way into registers, 16 rows of a warp at a time, each with its angle's cosines and sines (fp32), and the first tiles of
 * queries: one load after the other, and the bytes of `blocks` blocks that do so at the same time. */
static double scores_start(const struct predict_job *job, double blocks)
{
    double d = (double)predict_param(job, "d", 0), mk = (double)predict_param(job, "mk", 1),
           wp = (double)predict_param(job, "wp", 1), bq = (double)predict_param(job, "bq", 0),
           st = (double)predict_param(job, "st", 2);
    double bytes = mk * wp * 16 * d * 6 + (st - 1) * bq * d * 2;
    return START_CYCLES + (1 + mk * ceil(d / 64)) * L2_CYCLES + blocks * bytes / job->machine.copy_bytes;
}

int predict_scores(struct predict_job *job, struct err *err)
{
    double tokens, held, heads;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "held", &held, err) ||
        predict_size(job, "heads", &heads, err))
        return -1;
    struct predict_grid grid = {.work = scores_turns, .resident = job->occupancy.blocks, .alike = AGED};
    struct machine_load load;
    struct scores_work w = {.heads = (int)heads,
                            .tokens = (int)tokens,
                            .held = (int)held,
                            .bk = (int)predict_param(job, "bk", 0),
                            .bq = (int)predict_param(job, "bq", 0)};
    grid.user = &w;
    grid.blocks = (int)(heads * ceil((held + tokens) / w.bk));
    find_latency(job, grid.blocks);
    struct predict_counts counts = scores_counts(job);
    fill_turns(job, &counts, true, w.bq / 32, grid.turn, &load);
    grid.start = scores_start(job, fmin(grid.resident, ceil((double)grid.blocks / job->in->gpu->sms)));
    double turns = 0;
    for (int i = 0; i < grid.blocks; i += w.heads)
        turns += heads * scores_turns(&w, i);
    settle(job, &grid, turns, &load);
    return 0;
}
