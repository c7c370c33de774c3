#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_decode.h"
#include "device_kit.h"
#include "oracle_attention.h"
#include "runtime/step.h"

/* One decode step: shapes, a cache in the state after some tokens, and what the kernels made of it. */
struct decode {
    struct cascade_params p;
    int d, g, kv, type;
    int splits, slices;
    int layers;                        /* 0: one; the same step in all of them, scores made in one launch */
    const char *tile;                  /* of attn_decode, "" for its defaults */
    int heads, rows, cascades, stride; /* stride: of the logits */
    struct attn_step step;
    double freq[128];
    int64_t *pos, *slot;              /* [rows] position and rotation index of a held row, -1 */
    uint16_t *q, *k_new, *v_new;      /* [heads][d], [kv][d] x 2 */
    uint16_t *k, *v;                  /* [kv][rows][d] */
    float *score;                     /* [cascades][rows] */
    uint16_t *o;                      /* [heads][d] */
    float *lse, *chunk_score, *after; /* [heads], [cascades], [cascades][rows] */
    float *again;                     /* as after */
};

static void decode_close(struct decode *c)
{
    free(c->pos);
    free(c->slot);
    free(c->q);
    free(c->k_new);
    free(c->v_new);
    free(c->k);
    free(c->v);
    free(c->score);
    free(c->o);
    free(c->lse);
    free(c->chunk_score);
    free(c->after);
    free(c->again);
    memset(c, 0, sizeof *c);
}

static uint16_t *random_halves(struct kit *k, int type, size_t n)
{
    uint16_t *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = half_of(type, kit_normal(k));
    return x;
}

/* Fills in what p, d, g, kv and type leave open, for the cache after t tokens. Rows that are not held are NaN. */
static void decode_open(struct kit *kit, struct decode *c, int64_t t)
{
    struct err err = {""};
    if (cascade_check(&c->p, &err) != 0)
        fail_msg("%s", err.msg);
    struct cascade_state s;
    cascade_state_at(&c->p, t, &s);
    attn_step_make(&c->step, &c->p, &s, 1);
    c->heads = c->g * c->kv;
    c->rows = c->step.rows;
    c->cascades = c->p.policy == POLICY_HOMOGENEOUS ? 1 : c->kv;
    c->stride = c->rows + 1 + kit_int(kit, 0, 5);
    for (int i = 0; i < c->d / 2; i++)
        c->freq[i] = pow(10000.0, -2.0 * i / c->d);
    size_t rows = (size_t)c->rows, d = (size_t)c->d, kv = (size_t)c->kv;
    c->pos = malloc(rows * sizeof *c->pos);
    c->slot = malloc(rows * sizeof *c->slot);
    for (size_t i = 0; i < rows; i++)
        c->pos[i] = c->slot[i] = -1;
    for (int i = 0; i < c->step.nruns; i++)
        for (int j = 0; j < c->step.run[i].len; j++) {
            c->pos[c->step.run[i].row + j] = c->step.run[i].pos + j;
            c->slot[c->step.run[i].row + j] = c->step.run[i].pos + j - c->step.run[i].shift;
        }
    c->q = random_halves(kit, c->type, (size_t)c->heads * d);
    c->k_new = random_halves(kit, c->type, kv * d);
    c->v_new = random_halves(kit, c->type, kv * d);
    c->k = random_halves(kit, c->type, kv * rows * d);
    c->v = random_halves(kit, c->type, kv * rows * d);
    c->score = malloc((size_t)c->cascades * rows * sizeof *c->score);
    for (size_t i = 0; i < (size_t)c->cascades * rows; i++)
        c->score[i] = (float)fabs(kit_normal(kit));
    for (size_t i = 0; i < kv * rows; i++)
        if (c->pos[i % rows] < 0) {
            memset(c->k + i * d, 0xff, d * sizeof *c->k);
            memset(c->v + i * d, 0xff, d * sizeof *c->v);
        }
    c->o = malloc((size_t)c->heads * d * sizeof *c->o);
    c->lse = malloc((size_t)c->heads * sizeof *c->lse);
    c->chunk_score = malloc((size_t)c->cascades * sizeof *c->chunk_score);
    c->after = malloc((size_t)c->cascades * rows * sizeof *c->after);
    c->again = malloc((size_t)c->cascades * rows * sizeof *c->again);
}

static const char *const reduction_names[] = {"mean", "max", "median"};

static void decode_run(struct kit *kit, struct decode *c)
{
    size_t rows = (size_t)c->rows, d = (size_t)c->d, kv = (size_t)c->kv, heads = (size_t)c->heads;
    const char *type = c->type ? "bf16" : "fp16";
    char params[128];
    struct kernel decode, scores;
    size_t layers = c->layers ? (size_t)c->layers : 1;
    snprintf(params, sizeof params, "d=%d g=%d t=%s %s", c->d, c->g, type, c->tile ? c->tile : "");
    kit_kernel(kit, &decode, "attn_decode", params);
    int r = c->heads / c->cascades;
    snprintf(params, sizeof params, "r=%d reduce=%s", r, reduction_names[c->p.reduction]);
    kit_kernel(kit, &scores, "attn_decode_scores", params);

    size_t score_bytes = (size_t)c->cascades * rows * sizeof(float), chunk_bytes = (size_t)c->cascades * sizeof(float);
    unsigned *zeros = calloc(kv, sizeof *zeros);
    size_t angle_rows = rows + (size_t)(c->p.window / c->p.subcaches) + 1; /* queries turn by less than S + W + w + B */
    float *angles = kit_angles((int)angle_rows, c->d, c->freq);
    devptr q = kit_put(kit, c->q, heads * d * 2), k = kit_put(kit, c->k, kv * rows * d * 2),
           v = kit_put(kit, c->v, kv * rows * d * 2), k_new = kit_put(kit, c->k_new, kv * d * 2),
           v_new = kit_put(kit, c->v_new, kv * d * 2), step = kit_put(kit, &c->step, sizeof c->step),
           rot = kit_put(kit, angles, angle_rows * d * sizeof *angles),
           logits = kit_put(kit, NULL, layers * heads * (size_t)c->stride * sizeof(float)),
           part_o = kit_put(kit, NULL, heads * (size_t)c->splits * d * sizeof(float)),
           part_ml = kit_put(kit, NULL, heads * (size_t)c->splits * 2 * sizeof(float)),
           score = kit_put(kit, NULL, layers * score_bytes), o = kit_put(kit, NULL, heads * d * 2),
           lse = kit_put(kit, NULL, layers * heads * sizeof(float)), arrived = kit_put(kit, zeros, kv * sizeof *zeros),
           chunk_score = kit_put(kit, NULL, layers * chunk_bytes);
    for (size_t i = 0; i < layers; i++) {
        devptr logits_at = logits + i * heads * (size_t)c->stride * sizeof(float),
               lse_at = lse + i * heads * sizeof(float);
        struct err err = {""};
        if (kit->dev.upload(&kit->dev, score + i * score_bytes, c->score, score_bytes, &err) != 0)
            fail_msg("%s", err.msg);
        kit_launch(kit, &decode, (unsigned)c->splits, (unsigned)c->kv, 1,
                   (void *[]){&q, &k, &v, &k_new, &v_new, &step, &rot, &logits_at, &o, &lse_at, &part_o, &part_ml,
                              &arrived, &c->rows, &c->stride});
    }
    float gamma = (float)c->p.ema;
    kit_launch(kit, &scores, (unsigned)c->slices, (unsigned)c->cascades, (unsigned)layers,
               (void *[]){&logits, &c->stride, &lse, &step, &score, &chunk_score, &gamma, &c->rows});
    kit_get(kit, c->o, o, heads * d * 2);
    kit_get(kit, c->lse, lse, heads * sizeof(float));
    for (size_t i = layers; i-- > 0;) { /* all layers are alike; the first is what is checked */
        float *again = i + 1 < layers ? c->again : NULL;
        if (again)
            memcpy(again, c->after, score_bytes);
        kit_get(kit, c->chunk_score, chunk_score + i * chunk_bytes, chunk_bytes);
        kit_get(kit, c->after, score + i * score_bytes, score_bytes);
        if (again)
            assert_memory_equal(again, c->after, score_bytes);
    }
    kit_get(kit, zeros, arrived, kv * sizeof *zeros);
    for (size_t i = 0; i < kv; i++)
        assert_int_equal(zeros[i], 0);
    free(zeros);
    devptr all[] = {q, k, v, k_new, v_new, step, rot, logits, part_o, part_ml, score, o, lse, arrived, chunk_score};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kit_release(kit, all[i]);
    free(angles);
    kernel_free(&decode);
    kernel_free(&scores);
}

/* What the oracle says of the query heads of one key head. */
struct truth {
    int held;
    double *q, *k, *v, *abs_v;        /* [g][d], [held + 1][d] x 3: keys unrotated, in order of position */
    double *o, *abs_o, *lse, *column; /* [g][d] x 2, [g], [g][held + 1] */
    double *doubt; /* [g] the largest error of a logit that rounding the rotated queries can make, in powers of 2 */
};

static void truth_make(const struct decode *c, int head, struct truth *t)
{
    const struct oracle_rope rope = {.pairs = c->d / 2, .freq = c->freq, .interleaved = true};
    int d = c->d, g = c->g, n = c->step.held + 1;
    size_t keys = (size_t)n, dd = (size_t)d, gg = (size_t)g;
    int64_t *pos = malloc(keys * sizeof *pos), q_pos = c->step.held;
    *t = (struct truth){.held = c->step.held};
    t->q = malloc(gg * dd * sizeof(double));
    t->k = malloc(keys * dd * sizeof(double));
    t->v = malloc(keys * dd * sizeof(double));
    t->abs_v = malloc(keys * dd * sizeof(double));
    t->o = malloc(gg * dd * sizeof(double));
    t->abs_o = malloc(gg * dd * sizeof(double));
    t->lse = malloc(gg * sizeof(double));
    t->column = malloc(gg * keys * sizeof(double));
    t->doubt = calloc(gg, sizeof(double));
    for (int i = 0; i < g * d; i++)
        t->q[i] = half_value(c->type, c->q[(size_t)head * gg * dd + (size_t)i]);
    for (int j = 0; j < n; j++)
        pos[j] = j;
    for (int row = 0; row <= c->rows; row++) {
        int64_t j = row == c->rows ? c->step.held : c->pos[row];
        if (j < 0)
            continue;
        const uint16_t *k = row == c->rows ? c->k_new + (size_t)head * dd : c->k + ((size_t)head * c->rows + row) * dd;
        const uint16_t *v = row == c->rows ? c->v_new + (size_t)head * dd : c->v + ((size_t)head * c->rows + row) * dd;
        double turned[256];
        for (int e = 0; e < d; e++) {
            t->k[j * d + e] = half_value(c->type, k[e]);
            t->v[j * d + e] = half_value(c->type, v[e]);
            t->abs_v[j * d + e] = fabs(t->v[j * d + e]);
        }
        for (int h = 0; h < g; h++) { /* |q'| . |k|, q' as the kernel has it */
            double sum = 0;
            memcpy(turned, t->q + h * d, dd * sizeof *turned);
            oracle_rotate(&rope, turned, row == c->rows ? 0 : q_pos - j + c->slot[row]);
            for (int e = 0; e < d; e++)
                sum += fabs(turned[e] * t->k[j * d + e]);
            double doubt = (half_rounding(c->type) + 1e-6) * sum * M_LOG2E / sqrt(d);
            t->doubt[h] = fmax(t->doubt[h], doubt);
        }
        if (row < c->rows)
            oracle_rotate(&rope, t->k + j * d, -c->slot[row]); /* as it was before it was stored */
        oracle_rotate(&rope, t->k + j * d, 0);
    }
    oracle_attend(&rope, 1, g, c->step.held, d, t->q, &q_pos, t->k, t->abs_v, pos, c->p.ema, t->abs_o, NULL, NULL);
    oracle_attend(&rope, 1, g, c->step.held, d, t->q, &q_pos, t->k, t->v, pos, c->p.ema, t->o, t->lse, t->column);
    free(pos);
}

static void truth_free(struct truth *t)
{
    free(t->q);
    free(t->k);
    free(t->v);
    free(t->abs_v);
    free(t->o);
    free(t->abs_o);
    free(t->lse);
    free(t->column);
    free(t->doubt);
}

/* Every element against the oracle. What is stored is taken as exact; the kernel rounds the rotated queries, the probabilities
 * it multiplies with the values, and the output, each once, and all else is fp32. So a logit is off by at most `doubt`, a
 * probability by a factor of 2^(2 doubt), its own and the normaliser's. */
static void decode_check(const struct decode *c)
{
    const double eps = half_rounding(c->type);
    struct kit_norm o_norm = {0, 0}, score_norm = {0, 0};
    int n = c->step.held + 1, r = c->heads / c->cascades;
    double *column = malloc((size_t)c->heads * (size_t)n * sizeof *column);
    double *reduced = malloc((size_t)n * sizeof *reduced), *old = malloc((size_t)n * sizeof *old);
    double *bound = calloc((size_t)c->cascades * (size_t)n, sizeof *bound);
    for (int head = 0; head < c->kv; head++) {
        struct truth t;
        truth_make(c, head, &t);
        for (int h = 0; h < c->g; h++) {
            int all = head * c->g + h;
            double factor = exp2(2 * t.doubt[h]) - 1;
            struct kit_norm lse_norm = {0, 0};
            kit_near(&lse_norm, "log-sum-exp", all, 0, c->lse[all], t.lse[h] * M_LOG2E, t.doubt[h] + 1e-5);
            for (int e = 0; e < c->d; e++) {
                double want = t.o[h * c->d + e], most = t.abs_o[h * c->d + e];
                kit_near(&o_norm, "output", all, e, half_value(c->type, c->o[all * c->d + e]), want,
                         most * (factor + eps + 1e-5) + fabs(want) * eps + 1e-7);
            }
            for (int j = 0; j < n; j++) {
                double p = t.column[h * n + j];
                double *b = &bound[all / r * n + j];
                column[(size_t)all * n + j] = p;
                *b = fmax(*b, p * (factor + 1e-5)); /* mean, max and median move no more than the furthest of theirs */
            }
        }
        truth_free(&t);
    }
    for (int i = 0; i < c->cascades; i++) {
        oracle_reduce(c->p.reduction, r, n, column + (size_t)i * r * n, reduced);
        for (int row = 0; row < c->rows; row++)
            if (c->pos[row] >= 0)
                old[c->pos[row]] = c->score[(size_t)i * c->rows + row];
        old[n - 1] = 0;
        oracle_score_update((float)c->p.ema, 1, n, old, reduced);
        for (int row = 0; row <= c->rows; row++) {
            if (row < c->rows && c->pos[row] < 0) {
                if (memcmp(&c->after[(size_t)i * c->rows + row], &c->score[(size_t)i * c->rows + row], sizeof(float)))
                    fail_msg("score of row %d, which is not held, was written", row);
                continue;
            }
            int j = row == c->rows ? n - 1 : (int)c->pos[row];
            double got = row == c->rows ? c->chunk_score[i] : c->after[(size_t)i * c->rows + row];
            kit_near(&score_norm, "score", i, row, got, old[j], bound[i * n + j] + fabs(old[j]) * 2e-7);
        }
    }
    kit_norm_check(&o_norm, "outputs", 2 * eps);
    kit_norm_check(&score_norm, "scores", 2 * eps);
    free(column);
    free(reduced);
    free(old);
    free(bound);
}

static void decode_case(struct kit *kit, struct decode c, int64_t t)
{
    decode_open(kit, &c, t);
    decode_run(kit, &c);
    decode_check(&c);
    decode_close(&c);
}

void decode_every_shape(void **state)
{
    struct kit *kit = KIT(state);
    static const int dims[] = {64, 80, 96, 128, 256}, groups[] = {1, 3, 4, 8, 9, 16};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 6; j++)
            for (int type = 0; type < 2; type++) {
                if (kit->emulated && (i + j) % 2 != type)
                    continue;
                if (kit->only_d && (kit->only_d != dims[i] || groups[j] % 13 != 3)) /* 3 and 16 */
                    continue;
                int w = kit->emulated ? 48 : 2048;
                struct decode c = {.p = kit_cascade(20, 3, w, 8), .d = dims[i], .g = groups[j], .kv = 2, .type = type};
                c.splits = kit->emulated ? 3 : 17;
                c.slices = kit->emulated ? 2 : 40;
                decode_case(kit, c, 20 + 6 * w + 13);
            }
}

void decode_ragged_runs(void **state)
{
    struct kit *kit = KIT(state);
    /* Nothing held, one sink, a full first ring, pending tokens, seams; more splits than keys; runs shorter than a tile. */
    static const struct {
        int sinks, subcaches, w, span, splits, slices;
        int64_t t;
    } cases[] = {
        {4, 2, 16, 4, 1, 1, 0},    {4, 2, 16, 4, 3, 2, 1},     {0, 1, 16, 4, 2, 1, 0},     {0, 1, 16, 4, 2, 3, 3},
        {4, 2, 16, 4, 2, 2, 27},   {4, 2, 16, 4, 40, 5, 91},   {5, 4, 6, 1, 2, 1, 1000},   {3, 16, 4, 2, 3, 2, 4097},
        {7, 3, 40, 8, 1, 1, 2001}, {64, 4, 96, 16, 4, 3, 777}, {1, 2, 33, 1, 7, 300, 500},
    };
    static const char *const tiles[] = {"", "bn=32 wp=2 st=2", "bn=16 wp=2 st=3", "bn=32 wp=4 st=2"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct decode c = {.p = kit_cascade(cases[i].sinks, cases[i].subcaches, cases[i].w, cases[i].span),
                           .d = 64,
                           .g = 3,
                           .kv = 3,
                           .type = 1,
                           .splits = cases[i].splits,
                           .slices = cases[i].slices,
                           .tile = tiles[i % 4]};
        decode_case(kit, c, cases[i].t);
    }
}

/* Scores of several layers in one launch. */
void decode_layers(void **state)
{
    struct kit *kit = KIT(state);
    for (int policy = POLICY_INDEPENDENT; policy <= POLICY_HOMOGENEOUS; policy++) {
        struct decode c = {.p = kit_cascade(8, 2, 32, 4), .d = 64, .g = 3, .kv = 2, .type = policy, .layers = 3};
        c.p.policy = (enum cascade_policy)policy;
        c.splits = 3;
        c.slices = 2;
        decode_case(kit, c, 300);
    }
}

/* More splits than become outputs at a time. */
void decode_many_splits(void **state)
{
    struct kit *kit = KIT(state);
    struct decode c = {.p = kit_cascade(8, 2, 96, 4), .d = 256, .g = 16, .kv = 1, .type = 1, .splits = 9, .slices = 2};
    decode_case(kit, c, 700);
    c.d = 128;
    c.g = 5;
    c.splits = 200;
    decode_case(kit, c, 700);
}

void decode_reductions(void **state)
{
    struct kit *kit = KIT(state);
    for (int how = REDUCE_MEAN; how <= REDUCE_MEDIAN; how++)
        for (int policy = POLICY_INDEPENDENT; policy <= POLICY_HOMOGENEOUS; policy++) {
            static const int groups[] = {1, 4, 7};
            struct decode c = {.p = kit_cascade(8, 2, 32, 4), .d = 64, .g = groups[how], .kv = 5, .type = 0};
            c.p.reduction = (enum cascade_reduction)how;
            c.p.policy = (enum cascade_policy)policy;
            c.splits = 2;
            c.slices = 2;
            decode_case(kit, c, 300 + 2 * how);
        }
}

void decode_nan_stays_in_its_head(void **state)
{
    struct kit *kit = KIT(state);
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    struct decode c = {.p = kit_cascade(8, 2, 32, 4), .d = 64, .g = 4, .kv = 1, .type = 1, .splits = 2, .slices = 1};
    decode_open(kit, &c, 300);
    decode_run(kit, &c);
    for (int i = 0; i < 3; i++) {
        uint16_t was = c.q[64 + 5], o[4 * 64];
        memcpy(o, c.o, sizeof o);
        c.q[64 + 5] = half_of(1, bad[i]);
        decode_run(kit, &c);
        c.q[64 + 5] = was;
        for (int e = 0; e < 64; e++)
            if (!isnan(half_value(1, c.o[64 + e])))
                fail_msg("element %d of the head with a %g in its query is %g", e, bad[i], half_value(1, c.o[64 + e]));
        memcpy(c.o + 64, o + 64, 64 * sizeof *o);
        assert_memory_equal(c.o, o, sizeof o);
    }
    decode_close(&c);
}

void decode_is_deterministic(void **state)
{
    struct kit *kit = KIT(state);
    int w = kit->emulated ? 64 : 4096;
    struct decode c = {.p = kit_cascade(16, 4, w, 16), .d = 128, .g = 4, .kv = 2, .type = 1, .splits = 5, .slices = 3};
    decode_open(kit, &c, 20 * w + 3);
    decode_run(kit, &c);
    size_t outputs = (size_t)c.heads * (size_t)c.d * sizeof *c.o,
           scores = (size_t)c.cascades * (size_t)c.rows * sizeof(float);
    uint16_t *o = malloc(outputs);
    float *after = malloc(scores);
    memcpy(o, c.o, outputs);
    memcpy(after, c.after, scores);
    for (int i = 0; i < (kit->emulated ? 1 : 20); i++) {
        decode_run(kit, &c);
        assert_memory_equal(c.o, o, outputs);
        assert_memory_equal(c.after, after, scores);
    }
    free(o);
    free(after);
    decode_close(&c);
}
