/* One token's attention: attn_decode, and attn_decode_scores behind it. What is timed of attn_decode is a layer of it as inference runs it,
 * overlapping with the layers before and after, over so many layers' caches that no L2 keeps them, and the scores of all of them: a launch
 * alone is 3 us of latency that a step does not have. Of attn_decode_scores it is one launch for as many layers as have their logits kept,
 * again and again: a step, too, finds them in L2. */
#include <stdlib.h>
#include <string.h>

#include "bench_decode.h"
#include "problem_attn.h"
#include "problem_graphs.h"
#include "runtime/attn_grid.h"

enum {
    CHECK_WINDOW = 1024,
    CHECK_KV = 2,
    FEWEST_LAYERS = 2,
    MOST_LAYERS = 256,
    LEAST_LAUNCHES = 16, /* of a chain, so that its first one, which overlaps with nothing, does not count */
    MOST_GROUP = 16,     /* query heads to a key head */
    WHOLE = TOKEN_DECODE | TOKEN_SCORES
};

struct token_problem {
    struct problem p;
    bool scores; /* the kernel is attn_decode_scores */
    struct bench small_bench;
    struct decode_bench big, small;
    struct attn_case check;
    int rounds; /* through the layers, that a launch makes */
    struct problem_graphs graphs;
    float *score; /* of the big case before a launch, [layers][cascades][rows]; owned */
    uint16_t *o;  /* of the big case with default tiles, [layers][heads][d]; owned */
    float *after; /* its scores then; owned */
};

/* Runs those parts of all layers of `at` with k as the problem's kernel (NULL: its default). The grids depend on the tile. */
static int run(const struct token_problem *c, struct decode_bench *at, const struct kernel *k, int parts,
               struct err *err)
{
    struct kernel *mine = c->scores ? &at->scores : &at->decode, own = *mine;
    if (k)
        *mine = *k;
    at->parts = parts;
    at->overlap = true;
    decode_bench_grids(at);
    int status = decode_bench_enqueue(at, err);
    *mine = own;
    return status;
}

static size_t score_bytes(const struct decode_bench *c)
{
    return (size_t)c->b->layers * (size_t)c->cascades * (size_t)c->rows * sizeof(float);
}

/* Layers whose caches are `least` bytes together, where a key with its value has `key` bytes in all heads. */
static int layers_for(size_t least, size_t keys, size_t key)
{
    size_t layers = least / (keys * key) + 1;
    return layers < FEWEST_LAYERS ? FEWEST_LAYERS : layers > MOST_LAYERS ? MOST_LAYERS : (int)layers;
}

/* The window that makes a token see so many keys: half a span is pending, and the token itself is one. Of the cascade only the keys are
 * known, and only they count: it takes the largest span that fits, as a default one does, and one step where no other divides the window. */
static int window_of(struct cascade_params *p, int keys)
{
    for (;; p->span /= 2) {
        int window = keys - p->sinks - p->span / 2 - 1;
        if (window > 0 && window % (p->subcaches * p->span) == 0)
            return window;
        if (p->span == 1) {
            p->subcaches = 1;
            return window;
        }
    }
}

/* Heads and layers of an attn_decode over so many keys: layers beyond what an L2 keeps. */
static int set_decode(struct token_problem *c, size_t keys, struct err *err)
{
    struct bench *b = &c->p.bench;
    b->kv_heads = (int)pairs_long(&c->p.what.sizes, "kv_heads", 0);
    b->heads = b->kv_heads * (int)pairs_long(&c->p.what.shape, "g", 0);
    if (b->heads < 1)
        return err_set(err, "%s: no token has %d key heads", c->p.what.kernel, b->kv_heads);
    size_t least = b->dev.elapsed ? PROBLEM_CHAIN_BYTES : 1; /* where nothing is timed, few layers will do */
    size_t key = (size_t)b->kv_heads * (size_t)b->head_dim * 4;
    b->layers = layers_for(least, keys, key);
    c->p.launches = b->layers;
    c->p.goes_round = (size_t)b->layers * keys * key >= PROBLEM_CHAIN_BYTES;
    return 0;
}

/* The same of an attn_decode_scores: as many key heads as cascades, or, with one cascade of many heads, as attn_decode wants at least. */
static int set_scores(struct token_problem *c, int window, struct err *err)
{
    const struct pairs *sizes = &c->p.what.sizes, *shape = &c->p.what.shape;
    struct bench *b = &c->p.bench;
    struct cascade_params *p = &b->cascade.p;
    const char *reduce = pairs_get(shape, "reduce");
    int r = (int)pairs_long(shape, "r", 0), cascades = (int)pairs_long(sizes, "cascades", 0), kv_heads = cascades;
    b->layers = (int)pairs_long(sizes, "layers", 0);
    while (cascades == 1 && (r > MOST_GROUP * kv_heads || r % kv_heads))
        kv_heads++;
    if (r < 1 || cascades < 1 || r * cascades > MOST_GROUP * kv_heads || b->layers < 1 || b->layers > MOST_LAYERS)
        return err_set(err, "%s: no token has %d heads to a cascade, %d cascades, %d layers", c->p.what.kernel, r,
                       cascades, b->layers);
    for (int i = REDUCE_MEAN; reduce && i <= REDUCE_MEDIAN; i++)
        if (!strcmp(cascade_reduction_name((enum cascade_reduction)i), reduce))
            p->reduction = (enum cascade_reduction)i;
    p->policy = kv_heads > cascades ? POLICY_HOMOGENEOUS : POLICY_INDEPENDENT;
    p->window = window;
    b->heads = r * cascades;
    b->kv_heads = kv_heads;
    int together = attn_decode_layers(b->layers, b->heads, attn_decode_stride(cascade_rows(p)));
    c->p.launches = (b->layers + together - 1) / together;
    c->p.goes_round = true;
    return 0;
}

static int open_big(struct token_problem *c, struct err *err)
{
    struct bench *b = &c->p.bench;
    int keys = (int)pairs_long(&c->p.what.sizes, "keys", 0), window = window_of(&b->cascade.p, keys);
    if (window < 1)
        return err_set(err, "%s: no token has keys=%d", c->p.what.kernel, keys);
    if ((c->scores ? set_scores(c, window, err) : set_decode(c, (size_t)keys, err)) != 0)
        return -1;
    c->rounds = b->dev.elapsed ? (LEAST_LAUNCHES - 1) / c->p.launches + 1 : 1;
    c->p.launches *= c->rounds;
    if (decode_bench_open(&c->big, b, window, err) != 0)
        return -1;
    return (c->score = problem_fetch(b, c->big.score, score_bytes(&c->big), err)) ? 0 : -1;
}

static void token_close(struct problem *p)
{
    struct token_problem *c = (struct token_problem *)p;
    problem_graphs_drop(&c->graphs, p, NULL);
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
    bool scores = !strcmp(what->kernel, "attn_decode_scores");
    if (!scores && strcmp(what->kernel, "attn_decode") != 0)
        return 0;
    struct token_problem *c = problem_new(sizeof *c, &problem_token, b, what, err);
    if (!c)
        return -1;
    c->scores = scores;
    if (open_big(c, err) != 0) {
        token_close(&c->p);
        return -1;
    }
    *out = &c->p;
    return 0;
}

static int enqueue_chain(struct problem *p, const struct kernel *k, struct err *err)
{
    struct token_problem *c = (struct token_problem *)p;
    for (int i = 0; i < c->rounds; i++)
        if (run(c, &c->big, k, c->scores ? TOKEN_SCORES : WHOLE, err) != 0)
            return -1;
    return 0;
}

static int token_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    return problem_graphs_launch(&((struct token_problem *)p)->graphs, p, k, enqueue_chain, err);
}

static void token_forget(struct problem *p, const struct kernel *k)
{
    problem_graphs_drop(&((struct token_problem *)p)->graphs, p, k);
}

/* The case that the oracle checks. */
static int open_small(struct token_problem *c, struct err *err)
{
    struct bench *b = &c->small_bench;
    struct decode_bench *s = &c->small;
    *b = c->p.bench;
    if (b->cascade.p.policy == POLICY_INDEPENDENT) { /* else all heads make one score */
        b->heads = b->heads / b->kv_heads * CHECK_KV;
        b->kv_heads = CHECK_KV;
    }
    b->layers = 1;
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
        run(c, &c->small, k, WHOLE, err) != 0 || attn_case_compare(&c->check, error, where, err) != 0)
        return -1;
    return problem_graphs_make(&c->graphs, p, k, enqueue_chain, err);
}

/* Halves of all layers' outputs. */
static size_t outputs(const struct bench *b)
{
    return (size_t)b->layers * (size_t)b->heads * (size_t)b->head_dim;
}

/* All layers at full size: outputs and scores after. */
static int run_whole(struct token_problem *c, const struct kernel *k, uint16_t **o, float **after, struct err *err)
{
    struct bench *b = &c->p.bench;
    size_t bytes = outputs(b) * sizeof **o;
    if (b->dev.fill(&b->dev, c->big.o, 0xff, bytes, err) != 0 ||
        b->dev.upload(&b->dev, c->big.score, c->score, score_bytes(&c->big), err) != 0 ||
        run(c, &c->big, k, WHOLE, err) != 0)
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
    if (!c->o && run_whole(c, NULL, &c->o, &c->after, err) != 0)
        return -1;
    int status = run_whole(c, k, &o, &after, err);
    if (status == 0) {
        char here[120];
        size_t rows = outputs(b) / (size_t)b->head_dim;
        *error = problem_compare_halves(b->type, o, c->o, rows, b->head_dim, where);
        double scores = problem_compare_floats(after, c->after, score_bytes(&c->big) / sizeof(float), here);
        if (scores > *error) {
            *error = scores;
            memcpy(where, here, sizeof here);
        }
    }
    free(o);
    free(after);
    return status;
}

const struct problem_family problem_token = {token_open,  token_close, token_launch,
                                             token_check, token_whole, token_forget};
