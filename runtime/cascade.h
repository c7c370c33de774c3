#ifndef WEIR_CASCADE_H
#define WEIR_CASCADE_H

/* The cascade's bookkeeping (design, section 3): which rows of a key-value cache hold which place, what a chunk moves
 * where. It knows no GPU and no model: everything here depends on the token count alone, except cascade_decide(),
 * which takes the scores of one head.
 *
 * Rows. A cache of one layer and key head is an array of cascade_rows() rows, one a token:
 *
 *     [0, S)                          sinks, row = token
 *     sub-cache 0: w/B + 1 spans      a ring of span slots, one more than it holds: pending tokens fill the spare one
 *     sub-cache i: w/B spans          a ring of span slots, i = 1..N-1
 *
 * A key in row r of a ring is stored rotated by r - (first row of that ring); sinks by their row. (With POSITIONS_ORIGINAL
 * by its token number, and the shifts of the runs below do not apply.) */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

enum { CASCADE_MAX_SUBCACHES = 16, CASCADE_MAX_RUNS = 2 * CASCADE_MAX_SUBCACHES + 2 };

enum cascade_reduction { REDUCE_MEAN, REDUCE_MAX, REDUCE_MEDIAN };
enum cascade_policy { POLICY_INDEPENDENT, POLICY_HOMOGENEOUS };
enum cascade_positions { POSITIONS_CACHE, POSITIONS_ORIGINAL };
enum cascade_select { SELECT_SCORE, SELECT_NEWEST, SELECT_OLDEST, SELECT_RANDOM };
enum cascade_span_score { SPAN_MAX, SPAN_MEAN };

struct cascade_params {
    int sinks;                            /* S, tokens */
    int subcaches;                        /* N, 1..16 */
    int window;                           /* W, tokens, all sub-caches together */
    int span;                             /* B, tokens; divides W/N */
    int stride;                           /* T, tokens a chunk */
    double ema;                           /* gamma, 0..1 */
    int64_t every[CASCADE_MAX_SUBCACHES]; /* [N] sub-cache i accepts when n mod every[i] = 0; every[0] = 1 */
    bool eager;                           /* while t <= W + S every sub-cache accepts */
    enum cascade_reduction reduction;
    enum cascade_policy policy;
    enum cascade_positions positions;
    enum cascade_select select;
    enum cascade_span_score span_score;
};

/* The design's defaults: S 64, N 4, W 2048, B 16, T 1024, gamma 0.9999, pow2, eager, mean, independent, in-cache positions. */
struct cascade_params cascade_defaults(void);

/* Checks every rule of the design (1 <= N <= 16, W >= N, N divides W, B divides W/N, every[0] = 1, `every` does not
 * fall, 0 <= gamma <= 1, S >= 0, T >= 1). Returns 0, or -1 with *err naming option and value. */
int cascade_check(const struct cascade_params *p, struct err *err);

/* Whether both are the same cascade: what one has kept means the same to the other. */
bool cascade_equal(const struct cascade_params *a, const struct cascade_params *b);

/* Rows of one head's cache: S + W + B. Fits an int for every checked p. */
int cascade_rows(const struct cascade_params *p);

/* First row of sub-cache i's ring. */
int cascade_ring_row(const struct cascade_params *p, int i);

/* Span slots of sub-cache i's ring: w/B, and one more for i = 0. */
int cascade_ring_slots(const struct cascade_params *p, int i);

/* Tokens that the cache can reach back: the sinks, and w * lcm(every[0..i]) for each sub-cache i, since an arrival that
 * sub-cache i accepts was accepted by all before it at the same clock. w * (2^N - 1) for pow2. Saturates at INT64_MAX. */
int64_t cascade_reach(const struct cascade_params *p);

/* What the cache holds after t tokens, for all layers and heads alike. */
struct cascade_state {
    int64_t t;   /* tokens seen */
    int sinks;   /* sinks held */
    int pending; /* tokens of the incomplete span, 0..B-1 */
    struct {
        int start;                 /* slot of the oldest span */
        int count;                 /* spans held */
    } ring[CASCADE_MAX_SUBCACHES]; /* [N] */
};

/* The state after t tokens, in closed form (no loop over tokens). */
void cascade_state_at(const struct cascade_params *p, int64_t t, struct cascade_state *s);

/* Tokens held: sinks, spans and pending. It is the position of the next chunk's first token. */
int cascade_held(const struct cascade_params *p, const struct cascade_state *s);

/* A contiguous run of held rows in which position - slot is constant, so that one rotation of the query serves all. */
struct cascade_run {
    int row;   /* first row */
    int len;   /* rows */
    int shift; /* position of a key less the angle index it is stored with: rotate q by pos_q - shift for this run */
};

/* The held rows in order of position: sinks, sub-cache N-1 oldest to newest, ..., sub-cache 0, pending. Writes at most
 * CASCADE_MAX_RUNS runs, none empty, and returns how many. */
int cascade_runs(const struct cascade_params *p, const struct cascade_state *s, struct cascade_run *runs);

/* One slot of sub-cache `sub` >= 1 whose content is decided anew, with those who compete for it. */
struct cascade_group {
    int32_t sub;    /* sub-cache, 1..N-1 */
    int32_t slot;   /* span slot in its ring, the one that is written */
    int32_t first;  /* its challengers are plan->source[first .. first + count - 1], in order of arrival */
    int32_t count;  /* challengers, >= 1 */
    int32_t holder; /* 1: the slot's present content competes too, and comes before all challengers */
};

/* The insertion of one part, from one state to the next: the open sinks and at most w tokens of a chunk, which complete at
 * most w/B spans. A slot that is given away or contested in a part is the newest of its sub-cache, and would need w/B
 * further arrivals to become the oldest and be given up; there are fewer. Therefore
 *   - no span moves twice in a part: challengers of sub-cache i are slots of sub-cache i-1 as they are before the part;
 *   - no slot is written twice in a part, and the groups of one sub-cache may be carried out in any order, or at once;
 *   - a slot of sub-cache i-1 that is read for sub-cache i may be written for i-1 in the same part. Groups are ordered by
 *     sub-cache, the last one first, and the part's own tokens (rows of sub-cache 0) come at the end: in that order
 *     everything is read before it is overwritten. */
struct cascade_plan {
    struct cascade_state before, after;
    int tokens; /* tokens of the chunk that this part inserts */
    int ngroups, nsources;
    struct cascade_group *group; /* [ngroups], owned */
    int32_t *source;             /* [nsources] span slot in the ring of sub-cache group.sub - 1, owned */
};

/* Room for the largest plan of p. cascade_plan_free may be called on a zeroed plan. */
int cascade_plan_init(struct cascade_plan *plan, const struct cascade_params *p, struct err *err);
void cascade_plan_free(struct cascade_plan *plan);

/* Plans the next part of a chunk of which `left` tokens (1..T) are still to be inserted: plan->tokens = min(left, sinks still
 * open + w), and plan->after is the state it leads to. Cannot fail. */
void cascade_plan_make(struct cascade_plan *plan, const struct cascade_params *p, const struct cascade_state *before,
                       int left);

/* Row that token i (0 .. plan->tokens - 1) of the part is written to: a sink or a row of sub-cache 0's ring. */
int cascade_token_row(const struct cascade_params *p, const struct cascade_plan *plan, int i);

/* First row (of B) of the span that group g writes, and of challenger k, an index into plan->source. */
int cascade_group_row(const struct cascade_params *p, const struct cascade_group *g);
int cascade_source_row(const struct cascade_params *p, const struct cascade_plan *plan, const struct cascade_group *g,
                       int32_t k);

/* Merit of a span under SELECT_RANDOM: a fixed mix of its first token's number and the seed; the upper 53 bits count. */
uint64_t cascade_hash(int64_t origin, uint64_t seed);

/* Who wins each group, for one head (or the layer, with POLICY_HOMOGENEOUS): winner[g] is an index into plan->source, or -1
 * where the holder stays. The last maximum wins. A NaN among a span's scores counts as minus infinity, and so does a mean
 * that is NaN; means are compared in double.
 *   score   [rows] fp32, by row      origin [rows] original token number, by row (used by the selections newest, oldest
 *   and random; random hashes it with seed)      winner [ngroups], written */
void cascade_decide(const struct cascade_params *p, const struct cascade_plan *plan, const float *score,
                    const int64_t *origin, uint64_t seed, int32_t *winner);

/* Carries the plan out on the arrays that go with the rows: scores and original token numbers. Keys and values are moved by
 * the backend, in the same order, with the same winners.
 *   score [rows], origin [rows] in place      chunk_score [plan->tokens] of the part's tokens */
void cascade_carry(const struct cascade_params *p, const struct cascade_plan *plan, const int32_t *winner, float *score,
                   int64_t *origin, const float *chunk_score);

#endif
