/* The CUDA backend, one token: five launches a layer that start while the ones before them end, scores of many layers at once,
 * cascade_update for all, and the logits. What depends on the token count comes up in one packet of a fixed size, so that all of it is one
 * graph. */
#include <string.h>

#include "backend_cuda.h"
#include "llama_grid.h"

void cuda_decode_packet(struct cuda_backend *c, int32_t token)
{
    struct cuda_packet *packet = c->packet;
    packet->token = token;
    attn_step_make(&packet->step, &c->p, &c->state, 1);
    cascade_plan_make(&c->one, &c->p, &c->state, 1);
    move_plan_make(&c->planner_one, &c->one, 0);
    memcpy(packet + 1, c->planner_one.buffer, c->planner_one.bytes);
    if (c->p.positions == POSITIONS_ORIGINAL)
        rope_turn(&c->rope, c->state.t, (float *)((unsigned char *)packet + c->packet_angles));
}

int cuda_matvec(struct cuda_backend *c, const struct cuda_linear *l, devptr x, devptr y, devptr norm_weight,
                devptr bias, bool overlap, struct err *err)
{
    float eps = c->shape->norm_eps;
    for (int i = 0; i < l->parts; i++) {
        const struct cuda_matrix *m = &l->part[i];
        const struct gen_kernel *g = &cuda_kernels_get(c->kernels, m->matvec)->gen;
        devptr w = m->at;
        int rows = l->halved ? m->rows / 2 : m->rows;
        unsigned blocks = llama_grid_matvec(g, rows, c->dev.facts.sms, cuda_kernels_blocks(c->kernels, m->matvec));
        if (cuda_run(c, m->matvec, blocks, 1, 1, overlap, (void *[]){&y, &w, &x, &norm_weight, &bias, &rows, &eps},
                     err) != 0)
            return -1;
        y += (devptr)m->rows * 2; /* only outputs in half come in several parts */
        bias += bias ? (devptr)m->rows * sizeof(float) : 0;
    }
    return 0;
}

/* With original positions queries and keys are turned beforehand. That kernel does not wait, so it does not overlap. */
static int turn(struct cuda_backend *c, devptr q, devptr k, devptr kr, struct err *err)
{
    int heads = c->shape->heads, kv_heads = c->shape->kv_heads, one = 1;
    devptr angles = c->packet_at + c->packet_angles;
    const struct gen_kernel *g = &cuda_kernels_get(c->kernels, c->kernel[CK_TURN])->gen;
    int64_t pieces = (c->q + c->kv) / 8;
    return cuda_run(c, c->kernel[CK_TURN], (pieces + g->threads - 1) / g->threads, 1, 1, false,
                    (void *[]){&c->qr, &kr, &q, &k, &angles, &one, &heads, &kv_heads, &c->qkv, &c->qkv}, err);
}

static int attention(struct cuda_backend *c, int layer, struct err *err)
{
    size_t at = (size_t)layer, cache = (size_t)c->kv * (size_t)c->rows * 2;
    devptr q = c->qkv_rows + at * (devptr)c->qkv * 2, k = q + (devptr)c->q * 2, v = k + (devptr)c->kv * 2;
    devptr kc = c->k + at * cache, vc = c->v + at * cache, step = c->packet_at + offsetof(struct cuda_packet, step);
    size_t slot = at % (size_t)c->scored * (size_t)c->shape->heads;
    devptr logits = c->column + slot * (size_t)c->logit_stride * sizeof(float),
           lse = c->token_lse + slot * sizeof(float);
    if (c->p.positions == POSITIONS_ORIGINAL) {
        devptr kr = c->kr + at * (devptr)c->qkv * 2;
        if (turn(c, q, k, kr, err) != 0)
            return -1;
        q = c->qr;
        k = kr;
    }
    return cuda_run(c, c->kernel[CK_DECODE], c->splits, c->shape->kv_heads, 1, true,
                    (void *[]){&q, &kc, &vc, &k, &v, &step, &c->angles, &logits, &c->att, &lse, &c->part_o, &c->part_ml,
                               &c->met, &c->rows, &c->logit_stride},
                    err);
}

/* Scores of layers [first, last), whose logits are there. Only the eviction at the end of the step reads them. */
static int update_scores(struct cuda_backend *c, int first, int last, struct err *err)
{
    devptr step = c->packet_at + offsetof(struct cuda_packet, step), cascades = (devptr)first * (devptr)c->cascades,
           score = c->score + cascades * (devptr)c->rows * sizeof(float),
           chunk_score = c->chunk_score + cascades * sizeof(float);
    float gamma = (float)c->p.ema;
    return cuda_run(
        c, c->kernel[CK_DECODE_SCORES], c->slices, c->cascades, last - first, true,
        (void *[]){&c->column, &c->logit_stride, &c->token_lse, &step, &score, &chunk_score, &gamma, &c->rows}, err);
}

static int feed_forward(struct cuda_backend *c, const struct cuda_layer *l, unsigned parts, struct err *err)
{
    int one = 1, ffn = c->shape->ffn;
    if (parts & DECODE_GATE_UP) {
        if (cuda_matvec(c, &l->gate_up, c->x, l->combine ? c->h : c->gu, l->ffn_norm, 0, true, err) != 0)
            return -1;
        const struct gen_kernel *g = &cuda_kernels_get(c->kernels, c->kernel[CK_SWIGLU])->gen;
        if (!l->combine && cuda_run(c, c->kernel[CK_SWIGLU], llama_grid_pieces(g, 1, ffn), 1, 1, true,
                                    (void *[]){&c->h, &c->gu, &one, &ffn}, err) != 0)
            return -1;
    }
    return parts & DECODE_DOWN ? cuda_matvec(c, &l->down, c->h, c->x, 0, 0, true, err) : 0;
}

/* All layers at once; with the most trees that a token makes, since a graph's grids stay as they are. */
static int insert(struct cuda_backend *c, struct err *err)
{
    const struct gen_kernel *g = &cuda_kernels_get(c->kernels, c->kernel[CK_UPDATE])->gen;
    int tpb = (int)gen_value(g, "tpb"), slices = (int)gen_value(g, "sl"), one = 1;
    bool original = c->p.positions == POSITIONS_ORIGINAL;
    devptr k = original ? c->kr : c->qkv_rows + (devptr)c->q * 2, v = c->qkv_rows + (devptr)(c->q + c->kv) * 2,
           plan = c->packet_at + sizeof *c->packet;
    int turning = !original, select = (int)c->p.select, mean = c->p.span_score == SPAN_MEAN;
    int64_t chunk_layer = c->qkv;
    uint64_t seed = 0;
    return cuda_run(c, c->kernel[CK_UPDATE], (MOVE_TREES_DECODE + tpb - 1) / tpb * slices, c->shape->kv_heads,
                    c->shape->layers, true,
                    (void *[]){&c->k,        &c->v,           &c->score, &c->origin, &k,         &v,        &c->qkv,
                               &chunk_layer, &c->chunk_score, &one,      &plan,      &c->angles, &c->moves, &c->arrived,
                               &c->rows,     &c->cascades,    &turning,  &select,    &mean,      &seed},
                    err);
}

int cuda_decode_enqueue(struct cuda_backend *c, unsigned parts, struct err *err)
{
    int one = 1;
    if (parts & DECODE_EMBED) {
        /* Behind this launch all that the graph before wrote is there: it does not overlap, the others may. */
        devptr token = c->packet_at + offsetof(struct cuda_packet, token);
        if (c->dev.upload_async(&c->dev, c->packet_at, c->packet, c->packet_bytes, err) != 0 ||
            cuda_run(c, c->kernel[CK_EMBED], 1, 1, 1, false, (void *[]){&c->x, &c->embed.at, &token, &one}, err) != 0)
            return -1;
    }
    for (int i = 0, layers = c->shape->layers; i < layers; i++) {
        const struct cuda_layer *l = &c->layer[i];
        devptr row = c->qkv_rows + (devptr)i * (devptr)c->qkv * 2;
        if ((parts & DECODE_QKV) && cuda_matvec(c, &l->qkv, c->x, row, l->attn_norm, l->bias, true, err) != 0)
            return -1;
        if ((parts & DECODE_ATTENTION) && attention(c, i, err) != 0)
            return -1;
        if ((parts & DECODE_WO) && cuda_matvec(c, &l->wo, c->att, c->x, 0, 0, true, err) != 0)
            return -1;
        if (feed_forward(c, l, parts, err) != 0)
            return -1;
        if ((parts & DECODE_SCORES) && ((i + 1) % c->scored == 0 || i + 1 == layers) &&
            update_scores(c, i / c->scored * c->scored, i + 1, err) != 0)
            return -1;
    }
    if ((parts & DECODE_UPDATE) && insert(c, err) != 0)
        return -1;
    return parts & DECODE_LOGITS ? cuda_matvec(c, &c->output, c->x, c->logits, c->out_norm, 0, true, err) : 0;
}

static int enqueue_all(void *backend, struct err *err)
{
    return cuda_decode_enqueue(backend, DECODE_ALL, err);
}

int cuda_decode_run(struct cuda_backend *c, struct err *err)
{
    struct device *dev = &c->dev;
    if (!dev->capture_begin)
        return cuda_decode_enqueue(c, DECODE_ALL, err);
    if (!c->graph && device_capture(dev, enqueue_all, c, &c->graph, err) != 0)
        return -1;
    return dev->replay(dev, c->graph, err);
}
