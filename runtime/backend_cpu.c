/* The CPU backend: opening, memory, and the order of a layer's steps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend_cpu.h"
#include "memory.h"

enum { HUGE_PAGE = 2 << 20 }; /* bytes */

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int up_to(int n, int multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* --- memory ------------------------------------------------------------------------------------------------------------------ */

/* Sizes that follow from model and cascade alone. */
static void set_sizes(struct cpu *c, const struct model *m, const struct cascade_params *p)
{
    const struct model_shape *s = &m->shape;
    c->m = m;
    c->shape = s;
    c->p = *p;
    c->dp = up_to(s->head_dim, PANEL);
    c->stride_rows = p->stride < INT32_MAX - PANEL ? up_to(p->stride, PANEL) : INT32_MAX / PANEL * PANEL;
    c->group = s->heads / s->kv_heads;
    c->qkv = (s->heads + 2 * s->kv_heads) * s->head_dim;
    c->rows = cascade_rows(p);
    c->panels = up_to(c->rows, PANEL) / PANEL;
    c->cascades = p->policy == POLICY_HOMOGENEOUS ? 1 : s->kv_heads;
    c->scale = (float)(1.44269504088896340736 / sqrt(s->head_dim));
    /* A power of two between rows of logits would put them all into the same few cache lines. A window for which an int is too
     * small is refused for its memory. */
    int64_t room = (int64_t)c->rows + c->stride_rows + CASCADE_MAX_RUNS * 2 * PANEL + 4 * PANEL;
    c->columns_room = room < INT32_MAX / 2 ? up_to((int)room, 4 * PANEL) + PANEL : INT32_MAX / 2;
    enum { LOGITS = 3 << 16 }; /* of a tile: what the second-level cache holds beside keys and values */
    int queries = LOGITS / c->columns_room / 6 * 6;
    c->queries = queries < 12 ? 12 : least(queries, CPU_QUERIES);
}

/* One array after another of a single allocation, or, where `base` is NULL, only their sum. */
struct carver {
    unsigned char *base;
    double bytes; /* a double cannot overflow; what does not fit a size_t is refused */
};

static void *carve(struct carver *v, double count, size_t size)
{
    void *p = v->base ? v->base + (size_t)v->bytes : NULL;
    v->bytes += ceil(count * (double)size / 64) * 64;
    return p;
}

static void carve_scratch(struct carver *v, const struct cpu *c, struct cpu_scratch *s)
{
    double queries = c->queries > c->group ? c->queries : c->group, dp = c->dp;
    s->expanded = carve(v, (double)PANEL * CPU_DEPTH, sizeof(float));
    s->panel = carve(v, (double)CPU_DEPTH * CPU_BLOCK, sizeof(float));
    s->tile = carve(v, 2.0 * CPU_ROWS * CPU_BLOCK, sizeof(float));
    s->logits = carve(v, (double)c->queries * c->columns_room, sizeof(float));
    s->query = carve(v, queries * dp, sizeof(float));
    s->out = carve(v, queries * dp, sizeof(float));
    s->columns = carve(v, c->columns_room, sizeof(float));
    s->key = carve(v, 2 * dp, sizeof(float));
    s->winner = carve(v, c->p.window, sizeof(int32_t));
}

static void carve_activations(struct carver *v, struct cpu *c)
{
    const struct model_shape *s = c->shape;
    double T = c->stride_rows, dp = c->dp, H = s->heads, KV = s->kv_heads;
    double splits = (double)c->columns_room / CPU_SPLIT + 1, wide = c->qkv > s->ffn ? c->qkv : s->ffn;
    double widest = fmax(fmax(s->hidden, s->ffn), H * s->head_dim);
    c->weight = carve(v, T, sizeof(float));
    c->run_turn = carve(v, CASCADE_MAX_RUNS * dp, sizeof(float));
    c->chunk_turn = carve(v, T * dp, sizeof(float));
    c->x = carve(v, T * s->hidden, sizeof(float));
    c->xn = carve(v, T * s->hidden, sizeof(float));
    c->wide = carve(v, T * wide, sizeof(float));
    c->q = carve(v, H * T * dp, sizeof(float));
    c->k = carve(v, KV * T * dp, sizeof(float));
    c->kr = carve(v, KV * T * dp, sizeof(float));
    c->v = carve(v, KV * T * dp, sizeof(float));
    c->att = carve(v, T * H * s->head_dim, sizeof(float));
    c->sums = carve(v, H * CPU_PARTS * c->columns_room, sizeof(float));
    c->split = carve(v, H * splits * (dp + 2), sizeof(float));
    for (int i = 0; i < CPU_MATVEC_TOKENS; i++) {
        c->row[i].room = carve(v, (double)simd_row_room((size_t)widest), 1);
    }
}

static void carve_cache(struct carver *v, const struct cpu *c, struct cpu_cache *cache)
{
    double KV = c->shape->kv_heads, dp = c->dp;
    cache->k = carve(v, KV * c->panels * PANEL * dp, sizeof(float));
    cache->v = carve(v, KV * c->rows * dp, sizeof(float));
    cache->score = carve(v, (double)c->cascades * c->rows, sizeof(float));
    cache->origin = carve(v, (double)c->cascades * c->rows, sizeof(int64_t));
}

static double cache_size(const struct cpu *c)
{
    struct carver v = {0};
    struct cpu_cache cache;
    carve_cache(&v, c, &cache);
    return v.bytes * c->shape->layers;
}

static void carve_all(struct carver *v, struct cpu *c)
{
    carve_activations(v, c);
    for (int i = 0; i < c->threads; i++)
        carve_scratch(v, c, &c->scratch[i]);
    for (int i = 0; i < c->shape->layers; i++) {
        struct cpu_cache unplaced;
        carve_cache(v, c, c->cache ? &c->cache[i] : &unplaced);
    }
}

size_t backend_cpu_bytes(const struct model *m, const struct cascade_params *p)
{
    struct cpu c = {.threads = 1};
    struct carver v = {0};
    set_sizes(&c, m, p);
    c.threads = pool_cores();
    carve_all(&v, &c);
    return v.bytes >= (double)SIZE_MAX ? SIZE_MAX : (size_t)v.bytes;
}

/* --- a chunk ------------------------------------------------------------------------------------------------------------------ */

/* The runs as columns of an attention tile, and what turns a query for each. */
static void set_segments(struct cpu *c)
{
    struct cascade_run run[CASCADE_MAX_RUNS];
    int column = 0;
    c->nsegments = cascade_runs(&c->p, &c->state, run);
    for (int i = 0; i < c->nsegments; i++) {
        struct cpu_segment *g = &c->segment[i];
        int end = run[i].row + run[i].len;
        *g = (struct cpu_segment){
            .column = column, .panel = run[i].row / PANEL, .skip = run[i].row % PANEL, .len = run[i].len};
        g->panels = up_to(end, PANEL) / PANEL - g->panel;
        column += g->panels * PANEL;
        rope_turn(&c->rope, c->held - run[i].shift, c->run_turn + (size_t)i * (size_t)c->dp);
    }
    c->segment[c->nsegments] =
        (struct cpu_segment){.column = column, .panels = up_to(c->T, PANEL) / PANEL, .len = c->T};
    c->columns = column + up_to(c->T, PANEL);
}

static int begin(struct backend *be, const int32_t *tokens, int T, struct err *err)
{
    struct cpu *c = be->state;
    const struct model_shape *s = c->shape;
    const struct tensor *e = c->m->embed;
    if (T < 1 || T > c->p.stride)
        return err_set(err, "a chunk of %d tokens; 1 to %d (the stride) can be taken at once", T, c->p.stride);
    if (backend_check_tokens(tokens, T, s->vocab, err) != 0)
        return -1;
    size_t row = e->bytes / (size_t)s->vocab;
    for (int t = 0; t < T; t++)
        c->simd->expand(e->type, (const unsigned char *)e->data + (size_t)tokens[t] * row,
                        c->x + (size_t)t * (size_t)s->hidden, (size_t)s->hidden);
    c->T = T;
    c->held = cascade_held(&c->p, &c->state);
    set_segments(c);
    bool original = c->p.positions == POSITIONS_ORIGINAL;
    for (int t = 0; t < T && (original || c->turned < T); t++)
        rope_turn(&c->rope, original ? c->state.t + t : t, c->chunk_turn + (size_t)t * (size_t)c->dp);
    c->turned = T > c->turned ? T : c->turned;
    for (int t = 0; t < T; t++)
        c->weight[t] = (float)pow(c->p.ema, T - 1 - t);
    c->decay = (float)pow(c->p.ema, T);
    return 0;
}

struct norm_job {
    const struct cpu *c;
    const struct tensor *weight;
    const float *x;
    float *y;
    int T;
};

static void norm_item(void *context, int item, int thread)
{
    const struct norm_job *j = context;
    size_t n = (size_t)j->c->shape->hidden;
    for (int t = item * PANEL; t < least(j->T, (item + 1) * PANEL); t++)
        j->c->simd->rms_norm(j->x + (size_t)t * n, j->weight->data, j->y + (size_t)t * n, (int)n,
                             j->c->shape->norm_eps);
}

static void norm(struct cpu *c, const struct tensor *weight, const float *x, int T)
{
    struct norm_job j = {.c = c, .weight = weight, .x = x, .y = c->xn, .T = T};
    pool_run(c->pool, up_to(T, PANEL) / PANEL, norm_item, &j);
}

static int attend(struct backend *be, int layer, struct err *err)
{
    (void)err;
    struct cpu *c = be->state;
    const struct model_layer *l = &c->m->layer[layer];
    size_t hidden = (size_t)c->shape->hidden, qkv = (size_t)c->qkv,
           heads = (size_t)c->shape->heads * (size_t)c->shape->head_dim;
    float *q = c->wide, *k = q + heads, *v = k + (qkv - heads) / 2;
    const struct weave_layer w = cpu_woven(c, layer);
    norm(c, l->attn_norm, c->x, c->T);
    cpu_linears(
        c,
        (struct cpu_linear[]){{l->wq, w.wq, q, qkv, false}, {l->wk, w.wk, k, qkv, false}, {l->wv, w.wv, v, qkv, false}},
        3, c->xn, hidden, c->T);
    cpu_attention(c, layer);
    cpu_linears(c, &(struct cpu_linear){l->wo, w.wo, c->x, hidden, true}, 1, c->att, heads, c->T);
    return 0;
}

static int feed_forward(struct backend *be, int layer, struct err *err)
{
    (void)err;
    struct cpu *c = be->state;
    const struct model_layer *l = &c->m->layer[layer];
    size_t hidden = (size_t)c->shape->hidden;
    norm(c, l->ffn_norm, c->x, c->T);
    cpu_gated(c, layer, c->xn, hidden, c->T, c->wide);
    cpu_linears(c, &(struct cpu_linear){l->down, cpu_woven(c, layer).down, c->x, hidden, true}, 1, c->wide,
                (size_t)c->shape->ffn, c->T);
    return 0;
}

static int end(struct backend *be, struct err *err)
{
    (void)err;
    struct cpu *c = be->state;
    cascade_state_at(&c->p, c->state.t + c->T, &c->state);
    return 0;
}

static int logits(struct backend *be, int row, int n, float *out, struct err *err)
{
    struct cpu *c = be->state;
    size_t hidden = (size_t)c->shape->hidden;
    if (row < 0 || n < 1 || n > c->T - row)
        return err_set(err, "logits of rows %d to %d were asked for; the last chunk had %d", row, row + n - 1, c->T);
    norm(c, c->m->out_norm, c->x + (size_t)row * hidden, n);
    const struct cpu_linear output = {c->m->output, c->woven ? c->woven->output : NULL, out, (size_t)c->shape->vocab,
                                      false};
    cpu_linears(c, &output, 1, c->xn, hidden, n);
    return 0;
}

/* --- a stream ------------------------------------------------------------------------------------------------------------------ */

static void reset(struct backend *be)
{
    struct cpu *c = be->state;
    size_t n = (size_t)c->cascades * (size_t)c->rows;
    cascade_state_at(&c->p, 0, &c->state);
    c->T = 0;
    for (int i = 0; i < c->shape->layers; i++) {
        memset(c->cache[i].score, 0, n * sizeof *c->cache[i].score);
        memset(c->cache[i].origin, 0xff, n * sizeof *c->cache[i].origin);
    }
}

static int row_of(const struct cpu *c, int layer, int head, size_t *row, struct err *err)
{
    if (layer < 0 || layer >= c->shape->layers || head < 0 || head >= c->shape->kv_heads)
        return err_set(err, "layer %d, key head %d: the model has %d layers with %d", layer, head, c->shape->layers,
                       c->shape->kv_heads);
    *row = (size_t)(c->cascades == 1 ? 0 : head) * (size_t)c->rows;
    return 0;
}

static int origins(struct backend *be, int layer, int head, int64_t *origin, struct err *err)
{
    const struct cpu *c = be->state;
    size_t row;
    if (row_of(c, layer, head, &row, err) < 0)
        return -1;
    memcpy(origin, c->cache[layer].origin + row, (size_t)c->rows * sizeof *origin);
    return 0;
}

static int scores(struct backend *be, int layer, int head, float *score, struct err *err)
{
    const struct cpu *c = be->state;
    size_t row;
    if (row_of(c, layer, head, &row, err) < 0)
        return -1;
    memcpy(score, c->cache[layer].score + row, (size_t)c->rows * sizeof *score);
    return 0;
}

/* Keys lie in panels and heads are padded here; a struct cache_layer has neither. */
static int read_layer(struct backend *be, int layer, const struct cache_layer *to, struct err *err)
{
    const struct cpu *c = be->state;
    size_t row;
    if (row_of(c, layer, 0, &row, err) < 0)
        return -1;
    const struct cpu_cache *cache = &c->cache[layer];
    size_t dp = (size_t)c->dp, d = (size_t)c->shape->head_dim, rows = (size_t)c->rows;
    float *k = to->k, *v = to->v;
    for (int kv = 0; kv < c->shape->kv_heads; kv++) {
        const float *head = cache->k + (size_t)kv * (size_t)c->panels * PANEL * dp;
        const float *value = cache->v + (size_t)kv * rows * dp;
        for (size_t r = 0; r < rows; r++, k += d, v += d) {
            for (size_t e = 0; e < d; e++)
                k[e] = head[(r / PANEL * dp + e) * PANEL + r % PANEL];
            memcpy(v, value + r * dp, d * sizeof *v);
        }
    }
    memcpy(to->score, cache->score, (size_t)c->cascades * rows * sizeof *to->score);
    memcpy(to->origin, cache->origin, (size_t)c->cascades * rows * sizeof *to->origin);
    return 0;
}

static int write_layer(struct backend *be, int layer, const struct cache_layer *from, struct err *err)
{
    const struct cpu *c = be->state;
    size_t row;
    if (row_of(c, layer, 0, &row, err) < 0)
        return -1;
    const struct cpu_cache *cache = &c->cache[layer];
    size_t dp = (size_t)c->dp, d = (size_t)c->shape->head_dim, rows = (size_t)c->rows;
    const float *k = from->k, *v = from->v;
    for (int kv = 0; kv < c->shape->kv_heads; kv++) {
        float *head = cache->k + (size_t)kv * (size_t)c->panels * PANEL * dp,
              *value = cache->v + (size_t)kv * rows * dp;
        for (size_t r = 0; r < rows; r++, k += d, v += d) {
            for (size_t e = 0; e < d; e++)
                head[(r / PANEL * dp + e) * PANEL + r % PANEL] = k[e];
            memcpy(value + r * dp, v, d * sizeof *v);
        }
    }
    memcpy(cache->score, from->score, (size_t)c->cascades * rows * sizeof *from->score);
    memcpy(cache->origin, from->origin, (size_t)c->cascades * rows * sizeof *from->origin);
    return 0;
}

static int set_clock(struct backend *be, int64_t t, struct err *err)
{
    struct cpu *c = be->state;
    if (t < 0)
        return err_set(err, "a stream cannot have seen %lld tokens", (long long)t);
    cascade_state_at(&c->p, t, &c->state);
    c->T = 0;
    return 0;
}

static int64_t seen(const struct backend *be)
{
    return ((const struct cpu *)be->state)->state.t;
}

static size_t cache_bytes(const struct backend *be)
{
    return (size_t)cache_size(be->state);
}

static void close_backend(struct backend *be)
{
    struct cpu *c = be->state;
    if (!c)
        return;
    for (int i = 0; i < c->threads; i++)
        cascade_plan_free(&c->scratch[i].plan);
    pool_close(c->pool);
    rope_close(&c->rope);
    if (c->memory)
        munmap(c->memory, c->memory_bytes);
    free(c->cache);
    free(c);
    be->state = NULL;
}

/* One mapping for all arrays, zeroed: the system gives its pages when they are first written to, so a cache that is not full yet
 * costs about what is in it. */
static int allocate(struct cpu *c, struct err *err)
{
    struct carver v = {0};
    carve_all(&v, c);
    c->cache = err_calloc((size_t)c->shape->layers, sizeof *c->cache, "the cache's layers", err);
    if (!c->cache)
        return -1;
    char what[64];
    snprintf(what, sizeof what, "--window %d with --stride %d", c->p.window, c->p.stride);
    if (memory_check(v.bytes >= (double)SIZE_MAX ? SIZE_MAX : (size_t)v.bytes, what, err) < 0)
        return -1;
    size_t bytes = (size_t)v.bytes + HUGE_PAGE;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return err_set(err, "%s: the system refuses %.1f GB of memory", what, (double)bytes / 1e9);
    c->memory = memory;
    c->memory_bytes = bytes;
    /* Decoding reads the whole cache for each token: with small pages, it would look up an address for every 16 keys. */
    v = (struct carver){.base = (unsigned char *)(((uintptr_t)memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE)};
    (void)madvise(v.base, bytes - HUGE_PAGE, MADV_HUGEPAGE);
    carve_all(&v, c);
    for (int i = 0; i < c->threads; i++)
        if (cascade_plan_init(&c->scratch[i].plan, &c->p, err) < 0)
            return -1;
    return 0;
}

int backend_cpu_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                     const struct backend_options *o, struct err *err)
{
    *be = (struct backend){
        .name = "cpu",
        .cache_type = QUANT_F32,
        .begin = begin,
        .attend = attend,
        .feed_forward = feed_forward,
        .end = end,
        .logits = logits,
        .likelihoods = cpu_likelihoods,
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
    struct cpu *c = err_calloc(1, sizeof *c, "the CPU backend", err);
    if (!c)
        return -1;
    be->state = c;
    set_sizes(c, m, p);
    c->simd = o && o->simd ? simd_named(o->simd) : simd_best();
    if (!c->simd) {
        err_set(err, "this machine does not run the vector version '%s'", o->simd);
        goto failed;
    }
    if (pool_open(&c->pool, o ? o->threads : 0, err) < 0)
        goto failed;
    c->threads = pool_threads(c->pool);
    if (rope_open(&c->rope, m, err) < 0 || allocate(c, err) < 0)
        goto failed;
    c->woven = weave_model(m, c->simd, c->pool);
    for (int i = 0; i < CPU_MATVEC_TOKENS; i++)
        c->row[i].coarse = o && o->int8_activations;
    reset(be);
    return 0;
failed:
    close_backend(be);
    return -1;
}
