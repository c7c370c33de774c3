/* One token's attention (attn_decode) as problem_token.c times it: a layer in a chain of layers, launches overlapping. Such a chain is bound
 * by the bus, by what a warp needs for its turns, one after the other, and by what a layer takes whatever its tile is. Overlapping, a
 * launch has asked for the first tiles of every warp before it may begin; what does not fit there is waited for.
 *
 * The constants are fitted on seven whole spaces of an H100 (d=128 g=4 and g=3 at 16457 keys, g=4 and g=1 at 2121, d=64 g=4 at both, g=3 at
 * 2121), measured when another launch made the outputs, with terms for that launch that are gone with it. The loop is the same; STEP_US
 * and SPLIT_US, of what stands in its place, have not been fitted. */
#include "predict_private.h"

#include <math.h>

#include "runtime/attn_grid.h"

enum {
    WARP = 32,
    RUNS = 9,   /* of a full cache in four steps */
    TILE = 2048 /* numbers of 16 keys at d=128 */
};

static const double STEP_US = 4.2;    /* of a layer beside its tiles: the launch, first touches, outputs */
static const double SPLIT_US = 0.039; /* of a split, d=128, in the outputs */
static const double SHARP = 1.2;      /* how turns and bus hide each other: 1 not at all */

/* Cycles of a warp's turn: alone, for each TILE; and where queries lie in shared memory, or keys and values come apart. */
static const double TURN = 300, TURN_TILE = 229, TURN_SHARED = 152, TURN_APART = 46;

/* Microseconds until a tile is there that a turn asks for, alone and for each TILE; and for the first such wait of a launch. */
static const double TILE_US = 0.265, TILE_EACH_US = 0.2, WAIT_US = 1.02;

int predict_decode(struct predict_job *job, struct err *err)
{
    double keys, kv_heads;
    if (predict_size(job, "keys", &keys, err) || predict_size(job, "kv_heads", &kv_heads, err))
        return -1;
    const struct gen_gpu *gpu = job->in->gpu;
    struct prediction *p = job->out;
    double d = (double)predict_param(job, "d", 0), bn = (double)predict_param(job, "bn", 16),
           st = (double)predict_param(job, "st", 2), wp = job->in->spec->threads / WARP;
    int resident = job->occupancy.blocks, share = attn_decode_share(job->in->spec, resident);
    double splits = attn_decode_splits(gpu->sms, share, (int)kv_heads, (int)keys);

    /* A warp's turns; a run that ends within a split makes a tile more, on the average half of one. */
    double tiles = ceil((keys - 1) / splits / bn), half = (RUNS - 1) / splits / 2, size = bn * d / TILE;
    double ahead = gpu->sm >= 90 ? st - 1 : 0, later = fmax(0, (tiles + half) / wp - ahead);
    double cycles = TURN + TURN_TILE * size + (predict_param(job, "qr", 1) ? 0 : TURN_SHARED * d / 128) +
                    TURN_APART * size * (double)(predict_param(job, "cg", 1) - 1);
    double turn = cycles / gpu->clock_mhz, wait = (TILE_US + TILE_EACH_US * size) / (st - 1);
    double turns = (ceil(tiles / wp) + fmin(1, half / wp)) * turn + later * fmax(0, wait - turn);
    double bus = 4 * keys * kv_heads * d / gpu->dram_gbs / 1e3; /* reading alone reaches the maker's rate */
    p->ms = (STEP_US + pow(pow(bus, SHARP) + pow(turns, SHARP), 1 / SHARP) + SPLIT_US * splits * d / 128 +
             WAIT_US * fmin(1, later)) /
            1e3;
    p->dram_ms = bus / 1e3;
    p->waves = splits * kv_heads / ((double)gpu->sms * resident);
    return 0;
}
