/* Attention over the cache's runs and the causal chunk, with the exact column sums of P for the scores (design, section 4). A
 * tile of queries keeps its logits over all keys in the second-level cache, so that P is made once and serves output and
 * scores alike: nothing is computed twice, nothing approximated. */
#include <math.h>
#include <string.h>

#include "backend_cpu.h"

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int up_to(int n, int multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* --- the chunk's q, k, v in place ------------------------------------------------------------------------------------------ */

struct attention_job {
    struct cpu *c;
    int layer;
    const struct cpu_cache *cache;
    _Atomic int *splits_left; /* [KV] decoding: splits of a key head that are not done */
};

/* Element e of row r of a head's keys in panel form. */
static size_t key_at(const struct cpu *c, int r, int e)
{
    return ((size_t)(r / PANEL) * (size_t)c->dp + (size_t)e) * PANEL + (size_t)(r % PANEL);
}

static void take_row(const struct cpu *c, float *x, const float *src, const struct tensor *bias, int head, float *room,
                     bool interleave)
{
    int d = c->shape->head_dim;
    memcpy(x, src, (size_t)d * sizeof *x);
    if (bias)
        c->simd->add_scaled(x, (const float *)bias->data + (size_t)head * (size_t)d, 1, d);
    if (interleave)
        rope_interleave(&c->rope, x, room);
}

/* One head (query heads, then key heads, then value heads) of 16 tokens. */
static void split_item(void *context, int item, int thread)
{
    struct attention_job *j = context;
    struct cpu *c = j->c;
    const struct model_layer *l = &c->m->layer[j->layer];
    int H = c->shape->heads, KV = c->shape->kv_heads, d = c->shape->head_dim, heads = H + 2 * KV;
    int head = item % heads, t0 = item / heads * PANEL, t1 = least(c->T, t0 + PANEL);
    size_t stride = (size_t)c->stride_rows, dp = (size_t)c->dp;
    bool interleave = !c->shape->rope_interleaved;
    float *room = c->scratch[thread].key;
    for (int t = t0; t < t1; t++) {
        const float *src = c->wide + (size_t)t * (size_t)c->qkv + (size_t)head * (size_t)d,
                    *cs = c->chunk_turn + (size_t)t * dp;
        if (head < H) {
            float *q = c->q + ((size_t)head * stride + (size_t)t) * dp;
            take_row(c, q, src, l->bq, head, room, interleave);
            c->simd->rotate(q, q, cs, d / 2);
        } else if (head < H + KV) {
            int kv = head - H;
            float *k = c->k + ((size_t)kv * stride + (size_t)t) * dp, *kr = c->kr + (size_t)kv * stride * dp;
            take_row(c, k, src, l->bk, kv, room, interleave);
            c->simd->rotate(k, room, cs, d / 2);
            for (int e = 0; e < d; e++)
                kr[key_at(c, t, e)] = room[e];
        } else {
            int kv = head - H - KV;
            take_row(c, c->v + ((size_t)kv * stride + (size_t)t) * dp, src, l->bv, kv, room, false);
        }
    }
}

/* --- pieces ---------------------------------------------------------------------------------------------------------------- */

static bool is_chunk(const struct cpu *c, int segment)
{
    return segment == c->nsegments;
}

/* Keys and values of a key head that a segment's columns stand for. */
static const float *segment_keys(const struct cpu *c, const struct cpu_cache *cache, int segment, int kv)
{
    size_t dp = (size_t)c->dp, stride = (size_t)c->stride_rows;
    if (is_chunk(c, segment))
        return c->kr + (size_t)kv * stride * dp;
    return cache->k + ((size_t)kv * (size_t)c->panels + (size_t)c->segment[segment].panel) * dp * PANEL;
}

static const float *segment_values(const struct cpu *c, const struct cpu_cache *cache, int segment, int kv)
{
    size_t dp = (size_t)c->dp, stride = (size_t)c->stride_rows;
    if (is_chunk(c, segment))
        return c->v + (size_t)kv * stride * dp;
    return cache->v + ((size_t)kv * (size_t)c->rows + (size_t)c->segment[segment].panel * PANEL) * dp;
}

/* Queries [n][dp] at q, turned for a segment; the chunk's and those of original positions are as they are. */
static const float *turned_queries(const struct cpu *c, int segment, const float *q, size_t q_row, int n, float *room)
{
    if (is_chunk(c, segment) || c->p.positions == POSITIONS_ORIGINAL)
        return q;
    const float *cs = c->run_turn + (size_t)segment * (size_t)c->dp;
    for (int i = 0; i < n; i++)
        c->simd->rotate(q + (size_t)i * q_row, room + (size_t)i * (size_t)c->dp, cs, c->shape->head_dim / 2);
    return room;
}

static void mask(float *x, int from, int to)
{
    for (int i = from; i < to; i++)
        x[i] = -INFINITY;
}

/* logits [n][row] = q . k, not scaled, for panels [first, first + panels) of a segment's keys. */
static void key_product(const struct cpu *c, const float *q, size_t q_row, int n, const float *k, int panels,
                        float *logits, size_t row)
{
    struct simd_product p = {.m = n,
                             .panels = panels,
                             .k = c->dp,
                             .a = q,
                             .a_row = q_row,
                             .b = k,
                             .b_k = PANEL,
                             .b_panel = (size_t)c->dp * PANEL,
                             .c = logits,
                             .c_row = row};
    c->simd->product(&p);
}

/* out [n][dp] (+)= p [n][row] times `len` rows of values */
static void value_product(const struct cpu *c, const float *p, size_t row, int n, const float *v, int len, float *out,
                          bool add)
{
    struct simd_product product = {.m = n,
                                   .panels = c->dp / PANEL,
                                   .k = len,
                                   .a = p,
                                   .a_row = row,
                                   .b = v,
                                   .b_k = (size_t)c->dp,
                                   .b_panel = PANEL,
                                   .c = out,
                                   .c_row = (size_t)c->dp,
                                   .add = add};
    c->simd->product(&product);
}

/* --- a chunk --------------------------------------------------------------------------------------------------------------- */

/* Logits of queries [m0, m1) of a head over all columns that they see; returns how many those are. */
static int tile_logits(const struct cpu *c, struct cpu_scratch *s, const struct attention_job *j, int head, int m0,
                       int m1)
{
    int n = m1 - m0, kv = head / c->group, seen = up_to(m1, PANEL);
    size_t dp = (size_t)c->dp, row = (size_t)c->columns_room;
    const float *q = c->q + ((size_t)head * (size_t)c->stride_rows + (size_t)m0) * dp;
    for (int i = 0; i <= c->nsegments; i++) {
        const struct cpu_segment *g = &c->segment[i];
        int panels = is_chunk(c, i) ? seen / PANEL : g->panels;
        const float *turned = turned_queries(c, i, q, dp, n, s->query);
        key_product(c, turned, dp, n, segment_keys(c, j->cache, i, kv), panels, s->logits + g->column, row);
        for (int m = 0; m < n; m++) {
            float *x = s->logits + (size_t)m * row + g->column;
            mask(x, 0, g->skip);
            mask(x, is_chunk(c, i) ? m0 + m + 1 : g->skip + g->len, panels * PANEL);
        }
    }
    return c->segment[c->nsegments].column + seen;
}

static void tile_output(const struct cpu *c, struct cpu_scratch *s, const struct attention_job *j, int head, int m0,
                        int m1, const float *inverse)
{
    int d = c->shape->head_dim, kv = head / c->group;
    size_t row = (size_t)c->columns_room, dp = (size_t)c->dp;
    for (int i = 0; i <= c->nsegments; i++) {
        const struct cpu_segment *g = &c->segment[i];
        int len = is_chunk(c, i) ? m1 : g->len;
        value_product(c, s->logits + g->column + g->skip, row, m1 - m0,
                      segment_values(c, j->cache, i, kv) + (size_t)g->skip * dp, len, s->out, i > 0);
    }
    for (int m = m0; m < m1; m++) {
        float *out = c->att + ((size_t)m * (size_t)c->shape->heads + (size_t)head) * (size_t)d;
        for (int e = 0; e < d; e++)
            out[e] = s->out[(size_t)(m - m0) * dp + (size_t)e] * inverse[m - m0];
    }
}

/* Every CPU_PARTS-th tile of queries of one head. */
static void chunk_item(void *context, int item, int thread)
{
    struct attention_job *j = context;
    struct cpu *c = j->c;
    struct cpu_scratch *s = &c->scratch[thread];
    int head = item / CPU_PARTS, part = item % CPU_PARTS;
    float *sums = c->sums + (size_t)item * (size_t)c->columns_room;
    memset(sums, 0, (size_t)c->columns * sizeof *sums);
    for (int m0 = part * c->queries; m0 < c->T; m0 += CPU_PARTS * c->queries) {
        int m1 = least(c->T, m0 + c->queries), n = m1 - m0, columns = tile_logits(c, s, j, head, m0, m1);
        float inverse[CPU_QUERIES], weight[CPU_QUERIES];
        for (int m = 0; m < n; m++) {
            float *x = s->logits + (size_t)m * (size_t)c->columns_room;
            float top = c->simd->max(x, columns) * c->scale;
            inverse[m] = 1 / c->simd->exp2_sum(x, columns, c->scale, top);
            weight[m] = c->weight[m0 + m] * inverse[m];
        }
        struct simd_product columns_product = {.m = 1,
                                               .panels = columns / PANEL,
                                               .k = n,
                                               .a = weight,
                                               .b = s->logits,
                                               .b_k = (size_t)c->columns_room,
                                               .b_panel = PANEL,
                                               .c = sums,
                                               .add = true};
        c->simd->product(&columns_product);
        tile_output(c, s, j, head, m0, m1, inverse);
    }
}

/* Adds up the parts of the heads that share a cascade, and inserts. */
static void chunk_insert_item(void *context, int item, int thread)
{
    struct attention_job *j = context;
    struct cpu *c = j->c;
    int heads = c->shape->heads / c->cascades;
    const float *sum[heads];
    for (int h = 0; h < heads; h++) {
        float *parts = c->sums + ((size_t)item * (size_t)heads + (size_t)h) * CPU_PARTS * (size_t)c->columns_room;
        for (int part = 1; part < CPU_PARTS; part++)
            c->simd->add_scaled(parts, parts + (size_t)part * (size_t)c->columns_room, 1, c->columns);
        sum[h] = parts;
    }
    cpu_insert(c, &c->scratch[thread], j->layer, item, sum, heads);
}

/* --- one token ----------------------------------------------------------------------------------------------------------------- */

/* Splits of the columns in decoding. */
static int splits_of(const struct cpu *c)
{
    return up_to(c->columns, CPU_SPLIT) / CPU_SPLIT;
}

/* Of one query head: output [dp], largest logit and sum of a split; those of its next split follow. */
static float *split_share(const struct cpu *c, int head, int split)
{
    return c->split + ((size_t)head * (size_t)splits_of(c) + (size_t)split) * ((size_t)c->dp + 2);
}

/* Logits of columns [from, to) for the query heads of one key head, to logits [G][room] at column 0. */
static void split_logits(const struct cpu *c, struct cpu_scratch *s, const struct attention_job *j, int kv, int from,
                         int to, float *logits)
{
    int G = c->group;
    size_t dp = (size_t)c->dp, stride = (size_t)c->stride_rows, room = (size_t)c->columns_room;
    const float *q = c->q + (size_t)kv * (size_t)G * stride * dp;
    for (int i = 0; i <= c->nsegments; i++) {
        const struct cpu_segment *g = &c->segment[i];
        int a = from > g->column ? from : g->column, b = least(to, g->column + g->panels * PANEL);
        if (a >= b)
            continue;
        const float *turned = turned_queries(c, i, q, stride * dp, G, s->query);
        key_product(c, turned, turned == q ? stride * dp : dp, G,
                    segment_keys(c, j->cache, i, kv) + (size_t)(a - g->column) * dp, (b - a) / PANEL, logits + a, room);
        for (int h = 0; h < G; h++) {
            float *x = logits + (size_t)h * room + g->column;
            mask(x, a - g->column, least(b - g->column, g->skip));
            mask(x, a - g->column > g->skip + g->len ? a - g->column : g->skip + g->len, b - g->column);
        }
    }
}

/* out [G][dp] = p [G][room] times the values of columns [from, to). */
static void split_output(const struct cpu *c, const struct attention_job *j, int kv, int from, int to, const float *p,
                         float *out)
{
    size_t dp = (size_t)c->dp, room = (size_t)c->columns_room;
    bool first = true;
    for (int i = 0; i <= c->nsegments; i++) {
        const struct cpu_segment *g = &c->segment[i];
        int start = g->column + g->skip, a = from > start ? from : start, b = least(to, start + g->len);
        const float *v = segment_values(c, j->cache, i, kv);
        for (int next; a < b; a = next, first = false) {
            next = least(b, a + CPU_VALUE_ROWS);
            value_product(c, p + a, room, c->group, v + (size_t)(a - g->column) * dp, next - a, out, !first);
        }
    }
}

/* Columns [split * CPU_SPLIT, ...) for all query heads of one key head: e^logit over this split's largest to c->sums, and its share of
 * the output with that largest logit and the sum. */
static void decode_split(struct cpu *c, struct cpu_scratch *s, const struct attention_job *j, int kv, int split)
{
    int G = c->group, from = split * CPU_SPLIT, to = least(c->columns, from + CPU_SPLIT);
    size_t dp = (size_t)c->dp, room = (size_t)c->columns_room;
    float *p = c->sums + (size_t)kv * (size_t)G * room;
    split_logits(c, s, j, kv, from, to, p);
    float *share = split_share(c, kv * G, split);
    size_t next = (size_t)splits_of(c) * (dp + 2);
    for (int h = 0; h < G; h++) {
        float *x = p + (size_t)h * room + from, *m_l = share + (size_t)h * next + dp;
        m_l[0] = c->simd->max(x, to - from) * c->scale;
        m_l[1] = c->simd->exp2_sum(x, to - from, c->scale, m_l[0]);
    }
    split_output(c, j, kv, from, to, p, s->out);
    for (int h = 0; h < G; h++)
        memcpy(share + (size_t)h * next, s->out + (size_t)h * dp, dp * sizeof *share);
}

/* Joins the splits of one query head: output to c->att, and its row of c->sums becomes P. */
static void decode_merge(struct cpu *c, int head)
{
    int splits = splits_of(c), d = c->shape->head_dim;
    size_t dp = (size_t)c->dp;
    const float *share = split_share(c, head, 0);
    float top = -INFINITY, sum = 0, *out = c->att + (size_t)head * (size_t)d;
    for (int i = 0; i < splits; i++)
        top = fmaxf(top, share[(size_t)i * (dp + 2) + dp]);
    for (int i = 0; i < splits; i++)
        sum += exp2f(share[(size_t)i * (dp + 2) + dp] - top) * share[(size_t)i * (dp + 2) + dp + 1];
    memset(out, 0, (size_t)d * sizeof *out);
    for (int i = 0; i < splits; i++) {
        float part = exp2f(share[(size_t)i * (dp + 2) + dp] - top) / sum;
        float *p = c->sums + (size_t)head * (size_t)c->columns_room + (size_t)i * CPU_SPLIT;
        c->simd->add_scaled(out, share + (size_t)i * (dp + 2), part, d);
        c->simd->scale(p, part, least(CPU_SPLIT, c->columns - i * CPU_SPLIT));
    }
}

static void decode_finish(struct cpu *c, struct cpu_scratch *s, int layer, int cascade)
{
    int heads = c->shape->heads / c->cascades;
    const float *sum[heads];
    for (int h = 0; h < heads; h++) {
        decode_merge(c, cascade * heads + h);
        sum[h] = c->sums + (size_t)(cascade * heads + h) * (size_t)c->columns_room;
    }
    cpu_insert(c, s, layer, cascade, sum, heads);
}

/* Whoever does the last split of a cascade joins them. */
static void decode_item(void *context, int item, int thread)
{
    struct attention_job *j = context;
    struct cpu *c = j->c;
    int kv = item / splits_of(c), cascade = c->cascades == 1 ? 0 : kv;
    decode_split(c, &c->scratch[thread], j, kv, item % splits_of(c));
    if (atomic_fetch_sub_explicit(&j->splits_left[cascade], 1, memory_order_acq_rel) == 1)
        decode_finish(c, &c->scratch[thread], j->layer, cascade);
}

/* --------------------------------------------------------------------------------------------------------------------------- */

void cpu_attention(struct cpu *c, int layer)
{
    struct attention_job j = {.c = c, .layer = layer, .cache = &c->cache[layer]};
    int H = c->shape->heads, KV = c->shape->kv_heads;
    pool_run(c->pool, (H + 2 * KV) * (up_to(c->T, PANEL) / PANEL), split_item, &j);
    if (c->T == 1) {
        _Atomic int left[c->cascades];
        for (int i = 0; i < c->cascades; i++)
            atomic_init(&left[i], splits_of(c) * KV / c->cascades);
        j.splits_left = left;
        pool_run(c->pool, KV * splits_of(c), decode_item, &j);
    } else {
        pool_run(c->pool, H * CPU_PARTS, chunk_item, &j);
        pool_run(c->pool, c->cascades, chunk_insert_item, &j);
    }
}
