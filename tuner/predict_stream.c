/* Kernels that move memory: their time is bytes over the bandwidth that their loads in flight can draw, and the latencies that follow
 * one another. */
#include "predict_private.h"

#include <math.h>

#include "runtime/attn_grid.h"

static const double DRAM_US = 0.75; /* of a load, with the bus busy */

/* As predict_traffic, of a launch that moves so many bytes. */
static void settle(struct predict_job *job, double bytes, double blocks, double bytes_in_flight, double waits)
{
    const struct gen_gpu *gpu = job->in->gpu;
    struct prediction *p = job->out;
    double room = (double)gpu->sms * job->occupancy.blocks;
    /* Little's law: what is under way over how long it takes. */
    double drawn = fmin(blocks, room) * job->in->spec->threads * bytes_in_flight / DRAM_US / 1e3; /* GB/s */
    double rate = fmin(drawn, BUS_OF_PEAK * gpu->dram_gbs);
    p->waves = blocks / room;
    p->dram_ms = bytes / (BUS_OF_PEAK * gpu->dram_gbs) / 1e6;
    p->ms = bytes / rate / 1e6 + waits * DRAM_US / 1e3;
}

void predict_traffic(struct predict_job *job, double blocks, double bytes_in_flight, double waits)
{
    settle(job, job->in->bytes, blocks, bytes_in_flight, waits);
}

/* Tokens' rows and heads: eight elements a thread, all at once. */
int predict_turn(struct predict_job *job, struct err *err)
{
    double tokens, heads, kv_heads;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "heads", &heads, err) ||
        predict_size(job, "kv_heads", &kv_heads, err))
        return -1;
    double pieces = tokens * (heads + kv_heads) * (double)predict_param(job, "d", 0) / 8;
    predict_traffic(job, ceil(pieces / job->in->spec->threads), 48, 1);
    return 0;
}

int predict_reduce(struct predict_job *job, struct err *err)
{
    double tokens, held, heads, cascades;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "held", &held, err) ||
        predict_size(job, "heads", &heads, err) || predict_size(job, "cascades", &cascades, err))
        return -1;
    predict_traffic(job, ceil((held + tokens) / job->in->spec->threads) * cascades, 4 * heads / fmax(cascades, 1), 2);
    return 0;
}

int predict_copy(struct predict_job *job, struct err *err)
{
    double n, u = (double)predict_param(job, "u", 1);
    if (predict_size(job, "n", &n, err))
        return -1;
    predict_traffic(job, ceil(n / (job->in->spec->threads * u)), 16 * u, 1);
    return 0;
}

/* Cycles of a quantised matvec (H200): of a chunk for the warp alone, and for its share of a scheduler; of the sums of a team's rows. */
enum { CHUNK_ALONE = 1250, CHUNK_ISSUE = 250, TEAM_SUMS = 500 };

/* Microseconds that quantised weights take to become sums on the multiprocessor with the most of them, work: of its launch. */
static double quants_us(const struct predict_job *job, double work, double resident)
{
    double chunks = ceil((double)predict_param(job, "n", 0) / (32.0 * (double)predict_param(job, "cb", 8)));
    double warps = (double)predict_param(job, "wp", 1), team = (double)predict_param(job, "sk", 1);
    double turns = ceil(work / resident), blocks = ceil(resident / job->in->gpu->sms);
    double alone = turns * (ceil(chunks / team) * CHUNK_ALONE + TEAM_SUMS);
    double issue = turns * blocks * warps / team * chunks * CHUNK_ISSUE / 4;
    return predict_param(job, "quant", 0) ? fmax(alone, issue) / job->in->gpu->clock_mhz : 0;
}

/* Warps with chunks of rows under way; the wait for the inputs, their preparation and the last sums are latencies. */
int predict_matvec(struct predict_job *job, struct err *err)
{
    double rows;
    if (predict_size(job, "rows", &rows, err))
        return -1;
    double work = ceil(rows / (double)predict_param(job, "a_block", 1));
    double room = (double)job->in->gpu->sms * fmax(job->occupancy.blocks, 1), resident = fmin(work, room);
    double uneven = ceil(work / resident) * resident / work; /* what the multiprocessor with the most has too much */
    double flight = (double)((predict_param(job, "st", 2) - 1) * predict_param(job, "stage_bytes", 512)) / 32;
    double bus_us = job->in->bytes * uneven / (BUS_OF_PEAK * job->in->gpu->dram_gbs) / 1e3;
    double behind = fmax(0, quants_us(job, work, resident) - bus_us); /* what the bus does not hide */
    settle(job, job->in->bytes * uneven, resident, flight, 3 + behind / DRAM_US);
    return 0;
}

/* A thread walks its tree of slots, some at a time; before it the winners are found, behind it the scores move. */
int predict_update(struct predict_job *job, struct err *err)
{
    double tokens, moved, kv_heads;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "moved", &moved, err) ||
        predict_size(job, "kv_heads", &kv_heads, err))
        return -1;
    double d = (double)predict_param(job, "d", 0), b = (double)predict_param(job, "b", 1),
           u = (double)predict_param(job, "u", 1), sl = (double)predict_param(job, "sl", 1),
           tpb = (double)predict_param(job, "tpb", 1), threads = job->in->spec->threads;
    double spans = fmax(1, tokens / b), trees = spans,
           nodes = (spans + moved / b) / trees; /* a tree has one slot that a token fills */
    double columns = d * b / 4 / sl, items = ceil(tpb * columns / threads);
    predict_traffic(job, ceil(trees / tpb) * sl * kv_heads, 16 * fmin(u, nodes) * 3,
                    4 + ceil(tpb * nodes / (threads / 32)) + 2 * items * ceil(nodes / u));
    return 0;
}

/* A thread's rows of all heads, some rows at once; runs and scores are asked for before. */
int predict_token_scores(struct predict_job *job, struct err *err)
{
    double keys, cascades, layers, u = (double)predict_param(job, "u", 1), r = (double)predict_param(job, "r", 1);
    if (predict_size(job, "keys", &keys, err) || predict_size(job, "cascades", &cascades, err) ||
        predict_size(job, "layers", &layers, err))
        return -1;
    double slices = attn_decode_slices(job->in->spec, job->in->gpu->sms, (int)(cascades * layers), (int)keys);
    double rows = ceil(keys / slices), rounds = ceil(rows / (u * job->in->spec->threads));
    predict_traffic(job, slices * cascades * layers, 4 * u * fmin(r, 16), 1 + rounds * ceil(r / 16));
    return 0;
}
