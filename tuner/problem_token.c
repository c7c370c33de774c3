/* One token's kernels: attn_decode, attn_merge. */
#include <stdlib.h>
#include <string.h>

#include "bench_decode.h"
#include "problem_attn.h"

enum { CHECK_WINDOW = 1024, CHECK_KV = 2, ALL_PARTS = TOKEN_DECODE | TOKEN_MERGE };

struct token_problem {
    struct problem p;
    int part; /* TOKEN_*: the kernel that is tuned */
    struct bench small_bench;
    struct decode_bench big, small;
    struct attn_case check;
    float *score; /* of the big case before a launch, [cascades][rows]; owned */
    uint16_t *o;  /* of the big case with default tiles, [heads][d]; owned */
    float *after; /* its scores then; owned */
};

/* Runs `parts` with k as the kernel that is tuned (NULL: its own default). The splits depend on both tiles. */
static int run(struct token_problem *c, struct decode_bench *at, int parts, const struct kernel *k, struct err *err)
{
    struct kernel *slot = c->part == TOKEN_DECODE ? &at->decode : &at->merge, own = *slot;
    if (k)
        *slot = *k;
    at->parts = parts;
    decode_bench_grids(at, &at->decode, &at->merge);
    int status = decode_bench_enqueue(at, err);
    *slot = own;
    return status;
}

static size_t score_bytes(const struct decode_bench *c)
{
    return (size_t)c->cascades * (size_t)c->rows * sizeof(float);
}

static int open_big(struct token_problem *c, struct err *err)
{
    const struct pairs *sizes = &c->p.what.sizes, *shape = &c->p.what.shape;
    struct bench *b = &c->p.bench;
    int keys = (int)pairs_long(sizes, "keys", 0), sinks = b->cascade.p.sinks, span = b->cascade.p.span;
    b->kv_heads = (int)pairs_long(sizes, "kv_heads", pairs_long(sizes, "cascades", 0));
    b->heads = b->kv_heads * (int)pairs_long(shape, "g", pairs_long(shape, "r", 0));
    int window = keys - sinks - span / 2 - 1; /* half a span is pending, and the token itself */
    if (b->heads < 1 || window < 1)
        return err_set(err, "%s: no token has keys=%d over %d key heads", c->p.what.kernel, keys, b->kv_heads);
    if (decode_bench_open(&c->big, b, window, err) != 0)
        return -1;
    if (!(c->score = problem_fetch(b, c->big.score, score_bytes(&c->big), err)))
        return -1;
    return run(c, &c->big, TOKEN_DECODE, NULL, err); /* attn_merge reads its parts */
}

static void token_close(struct problem *p)
{
    struct token_problem *c = (struct token_problem *)p;
    if (c->big.b)
        decode_bench_close(&c->big);
    if (c->small.b)
        decode_bench_close(&c->small);
    attn_case_free(&c->check);
    free(c->score);
    free(c->o);
    free(c->after);
    free(c);
}

static int token_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    int part = !strcmp(what->kernel, "attn_decode")  ? TOKEN_DECODE
               : !strcmp(what->kernel, "attn_merge") ? TOKEN_MERGE
                                                     : 0;
    struct token_problem *c = part ? problem_new(sizeof *c, &problem_token, b, what, err) : NULL;
    if (!c)
        return part ? -1 : 0;
    c->part = part;
    if (open_big(c, err) != 0) {
        token_close(&c->p);
        return -1;
    }
    *out = &c->p;
    return 0;
}

static int token_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    struct token_problem *c = (struct token_problem *)p;
    return run(c, &c->big, c->part, k, err);
}

/* The case that the oracle checks. */
static int open_small(struct token_problem *c, struct err *err)
{
    struct bench *b = &c->small_bench;
    struct decode_bench *s = &c->small;
    *b = c->p.bench;
    b->heads = b->heads / b->kv_heads * CHECK_KV;
    b->kv_heads = CHECK_KV;
    if (decode_bench_open(s, b, CHECK_WINDOW, err) != 0)
        return -1;
    const struct attn_places at = {.q = s->q,
                                   .k = s->k_new,
                                   .v = s->v_new,
                                   .k_cache = s->k,
                                   .v_cache = s->v,
                                   .score = s->score,
                                   .o = s->o,
                                   .lse = s->lse,
                                   .chunk_score = s->chunk_score};
    return attn_case_open(&c->check, b, &at, &s->layout, 1, s->cascades, err);
}

static int token_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct token_problem *c = (struct token_problem *)p;
    if (!c->check.open && open_small(c, err) != 0)
        return -1;
    struct device *dev = &c->small_bench.dev;
    size_t logits = (size_t)c->small_bench.heads * (size_t)c->small.stride * sizeof(float);
    if (attn_case_prepare(&c->check, err) != 0 || dev->fill(dev, c->small.logits, 0xff, logits, err) != 0 ||
        run(c, &c->small, ALL_PARTS, k, err) != 0)
        return -1;
    return attn_case_compare(&c->check, error, where, err);
}

/* Both kernels at full size: outputs and scores after. */
static int run_whole(struct token_problem *c, const struct kernel *k, uint16_t **o, float **after, struct err *err)
{
    struct bench *b = &c->p.bench;
    size_t bytes = (size_t)b->heads * (size_t)b->head_dim * 2;
    if (b->dev.fill(&b->dev, c->big.o, 0xff, bytes, err) != 0 ||
        b->dev.upload(&b->dev, c->big.score, c->score, score_bytes(&c->big), err) != 0 ||
        run(c, &c->big, ALL_PARTS, k, err) != 0)
        return -1;
    *o = problem_fetch(b, c->big.o, bytes, err);
    *after = problem_fetch(b, c->big.score, score_bytes(&c->big), err);
    return *o && *after ? 0 : -1;
}

static int token_whole(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct token_problem *c = (struct token_problem *)p;
    struct bench *b = &c->p.bench;
    uint16_t *o = NULL;
    float *after = NULL;
    int status = -1;
    if (!c->o && run_whole(c, NULL, &c->o, &c->after, err) != 0)
        return -1;
    if (run_whole(c, k, &o, &after, err) == 0) {
        char here[120];
        *error = problem_compare_halves(b->type, o, c->o, (size_t)b->heads, b->head_dim, where);
        double scores = problem_compare_floats(after, c->after, score_bytes(&c->big) / sizeof(float), here);
        if (scores > *error) {
            *error = scores;
            memcpy(where, here, sizeof here);
        }
        /* Whoever times attn_merge next reads parts of the default's splits. */
        status = c->part == TOKEN_MERGE ? 0 : run(c, &c->big, TOKEN_DECODE, NULL, err);
    }
    free(o);
    free(after);
    return status;
}

const struct problem_family problem_token = {token_open, token_close, token_launch, token_check, token_whole, NULL};
