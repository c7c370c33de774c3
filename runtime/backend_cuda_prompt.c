/* The CUDA backend, a chunk of several tokens: products by cuBLAS on weights of 16 bits (expanded before, where the file has
 * others), attention and cascade by the kernels for chunks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend_cuda.h"
#include "llama_grid.h"

static int64_t blocks(int64_t n, int64_t of)
{
    return (n + of - 1) / of;
}

static const struct gen_kernel *gen_of(const struct cuda_backend *c, enum cuda_kernel k)
{
    return &cuda_kernels_get(c->kernels, c->kernel[k])->gen;
}

/* --- what depends on the token count ------------------------------------------------------------------------------------------ */

/* The staging memory of a chunk, in this order; the device has each part at a place of its own. */
struct staged {
    size_t step, plans, angles, end; /* bytes from the tokens on */
};

static struct staged staged_layout(const struct cuda_backend *c)
{
    struct staged s;
    s.step = ((size_t)c->p.stride * sizeof(int32_t) + 255) / 256 * 256;
    s.plans = s.step + (sizeof(struct attn_step) + 255) / 256 * 256;
    s.angles = s.plans + (size_t)c->parts * c->plan_room;
    bool original = c->p.positions == POSITIONS_ORIGINAL;
    s.end = s.angles + (original ? (size_t)c->p.stride * (size_t)c->shape->head_dim * sizeof(float) : 0);
    return s;
}

size_t cuda_staged_bytes(const struct cuda_backend *c)
{
    return staged_layout(c).end;
}

/* Plans the insertion, part after part, wave after wave; returns the bytes of all plans. */
static size_t plan_moves(struct cuda_backend *c, unsigned char *plans)
{
    struct cascade_state state = c->state;
    size_t bytes = 0;
    c->nmoves = 0;
    for (int done = 0; done < c->T; done += c->part.tokens, state = c->part.after) {
        cascade_plan_make(&c->part, &c->p, &state, c->T - done);
        move_plan_make(&c->planner, &c->part, done);
        memcpy(plans + bytes, c->planner.buffer, c->planner.bytes);
        for (int i = 0; i < c->planner.waves; i++)
            c->move[c->nmoves++] = (struct cuda_move){.at = bytes + (size_t)c->planner.wave[i].at,
                                                      .trees = (size_t)c->planner.wave[i].trees};
        bytes += (c->planner.bytes + 15) / 16 * 16;
    }
    return bytes;
}

/* What was uploaded for the chunk before has arrived long ago, so this waits for nothing. */
static int upload(struct cuda_backend *c, const int32_t *tokens, struct err *err)
{
    struct device *dev = &c->dev;
    struct staged s = staged_layout(c);
    size_t T = (size_t)c->T, row = (size_t)c->shape->head_dim * sizeof(float);
    if (dev->wait(dev, MARK_STAGED, err) != 0)
        return -1;
    memcpy(c->staged, tokens, T * sizeof *tokens);
    memcpy(c->staged + s.step, &c->step, sizeof c->step);
    size_t plans = plan_moves(c, c->staged + s.plans);
    bool original = c->p.positions == POSITIONS_ORIGINAL;
    for (size_t t = 0; original && t < T; t++)
        rope_turn(&c->rope, c->state.t + (int64_t)t, (float *)(c->staged + s.angles + t * row));
    if (dev->upload_async(dev, c->tokens, c->staged, T * sizeof *tokens, err) != 0 ||
        dev->upload_async(dev, c->chunk_step, c->staged + s.step, sizeof c->step, err) != 0 ||
        dev->upload_async(dev, c->plans, c->staged + s.plans, plans, err) != 0)
        return -1;
    if (original && dev->upload_async(dev, c->chunk_angles, c->staged + s.angles, T * row, err) != 0)
        return -1;
    return dev->mark(dev, MARK_STAGED, err);
}

int cuda_prompt_begin(struct cuda_backend *c, const int32_t *tokens, struct err *err)
{
    attn_step_make(&c->step, &c->p, &c->state, c->T);
    if (upload(c, tokens, err) != 0 || cuda_chunk_begin(c, err) != 0)
        return -1;
    if (c->chunk == CHUNK_REPLAYED)
        return 0;
    return cuda_run(c, c->kernel[CK_EMBED], c->T, 1, 1, false, (void *[]){&c->x, &c->embed.at, &c->tokens, &c->T}, err);
}

/* --- products ------------------------------------------------------------------------------------------------------------------- */

int cuda_weights_of(struct cuda_backend *c, const struct cuda_matrix *m, int first, int rows, devptr *at,
                    struct err *err)
{
    size_t row = m->bytes / (size_t)m->rows;
    devptr from = m->at + (devptr)first * row;
    *at = from;
    if (m->direct)
        return 0;
    *at = c->scratch;
    int64_t elements = (int64_t)rows * m->inputs;
    const struct gen_kernel *k = &cuda_kernels_get(c->kernels, m->dequantise)->gen;
    return cuda_run(c, m->dequantise, llama_grid_dequantise(k, elements, c->dev.facts.sms), 1, 1, false,
                    (void *[]){&c->scratch, &from, &elements}, err);
}

/* y = x w^T for rows [first, first + rows) of w, in half; or where `add` y += x w^T in fp32. x [T][inputs] half, y [T][y_row]. */
static int product_rows(struct cuda_backend *c, const struct cuda_matrix *m, int first, int rows, devptr x, devptr y,
                        int y_row, bool add, struct err *err)
{
    struct gemm g = {
        .y = y, .x = x, .m = c->T, .n = rows, .k = m->inputs, .y_row = y_row, .bf16 = c->bf16, .wide = add, .add = add};
    return cuda_weights_of(c, m, first, rows, &g.w, err) != 0 ? -1 : cuda_product(c, &g, err);
}

/* All of a linear, outputs side by side. */
static int product(struct cuda_backend *c, const struct cuda_linear *l, devptr x, devptr y, bool add, struct err *err)
{
    for (int i = 0; i < l->parts; i++) {
        const struct cuda_matrix *m = &l->part[i];
        if (product_rows(c, m, 0, m->rows, x, y, l->rows, add, err) != 0)
            return -1;
        y += (devptr)m->rows * (add ? sizeof(float) : 2);
    }
    return 0;
}

static int norm(struct cuda_backend *c, devptr x, devptr weight, int T, struct err *err)
{
    float eps = c->shape->norm_eps;
    return cuda_run(c, c->kernel[CK_NORM], T, 1, 1, false, (void *[]){&c->xn, &x, &weight, &T, &eps}, err);
}

/* A product of few rows, one after another by the kernels for one token: nothing is expanded, and the first token of a short prompt
 * does not wait for cuBLAS to start. x_row, y_row: bytes from row to row. */
static int product_few(struct cuda_backend *c, const struct cuda_linear *l, devptr x, size_t x_row, devptr y,
                       size_t y_row, devptr norm_weight, devptr bias, struct err *err)
{
    for (int t = 0; t < c->T; t++)
        if (cuda_matvec(c, l, x + (devptr)t * x_row, y + (devptr)t * y_row, norm_weight, bias, false, err) != 0)
            return -1;
    return 0;
}

/* att or h times the last matrix of a half layer, onto the residual stream. */
static int product_back(struct cuda_backend *c, const struct cuda_linear *l, devptr x, struct err *err)
{
    if (c->T > c->few)
        return product(c, l, x, c->x, true, err);
    return product_few(c, l, x, (size_t)l->inputs * 2, c->x, (size_t)c->shape->hidden * sizeof(float), 0, 0, err);
}

/* --- attention -------------------------------------------------------------------------------------------------------------------- */

/* Where a chunk's queries, keys and values lie, in half; what is from row to row, in elements. */
struct projected {
    devptr q, k, v;
    int q_stride, kv_stride;
};

static int bias(struct cuda_backend *c, devptr y, devptr b, int n, struct err *err)
{
    return cuda_run(c, c->kernel[CK_BIAS], llama_grid_pieces(gen_of(c, CK_BIAS), c->T, n), 1, 1, false,
                    (void *[]){&y, &b, &c->T, &n}, err);
}

/* One row a token with q, k and v side by side. */
static int project_together(struct cuda_backend *c, const struct cuda_layer *l, struct projected *out, struct err *err)
{
    devptr q = c->qkv_rows, k = q + (devptr)c->q * 2;
    *out = (struct projected){.q = q, .k = k, .v = k + (devptr)c->kv * 2, .q_stride = c->qkv, .kv_stride = c->qkv};
    if (c->T <= c->few)
        return product_few(c, &l->qkv, c->x, (size_t)c->shape->hidden * sizeof(float), q, (size_t)c->qkv * 2,
                           l->attn_norm, l->bias, err);
    if (norm(c, c->x, l->attn_norm, c->T, err) != 0 || product(c, &l->qkv, c->xn, q, false, err) != 0)
        return -1;
    return l->has_bias ? bias(c, q, l->bias, c->qkv, err) : 0;
}

/* Three arrays: with original positions keys are inserted out of kr, and values are wanted in rows of the same length. */
static int project_apart(struct cuda_backend *c, const struct cuda_layer *l, struct projected *out, struct err *err)
{
    const int rows[] = {c->q, c->kv, c->kv};
    devptr y[3] = {c->qkv_rows};
    y[1] = y[0] + (devptr)c->T * (devptr)c->q * 2;
    y[2] = y[1] + (devptr)c->T * (devptr)c->kv * 2;
    if (norm(c, c->x, l->attn_norm, c->T, err) != 0)
        return -1;
    for (int i = 0, first = 0; i < 3; first += rows[i++]) {
        bool one = l->qkv.parts == 1;
        if (product_rows(c, &l->qkv.part[one ? 0 : i], one ? first : 0, rows[i], c->xn, y[i], rows[i], false, err) != 0)
            return -1;
        if (l->has_bias && bias(c, y[i], l->bias + (devptr)first * sizeof(float), rows[i], err) != 0)
            return -1;
    }
    *out = (struct projected){.q = y[0], .k = y[1], .v = y[2], .q_stride = c->q, .kv_stride = c->kv};
    return 0;
}

/* Queries and keys turned by their index in the chunk, or by their token number. */
static int turn(struct cuda_backend *c, const struct projected *x, struct err *err)
{
    int heads = c->shape->heads, kv_heads = c->shape->kv_heads;
    devptr q = x->q, k = x->k, angles = c->p.positions == POSITIONS_ORIGINAL ? c->chunk_angles : c->angles;
    int q_stride = x->q_stride, k_stride = x->kv_stride;
    int64_t pieces = (int64_t)c->T * (c->q + c->kv) / 8;
    return cuda_run(c, c->kernel[CK_TURN], blocks(pieces, gen_of(c, CK_TURN)->threads), 1, 1, false,
                    (void *[]){&c->qr, &c->kr, &q, &k, &angles, &c->T, &heads, &kv_heads, &q_stride, &k_stride}, err);
}

static int insert(struct cuda_backend *c, int layer, devptr k, devptr v, int k_stride, struct err *err)
{
    const struct gen_kernel *g = gen_of(c, CK_UPDATE);
    size_t cache = (size_t)c->kv * (size_t)c->rows * 2, scores = (size_t)c->cascades * (size_t)c->rows;
    devptr kc = c->k + (devptr)layer * cache, vc = c->v + (devptr)layer * cache,
           score = c->score + (devptr)layer * scores * sizeof(float),
           origin = c->origin + (devptr)layer * scores * sizeof(int64_t);
    int turning = c->p.positions == POSITIONS_CACHE, select = (int)c->p.select, mean = c->p.span_score == SPAN_MEAN;
    int64_t tpb = gen_value(g, "tpb"), slices = gen_value(g, "sl"), no_layer = 0;
    uint64_t seed = (uint64_t)layer * (uint64_t)c->cascades; /* as the CPU counts, for selection at random */
    for (int i = 0; i < c->nmoves; i++) {
        devptr plan = c->plans + c->move[i].at;
        if (cuda_run(c, c->kernel[CK_UPDATE], blocks((int64_t)c->move[i].trees, tpb) * slices, c->shape->kv_heads, 1,
                     false, (void *[]){&kc,          &vc,        &score,    &origin,         &k,
                                       &v,           &k_stride,  &no_layer, &c->chunk_score, &c->T,
                                       &plan,        &c->angles, &c->moves, &c->arrived,     &c->rows,
                                       &c->cascades, &turning,   &select,   &mean,           &seed},
                     err) != 0)
            return -1;
    }
    return 0;
}

/* Column sums of the attention into the scores. */
static int score(struct cuda_backend *c, int layer, devptr kc, devptr angles, struct err *err)
{
    int heads = c->shape->heads;
    int64_t keys = c->step.held + c->T;
    float log2_gamma = (float)log2(c->p.ema), decay = (float)pow(c->p.ema, c->T);
    devptr scores = c->score + (devptr)layer * (devptr)c->cascades * (devptr)c->rows * sizeof(float);
    if (cuda_run(c, c->kernel[CK_SCORES], heads, (int)blocks(keys, gen_value(gen_of(c, CK_SCORES), "bk")), 1, false,
                 (void *[]){&c->sums, &c->qr, &c->lse, &kc, &c->kr, &angles, &c->chunk_step, &c->group, &c->q, &c->kv,
                            &log2_gamma},
                 err) != 0)
        return -1;
    return cuda_run(c, c->kernel[CK_REDUCE], blocks(keys, gen_of(c, CK_REDUCE)->threads), c->cascades, 1, false,
                    (void *[]){&scores, &c->chunk_score, &c->sums, &c->chunk_step, &c->reduced, &decay}, err);
}

int cuda_prompt_attend(struct cuda_backend *c, int layer, struct err *err)
{
    const struct cuda_layer *l = &c->layer[layer];
    struct projected x;
    size_t cache = (size_t)c->kv * (size_t)c->rows * 2;
    bool original = c->p.positions == POSITIONS_ORIGINAL;
    devptr kc = c->k + (devptr)layer * cache, vc = c->v + (devptr)layer * cache, angles = original ? 0 : c->angles;
    if ((original ? project_apart(c, l, &x, err) : project_together(c, l, &x, err)) != 0 || turn(c, &x, err) != 0)
        return -1;
    devptr q = original ? c->qr : x.q;
    int q_stride = original ? c->q : x.q_stride;
    if (cuda_run(c, c->kernel[CK_PREFILL], c->shape->heads, (int)blocks(c->T, gen_value(gen_of(c, CK_PREFILL), "bm")),
                 1, false,
                 (void *[]){&c->att, &c->lse, &q, &kc, &vc, &c->kr, &x.v, &angles, &c->chunk_step, &c->group, &q_stride,
                            &c->kv, &x.kv_stride},
                 err) != 0 ||
        score(c, layer, kc, angles, err) != 0)
        return -1;
    /* With positions in the cache a key is turned when it is placed; with original ones it is placed as it was turned here. */
    if (insert(c, layer, original ? c->kr : x.k, x.v, x.kv_stride, err) != 0)
        return -1;
    return product_back(c, &l->wo, c->att, err);
}

/* h = silu(gate) * up. */
static int gate_up(struct cuda_backend *c, const struct cuda_layer *l, struct err *err)
{
    int ffn = c->shape->ffn;
    if (c->T <= c->few) {
        devptr y = l->combine ? c->h : c->gu;
        size_t y_row = (size_t)ffn * (l->combine ? 2 : 4);
        if (product_few(c, &l->gate_up, c->x, (size_t)c->shape->hidden * sizeof(float), y, y_row, l->ffn_norm, 0,
                        err) != 0)
            return -1;
        if (l->combine)
            return 0;
    } else if (norm(c, c->x, l->ffn_norm, c->T, err) != 0 || product(c, &l->gate_up, c->xn, c->gu, false, err) != 0) {
        return -1;
    }
    return cuda_run(c, c->kernel[CK_SWIGLU], llama_grid_pieces(gen_of(c, CK_SWIGLU), c->T, ffn), 1, 1, false,
                    (void *[]){&c->h, &c->gu, &c->T, &ffn}, err);
}

int cuda_prompt_feed_forward(struct cuda_backend *c, int layer, struct err *err)
{
    const struct cuda_layer *l = &c->layer[layer];
    return gate_up(c, l, err) != 0 ? -1 : product_back(c, &l->down, c->h, err);
}

/* --- logits ------------------------------------------------------------------------------------------------------------------------- */

int cuda_norm_output(struct cuda_backend *c, int row, int n, struct err *err)
{
    return norm(c, c->x + (devptr)row * (devptr)c->shape->hidden * sizeof(float), c->out_norm, n, err);
}

int cuda_prompt_logits(struct cuda_backend *c, int row, int n, struct err *err)
{
    const struct cuda_matrix *m = &c->output.part[0];
    if (n == 1)
        return cuda_matvec(c, &c->output, c->x + (devptr)row * (devptr)c->shape->hidden * sizeof(float), c->logits,
                           c->out_norm, 0, false, err);
    if (cuda_norm_output(c, row, n, err) != 0)
        return -1;
    for (int first = 0; first < m->rows; first += LLAMA_VOCAB_PIECE) {
        int rows = m->rows - first < LLAMA_VOCAB_PIECE ? m->rows - first : LLAMA_VOCAB_PIECE;
        struct gemm g = {.y = c->logits + (devptr)first * sizeof(float),
                         .x = c->xn,
                         .m = n,
                         .n = rows,
                         .k = m->inputs,
                         .y_row = m->rows,
                         .bf16 = c->bf16,
                         .wide = true};
        if (cuda_weights_of(c, m, first, rows, &g.w, err) != 0 || cuda_product(c, &g, err) != 0)
            return -1;
    }
    return 0;
}
