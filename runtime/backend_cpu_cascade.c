/* Scores and insertion of one chunk into one cascade of a layer: cascade.c says what moves, this file moves it. */
#include <stdlib.h>
#include <string.h>

#include "backend_cpu.h"

/* --- scores ------------------------------------------------------------------------------------------------------------------ */

/* The lower of the middle two where `heads` is even. */
static float median(float *x, int heads)
{
    for (int i = 1; i < heads; i++) {
        float v = x[i];
        int j = i;
        for (; j > 0 && x[j - 1] > v; j--)
            x[j] = x[j - 1];
        x[j] = v;
    }
    return x[(heads - 1) / 2];
}

/* out [n] = the column sums of the heads, reduced. */
static void reduce(const struct cpu *c, const float *const *sum, int heads, int n, float *out)
{
    memcpy(out, sum[0], (size_t)n * sizeof *out);
    switch (heads > 1 ? c->p.reduction : REDUCE_MAX) {
    case REDUCE_MEAN:
        for (int h = 1; h < heads; h++)
            c->simd->add_scaled(out, sum[h], 1, n);
        c->simd->scale(out, 1 / (float)heads, n);
        break;
    case REDUCE_MAX:
        for (int h = 1; h < heads; h++)
            for (int i = 0; i < n; i++)
                out[i] = sum[h][i] > out[i] ? sum[h][i] : out[i];
        break;
    case REDUCE_MEDIAN:
        for (int i = 0; i < n; i++) {
            float of_head[heads];
            for (int h = 0; h < heads; h++)
                of_head[h] = sum[h][i];
            out[i] = median(of_head, heads);
        }
        break;
    }
}

/* score <- gamma^T * score + reduced, for the rows of the runs. */
static void update_scores(const struct cpu *c, const float *reduced, float *score)
{
    for (int i = 0; i < c->nsegments; i++) {
        const struct cpu_segment *g = &c->segment[i];
        float *to = score + g->panel * PANEL + g->skip;
        const float *from = reduced + g->column + g->skip;
        c->simd->scale(to, c->decay, g->len);
        c->simd->add_scaled(to, from, 1, g->len);
    }
}

/* --- keys and values ----------------------------------------------------------------------------------------------------------- */

static void write_key(const struct cpu *c, float *k, int row, const float *key)
{
    float *to = k + (size_t)(row / PANEL) * (size_t)c->dp * PANEL + (size_t)(row % PANEL);
    for (int e = 0; e < c->dp; e++)
        to[e * PANEL] = key[e];
}

static void read_key(const struct cpu *c, const float *k, int row, float *key)
{
    const float *from = k + (size_t)(row / PANEL) * (size_t)c->dp * PANEL + (size_t)(row % PANEL);
    for (int e = 0; e < c->dp; e++)
        key[e] = from[e * PANEL];
}

/* One head's keys and values of the spans that won a slot. A key is stored turned by its place in its ring, so it turns by
 * the difference. */
static void move_spans(const struct cpu *c, struct cpu_scratch *s, float *k, float *v)
{
    size_t dp = (size_t)c->dp;
    float *key = s->key, *cs = s->key + dp;
    for (int i = 0; i < s->plan.ngroups; i++) {
        const struct cascade_group *g = &s->plan.group[i];
        if (s->winner[i] < 0)
            continue;
        int to = cascade_group_row(&c->p, g), from = cascade_source_row(&c->p, &s->plan, g, s->winner[i]);
        bool turn = c->p.positions == POSITIONS_CACHE;
        if (turn)
            rope_turn(&c->rope, (to - cascade_ring_row(&c->p, g->sub)) - (from - cascade_ring_row(&c->p, g->sub - 1)),
                      cs);
        for (int b = 0; b < c->p.span; b++) {
            read_key(c, k, from + b, key);
            if (turn)
                c->simd->rotate(key, key, cs, c->shape->head_dim / 2);
            write_key(c, k, to + b, key);
        }
        memcpy(v + (size_t)to * dp, v + (size_t)from * dp, (size_t)c->p.span * dp * sizeof *v);
    }
}

/* Tokens [done, done + plan.tokens) of the chunk, to sinks and sub-cache 0. */
static void place_tokens(const struct cpu *c, struct cpu_scratch *s, int kv, int done, float *k, float *v)
{
    size_t dp = (size_t)c->dp, first = (size_t)kv * (size_t)c->stride_rows + (size_t)done;
    float *key = s->key, *cs = s->key + dp;
    for (int i = 0; i < s->plan.tokens; i++) {
        int row = cascade_token_row(&c->p, &s->plan, i), ring = cascade_ring_row(&c->p, 0);
        const float *turn = c->chunk_turn + (size_t)(done + i) * dp;
        if (c->p.positions == POSITIONS_CACHE) {
            rope_turn(&c->rope, row < ring ? row : row - ring, cs);
            turn = cs;
        }
        c->simd->rotate(c->k + (first + (size_t)i) * dp, key, turn, c->shape->head_dim / 2);
        memset(key + c->shape->head_dim, 0, (dp - (size_t)c->shape->head_dim) * sizeof *key);
        write_key(c, k, row, key);
        memcpy(v + (size_t)row * dp, c->v + (first + (size_t)i) * dp, dp * sizeof *v);
    }
}

/* ------------------------------------------------------------------------------------------------------------------------------- */

void cpu_insert(struct cpu *c, struct cpu_scratch *s, int layer, int i, const float *const *sum, int heads)
{
    const struct cpu_cache *cache = &c->cache[layer];
    float *score = cache->score + (size_t)i * (size_t)c->rows;
    int64_t *origin = cache->origin + (size_t)i * (size_t)c->rows;
    reduce(c, sum, heads, c->columns, s->columns);
    update_scores(c, s->columns, score);
    const float *chunk_score = s->columns + c->segment[c->nsegments].column;
    int per = c->shape->kv_heads / c->cascades;
    size_t k_head = (size_t)c->panels * PANEL * (size_t)c->dp, v_head = (size_t)c->rows * (size_t)c->dp;
    struct cascade_state state = c->state;
    for (int done = 0; done < c->T; done += s->plan.tokens, state = s->plan.after) {
        cascade_plan_make(&s->plan, &c->p, &state, c->T - done);
        cascade_decide(&c->p, &s->plan, score, origin, (uint64_t)layer * (uint64_t)c->cascades + (uint64_t)i,
                       s->winner);
        for (int kv = i * per; kv < (i + 1) * per; kv++) {
            float *k = cache->k + (size_t)kv * k_head, *v = cache->v + (size_t)kv * v_head;
            move_spans(c, s, k, v);
            place_tokens(c, s, kv, done, k, v);
        }
        cascade_carry(&c->p, &s->plan, s->winner, score, origin, chunk_score + done);
    }
}
