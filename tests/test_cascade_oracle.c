/* The runtime's cascade (closed-form state, grouped insertion) against the oracle's one-by-one rule, on random parameters. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gguf_writer.h"
#include "oracle_cascade.h"
#include "runtime/cascade.h"
#include "sanitized.h"

enum scores { SCORES_ANY, SCORES_TIES, SCORES_NAN, SCORES_INFINITE, SCORES_KINDS };

struct run {
    struct cascade_params p;
    enum scores kind;
    uint64_t seed, number; /* number: the case, for messages */
    struct oracle_cascade oracle;
    struct cascade_state state;
    struct cascade_plan plan;
    float *score;           /* [rows] */
    int64_t *origin;        /* [rows] */
    int32_t *winner;        /* [plan groups at most] */
    int64_t *held;          /* [rows] */
    unsigned char *written; /* [rows] */
};

static void set_schedule(struct cascade_params *p, uint64_t *seed)
{
    int how = random_int(seed, 0, 5);
    int64_t power = 1;
    for (int i = 0; i < p->subcaches; i++) {
        if (how < 3) { /* pow2, pow3, pow4 */
            p->every[i] = power;
            power *= how + 2;
        } else if (how == 3) { /* iplus1 */
            p->every[i] = i + 1;
        } else if (how == 4) { /* a list that does not fall */
            p->every[i] = i == 0 ? 1 : p->every[i - 1] + random_int(seed, 0, 3);
        } else {
            p->every[i] = 1;
        }
    }
}

static struct cascade_params random_params(uint64_t *seed)
{
    static const int spans[] = {1, 1, 1, 2, 3, 4, 5, 8, 16, 32};
    struct cascade_params p = cascade_defaults();
    p.sinks = random_int(seed, 0, 2) ? random_int(seed, 0, 40) : 0;
    p.subcaches = random_int(seed, 0, 9) ? random_int(seed, 1, 6) : random_int(seed, 7, CASCADE_MAX_SUBCACHES);
    p.span = spans[random_int(seed, 0, (int)(sizeof spans / sizeof *spans) - 1)];
    int w = p.span * (random_int(seed, 0, 5) ? random_int(seed, 2, 12) : 1);
    p.window = w * p.subcaches;
    p.stride = random_int(seed, 0, 3) ? random_int(seed, 1, 2 * w) : random_int(seed, 1, 4 * w + 3);
    p.eager = random_int(seed, 0, 1);
    p.span_score = random_int(seed, 0, 1) ? SPAN_MAX : SPAN_MEAN;
    int select = random_int(seed, 0, 9);
    p.select = select == 0 ? SELECT_NEWEST : select == 1 ? SELECT_OLDEST : SELECT_SCORE;
    set_schedule(&p, seed);
    return p;
}

/* Scores that both sides see the same: fp32. */
static float random_score(enum scores kind, uint64_t *seed)
{
    if (kind == SCORES_TIES)
        return (float)random_int(seed, 0, 3);
    if (kind == SCORES_NAN && !random_int(seed, 0, 4))
        return NAN;
    if (kind == SCORES_INFINITE && !random_int(seed, 0, 3))
        return random_int(seed, 0, 1) ? INFINITY : -INFINITY;
    return (float)random_normal(seed);
}

static void *need(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    assert_non_null(p);
    return p;
}

static void open_run(struct run *r, uint64_t number)
{
    struct err err = {""};
    *r = (struct run){.number = number, .seed = number * 7919 + 5};
    r->p = random_params(&r->seed);
    r->kind = (enum scores)random_int(&r->seed, 0, SCORES_KINDS - 1);
    if (cascade_check(&r->p, &err) < 0)
        fail_msg("case %llu: %s", (unsigned long long)number, err.msg);
    size_t rows = (size_t)cascade_rows(&r->p);
    oracle_cascade_open(&r->oracle, &r->p);
    assert_int_equal(cascade_plan_init(&r->plan, &r->p, &err), 0);
    cascade_state_at(&r->p, 0, &r->state);
    r->score = need(rows, sizeof *r->score);
    r->origin = need(rows, sizeof *r->origin);
    r->winner = need(rows * (size_t)r->p.subcaches, sizeof *r->winner);
    r->held = need(rows, sizeof *r->held);
    r->written = need(rows, 1);
}

static void close_run(struct run *r)
{
    oracle_cascade_close(&r->oracle);
    cascade_plan_free(&r->plan);
    free(r->score);
    free(r->origin);
    free(r->winner);
    free(r->held);
    free(r->written);
}

#define check(r, what)                                                                                                 \
    do {                                                                                                               \
        if (!(what))                                                                                                   \
            fail_msg("case %llu (S %d N %d W %d B %d T %d eager %d) at t = %lld: %s", (unsigned long long)(r)->number, \
                     (r)->p.sinks, (r)->p.subcaches, (r)->p.window, (r)->p.span, (r)->p.stride, (r)->p.eager,          \
                     (long long)(r)->oracle.t, #what);                                                                 \
    } while (0)

static bool same_state(const struct cascade_params *p, const struct cascade_state *a, const struct cascade_state *b)
{
    bool same = a->t == b->t && a->sinks == b->sinks && a->pending == b->pending;
    for (int i = 0; i < p->subcaches; i++)
        same = same && a->ring[i].count == b->ring[i].count &&
               (a->ring[i].count == 0 || a->ring[i].start == b->ring[i].start);
    return same;
}

/* First row of the ring (or of the sinks) that holds a row: what the stored angle counts from. */
static int angle_base(const struct cascade_params *p, int row)
{
    int base = 0;
    for (int i = 0; i < p->subcaches; i++)
        if (row >= cascade_ring_row(p, i))
            base = cascade_ring_row(p, i);
    return row < p->sinks ? 0 : base;
}

/* Rows, order, positions and counts against the oracle's lists. */
static void compare(struct run *r)
{
    struct cascade_state closed;
    cascade_state_at(&r->p, r->oracle.t, &closed);
    check(r, same_state(&r->p, &closed, &r->state));
    check(r, r->state.sinks == r->oracle.nsinks && r->state.pending == r->oracle.npending);
    for (int i = 0; i < r->p.subcaches; i++)
        check(r, r->state.ring[i].count * r->p.span == r->oracle.count[i]);
    int held = oracle_cascade_held(&r->oracle, r->held);
    check(r, held == cascade_held(&r->p, &r->state));
    struct cascade_run run[CASCADE_MAX_RUNS];
    int runs = cascade_runs(&r->p, &r->state, run), pos = 0;
    for (int i = 0; i < runs; i++) {
        check(r, run[i].len > 0 && run[i].row >= 0 && run[i].row + run[i].len <= cascade_rows(&r->p));
        int base = angle_base(&r->p, run[i].row);
        for (int k = 0; k < run[i].len; k++, pos++) {
            int row = run[i].row + k;
            check(r, pos < held && r->origin[row] == r->held[pos]);
            check(r, angle_base(&r->p, row) == base && run[i].shift == pos - (row - base));
            float want = (float)r->oracle.score[r->held[pos]];
            check(r, r->score[row] == want || (isnan(want) && isnan(r->score[row])));
        }
    }
    check(r, pos == held);
}

/* What the header promises of a plan: no slot written twice, sub-caches from the last to the first. */
static void check_plan(struct run *r)
{
    int rows = cascade_rows(&r->p), sub = r->p.subcaches;
    for (int i = 0; i < rows; i++)
        r->written[i] = 0;
    for (int g = 0; g < r->plan.ngroups; g++) {
        const struct cascade_group *group = &r->plan.group[g];
        int row = cascade_group_row(&r->p, group);
        check(r, group->sub >= 1 && group->sub <= sub && group->count >= 1 && group->first >= 0);
        check(r, group->first + group->count <= r->plan.nsources && row >= r->p.sinks && row + r->p.span <= rows);
        check(r, !r->written[row]);
        r->written[row] = 1;
        sub = group->sub;
    }
}

static void insert_chunk(struct run *r, int T)
{
    float *chunk = need((size_t)T, sizeof *chunk);
    for (int i = 0; i < T; i++)
        chunk[i] = random_score(r->kind, &r->seed);
    for (int done = 0; done < T;) {
        cascade_plan_make(&r->plan, &r->p, &r->state, T - done);
        check(r, r->plan.tokens >= 1 && r->plan.tokens <= T - done);
        check_plan(r);
        cascade_decide(&r->p, &r->plan, r->score, r->origin, 0, r->winner);
        cascade_carry(&r->p, &r->plan, r->winner, r->score, r->origin, chunk + done);
        done += r->plan.tokens;
        r->state = r->plan.after;
    }
    for (int i = 0; i < T; i++)
        oracle_cascade_insert(&r->oracle, (double)chunk[i]);
    free(chunk);
}

/* The score update of a step, as far as insertion cares: every held key gets another score. */
static void change_scores(struct run *r)
{
    struct cascade_run run[CASCADE_MAX_RUNS];
    int runs = cascade_runs(&r->p, &r->state, run);
    for (int i = 0; i < runs; i++)
        for (int row = run[i].row; row < run[i].row + run[i].len; row++) {
            r->score[row] = random_score(r->kind, &r->seed);
            r->oracle.score[r->origin[row]] = (double)r->score[row];
        }
}

static void one_case(uint64_t number)
{
    struct run r;
    open_run(&r, number);
    int64_t tokens = r.p.sinks + (int64_t)r.p.window * random_int(&r.seed, 1, 8) + random_int(&r.seed, 0, 50);
    int constant = random_int(&r.seed, 0, 1), full = random_int(&r.seed, 0, 2);
    while (r.oracle.t < tokens) {
        int T = full ? r.p.stride : random_int(&r.seed, 1, r.p.stride);
        insert_chunk(&r, T < tokens - r.oracle.t ? T : (int)(tokens - r.oracle.t));
        compare(&r);
        if (!constant)
            change_scores(&r);
    }
    close_run(&r);
}

static void insertion_keeps_what_the_one_by_one_rule_keeps(void **state)
{
    for (uint64_t number = 0; number < 6000; number += (uint64_t)sanitized_step(8))
        one_case(number);
}

/* The state far from the beginning, where a closed form could go wrong and a short run would not see it. */
static void the_state_far_out(void **state)
{
    for (uint64_t number = 0; number < 12; number++) {
        struct run r;
        open_run(&r, number + 100000);
        for (int64_t t = 0; t < 60000; t++) {
            if (t % 977 == 0 || t < 500) {
                cascade_state_at(&r.p, t, &r.state);
                for (int i = 0; i < r.p.subcaches; i++)
                    check(&r, r.state.ring[i].count * r.p.span == r.oracle.count[i]);
            }
            oracle_cascade_insert(&r.oracle, random_normal(&r.seed));
        }
        close_run(&r);
    }
}

/* N = 1 keeps the sinks and the last tokens: StreamingLLM. W >= text keeps all. Both from the oracle itself, so that the
 * reference is tested against what the design says of it. */
static void consequences_hold_for_the_oracle(void **state)
{
    struct oracle_cascade c;
    struct cascade_params p = cascade_defaults();
    int64_t held[200];
    p.sinks = 4, p.subcaches = 1, p.window = 32, p.span = 4;
    oracle_cascade_open(&c, &p);
    for (int t = 0; t < 101; t++)
        oracle_cascade_insert(&c, (double)(t % 7));
    assert_int_equal(oracle_cascade_held(&c, held), 4 + 32 + 1);
    for (int i = 0; i < 37; i++)
        assert_int_equal(held[i], i < 4 ? i : i + 64);
    oracle_cascade_close(&c);

    p.subcaches = 4, p.window = 96;
    oracle_cascade_open(&c, &p);
    for (int t = 0; t < 100; t++)
        oracle_cascade_insert(&c, (double)(t % 7));
    assert_int_equal(oracle_cascade_held(&c, held), 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(held[i], i);
    oracle_cascade_close(&c);
}

/* A hand-made case of the published rule: N = 2, w = 2, B = 1, no sinks, pow2, no eager fill. */
static void a_case_by_hand(void **state)
{
    struct oracle_cascade c;
    struct cascade_params p = cascade_defaults();
    int64_t held[8];
    p.sinks = 0, p.subcaches = 2, p.window = 4, p.span = 1, p.eager = false;
    oracle_cascade_open(&c, &p);
    /* t = 0, 1 fill sub-cache 0. t = 2 evicts 0 at clock 2: sub-cache 1 accepts it. t = 3 evicts 1 at clock 3: not accepted,
     * 5 < 9, so 0 stays. t = 4 evicts 2 at clock 4: appended. t = 5 evicts 3 at clock 5: 2 >= 2, so 3 replaces 2. t = 6 evicts
     * 4 at clock 6: full, the oldest (0) goes. */
    static const double score[] = {9, 5, 2, 2, 1, 7, 7};
    static const int64_t after4[] = {0, 2, 3, 4}, after5[] = {0, 3, 4, 5}, after6[] = {3, 4, 5, 6};
    for (int t = 0; t < 7; t++) {
        oracle_cascade_insert(&c, score[t]);
        const int64_t *want = t == 4 ? after4 : t == 5 ? after5 : t == 6 ? after6 : NULL;
        if (want) {
            assert_int_equal(oracle_cascade_held(&c, held), 4);
            assert_memory_equal(held, want, 4 * sizeof *want);
        }
    }
    oracle_cascade_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_case_by_hand),
        cmocka_unit_test(consequences_hold_for_the_oracle),
        cmocka_unit_test(insertion_keeps_what_the_one_by_one_rule_keeps),
        cmocka_unit_test(the_state_far_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
