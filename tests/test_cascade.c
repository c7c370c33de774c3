/* The cascade's closed forms and plans against a simulation that inserts token by token, as section 3 of the design reads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cascade.h"
#include "sanitized.h"

static uint64_t rng = 1;

static uint32_t rnd(uint32_t below)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((rng >> 33) % below);
}

/* ---- the simulation ---- */

enum { MOST = 256 }; /* spans a sub-cache */

struct sim {
    int64_t first[CASCADE_MAX_SUBCACHES][MOST]; /* first token of each span, oldest first */
    int count[CASCADE_MAX_SUBCACHES];
    int64_t t;
};

/* A token's score after a step: depends on both, so that later comparisons see other values than earlier ones. */
static float score_of(int64_t token, int64_t step, int kind)
{
    uint64_t h = cascade_hash(token, (uint64_t)step);
    switch (kind) {
    case 0:
        return (float)(h >> 40);
    case 1: /* many ties */
        return (float)(h % 3);
    default: /* ties, NaN, infinities */
        return h % 7 == 0 ? NAN : h % 7 == 1 ? -INFINITY : h % 7 == 2 ? INFINITY : (float)(h % 4);
    }
}

static double merit(const struct cascade_params *p, int64_t first, int64_t step, int kind, uint64_t seed)
{
    if (p->select == SELECT_NEWEST)
        return (double)first;
    if (p->select == SELECT_OLDEST)
        return (double)-first;
    if (p->select == SELECT_RANDOM)
        return (double)(cascade_hash(first, seed) >> 11);
    double best = -INFINITY, sum = 0;
    for (int j = 0; j < p->span; j++) {
        float s = score_of(first + j, step, kind);
        if (isnan(s))
            s = -INFINITY;
        if (s > best)
            best = s;
        sum += s;
    }
    if (p->span_score == SPAN_MEAN)
        return isnan(sum) ? -INFINITY : sum / p->span;
    return best;
}

static void sim_token(struct sim *s, const struct cascade_params *p, int64_t step, int kind, uint64_t seed)
{
    int64_t t = s->t++;
    if (t < p->sinks || (t - p->sinks + 1) % p->span != 0)
        return;
    int64_t n = (t - p->sinks) / p->span, coming = p->sinks + n * p->span;
    int cap = p->window / p->subcaches / p->span;
    for (int i = 0; i < p->subcaches; i++) {
        bool accepts = (p->eager && t <= (int64_t)p->window + p->sinks) || n % p->every[i] == 0;
        if (!accepts && s->count[i] > 0) {
            int64_t *newest = &s->first[i][s->count[i] - 1];
            if (merit(p, coming, step, kind, seed) >= merit(p, *newest, step, kind, seed))
                *newest = coming;
            return;
        }
        if (s->count[i] < cap) {
            s->first[i][s->count[i]++] = coming;
            return;
        }
        int64_t oldest = s->first[i][0];
        memmove(&s->first[i][0], &s->first[i][1], (size_t)(cap - 1) * sizeof oldest);
        s->first[i][cap - 1] = coming;
        coming = oldest;
    }
}

/* ---- random parameters ---- */

static struct cascade_params random_params(void)
{
    struct cascade_params p = cascade_defaults();
    static const int spans[] = {1, 1, 2, 3, 4, 5, 8, 16, 32};
    p.subcaches = 1 + (int)rnd(rnd(8) ? 5 : 16);
    p.span = spans[rnd(9)];
    int cap = 1 + (int)rnd(rnd(3) ? 4 : 12);
    p.window = p.subcaches * cap * p.span;
    p.sinks = rnd(4) ? (int)rnd(20) : 0;
    p.stride = 1 + (int)rnd(rnd(3) ? 8 : 3 * (uint32_t)(cap * p.span));
    p.eager = rnd(2);
    p.select = rnd(3) ? SELECT_SCORE : (enum cascade_select)rnd(4);
    p.span_score = (enum cascade_span_score)rnd(2);
    int64_t power = 1, base = 2 + rnd(3), kind = rnd(4);
    for (int i = 0; i < p.subcaches; i++) {
        if (kind == 0)
            p.every[i] = i + 1;
        else if (kind == 1)
            p.every[i] = i == 0 ? 1 : p.every[i - 1] + (int64_t)rnd(4);
        else
            p.every[i] = power;
        power *= base;
    }
    struct err err = {""};
    assert_int_equal(cascade_check(&p, &err), 0);
    return p;
}

/* ---- comparing a cache with the simulation ---- */

static void check_same(const struct cascade_params *p, const struct cascade_state *c, const struct sim *s,
                       const int64_t *origin)
{
    int pos = 0, nruns;
    struct cascade_run run[CASCADE_MAX_RUNS];
    assert_int_equal(c->t, s->t);
    for (int i = 0; i < p->subcaches; i++)
        assert_int_equal(c->ring[i].count, s->count[i]);

    /* The runs, walked in order, give sinks, sub-caches last to first, pending; positions count up; shifts fit. */
    int64_t *seq = malloc(sizeof *seq * (size_t)(cascade_rows(p) + 1));
    nruns = cascade_runs(p, c, run);
    assert_true(nruns <= CASCADE_MAX_RUNS);
    for (int r = 0; r < nruns; r++) {
        assert_true(run[r].len > 0);
        int ring = 0; /* first row of the ring that the run lies in, 0 for the sinks */
        for (int i = 0; i < p->subcaches && run[r].row >= p->sinks; i++)
            if (run[r].row >= cascade_ring_row(p, i))
                ring = cascade_ring_row(p, i);
        for (int j = 0; j < run[r].len; j++, pos++) {
            assert_true(run[r].row + j < cascade_rows(p));
            assert_int_equal(pos - (run[r].row + j - ring), run[r].shift);
            seq[pos] = origin[run[r].row + j];
        }
    }
    assert_int_equal(pos, cascade_held(p, c));

    int at = 0;
    for (int j = 0; j < p->sinks && j < s->t; j++)
        assert_int_equal(seq[at++], j);
    for (int i = p->subcaches - 1; i >= 0; i--)
        for (int k = 0; k < s->count[i]; k++)
            for (int j = 0; j < p->span; j++)
                assert_int_equal(seq[at++], s->first[i][k] + j);
    if (s->t > p->sinks) {
        assert_int_equal(c->pending, (s->t - p->sinks) % p->span);
        for (int64_t t = s->t - c->pending; t < s->t; t++)
            assert_int_equal(seq[at++], t);
    }
    assert_int_equal(at, pos);
    free(seq);
}

/* What the header says of a plan: no slot is written twice, no span moves twice, nothing is overwritten before it is read. */
static void check_plan(const struct cascade_params *p, const struct cascade_plan *plan)
{
    int rows = cascade_rows(p), w = p->window / p->subcaches;
    unsigned char *written = calloc((size_t)rows, 1);
    assert_true(plan->tokens <= w + (plan->before.t < p->sinks ? p->sinks - plan->before.t : 0));
    int next = 0, last = p->subcaches;
    for (int i = 0; i < plan->ngroups; i++) {
        const struct cascade_group *g = &plan->group[i];
        assert_true(g->sub >= 1 && g->sub <= last && g->count >= 1 && g->first == next);
        last = g->sub;
        next += g->count;
        for (int32_t k = g->first; k < next; k++) {
            int row = cascade_source_row(p, plan, g, k);
            for (int j = 0; j < p->span; j++)
                assert_false(written[row + j]); /* neither by this part nor earlier in this order */
        }
        if (g->holder)
            assert_false(written[cascade_group_row(p, g)]);
        assert_false(written[cascade_group_row(p, g)]);
        memset(written + cascade_group_row(p, g), 1, (size_t)p->span);
    }
    assert_int_equal(next, plan->nsources);
    /* Rows that are given up (sources) are in use before the part, and every write lands in a row that the state after it has. */
    for (int i = 0; i < plan->tokens; i++) {
        int row = cascade_token_row(p, plan, i);
        assert_true(row >= 0 && row < cascade_ring_row(p, 0) + w + p->span);
        assert_false(written[row]);
        written[row] = 1;
    }
    free(written);
}

static void run_case(const struct cascade_params *p, int64_t tokens, int kind, bool ragged)
{
    int rows = cascade_rows(p);
    float *score = calloc((size_t)rows, sizeof *score), *fresh = calloc((size_t)p->stride, sizeof *fresh);
    int64_t *origin = malloc(sizeof *origin * (size_t)rows);
    struct sim *sim = calloc(1, sizeof *sim);
    struct cascade_plan plan;
    struct err err = {""};
    assert_int_equal(cascade_plan_init(&plan, p, &err), 0);
    int32_t *winner = malloc(sizeof *winner * (size_t)(p->window + 1));
    for (int i = 0; i < rows; i++)
        origin[i] = -1;

    struct cascade_state now;
    cascade_state_at(p, 0, &now);
    for (int64_t step = 0; now.t < tokens; step++) {
        int T = ragged ? 1 + (int)rnd((uint32_t)p->stride) : p->stride;
        for (int r = 0; r < rows; r++)
            score[r] = origin[r] < 0 ? NAN : score_of(origin[r], step, kind);
        for (int i = 0; i < T; i++)
            fresh[i] = score_of(now.t + i, step, kind);
        for (int done = 0; done < T; done += plan.tokens) {
            cascade_plan_make(&plan, p, &now, T - done);
            assert_true(plan.tokens >= 1 && plan.tokens <= T - done);
            check_plan(p, &plan);
            cascade_decide(p, &plan, score, origin, 7, winner);
            cascade_carry(p, &plan, winner, score, origin, fresh + done);
            for (int i = 0; i < plan.tokens; i++)
                sim_token(sim, p, step, kind, 7);
            now = plan.after;
            check_same(p, &now, sim, origin);
        }
        struct cascade_run run[CASCADE_MAX_RUNS];
        int n = cascade_runs(p, &now, run);
        for (int r = 0; r < n; r++)
            for (int j = run[r].row; j < run[r].row + run[r].len; j++) {
                float want = score_of(origin[j], step, kind);
                assert_true(score[j] == want || (isnan(score[j]) && isnan(want)));
            }
    }
    cascade_plan_free(&plan);
    free(winner);
    free(sim);
    free(origin);
    free(fresh);
    free(score);
}

static void random_cases(void **state)
{
    (void)state;
    for (int i = 0; i < 4000; i += sanitized_step(8)) {
        rng = (uint64_t)i * 77 + 5;
        struct cascade_params p = random_params();
        int64_t tokens = p.sinks + p.window + (int64_t)rnd((uint32_t)p.window * 6);
        run_case(&p, tokens < 3000 ? tokens : 3000, (int)rnd(3), rnd(2));
    }
}

static struct cascade_params small(int sinks, int subcaches, int window, int span, int stride)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = sinks;
    p.subcaches = subcaches;
    p.window = window;
    p.span = span;
    p.stride = stride;
    return p;
}

/* The corners, each with every kind of score, eager fill on and off. */
static void corner_cases(void **state)
{
    (void)state;
    struct cascade_params corner[] = {
        small(0, 1, 1, 1, 1),     /* one row */
        small(5, 1, 4, 4, 3),     /* N = 1, w/B = 1 */
        small(0, 4, 64, 16, 100), /* w/B = 1, stride beyond everything, no sinks */
        small(64, 4, 16, 4, 300), /* more sinks than window, first chunk covers sinks and several parts */
        small(3, 2, 8, 4, 5),     small(10, 16, 16, 1, 7),   small(7, 3, 36, 3, 1),
        small(0, 2, 64, 32, 33),  small(100, 4, 32, 8, 101), small(4, 3, 12, 2, 64),
    };
    static const int64_t lists[][4] = {
        {1, 1, 3, 3}, {1, 1, 1, 1}, {1, 2, 3, 4}, {1, 100, 1000, 1000000007}, {1, 2, 4, 8}};
    for (size_t c = 0; c < sizeof corner / sizeof *corner; c++)
        for (size_t l = 0; l < 6; l++)
            for (int kind = 0; kind < 6; kind++) {
                struct cascade_params p = corner[c];
                p.eager = kind >= 3;
                for (int i = 0; i < p.subcaches && l < 5; i++)
                    p.every[i] = lists[l][i < 4 ? i : 3];
                struct err err = {""};
                assert_int_equal(cascade_check(&p, &err), 0);
                run_case(&p, p.sinks + 9 * p.window + 5, kind % 3, false);
            }
}

/* At counts that no simulation reaches, a state follows from the one before it by the plan, and stays within its rings. */
static void far_states(void **state)
{
    (void)state;
    struct cascade_params p = small(64, 8, 16384, 16, 1);
    int64_t far[] = {1000000, (int64_t)1 << 31, (int64_t)1 << 40, INT64_MAX - 5000};
    for (size_t f = 0; f < 4; f++)
        for (int i = 0; i < 1000; i++) {
            struct cascade_state a, b;
            struct cascade_run run[CASCADE_MAX_RUNS];
            cascade_state_at(&p, far[f] + i, &a);
            cascade_state_at(&p, far[f] + i + 1, &b);
            int64_t n = (far[f] + i - p.sinks) / p.span;
            bool enters = a.pending == p.span - 1;
            assert_int_equal(b.pending, enters ? 0 : a.pending + 1);
            for (int k = 0; k < p.subcaches; k++) {
                int slots = cascade_ring_slots(&p, k);
                int moved = enters && n % p.every[k] == 0;
                assert_int_equal(a.ring[k].count, 128);
                assert_int_equal(b.ring[k].start, (a.ring[k].start + moved) % slots);
            }
            assert_int_equal(cascade_runs(&p, &a, run) <= 2 * p.subcaches + 1, 1);
        }
}

/* Consequence 3: with eager fill nothing is lost while the text fits in sinks and window. */
static void eager_keeps_all(void **state)
{
    (void)state;
    struct cascade_params p = small(6, 4, 32, 4, 9);
    for (int t = 0; t <= p.sinks + p.window; t++) {
        struct cascade_state s;
        cascade_state_at(&p, t, &s);
        assert_int_equal(cascade_held(&p, &s), t);
    }
}

static void checks_name_the_option(void **state)
{
    (void)state;
    struct {
        struct cascade_params p;
        const char *says;
    } bad[] = {
        {small(-1, 4, 64, 4, 1), "--sinks -1"},     {small(0, 0, 64, 4, 1), "--subcaches 0"},
        {small(0, 17, 64, 4, 1), "--subcaches 17"}, {small(0, 4, 3, 1, 1), "--window 3"},
        {small(0, 4, 66, 1, 1), "--window 66"},     {small(0, 4, 64, 5, 1), "--span 5"},
        {small(0, 4, 64, 0, 1), "--span 0"},        {small(0, 4, 64, 32, 1), "--span 32"},
        {small(0, 4, 64, 4, 0), "--stride 0"},      {small(0, 1, INT_MAX, 1, 1), "--window 2147483647"},
        {small(0, 4, -64, 4, 1), "--window -64"},
    };
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err.msg[0] = 0;
        assert_int_equal(cascade_check(&bad[i].p, &err), -1);
        assert_non_null(strstr(err.msg, bad[i].says));
    }
    struct cascade_params p = small(0, 4, 64, 4, 1);
    p.ema = NAN;
    assert_int_equal(cascade_check(&p, &err), -1);
    p = small(0, 3, 12, 4, 1);
    p.every[1] = 2, p.every[2] = 1;
    assert_int_equal(cascade_check(&p, &err), -1);
    assert_non_null(strstr(err.msg, "must not fall"));
    p.every[0] = 2, p.every[2] = 2;
    assert_int_equal(cascade_check(&p, &err), -1);
}

static void reach(void **state)
{
    (void)state;
    struct cascade_params p = small(0, 4, 16384, 16, 1);
    assert_int_equal(cascade_reach(&p), 4096 * 15);
    p = small(0, 8, 65536, 16, 1);
    assert_int_equal(cascade_reach(&p), 8192 * 255);
    p = small(2, 4, 16, 4, 1);
    p.every[2] = 3, p.every[3] = 4; /* 1 2 3 4 accept together with those before them: 1 2 6 12 */
    assert_int_equal(cascade_reach(&p), 2 + 4 * 21);
    for (int i = 0; i < 16; i++)
        p.every[i] = i == 0 ? 1 : INT64_MAX / 2 + i;
    assert_int_equal(cascade_reach(&p), INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_cases),    cmocka_unit_test(corner_cases), cmocka_unit_test(far_states),
        cmocka_unit_test(eager_keeps_all), cmocka_unit_test(reach),        cmocka_unit_test(checks_name_the_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
