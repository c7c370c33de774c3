/* One token's attention (attn_decode) as problem_token.c times it: a layer in a chain of layers, launches overlapping. A layer takes
 * what a launch takes whatever its tile is, then the keys, bound by the bus and by the turns of the warps that have most of them,
 * and the outputs of the key head that ends last.
 *
 * Where launches overlap, a multiprocessor holds blocks of layers to come beside this one's. Every block that ends makes room for one of
 * whichever layer is next, so after some layers a multiprocessor holds nothing but blocks of one layer, and the layer waits for it. And
 * where the layer to come fills all multiprocessors, a few of its blocks wait for those that make this one's outputs.
 *
 * The constants are fitted on nine whole spaces each of an H100 and an H200: d=128 g=3 and g=4, d=64 g=4 at 2121 and 16457 keys, d=128 g=1
 * and g=8, d=64 g=3 at 2121. Without overlap (before sm_90) nothing has been measured. */
#include "predict_private.h"

#include <math.h>

#include "runtime/attn_grid.h"

enum {
    WARP = 32,
    PARTITIONS = 4, /* of a multiprocessor */
    TILE = 2048     /* numbers of 16 keys at d=128 */
};

/* A full cache in four steps, the seam of each ring in its middle. */
enum { SINKS = 64, RUNS = 9, SPAN = 16 };

static const double STEP_US = 2.0; /* of a layer beside its keys and outputs */

/* Cycles of a warp's turn: alone, for each TILE; where queries lie in shared memory, or keys and values come apart; and for each TILE
 * of every warp that shares the partition, itself too. */
static const double TURN = 66, TURN_TILE = 355, TURN_SHARED = 320, TURN_APART = 89, TURN_BUSY = 505;

/* Microseconds until a tile is there that a turn asks for, alone and for each TILE; and for the first such wait of a launch. */
static const double TILE_US = 0.55, TILE_EACH_US = 0.27, WAIT_US = 0.73;

/* Microseconds of a row of the table that a warp needs for another run, and of blocks that begin when outputs are done. */
static const double ROTATE_US = 0.42, LATE_US = 0.83;

/* Cycles of the outputs: of a pair of them that a thread makes, alone and for each split; and of parts that come at a time. */
static const double PAIR = 580, PAIR_SPLIT = 27, PARTS = 1780;

static const double LOGIT = 0.535; /* cycles of a multiprocessor for each it writes, and reads for the scores */

/* What the splits have to do. */
struct splits {
    int busy;  /* how many have keys */
    int tiles; /* of the one that has most */
    int runs;  /* that the one of most runs has a part of */
};

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Shares as the kernel makes them; a run that ends within one ends a tile. */
static struct splits share_out(int held, int splits, int bn)
{
    struct splits s = {0, 1, 1};
    int half = held > SINKS ? (held - SINKS) / (RUNS - 1) / SPAN * SPAN : 0; /* of a sub-cache */
    int share = ((held + splits - 1) / splits + bn - 1) / bn * bn;
    for (int begin = 0; begin < held; begin += share, s.busy++) {
        int end = least(begin + share, held), tiles = 0, runs = 0;
        for (int i = 0, from = begin; i < RUNS && from < end; i++) {
            int to = i < RUNS - 1 ? least(SINKS + i * half, end) : end;
            if (to <= from)
                continue;
            tiles += (to - from + bn - 1) / bn;
            runs++;
            from = to;
        }
        s.tiles = tiles > s.tiles ? tiles : s.tiles;
        s.runs = runs > s.runs ? runs : s.runs;
    }
    return s;
}

int predict_decode(struct predict_job *job, struct err *err)
{
    double keys, kv_heads;
    if (predict_size(job, "keys", &keys, err) || predict_size(job, "kv_heads", &kv_heads, err))
        return -1;
    const struct gen_gpu *gpu = job->in->gpu;
    struct prediction *p = job->out;
    double d = (double)predict_param(job, "d", 0), g = (double)predict_param(job, "g", 1),
           bn = (double)predict_param(job, "bn", 16), st = (double)predict_param(job, "st", 2),
           threads = job->in->spec->threads, wp = threads / WARP;
    int resident = job->occupancy.blocks, share = attn_decode_share(job->in->spec, resident);
    int splits = attn_decode_splits(gpu->sms, share, (int)kv_heads, (int)keys);
    struct splits most = share_out((int)keys - 1, splits, (int)bn);
    bool overlaps = gpu->sm >= 90;
    double blocks = splits * kv_heads, slots = (double)gpu->sms * resident;
    double pile = overlaps ? resident : fmin(resident, ceil(blocks / gpu->sms)); /* of this layer on a multiprocessor */
    bool late = overlaps && blocks - (splits - most.busy) + kv_heads > slots;

    double size = bn * d / TILE, turns = ceil(most.tiles / wp), ahead = overlaps ? st - 1 : 0;
    double alone = TURN + TURN_TILE * size + (predict_param(job, "qr", 1) ? 0 : TURN_SHARED * d / 128) +
                   TURN_APART * size * (double)(predict_param(job, "cg", 1) - 1);
    double busy = TURN_BUSY * size * pile * fmin(wp, most.tiles) / PARTITIONS;
    double turn = (alone + busy) / gpu->clock_mhz, wait = (TILE_US + TILE_EACH_US * size) / (st - 1);
    double loop = turns * turn + fmax(0, turns - ahead) * fmax(0, wait - turn) +
                  ROTATE_US * fmin(turns - 1, most.runs - 1) + (late ? LATE_US : 0);
    double bus = 4 * keys * kv_heads * d / gpu->dram_gbs / 1e3;
    job->of_peak = 1; /* reading alone reaches the maker's rate */

    double pairs = ceil(g * d / 2 / threads), room = (double)predict_param(job, "room", splits);
    double outputs = pairs * (PAIR + PAIR_SPLIT * splits) + 4 * splits * g * d / job->machine.copy_bytes +
                     PARTS * ceil(splits / fmax(1, room)) + LOGIT * keys * kv_heads * g / gpu->sms;

    p->ms =
        (STEP_US + WAIT_US * fmin(1, fmax(0, most.tiles / wp - ahead)) + hypot(bus, loop) + outputs / gpu->clock_mhz) /
        1e3;
    p->dram_ms = bus / 1e3;
    p->waves = blocks / slots;
    return 0;
}
