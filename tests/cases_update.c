#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_update.h"
#include "device_kit.h"
#include "oracle_attention.h"
#include "oracle_cascade.h"
#include "runtime/move_plan.h"
#include "runtime/step.h"

enum scores { SCORES_SMOOTH, SCORES_TIES, SCORES_NAN };

/* A stream of tokens through the caches of some layers: on the device, in the runtime's own bookkeeping and in the oracle. */
struct stream {
    struct kit *kit;
    struct cascade_params p;
    int d, kv, layers, type;
    enum scores scores;
    uint64_t seed; /* of contents, scores and the selection random */

    int rows, cascades; /* rows of a head's cache; cascades a layer */
    size_t n;           /* layers * cascades */
    int64_t t;
    double freq[128];
    struct kernel kernel;
    int sl, tpb;
    struct cascade_plan part;
    struct move_planner planner;
    devptr k, v, score, origin, k_chunk, v_chunk, chunk_score, plan, rot, moves, arrived;
    float *mirror_score;           /* [layers][cascades][rows], what the device must hold, bit for bit */
    int64_t *mirror_origin;        /* likewise */
    struct oracle_cascade *oracle; /* [layers * cascades] */
    float *new_score;              /* [layers][cascades][stride] */
    uint16_t *new_k, *new_v;       /* [layers][stride][kv][d] */
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Element e of a token's unrotated key (side 0) or value (1). */
static uint16_t content(const struct stream *s, int side, int layer, int64_t token, int head, int e)
{
    uint64_t h = mix(mix(s->seed + (uint64_t)side, (uint64_t)token),
                     ((uint64_t)layer * 64 + (uint64_t)head) * 256 + (uint64_t)e);
    return half_of(s->type, (double)(h >> 11) * 0x1p-51 - 2);
}

static float score_of(const struct stream *s, size_t cascade, int64_t token, uint64_t when)
{
    uint64_t h = mix(mix(s->seed + 7 + when, (uint64_t)token), cascade);
    if (s->scores == SCORES_NAN && h % 5 == 0)
        return h % 2 ? NAN : (h & 64 ? -INFINITY : INFINITY);
    if (s->scores != SCORES_SMOOTH)
        return (float)(h >> 20 & 3);
    return (float)((double)(h >> 11) * 0x1p-53);
}

/* tile: of cascade_update, "" for its defaults. */
static void stream_open(struct stream *s, struct kit *kit, const char *tile)
{
    struct err err = {""};
    char params[128];
    s->kit = kit;
    s->seed = kit_random(kit);
    if (cascade_check(&s->p, &err) != 0 || cascade_plan_init(&s->part, &s->p, &err) != 0 ||
        move_planner_init(&s->planner, &s->p, &err) != 0)
        fail_msg("%s", err.msg);
    snprintf(params, sizeof params, "d=%d b=%d t=%s %s", s->d, s->p.span, s->type ? "bf16" : "fp16", tile);
    kit_kernel(kit, &s->kernel, "cascade_update", params);
    s->sl = (int)gen_value(&s->kernel.gen, "sl");
    s->tpb = (int)gen_value(&s->kernel.gen, "tpb");
    s->rows = cascade_rows(&s->p);
    s->cascades = s->p.policy == POLICY_HOMOGENEOUS ? 1 : s->kv;
    s->n = (size_t)s->layers * (size_t)s->cascades;
    s->t = 0;
    for (int i = 0; i < s->d / 2; i++)
        s->freq[i] = pow(10000.0, -2.0 * i / s->d);
    size_t rows = (size_t)s->rows, heads = (size_t)s->layers * (size_t)s->kv, stride = (size_t)s->p.stride;
    size_t d = (size_t)s->d;
    int turns = s->p.sinks > s->rows ? s->p.sinks : s->rows;
    float *angles = kit_angles(turns, s->d, s->freq);
    unsigned *zero = calloc(s->n * (size_t)s->planner.most_nodes, sizeof *zero);
    s->mirror_score = malloc(s->n * rows * sizeof *s->mirror_score);
    s->mirror_origin = malloc(s->n * rows * sizeof *s->mirror_origin);
    memset(s->mirror_score, 0xff, s->n * rows * sizeof *s->mirror_score);
    memset(s->mirror_origin, 0xff, s->n * rows * sizeof *s->mirror_origin);
    s->new_score = malloc(s->n * stride * sizeof *s->new_score);
    s->new_k = malloc(heads * stride * d * sizeof *s->new_k);
    s->new_v = malloc(heads * stride * d * sizeof *s->new_v);
    s->k = kit_put(kit, NULL, heads * rows * d * 2);
    s->v = kit_put(kit, NULL, heads * rows * d * 2);
    s->score = kit_put(kit, s->mirror_score, s->n * rows * sizeof(float));
    s->origin = kit_put(kit, s->mirror_origin, s->n * rows * sizeof(int64_t));
    s->k_chunk = kit_put(kit, NULL, heads * stride * d * 2);
    s->v_chunk = kit_put(kit, NULL, heads * stride * d * 2);
    s->chunk_score = kit_put(kit, NULL, s->n * stride * sizeof(float));
    s->plan = kit_put(kit, NULL, s->planner.room);
    s->rot = kit_put(kit, angles, (size_t)turns * d * sizeof *angles);
    s->moves = kit_put(kit, NULL, heads * (size_t)s->sl * (size_t)s->planner.most_nodes * 16);
    s->arrived = kit_put(kit, zero, s->n * (size_t)s->planner.most_nodes * sizeof *zero);
    s->oracle = calloc(s->n, sizeof *s->oracle);
    for (size_t i = 0; i < s->n; i++)
        oracle_cascade_open(&s->oracle[i], &s->p);
    free(angles);
    free(zero);
}

static void stream_close(struct stream *s)
{
    devptr all[] = {s->k,           s->v,    s->score, s->origin, s->k_chunk, s->v_chunk,
                    s->chunk_score, s->plan, s->rot,   s->moves,  s->arrived};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kit_release(s->kit, all[i]);
    for (size_t i = 0; i < s->n; i++)
        oracle_cascade_close(&s->oracle[i]);
    free(s->oracle);
    free(s->mirror_score);
    free(s->mirror_origin);
    free(s->new_score);
    free(s->new_k);
    free(s->new_v);
    cascade_plan_free(&s->part);
    move_planner_free(&s->planner);
    kernel_free(&s->kernel);
}

static void upload(struct stream *s, devptr to, const void *data, size_t bytes)
{
    struct err err = {""};
    if (s->kit->dev.upload(&s->kit->dev, to, data, bytes, &err) != 0)
        fail_msg("%s", err.msg);
}

/* What attention would do to the scores of held tokens before a chunk is inserted. */
static void change_scores(struct stream *s)
{
    struct cascade_state state;
    struct cascade_run run[CASCADE_MAX_RUNS];
    cascade_state_at(&s->p, s->t, &state);
    int nruns = cascade_runs(&s->p, &state, run);
    for (size_t c = 0; c < s->n; c++)
        for (int i = 0; i < nruns; i++)
            for (int j = 0; j < run[i].len; j++) {
                size_t row = c * (size_t)s->rows + (size_t)(run[i].row + j);
                int64_t token = s->mirror_origin[row];
                float score = 0.5f * s->mirror_score[row] + score_of(s, c, token, 1 + (uint64_t)s->t);
                s->mirror_score[row] = score;
                if (s->p.select != SELECT_RANDOM)
                    s->oracle[c].score[token] = score;
            }
    upload(s, s->score, s->mirror_score, s->n * (size_t)s->rows * sizeof(float));
}

/* Inserts T tokens everywhere. one_token: with the fixed grid that a captured decode step has. */
static void insert(struct stream *s, int T, bool one_token)
{
    size_t heads = (size_t)s->kv, d = (size_t)s->d, tokens = (size_t)T;
    for (int layer = 0; layer < s->layers; layer++)
        for (int i = 0; i < T; i++)
            for (int head = 0; head < s->kv; head++)
                for (int e = 0; e < s->d; e++) {
                    size_t at = (((size_t)layer * tokens + (size_t)i) * heads + (size_t)head) * d + (size_t)e;
                    s->new_k[at] = content(s, 0, layer, s->t + i, head, e);
                    s->new_v[at] = content(s, 1, layer, s->t + i, head, e);
                }
    for (size_t c = 0; c < s->n; c++)
        for (int i = 0; i < T; i++)
            s->new_score[c * tokens + (size_t)i] = score_of(s, c, s->t + i, 0);
    upload(s, s->k_chunk, s->new_k, (size_t)s->layers * tokens * heads * d * 2);
    upload(s, s->v_chunk, s->new_v, (size_t)s->layers * tokens * heads * d * 2);
    upload(s, s->chunk_score, s->new_score, s->n * tokens * sizeof(float));

    struct cascade_state state;
    cascade_state_at(&s->p, s->t, &state);
    int32_t *winner = malloc(((size_t)s->planner.most_nodes + 1) * sizeof *winner);
    for (int done = 0; done < T; done += s->part.tokens) {
        cascade_plan_make(&s->part, &s->p, &state, T - done);
        move_plan_make(&s->planner, &s->part, done);
        upload(s, s->plan, s->planner.buffer, s->planner.bytes);
        int chunk_stride = s->kv * s->d, turning = s->p.positions == POSITIONS_CACHE, select = (int)s->p.select;
        int mean = s->p.span_score == SPAN_MEAN;
        int64_t chunk_layer = (int64_t)T * chunk_stride;
        for (int wave = 0; wave < s->planner.waves; wave++) {
            int trees = one_token ? MOVE_TREES_DECODE : s->planner.wave[wave].trees;
            assert_true(s->planner.wave[wave].trees <= trees && (!one_token || s->planner.waves == 1));
            devptr plan = s->plan + (devptr)s->planner.wave[wave].at;
            kit_launch(s->kit, &s->kernel, (unsigned)((trees + s->tpb - 1) / s->tpb * s->sl), (unsigned)s->kv,
                       (unsigned)s->layers,
                       (void *[]){&s->k,        &s->v,         &s->score,    &s->origin,      &s->k_chunk,
                                  &s->v_chunk,  &chunk_stride, &chunk_layer, &s->chunk_score, &T,
                                  &plan,        &s->rot,       &s->moves,    &s->arrived,     &s->rows,
                                  &s->cascades, &turning,      &select,      &mean,           &s->seed});
        }
        for (size_t c = 0; c < s->n; c++) {
            float *score = s->mirror_score + c * (size_t)s->rows;
            int64_t *origin = s->mirror_origin + c * (size_t)s->rows;
            cascade_decide(&s->p, &s->part, score, origin, s->seed + c, winner);
            cascade_carry(&s->p, &s->part, winner, score, origin, s->new_score + c * tokens + done);
        }
        state = s->part.after;
    }
    free(winner);
    for (size_t c = 0; c < s->n && s->p.select != SELECT_RANDOM; c++)
        for (int i = 0; i < T; i++)
            oracle_cascade_insert(&s->oracle[c], s->new_score[c * tokens + (size_t)i]);
    s->t += T;
}

/* Scores and origins of every row against the runtime's bookkeeping, bit for bit; the held tokens against the oracle's. */
static void check_rows(const struct stream *s)
{
    size_t rows = (size_t)s->rows;
    float *score = malloc(s->n * rows * sizeof *score);
    int64_t *origin = malloc(s->n * rows * sizeof *origin), *held = malloc((rows + 1) * sizeof *held);
    kit_get(s->kit, score, s->score, s->n * rows * sizeof *score);
    kit_get(s->kit, origin, s->origin, s->n * rows * sizeof *origin);
    struct cascade_state state;
    struct attn_step step;
    cascade_state_at(&s->p, s->t, &state);
    attn_step_make(&step, &s->p, &state, 1);
    for (size_t c = 0; c < s->n; c++) {
        for (size_t row = 0; row < rows; row++)
            if (origin[c * rows + row] != s->mirror_origin[c * rows + row] ||
                memcmp(&score[c * rows + row], &s->mirror_score[c * rows + row], sizeof *score))
                fail_msg("after %lld tokens, cascade %zu, row %zu: token %lld with score %g instead of %lld with %g",
                         (long long)s->t, c, row, (long long)origin[c * rows + row], score[c * rows + row],
                         (long long)s->mirror_origin[c * rows + row], s->mirror_score[c * rows + row]);
        if (s->p.select == SELECT_RANDOM)
            continue;
        int n = oracle_cascade_held(&s->oracle[c], held), at = 0;
        assert_int_equal(n, step.held);
        for (int i = 0; i < step.nruns; i++)
            for (int j = 0; j < step.run[i].len; j++, at++)
                assert_int_equal(origin[c * rows + (size_t)(step.run[i].row + j)], held[at]);
    }
    free(score);
    free(origin);
    free(held);
}

/* Keys and values of held rows against the contents of the tokens that they belong to. A value is a copy. A key was turned and
 * rounded when it was placed and at each of at most N - 1 moves. */
static void check_contents(const struct stream *s)
{
    const struct oracle_rope rope = {.pairs = s->d / 2, .freq = s->freq, .interleaved = true};
    const double eps = half_rounding(s->type);
    bool turned = s->p.positions == POSITIONS_CACHE;
    size_t heads = (size_t)s->layers * (size_t)s->kv, d = (size_t)s->d, rows = (size_t)s->rows;
    uint16_t *k = malloc(heads * rows * d * 2), *v = malloc(heads * rows * d * 2);
    kit_get(s->kit, k, s->k, heads * rows * d * 2);
    kit_get(s->kit, v, s->v, heads * rows * d * 2);
    struct cascade_state state;
    struct cascade_run run[CASCADE_MAX_RUNS];
    cascade_state_at(&s->p, s->t, &state);
    int nruns = cascade_runs(&s->p, &state, run), pos = 0;
    for (int i = 0; i < nruns; pos += run[i++].len)
        for (int j = 0; j < run[i].len; j++)
            for (int h = 0; h < (int)heads; h++) {
                int layer = h / s->kv, head = h % s->kv, row = run[i].row + j;
                size_t cascade = (size_t)layer * (size_t)s->cascades + (size_t)(s->cascades == 1 ? 0 : head);
                int64_t token = s->mirror_origin[cascade * rows + (size_t)row];
                double want[256];
                for (int e = 0; e < s->d; e++) {
                    uint16_t mine = v[((size_t)h * rows + (size_t)row) * d + (size_t)e];
                    if (mine != content(s, 1, layer, token, head, e))
                        fail_msg("after %lld tokens: head %d, row %d holds other values than token %lld",
                                 (long long)s->t, h, row, (long long)token);
                    want[e] = half_value(s->type, content(s, 0, layer, token, head, e));
                }
                if (turned)
                    oracle_rotate(&rope, want, pos + j - run[i].shift);
                for (int e = 0; e < s->d; e++) {
                    double got = half_value(s->type, k[((size_t)h * rows + (size_t)row) * d + (size_t)e]);
                    double bound = turned ? s->p.subcaches * 1.5 * (eps + 1e-6) * hypot(want[e], want[e ^ 1]) : 0;
                    if (!(fabs(got - want[e]) <= bound))
                        fail_msg(
                            "after %lld tokens: head %d, row %d, token %lld, element %d of the key: %g instead of %g",
                            (long long)s->t, h, row, (long long)token, e, got, want[e]);
                }
            }
    free(k);
    free(v);
}

/* The counters of the last blocks are left as they were found. */
static void check_counters(const struct stream *s)
{
    size_t n = s->n * (size_t)s->planner.most_nodes;
    unsigned *arrived = malloc(n * sizeof *arrived);
    kit_get(s->kit, arrived, s->arrived, n * sizeof *arrived);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(arrived[i], 0);
    free(arrived);
}

static struct cascade_params cascade(int sinks, int subcaches, int w, int span, int stride)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = sinks;
    p.subcaches = subcaches;
    p.window = w * subcaches;
    p.span = span;
    p.stride = stride;
    return p;
}

static void run_chunks(struct stream *s, int chunks)
{
    for (int i = 0; i < chunks; i++) {
        if (s->t > 0)
            change_scores(s);
        int T = kit_int(s->kit, 0, 2) ? kit_int(s->kit, 1, s->p.stride) : s->p.stride;
        insert(s, T, false);
        check_rows(s);
    }
    check_contents(s);
    check_counters(s);
}

void update_every_shape(void **state)
{
    struct kit *kit = KIT(state);
    static const int dims[] = {64, 80, 96, 128, 256}, spans[] = {1, 8, 16, 32};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++)
            for (int type = 0; type < 2; type++) {
                if (kit->emulated && !kit->only_d && ((i + j) % 2 != type || (i + j) % 3 == 2))
                    continue;
                if (kit->only_d && (kit->only_d != dims[i] || spans[j] != 8 || i % 2 != type))
                    continue;
                int w = spans[j] * (kit->emulated ? 3 : 24);
                struct stream s = {
                    .p = cascade(11, 3, w, spans[j], 2 * w + 5), .d = dims[i], .kv = 2, .layers = 1, .type = type};
                stream_open(&s, kit, "");
                run_chunks(&s, kit->emulated ? 6 : 20);
                stream_close(&s);
            }
}

static void random_schedule(struct kit *kit, struct cascade_params *p)
{
    int how = kit_int(kit, 0, 4);
    for (int i = 1; i < CASCADE_MAX_SUBCACHES; i++)
        p->every[i] = how == 0   ? 1
                      : how == 1 ? i + 1
                      : how == 2 ? p->every[i - 1] * 3
                      : how == 3 ? p->every[i - 1] + kit_int(kit, 0, 3)
                                 : p->every[i];
}

void update_random_streams(void **state)
{
    struct kit *kit = KIT(state);
    static const char *const tiles[] = {"", "wp=2 sl=1 u=2", "wp=4 sl=4 u=8", "wp=8 sl=2 u=4"};
    int streams = kit->emulated ? 40 : 300;
    for (int i = 0; i < streams; i++) {
        static const int spans[] = {1, 4, 8, 3};
        int span = spans[i % 4], w = span * kit_int(kit, 1, kit->emulated ? 6 : 20);
        struct stream s = {.p = cascade(kit_int(kit, 0, 1) ? kit_int(kit, 0, 20) : 0, kit_int(kit, 1, 5), w, span, 1),
                           .d = 64,
                           .kv = kit_int(kit, 1, 3),
                           .layers = kit_int(kit, 1, 2),
                           .type = 1};
        s.p.stride = kit_int(kit, 1, 3 * w);
        s.p.eager = kit_int(kit, 0, 2) > 0;
        s.p.policy = kit_int(kit, 0, 1) ? POLICY_HOMOGENEOUS : POLICY_INDEPENDENT;
        s.p.positions = kit_int(kit, 0, 3) ? POSITIONS_CACHE : POSITIONS_ORIGINAL;
        s.p.span_score = kit_int(kit, 0, 1) ? SPAN_MEAN : SPAN_MAX;
        s.p.select = (enum cascade_select)(kit_int(kit, 0, 2) ? SELECT_SCORE : kit_int(kit, 0, 3));
        s.scores = (enum scores)kit_int(kit, 0, 2);
        random_schedule(kit, &s.p);
        stream_open(&s, kit, tiles[i / 4 % 4]);
        run_chunks(&s, kit->emulated ? 8 : 30);
        stream_close(&s);
    }
}

void update_token_by_token(void **state)
{
    struct kit *kit = KIT(state);
    for (int i = 0; i < 4; i++) {
        struct stream s = {.p = cascade(3, 3, 12, i % 2 ? 4 : 1, 4), .d = 64, .kv = 2, .layers = 3, .type = 1};
        s.p.policy = i / 2 ? POLICY_HOMOGENEOUS : POLICY_INDEPENDENT;
        s.scores = i % 2 ? SCORES_SMOOTH : SCORES_TIES;
        stream_open(&s, kit, "");
        for (int t = 0; t < (kit->emulated ? 60 : 400); t++) {
            if (t > 0)
                change_scores(&s);
            insert(&s, 1, true);
            check_rows(&s);
        }
        check_contents(&s);
        check_counters(&s);
        stream_close(&s);
    }
}

/* With many sub-caches, or a schedule that makes many compete for one slot, the plan's trees are cut into waves. */
void update_deep_cascades(void **state)
{
    struct kit *kit = KIT(state);
    static const struct {
        int subcaches, spans, span, every;
    } cases[] = {{8, 64, 1, 2}, {3, 60, 2, 50}, {6, 40, 1, 3}, {5, 90, 1, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int w = cases[i].spans * cases[i].span;
        struct stream s = {
            .p = cascade(5, cases[i].subcaches, w, cases[i].span, w), .d = 64, .kv = 2, .layers = 1, .type = 1};
        for (int k = 1; k < s.p.subcaches; k++)
            s.p.every[k] = s.p.every[k - 1] * cases[i].every;
        s.p.eager = false;
        stream_open(&s, kit, "");
        int waves = 0;
        for (int chunk = 0; chunk < 12 * cases[i].subcaches; chunk++) {
            if (s.t > 0)
                change_scores(&s);
            insert(&s, s.p.stride, false);
            waves = s.planner.waves > waves ? s.planner.waves : waves;
        }
        assert_true(waves > 1);
        check_rows(&s);
        check_contents(&s);
        check_counters(&s);
        stream_close(&s);
    }
}

void update_long_stream(void **state)
{
    struct kit *kit = KIT(state);
    int w = kit->emulated ? 64 : 1024;
    int64_t tokens = kit->emulated ? 3000 : 100000;
    struct stream s = {.p = cascade(64, 4, w, 16, 2 * w), .d = 64, .kv = 2, .layers = 2, .type = 1};
    stream_open(&s, kit, "");
    while (s.t < tokens) {
        int T = kit_int(kit, 0, 3) ? kit_int(kit, 1, s.p.stride) : kit_int(kit, 1, 20);
        if (s.t > 0)
            change_scores(&s);
        insert(&s, T, false);
        check_rows(&s);
    }
    check_contents(&s);
    check_counters(&s);
    stream_close(&s);
}
