/* A chunk's kernels: attn_turn, attn_prefill, attn_scores, attn_score_reduce. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_prefill.h"
#include "problem_attn.h"

enum {
    CHECK_WINDOW = 512,
    CHECK_T = 200,
    CHECK_KV = 2,
    CHECK_G = 2,
    ALL_PARTS = CHUNK_TURN | CHUNK_PREFILL | CHUNK_SCORES | CHUNK_REDUCE
};

/* What of a chunk's results a kernel decides, to be compared at full size. */
struct result {
    devptr at;
    size_t bytes;
    int d;            /* rows of d halves; 0: fp32 */
    void *by_default; /* what the default tile makes of it, owned */
};

struct chunk_problem {
    struct problem p;
    int part;                 /* CHUNK_*: the kernel that is tuned */
    struct bench small_bench; /* of the case that the oracle checks */
    struct prefill_bench big, small;
    struct attn_case check;
    int nresults;
    struct result result[2];
    float *score; /* of the big case before a launch, for attn_score_reduce, which updates it; owned */
    size_t score_bytes;
};

static const struct {
    const char *kernel;
    int part;
} parts[] = {{"attn_turn", CHUNK_TURN},
             {"attn_prefill", CHUNK_PREFILL},
             {"attn_prefill_wgmma", CHUNK_PREFILL},
             {"attn_scores", CHUNK_SCORES},
             {"attn_score_reduce", CHUNK_REDUCE}};

static struct kernel *slot_of(struct prefill_bench *c, int part)
{
    return part == CHUNK_TURN      ? &c->turn
           : part == CHUNK_PREFILL ? &c->prefill
           : part == CHUNK_SCORES  ? &c->scores
                                   : &c->reduce;
}

/* Runs `parts` with k as the kernel that is tuned (NULL: its own default). */
static int run(struct chunk_problem *c, struct prefill_bench *at, int which, const struct kernel *k, struct err *err)
{
    struct kernel *slot = slot_of(at, c->part), own = *slot;
    if (k)
        *slot = *k;
    at->parts = which;
    int status = prefill_bench_layer(at, 0, err);
    *slot = own;
    return status;
}

static void list_results(struct chunk_problem *c)
{
    const struct prefill_bench *b = &c->big;
    size_t T = (size_t)b->T, heads = (size_t)c->p.bench.heads, kv = (size_t)c->p.bench.kv_heads,
           d = (size_t)c->p.bench.head_dim;
    size_t keys = (size_t)b->rows + T, cascades = (size_t)b->cascades;
    switch (c->part) {
    case CHUNK_TURN:
        c->result[c->nresults++] = (struct result){b->qr, T * heads * d * 2, (int)d, NULL};
        c->result[c->nresults++] = (struct result){b->kr, T * kv * d * 2, (int)d, NULL};
        break;
    case CHUNK_PREFILL:
        c->result[c->nresults++] = (struct result){b->o, T * heads * d * 2, (int)d, NULL};
        c->result[c->nresults++] = (struct result){b->lse, heads * T * sizeof(float), 0, NULL};
        break;
    case CHUNK_SCORES:
        /* Held keys and the chunk's own lie one after the other, rows + T a head: what is not held is nobody's. */
        c->result[c->nresults++] = (struct result){b->sums, heads * keys * sizeof(float), 0, NULL};
        break;
    default:
        c->result[c->nresults++] = (struct result){b->u.score, cascades * (size_t)b->rows * sizeof(float), 0, NULL};
        c->result[c->nresults++] = (struct result){b->u.chunk_score, cascades * T * sizeof(float), 0, NULL};
    }
}

static int open_big(struct chunk_problem *c, struct err *err)
{
    const struct pairs *sizes = &c->p.what.sizes;
    struct bench *b = &c->p.bench;
    int T = (int)pairs_long(sizes, "tokens", 0), held = (int)pairs_long(sizes, "held", CHECK_WINDOW + 64);
    b->heads = (int)pairs_long(sizes, "heads", 0);
    b->kv_heads = (int)pairs_long(sizes, "kv_heads", pairs_long(sizes, "cascades", 0));
    if (T < 1 || b->heads < 1 || b->kv_heads < 1 || b->heads % b->kv_heads != 0 ||
        (held != 0 && held <= b->cascade.p.sinks))
        return err_set(err, "%s: no chunk has tokens=%d held=%d heads=%d kv_heads=%d", c->p.what.kernel, T, held,
                       b->heads, b->kv_heads);
    if (prefill_bench_open(&c->big, b, held ? held - b->cascade.p.sinks : 0, T, err) != 0)
        return -1;
    if (c->big.held != held)
        return err_set(err, "%s: a full cache holds %d tokens, not held=%d", c->p.what.kernel, c->big.held, held);
    list_results(c);
    if (c->part == CHUNK_REDUCE) {
        c->score_bytes = c->result[0].bytes;
        if (!(c->score = problem_fetch(b, c->big.u.score, c->score_bytes, err)))
            return -1;
    }
    /* What the tuned kernel reads, by the kernels before it. */
    return c->big.cached ? run(c, &c->big, (c->part - 1) & ALL_PARTS, NULL, err) : 0;
}

static void chunk_close(struct problem *p)
{
    struct chunk_problem *c = (struct chunk_problem *)p;
    for (int i = 0; i < c->nresults; i++)
        free(c->result[i].by_default);
    if (c->big.b)
        prefill_bench_close(&c->big);
    if (c->small.b)
        prefill_bench_close(&c->small);
    attn_case_free(&c->check);
    free(c->score);
    free(c);
}

static int chunk_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    int part = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(parts[i].kernel, what->kernel))
            part = parts[i].part;
    struct chunk_problem *c = part ? problem_new(sizeof *c, &problem_chunk, b, what, err) : NULL;
    if (!c)
        return part ? -1 : 0;
    c->part = part;
    if (open_big(c, err) != 0) {
        chunk_close(&c->p);
        return -1;
    }
    *out = &c->p;
    return 0;
}

static int chunk_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    struct chunk_problem *c = (struct chunk_problem *)p;
    return run(c, &c->big, c->part, k, err);
}

/* The case that the oracle checks. */
static int open_small(struct chunk_problem *c, struct err *err)
{
    struct bench *b = &c->small_bench;
    struct prefill_bench *s = &c->small;
    *b = c->p.bench;
    b->heads = CHECK_G * CHECK_KV;
    b->kv_heads = CHECK_KV;
    if (prefill_bench_open(s, b, CHECK_WINDOW, CHECK_T, err) != 0)
        return -1;
    const struct attn_places at = {.q = s->q,
                                   .k = s->k,
                                   .v = s->v,
                                   .k_cache = s->u.k,
                                   .v_cache = s->u.v,
                                   .score = s->u.score,
                                   .o = s->o,
                                   .lse = s->lse,
                                   .chunk_score = s->u.chunk_score};
    return attn_case_open(&c->check, b, &at, &s->layout, CHECK_T, s->cascades, err);
}

static int chunk_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct chunk_problem *c = (struct chunk_problem *)p;
    if (!c->check.open && open_small(c, err) != 0)
        return -1;
    struct device *dev = &c->small_bench.dev;
    const struct prefill_bench *s = &c->small;
    size_t T = CHECK_T, heads = CHECK_G * CHECK_KV, d = (size_t)c->small_bench.head_dim;
    if (attn_case_prepare(&c->check, err) != 0 || dev->fill(dev, s->qr, 0xff, T * heads * d * 2, err) != 0 ||
        dev->fill(dev, s->kr, 0xff, T * CHECK_KV * d * 2, err) != 0 ||
        dev->fill(dev, s->sums, 0xff, heads * ((size_t)s->rows + T) * sizeof(float), err) != 0 ||
        run(c, &c->small, ALL_PARTS, k, err) != 0)
        return -1;
    return attn_case_compare(&c->check, error, where, err);
}

static int run_whole(struct chunk_problem *c, const struct kernel *k, struct err *err)
{
    struct bench *b = &c->p.bench;
    for (int i = 0; i < c->nresults; i++)
        if (b->dev.fill(&b->dev, c->result[i].at, c->part == CHUNK_SCORES ? 0 : 0xff, c->result[i].bytes, err) != 0)
            return -1;
    if (c->score && b->dev.upload(&b->dev, c->big.u.score, c->score, c->score_bytes, err) != 0)
        return -1;
    return run(c, &c->big, c->part, k, err);
}

static int chunk_whole(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct chunk_problem *c = (struct chunk_problem *)p;
    struct bench *b = &c->p.bench;
    for (int i = 0; i < c->nresults; i++)
        if (!c->result[i].by_default &&
            ((i == 0 && run_whole(c, NULL, err) != 0) ||
             !(c->result[i].by_default = problem_fetch(b, c->result[i].at, c->result[i].bytes, err))))
            return -1;
    *error = 0;
    if (run_whole(c, k, err) != 0)
        return -1;
    for (int i = 0; i < c->nresults; i++) {
        const struct result *r = &c->result[i];
        char here[120];
        void *got = problem_fetch(b, r->at, r->bytes, err);
        if (!got)
            return -1;
        double one = r->d ? problem_compare_halves(b->type, got, r->by_default, r->bytes / 2 / (size_t)r->d, r->d, here)
                          : problem_compare_floats(got, r->by_default, r->bytes / sizeof(float), here);
        free(got);
        if (one > *error) {
            *error = one;
            memcpy(where, here, sizeof here);
        }
    }
    return 0;
}

const struct problem_family problem_chunk = {chunk_open, chunk_close, chunk_launch, chunk_check, chunk_whole, NULL};
