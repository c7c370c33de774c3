#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_prefill.h"
#include "device_kit.h"
#include "emu/emu.h"
#include "oracle_attention.h"
#include "runtime/step.h"

/* One chunk: shapes, a cache in the state after some tokens, and what the kernels made of it. */
struct prefill {
    struct cascade_params p;
    int T, d, g, kv, type;
    double size;                            /* of queries: how far scores spread; 0 for 1 */
    const char *prefill_tile, *scores_tile; /* "" for the defaults */
    int heads, rows, cascades, group,
        stride; /* group: heads a cascade; stride: elements from token to token of q, k, v */
    struct attn_step step;
    double freq[128];
    int64_t *slot;              /* [held] rotation index of a held key, by position */
    int *row;                   /* [held] its row */
    uint16_t *qkv;              /* [T][heads + 2 * kv][d], as one product makes them */
    uint16_t *k, *v;            /* [kv][rows][d] */
    float *score;               /* [cascades][rows] */
    uint16_t *o;                /* [T][heads][d] */
    float *lse, *sums;          /* [heads][T], [heads][rows + T] */
    float *chunk_score, *after; /* [cascades][T], [cascades][rows] */
};

static void prefill_close(struct prefill *c)
{
    void *all[] = {c->slot, c->row, c->qkv, c->k, c->v, c->score, c->o, c->lse, c->sums, c->chunk_score, c->after};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    memset(c, 0, sizeof *c);
}

/* Fills in what p, T, d, g, kv and type leave open, for the cache after t tokens. Rows that are not held are NaN. */
static void prefill_open(struct kit *kit, struct prefill *c, int64_t t)
{
    struct err err = {""};
    if (cascade_check(&c->p, &err) != 0)
        fail_msg("%s", err.msg);
    struct cascade_state s;
    cascade_state_at(&c->p, t, &s);
    attn_step_make(&c->step, &c->p, &s, c->T);
    c->heads = c->g * c->kv;
    c->rows = c->step.rows;
    c->cascades = c->p.policy == POLICY_HOMOGENEOUS ? 1 : c->kv;
    c->group = c->heads / c->cascades;
    c->stride = (c->heads + 2 * c->kv) * c->d;
    for (int i = 0; i < c->d / 2; i++)
        c->freq[i] = pow(10000.0, -2.0 * i / c->d);
    size_t rows = (size_t)c->rows, d = (size_t)c->d, kv = (size_t)c->kv, T = (size_t)c->T, heads = (size_t)c->heads;
    c->slot = malloc((size_t)(c->step.held + 1) * sizeof *c->slot);
    c->row = malloc((size_t)(c->step.held + 1) * sizeof *c->row);
    for (int i = 0; i < c->step.nruns; i++)
        for (int j = 0; j < c->step.run[i].len; j++) {
            c->slot[c->step.run[i].pos + j] = c->step.run[i].pos + j - c->step.run[i].shift;
            c->row[c->step.run[i].pos + j] = c->step.run[i].row + j;
        }
    c->qkv = malloc(T * (size_t)c->stride * sizeof *c->qkv);
    for (size_t i = 0; i < T * (size_t)c->stride; i++)
        c->qkv[i] =
            half_of(c->type, kit_normal(kit) * (i % (size_t)c->stride < heads * d && c->size > 0 ? c->size : 1));
    c->k = malloc(kv * rows * d * sizeof *c->k);
    c->v = malloc(kv * rows * d * sizeof *c->v);
    memset(c->k, 0xff, kv * rows * d * sizeof *c->k);
    memset(c->v, 0xff, kv * rows * d * sizeof *c->v);
    for (size_t h = 0; h < kv; h++)
        for (int j = 0; j < c->step.held; j++)
            for (size_t e = 0; e < d; e++) {
                c->k[(h * rows + (size_t)c->row[j]) * d + e] = half_of(c->type, kit_normal(kit));
                c->v[(h * rows + (size_t)c->row[j]) * d + e] = half_of(c->type, kit_normal(kit));
            }
    c->score = malloc((size_t)c->cascades * rows * sizeof *c->score);
    for (size_t i = 0; i < (size_t)c->cascades * rows; i++)
        c->score[i] = (float)fabs(kit_normal(kit));
    c->o = malloc(T * heads * d * sizeof *c->o);
    c->lse = malloc(heads * T * sizeof *c->lse);
    c->sums = malloc(heads * (rows + T) * sizeof *c->sums);
    c->chunk_score = malloc((size_t)c->cascades * T * sizeof *c->chunk_score);
    c->after = malloc((size_t)c->cascades * rows * sizeof *c->after);
}

static unsigned blocks(int n, long tile)
{
    return (unsigned)((n + tile - 1) / tile);
}

static bool by_warpgroups(const struct kit *kit)
{
    return kit->prefill || (kit->tile_of && !strcmp(kit->tile_of, "attn_prefill_wgmma"));
}

static const char *const reduction_names[] = {"mean", "max", "median"};

static void prefill_run(struct kit *kit, struct prefill *c)
{
    size_t rows = (size_t)c->rows, d = (size_t)c->d, kv = (size_t)c->kv, heads = (size_t)c->heads, T = (size_t)c->T;
    size_t cascades = (size_t)c->cascades;
    char params[128];
    struct kernel turn, prefill, scores, reduce;
    snprintf(params, sizeof params, "d=%d t=%s", c->d, c->type ? "bf16" : "fp16");
    kit_kernel(kit, &turn, "attn_turn", params);
    snprintf(params, sizeof params, "d=%d t=%s %s", c->d, c->type ? "bf16" : "fp16",
             c->prefill_tile && !by_warpgroups(kit) ? c->prefill_tile : "");
    kit_kernel(kit, &prefill, by_warpgroups(kit) ? "attn_prefill_wgmma" : "attn_prefill", params);
    snprintf(params, sizeof params, "d=%d t=%s %s", c->d, c->type ? "bf16" : "fp16",
             c->scores_tile ? c->scores_tile : "");
    kit_kernel(kit, &scores, "attn_scores", params);
    snprintf(params, sizeof params, "reduce=%s", reduction_names[c->p.reduction]);
    kit_kernel(kit, &reduce, "attn_score_reduce", params);

    int positions = c->rows + c->p.window / c->p.subcaches + c->T + 1;
    float *angles = kit_angles(positions, c->d, c->freq);
    devptr qkv = kit_put(kit, c->qkv, T * (size_t)c->stride * 2), k_cache = kit_put(kit, c->k, kv * rows * d * 2),
           v_cache = kit_put(kit, c->v, kv * rows * d * 2), step = kit_put(kit, &c->step, sizeof c->step),
           table = kit_put(kit, angles, (size_t)positions * d * sizeof *angles),
           qr = kit_put(kit, NULL, T * heads * d * 2), kr = kit_put(kit, NULL, T * kv * d * 2),
           o = kit_put(kit, NULL, T * heads * d * 2), lse = kit_put(kit, NULL, heads * T * sizeof(float)),
           sums = kit_put(kit, NULL, heads * (rows + T) * sizeof(float)),
           score = kit_put(kit, c->score, cascades * rows * sizeof(float)),
           chunk_score = kit_put(kit, NULL, cascades * T * sizeof(float));
    bool turned = c->p.positions == POSITIONS_ORIGINAL; /* then q and k came turned */
    devptr q = qkv, k = q + heads * d * 2, v = k + kv * d * 2, rot = turned ? 0 : table;
    devptr q_seen = turned ? q : qr, k_seen = turned ? k : kr;
    int stride = c->stride, q_stride = turned ? stride : c->heads * c->d, k_stride = turned ? stride : c->kv * c->d,
        g = c->g;
    if (!turned)
        kit_launch(kit, &turn, blocks(c->T * (c->heads + c->kv) * c->d / 8, turn.gen.threads), 1, 1,
                   (void *[]){&qr, &kr, &q, &k, &rot, &c->T, &c->heads, &c->kv, &stride, &stride});
    kit_launch(kit, &prefill, (unsigned)c->heads, blocks(c->T, gen_value(&prefill.gen, "bm")), 1,
               (void *[]){&o, &lse, &q, &k_cache, &v_cache, &k_seen, &v, &rot, &step, &g, &stride, &k_stride, &stride});
    float log2_gamma = (float)log2(c->p.ema), decay = (float)pow(c->p.ema, c->T);
    kit_launch(kit, &scores, (unsigned)c->heads, blocks(c->step.held + c->T, gen_value(&scores.gen, "bk")), 1,
               (void *[]){&sums, &q_seen, &lse, &k_cache, &k_seen, &rot, &step, &g, &q_stride, &k_stride, &log2_gamma});
    kit_launch(kit, &reduce, blocks(c->step.held + c->T, reduce.gen.threads), (unsigned)c->cascades, 1,
               (void *[]){&score, &chunk_score, &sums, &step, &c->group, &decay});
    kit_get(kit, c->o, o, T * heads * d * 2);
    kit_get(kit, c->lse, lse, heads * T * sizeof(float));
    kit_get(kit, c->sums, sums, heads * (rows + T) * sizeof(float));
    kit_get(kit, c->chunk_score, chunk_score, cascades * T * sizeof(float));
    kit_get(kit, c->after, score, cascades * rows * sizeof(float));
    devptr all[] = {qkv, k_cache, v_cache, step, table, qr, kr, o, lse, sums, score, chunk_score};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kit_release(kit, all[i]);
    free(angles);
    kernel_free(&turn);
    kernel_free(&prefill);
    kernel_free(&scores);
    kernel_free(&reduce);
}

/* What the oracle says of the query heads of one key head. */
struct truth {
    double *q, *k, *v, *abs_v;        /* [T][g][d], [held + T][d] x 3: unrotated, in order of position */
    double *o, *abs_o, *lse, *column; /* [T][g][d] x 2, [g][T], [g][held + T] */
    double *doubt; /* [g] the largest error of a score that rounding rotated vectors can make, powers of 2 */
};

static void truth_make(const struct prefill *c, int head, struct truth *t)
{
    int d = c->d, g = c->g, T = c->T, held = c->step.held, n = held + T;
    bool turned = c->p.positions == POSITIONS_ORIGINAL;
    const struct oracle_rope rope = {.pairs = turned ? 0 : d / 2, .freq = c->freq, .interleaved = true};
    size_t rows = (size_t)T * (size_t)g, keys = (size_t)n, dd = (size_t)d;
    int64_t *pos = malloc(keys * sizeof *pos);
    *t = (struct truth){.q = malloc(rows * dd * 8),
                        .k = malloc(keys * dd * 8),
                        .v = malloc(keys * dd * 8),
                        .abs_v = malloc(keys * dd * 8),
                        .o = malloc(rows * dd * 8),
                        .abs_o = malloc(rows * dd * 8),
                        .lse = malloc(rows * 8),
                        .column = malloc((size_t)g * keys * 8),
                        .doubt = calloc((size_t)g, 8)};
    double *longest = calloc((size_t)g + 1, sizeof *longest); /* norms of the queries, and of the keys */
    for (int m = 0; m < T; m++)
        for (int i = 0; i < g * d; i++)
            t->q[m * g * d + i] = half_value(c->type, c->qkv[(size_t)m * c->stride + (size_t)(head * g * d + i)]);
    for (int j = 0; j < n; j++) {
        const uint16_t *chunk = c->qkv + (size_t)(j - held) * (size_t)c->stride + (size_t)(c->heads + head) * dd;
        const uint16_t *k = j < held ? c->k + ((size_t)head * c->rows + c->row[j]) * dd : chunk;
        const uint16_t *v = j < held ? c->v + ((size_t)head * c->rows + c->row[j]) * dd : chunk + (size_t)c->kv * dd;
        pos[j] = j;
        for (int e = 0; e < d; e++) {
            t->k[j * d + e] = half_value(c->type, k[e]);
            t->v[j * d + e] = half_value(c->type, v[e]);
            t->abs_v[j * d + e] = fabs(t->v[j * d + e]);
        }
        if (j < held)
            oracle_rotate(&rope, t->k + j * d, -c->slot[j]); /* as it was before it was stored */
    }
    for (int i = 0; i < T * g + n; i++) {
        const double *x = i < T * g ? t->q + i * d : t->k + (i - T * g) * d;
        double sum = 0;
        for (int e = 0; e < d; e++)
            sum += x[e] * x[e];
        double *most = i < T * g ? &longest[i % g] : &longest[g];
        *most = fmax(*most, sqrt(sum));
    }
    /* Query and key are rounded once each after a turn: |error| <= 2 eps |q| |k|. */
    for (int h = 0; h < g; h++)
        t->doubt[h] = (turned ? 1e-6 : 2 * half_rounding(c->type) + 1e-6) * longest[h] * longest[g] * M_LOG2E / sqrt(d);
    oracle_attend(&rope, T, g, held, d, t->q, pos + held, t->k, t->abs_v, pos, c->p.ema, t->abs_o, NULL, NULL);
    oracle_attend(&rope, T, g, held, d, t->q, pos + held, t->k, t->v, pos, c->p.ema, t->o, t->lse, t->column);
    free(longest);
    free(pos);
}

static void truth_free(struct truth *t)
{
    void *all[] = {t->q, t->k, t->v, t->abs_v, t->o, t->abs_o, t->lse, t->column, t->doubt};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Every element against the oracle. Besides the turned queries and keys the kernels round the probabilities that they multiply
 * with the values, and the output; all else is fp32. A probability is off by at most a factor of 2^(2 doubt), its own and the
 * normaliser's. */
static void prefill_check(const struct prefill *c)
{
    const double eps = half_rounding(c->type);
    struct kit_norm o_norm = {0, 0}, score_norm = {0, 0}, lse_norm = {0, 0};
    int T = c->T, held = c->step.held, n = held + T;
    double *column = malloc((size_t)c->heads * (size_t)n * sizeof *column);
    double *reduced = malloc((size_t)n * sizeof *reduced), *old = malloc((size_t)n * sizeof *old);
    double *bound = calloc((size_t)c->cascades * (size_t)n, sizeof *bound);
    for (int head = 0; head < c->kv; head++) {
        struct truth t;
        truth_make(c, head, &t);
        for (int h = 0; h < c->g; h++) {
            int all = head * c->g + h;
            double factor = exp2(2 * t.doubt[h]) - 1;
            for (int m = 0; m < T; m++) {
                double lse = t.lse[h * T + m] * M_LOG2E;
                kit_near(&lse_norm, "log-sum-exp", all, m, c->lse[(size_t)all * T + m], lse,
                         t.doubt[h] + 1e-5 + 1e-6 * fabs(lse));
                for (int e = 0; e < c->d; e++) {
                    int at = (m * c->g + h) * c->d + e;
                    double got = half_value(c->type, c->o[((size_t)m * c->heads + all) * c->d + e]);
                    kit_near(&o_norm, "output", all, m * c->d + e, got, t.o[at],
                             t.abs_o[at] * (factor + eps + 1e-5) + fabs(t.o[at]) * eps + 1e-7);
                }
            }
            for (int j = 0; j < n; j++) {
                double p = t.column[h * n + j], *b = &bound[all / c->group * n + j];
                column[(size_t)all * n + j] = p;
                *b = fmax(*b, p * (factor + 1e-5)); /* mean, max and median move no more than the furthest of theirs */
            }
        }
        truth_free(&t);
    }
    for (int i = 0; i < c->cascades; i++) {
        oracle_reduce(c->p.reduction, c->group, n, column + (size_t)i * c->group * n, reduced);
        for (int j = 0; j < n; j++)
            old[j] = j < held ? c->score[(size_t)i * c->rows + c->row[j]] : 0;
        oracle_score_update(c->p.ema, T, n, old, reduced);
        for (int j = 0; j < n; j++) {
            double got =
                j < held ? c->after[(size_t)i * c->rows + c->row[j]] : c->chunk_score[(size_t)i * T + j - held];
            kit_near(&score_norm, "score", i, j, got, old[j], bound[i * n + j] + fabs(old[j]) * 1e-6 + 1e-30);
        }
        bool *is_held = calloc((size_t)c->rows, sizeof *is_held);
        for (int j = 0; j < held; j++)
            is_held[c->row[j]] = true;
        for (int row = 0; row < c->rows; row++)
            if (!is_held[row] && memcmp(&c->after[i * c->rows + row], &c->score[i * c->rows + row], sizeof(float)))
                fail_msg("score of row %d, which is not held, was written", row);
        free(is_held);
    }
    kit_norm_check(&o_norm, "outputs", 2 * eps);
    kit_norm_check(&score_norm, "scores", 2 * eps);
    free(column);
    free(reduced);
    free(old);
    free(bound);
}

static void prefill_case(struct kit *kit, struct prefill c, int64_t t)
{
    if (by_warpgroups(kit) && c.d != 64 && c.d != 128)
        return;
    prefill_open(kit, &c, t);
    bool emulator = strcmp(kit->dev.kind, "emu") == 0; /* small shapes run on GPUs, too */
    uint64_t before = emulator ? emu_get_stats(&kit->dev).ldmatrix_conflicts : 0;
    prefill_run(kit, &c);
    if (emulator) /* the swizzle's promise */
        assert_int_equal(emu_get_stats(&kit->dev).ldmatrix_conflicts, before);
    prefill_check(&c);
    prefill_close(&c);
}

void prefill_every_shape(void **state)
{
    struct kit *kit = KIT(state);
    static const int dims[] = {64, 80, 96, 128, 256}, groups[] = {1, 3, 4, 16};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++)
            for (int type = 0; type < 2; type++) {
                if (kit->emulated && ((i + j) % 2 != type || (j == 3 && i > 0)))
                    continue;
                if (kit->only_d && (kit->only_d != dims[i] || groups[j] != 3))
                    continue;
                int w = kit->emulated ? 32 : 192;
                struct prefill c = {.p = kit_cascade(20, 3, w, 8),
                                    .T = kit->emulated ? 70 + i : 260 + 13 * i,
                                    .d = dims[i],
                                    .g = groups[j],
                                    .kv = j == 3 ? 1 : 2,
                                    .type = type};
                prefill_case(kit, c, 20 + 6 * w + 13);
            }
}

void prefill_ragged_edges(void **state)
{
    struct kit *kit = KIT(state);
    /* One token, nothing held, one sink, a full first ring, pending tokens, seams, runs of one row, chunks at and around the
     * edges of tiles. */
    static const struct {
        int sinks, subcaches, w, span, T;
        int64_t t;
    } cases[] = {
        {4, 2, 16, 4, 1, 0},     {4, 2, 16, 4, 127, 0},  {4, 2, 16, 4, 128, 0},    {4, 2, 16, 4, 129, 1},
        {0, 1, 16, 4, 2, 3},     {4, 2, 16, 4, 65, 27},  {4, 2, 16, 4, 64, 91},    {5, 4, 6, 1, 33, 1000},
        {3, 16, 4, 2, 17, 4097}, {7, 3, 40, 8, 1, 2001}, {64, 4, 96, 16, 16, 777}, {1, 2, 33, 1, 31, 500},
        {0, 2, 64, 8, 192, 128},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prefill c = {.p = kit_cascade(cases[i].sinks, cases[i].subcaches, cases[i].w, cases[i].span),
                            .T = cases[i].T,
                            .d = 64,
                            .g = 2,
                            .kv = 1,
                            .type = (int)i % 2};
        prefill_case(kit, c, cases[i].t);
    }
}

void prefill_every_tile(void **state)
{
    struct kit *kit = KIT(state);
    static const struct {
        int d;
        const char *prefill, *scores;
    } tiles[] = {
        {64, "bm=64 bn=16 st=2 wp=4", "mk=1 bq=32 st=2 wp=4"},
        {64, "bm=32 bn=32 st=3 wp=2 qr=1", "mk=2 bq=64 st=3 wp=2"},
        {64, "bm=128 bn=128 st=2 wp=8 qr=0 mb=1", "mk=3 bq=32 st=4 wp=4"},
        {128, "bm=64 bn=48 st=2 wp=2", "mk=2 bq=64 st=2 wp=8 mb=1"},
        {128, "bm=128 bn=64 st=2 wp=8 mb=1", "mk=4 bq=32 st=2 mb=2"},
        {80, "bm=64 bn=32 st=3 wp=4", "mk=1 bq=64 st=2 wp=2"},
        {96, "bm=64 bn=48 st=2 wp=2", "mk=2 bq=32 st=3 wp=2"},
        {256, "bm=32 bn=16 st=2 wp=2", "mk=1 bq=32 st=2 wp=4"},
    };
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        struct prefill c = {.p = kit_cascade(9, 3, 40, 4),
                            .T = 100 + (int)i,
                            .d = tiles[i].d,
                            .g = 2,
                            .kv = 1,
                            .type = 1,
                            .prefill_tile = tiles[i].prefill,
                            .scores_tile = tiles[i].scores};
        prefill_case(kit, c, 222);
    }
}

void prefill_reductions(void **state)
{
    struct kit *kit = KIT(state);
    for (int how = REDUCE_MEAN; how <= REDUCE_MEDIAN; how++)
        for (int policy = POLICY_INDEPENDENT; policy <= POLICY_HOMOGENEOUS; policy++) {
            static const int groups[] = {1, 4, 5};
            struct prefill c = {.p = kit_cascade(8, 2, 32, 4), .T = 40, .d = 64, .g = groups[how], .kv = 3, .type = 0};
            c.p.reduction = (enum cascade_reduction)how;
            c.p.policy = (enum cascade_policy)policy;
            c.p.ema = how == REDUCE_MAX ? 0 : how == REDUCE_MEDIAN ? 1 : 0.9;
            prefill_case(kit, c, 300 + 2 * how);
        }
}

/* Original positions: queries and keys come turned, and the kernels turn nothing. */
void prefill_positions_as_they_are(void **state)
{
    struct kit *kit = KIT(state);
    struct prefill c = {.p = kit_cascade(8, 2, 32, 4), .T = 90, .d = 64, .g = 2, .kv = 2, .type = 1};
    c.p.positions = POSITIONS_ORIGINAL;
    prefill_case(kit, c, 301);
}

/* Scores far apart, so that a row's maximum moves late and by much; the softmax has few large terms. */
void prefill_large_scores(void **state)
{
    struct kit *kit = KIT(state);
    for (int type = 0; type < 2; type++) {
        struct prefill c = {
            .p = kit_cascade(8, 2, 32, 4), .T = 150, .d = 64, .g = 2, .kv = 1, .type = type, .size = 30};
        c.p.positions = POSITIONS_ORIGINAL; /* else the doubt about so large scores would leave nothing to compare */
        prefill_case(kit, c, 301);
    }
}

void prefill_nan_stays_in_its_row(void **state)
{
    struct kit *kit = KIT(state);
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    struct prefill c = {.p = kit_cascade(8, 2, 32, 4), .T = 70, .d = 64, .g = 2, .kv = 1, .type = 1};
    prefill_open(kit, &c, 300);
    prefill_run(kit, &c);
    enum { ROW = 21, HEAD = 1 };
    size_t width = (size_t)c.heads * 64, place = (size_t)ROW * width + HEAD * 64;
    uint16_t *o = malloc((size_t)c.T * width * sizeof *o);
    memcpy(o, c.o, (size_t)c.T * width * sizeof *o);
    for (int i = 0; i < 3; i++) {
        uint16_t *x = &c.qkv[(size_t)ROW * c.stride + HEAD * 64 + 5], was = *x;
        *x = half_of(1, bad[i]);
        prefill_run(kit, &c);
        *x = was;
        for (int e = 0; e < 64; e++)
            if (!isnan(half_value(1, c.o[place + (size_t)e])))
                fail_msg("element %d of a row with a %g in its query is %g", e, bad[i],
                         half_value(1, c.o[place + (size_t)e]));
        memcpy(c.o + place, o + place, 64 * sizeof *o);
        assert_memory_equal(c.o, o, (size_t)c.T * width * sizeof *o);
    }
    free(o);
    prefill_close(&c);
}

/* The same bits again, and for other tiles the same sums to rounding. */
void prefill_is_deterministic(void **state)
{
    struct kit *kit = KIT(state);
    int w = kit->emulated ? 48 : 1024;
    struct prefill c = {
        .p = kit_cascade(16, 3, w, 16), .T = kit->emulated ? 90 : 900, .d = 64, .g = 4, .kv = 1, .type = 1};
    prefill_open(kit, &c, 20 * w + 3);
    prefill_run(kit, &c);
    size_t n = (size_t)c.heads * (size_t)(c.rows + c.T), bytes = (size_t)c.T * (size_t)c.heads * 64 * sizeof *c.o;
    uint16_t *o = malloc(bytes);
    float *sums = malloc(n * sizeof *sums);
    memcpy(o, c.o, bytes);
    memcpy(sums, c.sums, n * sizeof *sums);
    prefill_run(kit, &c);
    assert_memory_equal(c.o, o, bytes);
    assert_memory_equal(c.sums, sums, n * sizeof *sums);
    c.scores_tile = "mk=1 bq=32 st=2 wp=4";
    prefill_run(kit, &c);
    for (int h = 0; h < c.heads; h++)
        for (int j = 0; j < c.step.held + c.T; j++) {
            size_t at =
                (size_t)h * (size_t)(c.rows + c.T) + (size_t)(j < c.step.held ? c.row[j] : c.rows + j - c.step.held);
            if (!(fabs(c.sums[at] - sums[at]) <= 1e-5 * fabs(sums[at])))
                fail_msg("sum of head %d, key %d: %.9g with one tile, %.9g with another", h, j, sums[at], c.sums[at]);
        }
    free(o);
    free(sums);
    prefill_close(&c);
}

/* The kernel with products of warpgroups makes the same. */
static void with_warpgroups(void **state, CMUnitTestFunction run)
{
    struct kit *kit = KIT(state);
    if (kit->dev.facts.sm != 90)
        skip();
    kit->prefill = "attn_prefill_wgmma";
    run(state);
}

void prefill_wgmma_every_shape(void **state)
{
    with_warpgroups(state, prefill_every_shape);
}

void prefill_wgmma_ragged_edges(void **state)
{
    with_warpgroups(state, prefill_ragged_edges);
}

void prefill_wgmma_values(void **state)
{
    with_warpgroups(state, prefill_positions_as_they_are);
    with_warpgroups(state, prefill_large_scores);
    with_warpgroups(state, prefill_nan_stays_in_its_row);
    with_warpgroups(state, prefill_is_deterministic);
}
