/* The CUDA backend: opening, sizes, the seam's functions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attn_grid.h"
#include "backend_cuda.h"
#include "cascade_options.h"
#include "llama_grid.h"
#include "model_kernels.h"
#include "timeline.h"

/* --- a chunk ------------------------------------------------------------------------------------------------------------------ */

int cuda_run(struct cuda_backend *c, int kernel, int64_t x, int y, int z, bool overlap, void **args, struct err *err)
{
    const struct kernel *k = cuda_kernels_get(c->kernels, kernel);
    struct launch l = {.grid = {(unsigned)x, (unsigned)y, (unsigned)z},
                       .block = k->gen.threads,
                       .smem = k->gen.smem,
                       .args = args,
                       .overlap = overlap};
    if (c->launched)
        c->launched[kernel] = true;
    return c->dev.launch(&c->dev, k->loaded, &l, err);
}

/* One token is run as a whole when it ends; until then it only waits in the packet. */
static int begin(struct backend *be, const int32_t *tokens, int T, struct err *err)
{
    struct cuda_backend *c = be->state;
    if (T < 1 || T > c->p.stride)
        return err_set(err, "a chunk of %d tokens; 1 to %d (the stride) can be taken at once", T, c->p.stride);
    if (backend_check_tokens(tokens, T, c->shape->vocab, err) != 0)
        return -1;
    c->T = T;
    c->ended = 0;
    if (T > 1)
        return cuda_prompt_begin(c, tokens, err) == 0 ? 0 : cuda_chunk_failed(c);
    if (c->dev.wait(&c->dev, MARK_STAGED, err) != 0)
        return -1;
    cuda_decode_packet(c, tokens[0]);
    return 0;
}

static int attend(struct backend *be, int layer, struct err *err)
{
    struct cuda_backend *c = be->state;
    if (c->T == 1 || c->chunk == CHUNK_REPLAYED || cuda_prompt_attend(c, layer, err) == 0)
        return 0;
    return cuda_chunk_failed(c);
}

static int feed_forward(struct backend *be, int layer, struct err *err)
{
    struct cuda_backend *c = be->state;
    if (c->T == 1 || c->chunk == CHUNK_REPLAYED || cuda_prompt_feed_forward(c, layer, err) == 0)
        return 0;
    return cuda_chunk_failed(c);
}

static int end(struct backend *be, struct err *err)
{
    struct cuda_backend *c = be->state;
    c->has_logits = c->T == 1;
    if (c->T > 1 && cuda_chunk_end(c, err) != 0)
        return -1;
    if (c->T == 1 && (cuda_decode_run(c, err) != 0 || c->dev.mark(&c->dev, MARK_STAGED, err) != 0))
        return -1;
    c->ended = c->T;
    cascade_state_at(&c->p, c->state.t + c->T, &c->state);
    return 0;
}

static int logits(struct backend *be, int row, int n, float *out, struct err *err)
{
    struct cuda_backend *c = be->state;
    size_t vocab = (size_t)c->shape->vocab;
    if (row < 0 || n < 1 || n > c->ended - row)
        return err_set(err, "logits of rows %d to %d were asked for; the last chunk had %d", row, row + n - 1,
                       c->ended);
    for (int done = 0, m; done < n; done += m) {
        m = n - done < c->logit_rows ? n - done : c->logit_rows;
        if (!c->has_logits && cuda_prompt_logits(c, row + done, m, err) != 0)
            return -1;
        if (c->dev.download(&c->dev, out + (size_t)done * vocab, c->logits, (size_t)m * vocab * sizeof *out, err) != 0)
            return -1;
    }
    return 0;
}

static int likelihoods(struct backend *be, int row, int n, const int32_t *token, float *nats, struct err *err)
{
    return cuda_likelihoods(be->state, row, n, token, nats, err);
}

static int pick(struct backend *be, struct sampler *s, int row, int32_t *id, struct err *err)
{
    return cuda_pick(be->state, s, row, id, err);
}

/* --- a stream ------------------------------------------------------------------------------------------------------------------ */

static int clear(struct cuda_backend *c, struct err *err)
{
    size_t n = (size_t)c->shape->layers * (size_t)c->cascades * (size_t)c->rows;
    cascade_state_at(&c->p, 0, &c->state);
    c->T = c->ended = 0;
    return c->dev.fill(&c->dev, c->score, 0, n * sizeof(float), err) != 0 ||
                   c->dev.fill(&c->dev, c->origin, 0xff, n * sizeof(int64_t), err) != 0
               ? -1
               : 0;
}

static void reset(struct backend *be)
{
    clear(be->state, NULL); /* a GPU that is lost says so at the next chunk */
}

/* Number of the first row of a layer and key head among those of all cascades. */
static int row_of(const struct cuda_backend *c, int layer, int head, size_t *row, struct err *err)
{
    if (layer < 0 || layer >= c->shape->layers || head < 0 || head >= c->shape->kv_heads)
        return err_set(err, "layer %d, key head %d: the model has %d layers with %d", layer, head, c->shape->layers,
                       c->shape->kv_heads);
    *row = ((size_t)layer * (size_t)c->cascades + (size_t)(c->cascades == 1 ? 0 : head)) * (size_t)c->rows;
    return 0;
}

static int origins(struct backend *be, int layer, int head, int64_t *origin, struct err *err)
{
    struct cuda_backend *c = be->state;
    size_t row;
    if (row_of(c, layer, head, &row, err) != 0)
        return -1;
    return c->dev.download(&c->dev, origin, c->origin + row * sizeof *origin, (size_t)c->rows * sizeof *origin, err);
}

static int scores(struct backend *be, int layer, int head, float *score, struct err *err)
{
    struct cuda_backend *c = be->state;
    size_t row;
    if (row_of(c, layer, head, &row, err) != 0)
        return -1;
    return c->dev.download(&c->dev, score, c->score + row * sizeof *score, (size_t)c->rows * sizeof *score, err);
}

/* The four arrays of one layer's cache on the device, and their bytes. */
struct layer_arrays {
    devptr at[4];
    size_t bytes[4];
};

static int layer_arrays(const struct cuda_backend *c, int layer, struct layer_arrays *a, struct err *err)
{
    size_t row, cache = (size_t)c->kv * (size_t)c->rows * 2, scores = (size_t)c->cascades * (size_t)c->rows;
    if (row_of(c, layer, 0, &row, err) != 0)
        return -1;
    *a = (struct layer_arrays){.at = {c->k + (devptr)layer * cache, c->v + (devptr)layer * cache,
                                      c->score + row * sizeof(float), c->origin + row * sizeof(int64_t)},
                               .bytes = {cache, cache, scores * sizeof(float), scores * sizeof(int64_t)}};
    return 0;
}

static int read_layer(struct backend *be, int layer, const struct cache_layer *to, struct err *err)
{
    struct cuda_backend *c = be->state;
    struct layer_arrays a;
    void *const out[] = {to->k, to->v, to->score, to->origin};
    if (layer_arrays(c, layer, &a, err) != 0)
        return -1;
    for (int i = 0; i < 4; i++)
        if (c->dev.download(&c->dev, out[i], a.at[i], a.bytes[i], err) != 0)
            return -1;
    return 0;
}

static int write_layer(struct backend *be, int layer, const struct cache_layer *from, struct err *err)
{
    struct cuda_backend *c = be->state;
    struct layer_arrays a;
    const void *const in[] = {from->k, from->v, from->score, from->origin};
    if (layer_arrays(c, layer, &a, err) != 0)
        return -1;
    for (int i = 0; i < 4; i++)
        if (c->dev.upload(&c->dev, a.at[i], in[i], a.bytes[i], err) != 0)
            return -1;
    return 0;
}

static int set_clock(struct backend *be, int64_t t, struct err *err)
{
    struct cuda_backend *c = be->state;
    (void)err;
    cascade_state_at(&c->p, t, &c->state);
    c->T = c->ended = 0;
    return 0;
}

static int64_t seen(const struct backend *be)
{
    return ((const struct cuda_backend *)be->state)->state.t;
}

static size_t cache_bytes(const struct backend *be)
{
    return cuda_cache_bytes(be->state);
}

/* --- opening -------------------------------------------------------------------------------------------------------------------- */

static void drop_graphs(struct cuda_backend *c)
{
    cuda_chunk_close(c);
    if (c->graph)
        c->dev.release_graph(&c->dev, c->graph);
    c->graph = NULL;
}

static void close_backend(struct backend *be)
{
    struct cuda_backend *c = be->state;
    if (!c)
        return;
    if (c->dev.close) {
        cuda_products_close(c);
        drop_graphs(c);
        c->dev.sync(&c->dev, NULL);
        cuda_kernels_free(c->kernels);
        cuda_memory_close(c);
        c->dev.release_pinned(&c->dev, c->staged);
        c->dev.release_pinned(&c->dev, c->packet);
        c->dev.release_pinned(&c->dev, c->pick);
        c->dev.close(&c->dev);
    }
    cascade_plan_free(&c->part);
    cascade_plan_free(&c->one);
    move_planner_free(&c->planner);
    move_planner_free(&c->planner_one);
    rope_close(&c->rope);
    free(c->layer);
    free(c->move);
    free(c->last.move);
    free(c);
    be->state = NULL;
}

/* Of what type the GPU computes: that of the model's weights; for quantised ones fp16, which keeps three bits more. Qwen2's
 * activations are known to leave fp16's range. */
static bool wants_bf16(const struct model *m, const struct backend_options *o)
{
    if (o && o->half != BACKEND_HALF_AUTO)
        return o->half == BACKEND_HALF_BF16;
    enum quant_type type = m->layer[0].down->type;
    return type == QUANT_BF16 || type == QUANT_F32 || !strcmp(m->shape.arch, "qwen2");
}

const char *backend_cuda_type(const struct model *m)
{
    return wants_bf16(m, NULL) ? "bf16" : "fp16";
}

static int check_shape(const struct model_shape *s, struct err *err)
{
    static const int dims[] = {64, 80, 96, 128, 256}; /* gen/spec.lua has the list, this the sentence */
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        if (s->head_dim == dims[i] && s->heads / s->kv_heads <= 16)
            return 0;
    return err_set(
        err,
        "heads of %d elements, %d to a key head, run on the CPU only (--cpu); the GPU's kernels take 64, 80, "
        "96, 128 or 256, and up to 16",
        s->head_dim, s->heads / s->kv_heads);
}

/* Kernels that do not depend on a matrix. */
static int want_kernels(struct cuda_backend *c, struct err *err)
{
    struct cuda_kernels *s = c->kernels;
    const char *t = c->bf16 ? "bf16" : "fp16", *reduce = cascade_reduction_name(c->p.reduction);
    int d = c->shape->head_dim, *k = c->kernel;
    k[CK_NORM] = cuda_kernels_want(s, err, "rms_norm", "n=%d t=%s", c->shape->hidden, t);
    k[CK_SWIGLU] = cuda_kernels_want(s, err, "swiglu", "t=%s", t);
    k[CK_BIAS] = c->layer && c->layer[0].has_bias ? cuda_kernels_want(s, err, "add_bias", "t=%s", t) : 0;
    if (k[CK_BIAS] > 0 && cuda_kernels_size(s, k[CK_BIAS], "n", c->qkv, err) != 0)
        return -1;
    k[CK_TURN] = cuda_kernels_want(s, err, "attn_turn", "d=%d t=%s", d, t);
    k[CK_PREFILL] = cuda_kernels_want(s, err, attn_prefill_kernel(c->dev.facts.sm, d), "d=%d t=%s", d, t);
    if (!c->dev.facts.sm &&
        cuda_kernels_want(s, err, attn_prefill_kernel(90, d), "d=%d t=%s", d, t) < 0) /* a list for any GPU */
        return -1;
    k[CK_SCORES] = cuda_kernels_want(s, err, "attn_scores", "d=%d t=%s", d, t);
    k[CK_REDUCE] = cuda_kernels_want(s, err, "attn_score_reduce", "reduce=%s", reduce);
    k[CK_UPDATE] = cuda_kernels_want(s, err, "cascade_update", "d=%d b=%d t=%s", d, c->p.span, t);
    k[CK_DECODE] = cuda_kernels_want(s, err, "attn_decode", "d=%d g=%d t=%s", d, c->group, t);
    k[CK_DECODE_SCORES] = cuda_kernels_want(s, err, "attn_decode_scores", "r=%d reduce=%s", c->reduced, reduce);
    k[CK_LIKELIHOOD] = cuda_kernels_want(s, err, "likelihood", "t=%s", t);
    k[CK_SAMPLE] = cuda_kernels_want(s, err, "sample", "t=%s", t);
    k[CK_COPY] = c->layer && c->m->embed->repeats ? cuda_kernels_want(s, err, "stream_copy", "t=%s", t) : 0;
    for (int i = 0; i < CUDA_KERNELS; i++)
        if (k[i] < 0)
            return -1;
    return 0;
}

static int set_sizes(struct cuda_backend *c, struct err *err)
{
    const struct model_shape *s = c->shape;
    const struct cascade_params *p = &c->p;
    struct cascade_params one = *p;
    one.stride = 1;
    c->rows = cascade_rows(p);
    c->cascades = p->policy == POLICY_HOMOGENEOUS ? 1 : s->kv_heads;
    c->group = s->heads / s->kv_heads;
    c->reduced = s->heads / c->cascades;
    c->q = s->heads * s->head_dim;
    c->kv = s->kv_heads * s->head_dim;
    c->qkv = c->q + 2 * c->kv;
    c->positions = c->rows + p->window / p->subcaches + p->stride;
    c->logit_rows = p->stride < LLAMA_LOGIT_ROWS ? p->stride : LLAMA_LOGIT_ROWS;
    c->logit_stride = attn_decode_stride(c->rows);
    c->scored = attn_decode_layers(s->layers, s->heads, c->logit_stride);
    int w = p->window / p->subcaches;
    c->parts = (p->stride + w - 1) / w + 1;
    c->most_moves = c->parts * (CASCADE_MAX_SUBCACHES + 1);
    if (cascade_plan_init(&c->part, p, err) != 0 || cascade_plan_init(&c->one, &one, err) != 0 ||
        move_planner_init(&c->planner, p, err) != 0 || move_planner_init(&c->planner_one, &one, err) != 0)
        return -1;
    c->plan_room = (c->planner.room + 15) / 16 * 16;
    c->packet_angles = (sizeof *c->packet + c->planner_one.room + 15) / 16 * 16;
    c->packet_bytes = c->packet_angles + (p->positions == POSITIONS_ORIGINAL ? (size_t)s->head_dim * sizeof(float) : 0);
    c->move = err_calloc((size_t)c->most_moves, sizeof *c->move, "the chunk's launches", err);
    c->last.move = err_calloc((size_t)c->most_moves, sizeof *c->move, "the chunk's launches", err);
    return c->move && c->last.move ? 0 : -1;
}

/* Grids of decoding, by what the compiled kernels leave room for. */
static void set_grids(struct cuda_backend *c)
{
    const struct kernel *decode = cuda_kernels_get(c->kernels, c->kernel[CK_DECODE]),
                        *scores = cuda_kernels_get(c->kernels, c->kernel[CK_DECODE_SCORES]);
    int sms = c->dev.facts.sms,
        blocks = attn_decode_share(&decode->gen, cuda_kernels_blocks(c->kernels, c->kernel[CK_DECODE]));
    int splits = attn_decode_splits(sms, blocks, c->shape->kv_heads, c->rows);
    c->splits = splits < c->most_splits ? splits : c->most_splits;
    c->slices = attn_decode_slices(&scores->gen, sms, c->cascades * c->scored, c->rows);
}

void cuda_exchange(struct cuda_backend *c, int kernel, struct cuda_tile *other)
{
    drop_graphs(c);
    cuda_kernels_swap(c->kernels, kernel, other);
    set_grids(c);
}

/* The table of angles, and what the host fills before anyone reads it. */
static int fill_tables(struct cuda_backend *c, struct err *err)
{
    enum { PIECE = 4096 }; /* positions */
    size_t row = (size_t)c->shape->head_dim;
    float *table = err_alloc(PIECE * row, sizeof *table, "the table of angles", err);
    if (!table)
        return -1;
    int rc = 0;
    for (int first = 0; first < c->positions && rc == 0; first += PIECE) {
        int n = c->positions - first < PIECE ? c->positions - first : PIECE;
        for (int i = 0; i < n; i++)
            rope_turn(&c->rope, first + i, table + (size_t)i * row);
        rc = c->dev.upload(&c->dev, c->angles + (devptr)first * row * sizeof *table, table,
                           (size_t)n * row * sizeof *table, err);
    }
    free(table);
    memset(c->packet, 0, c->packet_bytes);
    memset(c->pick, 0, sizeof *c->pick);
    return rc != 0 || c->dev.fill(&c->dev, c->arrived, 0, cuda_arrived_bytes(c), err) != 0
               ? -1
               : c->dev.fill(&c->dev, c->met, 0, (size_t)c->shape->kv_heads * sizeof(unsigned), err);
}

static int load_all(struct cuda_backend *c, const struct backend_options *o, struct err *err)
{
    struct device *dev = &c->dev;
    struct pairs sizes;
    if (model_sizes(&sizes, c->shape, &c->p, err) != 0)
        return -1;
    cuda_kernels_tune(c->kernels, &sizes, o ? o->say : NULL);
    if (cuda_kernels_start(c->kernels, o ? o->set : NULL, o ? o->threads : 0, err) != 0 ||
        dev->alloc_pinned(dev, c->staged_bytes, (void **)&c->staged, err) != 0 ||
        dev->alloc_pinned(dev, c->packet_bytes, (void **)&c->packet, err) != 0 ||
        dev->alloc_pinned(dev, sizeof *c->pick, (void **)&c->pick, err) != 0)
        return -1;
    if (fill_tables(c, err) != 0)
        return -1;
    timeline("angles");
    if (cuda_weights_load(c, o, err) != 0)
        return -1;
    timeline("weights");
    int rc = cuda_kernels_finish(c->kernels, err);
    timeline("kernels");
    return rc;
}

static int open_parts(struct cuda_backend *c, const struct backend_options *o, struct err *err)
{
    struct device *dev = &c->dev;
    enum { DECODE_BLOCKS = 8 }; /* a multiprocessor holds no more of attn_decode */
    if (check_shape(c->shape, err) != 0 || rope_open(&c->rope, c->m, err) != 0 || set_sizes(c, err) != 0 ||
        cuda_kernels_new(&c->kernels, dev, err) != 0 || cuda_weights_plan(c, err) != 0 || want_kernels(c, err) != 0)
        return -1;
    c->most_splits = attn_decode_splits(dev->facts.sms, DECODE_BLOCKS, c->shape->kv_heads, c->rows);
    c->staged_bytes = cuda_staged_bytes(c);
    if (cuda_memory_open(c, err) != 0)
        return -1;
    timeline("GPU memory");
    if (cuda_products_start(c, err) != 0 || load_all(c, o, err) != 0 || cuda_products_check(c, err) != 0)
        return -1;
    set_grids(c);
    int rc = clear(c, err);
    timeline("backend open");
    return rc;
}

int backend_cuda_kernels(struct model_kernels *list, const struct model *m, const struct cascade_params *p,
                         const char *type, struct err *err)
{
    struct backend be = {.state = err_calloc(1, sizeof(struct cuda_backend), "the list of kernels", err)};
    struct cuda_backend *c = be.state;
    int rc = -1;
    if (!c)
        return -1;
    c->m = m;
    c->shape = &m->shape;
    c->p = *p;
    c->bf16 = type ? !strcmp(type, "bf16") : wants_bf16(m, NULL);
    if (check_shape(c->shape, err) == 0 && set_sizes(c, err) == 0 && cuda_kernels_new(&c->kernels, NULL, err) == 0 &&
        (!m->layer || cuda_weights_plan(c, err) == 0) && want_kernels(c, err) == 0) /* a shape alone has no weights */
        rc = 0;
    for (int i = 0; rc == 0 && i < cuda_kernels_count(c->kernels); i++) {
        const char *kernel, *params;
        const struct pairs *own = cuda_kernels_wanted(c->kernels, i, &kernel, &params);
        rc = model_kernels_add(list, kernel, params, own, err);
    }
    cuda_kernels_free(c->kernels);
    close_backend(&be);
    return rc;
}

int backend_cuda_open_on(struct backend *be, struct device *dev, const struct model *m, const struct cascade_params *p,
                         const struct backend_options *o, struct err *err)
{
    *be = (struct backend){
        .name = "cuda",
        .begin = begin,
        .attend = attend,
        .feed_forward = feed_forward,
        .end = end,
        .logits = logits,
        .likelihoods = likelihoods,
        .pick = pick,
        .reset = reset,
        .origins = origins,
        .scores = scores,
        .read_layer = read_layer,
        .write_layer = write_layer,
        .set_clock = set_clock,
        .close = close_backend,
        .seen = seen,
        .cache_bytes = cache_bytes,
    };
    struct cuda_backend *c = err_calloc(1, sizeof *c, "the CUDA backend", err);
    if (!c) {
        dev->close(dev);
        return -1;
    }
    be->state = c;
    c->dev = *dev;
    c->m = m;
    c->shape = &m->shape;
    c->p = *p;
    c->bf16 = wants_bf16(m, o);
    be->cache_type = c->bf16 ? QUANT_BF16 : QUANT_F16;
    if (open_parts(c, o, err) == 0)
        return 0;
    close_backend(be);
    return -1;
}

int backend_cuda_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                      const struct backend_options *o, struct err *err)
{
    struct device dev;
    if (device_cuda_open(&dev, o ? o->gpu : 0, err) != 0)
        return -1;
    return backend_cuda_open_on(be, &dev, m, p, o, err);
}
