/* Kernels that move memory: their time is bytes over the bandwidth that their loads in flight can draw, and the latencies that follow
 * one another. */
#include "predict_private.h"

#include <math.h>
#include <string.h>

#include "runtime/attn_grid.h"

static const double DRAM_US = 0.75; /* of a load, with the bus busy */

/* What a thread of such a kernel does. */
struct stream {
    double blocks;
    double bytes_in_flight; /* of a thread, while it waits */
    double bytes;           /* of the launch */
    double rounds;          /* waits for memory that follow one another in the longest thread */
};

static void settle(struct predict_job *job, const struct stream *s)
{
    const struct gen_gpu *gpu = job->in->gpu;
    struct prediction *p = job->out;
    double room = (double)gpu->sms * job->occupancy.blocks;
    double resident = fmin(s->blocks, room);
    /* Little's law: what is under way over how long it takes. */
    double drawn = resident * job->in->spec->threads * s->bytes_in_flight / DRAM_US / 1e3; /* GB/s */
    double rate = fmin(drawn, BUS_OF_PEAK * gpu->dram_gbs);
    p->waves = s->blocks / room;
    p->dram_ms = s->bytes / (BUS_OF_PEAK * gpu->dram_gbs) / 1e6;
    p->ms = s->bytes / rate / 1e6 + s->rounds * DRAM_US / 1e3;
}

/* Tokens' rows and heads: eight elements a thread, all at once. */
static int turn_stream(struct predict_job *job, struct stream *s, struct err *err)
{
    double tokens, heads, kv_heads;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "heads", &heads, err) ||
        predict_size(job, "kv_heads", &kv_heads, err))
        return -1;
    double pieces = tokens * (heads + kv_heads) * (double)predict_param(job, "d", 0) / 8;
    *s = (struct stream){ceil(pieces / job->in->spec->threads), 48, job->in->bytes, 1};
    return 0;
}

static int reduce_stream(struct predict_job *job, struct stream *s, struct err *err)
{
    double tokens, held, heads, cascades;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "held", &held, err) ||
        predict_size(job, "heads", &heads, err) || predict_size(job, "cascades", &cascades, err))
        return -1;
    *s = (struct stream){ceil((held + tokens) / job->in->spec->threads) * cascades, 4 * heads / fmax(cascades, 1),
                         job->in->bytes, 2};
    return 0;
}

static int copy_stream(struct predict_job *job, struct stream *s, struct err *err)
{
    double n, u = (double)predict_param(job, "u", 1);
    if (predict_size(job, "n", &n, err))
        return -1;
    *s = (struct stream){ceil(n / (job->in->spec->threads * u)), 16 * u, job->in->bytes, 1};
    return 0;
}

/* First the splits of every head, then outputs by eights of four, then rows. */
static int merge_stream(struct predict_job *job, struct stream *s, struct err *err)
{
    double keys, cascades, splits;
    if (predict_size(job, "keys", &keys, err) || predict_size(job, "cascades", &cascades, err) ||
        predict_size(job, "splits", &splits, err))
        return -1;
    double threads = job->in->spec->threads, u = (double)predict_param(job, "u", 1),
           r = (double)predict_param(job, "r", 1), d = (double)predict_param(job, "d", 64);
    double slices = attn_merge_slices(job->in->spec, job->in->gpu->sms, (int)fmax(cascades, 1), (int)keys);
    double share = r >= 4 * threads / 32 ? 8 : 32;
    double heads = ceil(r / (threads / share)) * ceil(splits / share);
    double outputs = ceil(ceil(r * d / 4 / slices) / 8) * (ceil(splits / (threads / 8) / 2) + 0.3);
    double rows = ceil(keys / slices / (threads * u));
    *s = (struct stream){slices * cascades, u * fmin(r, 16) * 4, job->in->bytes, 1 + 0.7 * heads + outputs + rows};
    return 0;
}

/* A thread walks its tree of slots, some at a time; before it the winners are found, behind it the scores move. */
static int update_stream(struct predict_job *job, struct stream *s, struct err *err)
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
    *s = (struct stream){ceil(trees / tpb) * sl * kv_heads, 16 * fmin(u, nodes) * 3, job->in->bytes,
                         4 + ceil(tpb * nodes / (threads / 32)) + 2 * items * ceil(nodes / u)};
    return 0;
}

int predict_stream(struct predict_job *job, struct err *err)
{
    static const struct {
        const char *kernel;
        int (*stream)(struct predict_job *job, struct stream *s, struct err *err);
    } streams[] = {{"attn_turn", turn_stream},
                   {"attn_score_reduce", reduce_stream},
                   {"stream_copy", copy_stream},
                   {"attn_merge", merge_stream},
                   {"cascade_update", update_stream}};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (!strcmp(streams[i].kernel, job->in->spec->kernel)) {
            struct stream s;
            if (streams[i].stream(job, &s, err) != 0)
                return -1;
            settle(job, &s);
            return 0;
        }
    return err_set(err, "%s: the prediction model does not know this kernel", job->in->spec->kernel);
}
