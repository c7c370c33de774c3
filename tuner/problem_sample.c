/* The next token from the logits. Timed is a chain of picks with the options that are the default, from the logits of one token: in a step,
 * too, they have just been written. Every pick of a config must be the CPU sampler's. */
#include <stdlib.h>
#include <string.h>

#include "problem_graphs.h"
#include "runtime/llama_grid.h"
#include "runtime/sample_state.h"

enum {
    LAUNCHES = 16,
    SMALL_VOCAB = 3000,
    MOST_VOCAB = 1 << 20,
    RING = 64, /* tokens that may be recent */
    STEPS = 3, /* of each kind of options */
    KINDS = 3
};

struct sample_problem {
    struct problem p;
    int vocab;
    float *host;                               /* logits [vocab]; owned */
    devptr token, logits, state, recent, work; /* work: fp32 [llama_sample_room] */
    struct problem_graphs graphs;
};

/* What is asked for: the likeliest token with a penalty, one of nearly all, and what a user gets who asks for nothing. */
static struct sampler_params options(int kind)
{
    struct sampler_params p = sampler_defaults();
    if (kind == 0) {
        p.temperature = 0;
        p.repeat_penalty = 1.3;
        p.repeat_last = RING;
    } else if (kind == 1) {
        p.temperature = 1.5;
        p.top_k = 0;
        p.top_p = 0.99;
        p.min_p = 0;
    }
    return p;
}

static void sample_forget(struct problem *p, const struct kernel *k)
{
    problem_graphs_drop(&((struct sample_problem *)p)->graphs, p, k);
}

static void sample_close(struct problem *p)
{
    struct sample_problem *c = (struct sample_problem *)p;
    struct device *dev = &p->bench.dev;
    devptr all[] = {c->token, c->logits, c->state, c->recent, c->work};
    problem_graphs_drop(&c->graphs, p, NULL);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dev->release(dev, all[i]);
    free(c->host);
    free(c);
}

static int sample_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    if (strcmp(what->kernel, "sample") != 0)
        return 0;
    long vocab = pairs_long(&what->sizes, "vocab", 0);
    if (vocab < 1 || vocab > MOST_VOCAB)
        return err_set(err, "sample: it does not run with vocab=%ld", vocab);
    struct sample_problem *c = problem_new(sizeof *c, &problem_sample, b, what, err);
    if (!c)
        return -1;
    struct bench *own = &c->p.bench;
    uint64_t seed = 1;
    c->vocab = (int)vocab;
    c->host = err_alloc((size_t)vocab, sizeof *c->host, "logits", err);
    for (long i = 0; c->host && i < vocab; i++)
        c->host[i] = 3 * bench_normal(&seed);
    if (!c->host || bench_put(own, c->host, (size_t)vocab * sizeof *c->host, &c->logits, err) != 0 ||
        bench_put(own, NULL, sizeof(int32_t), &c->token, err) != 0 ||
        bench_put(own, NULL, sizeof(struct sample_state), &c->state, err) != 0 ||
        bench_put(own, NULL, RING * sizeof(int32_t), &c->recent, err) != 0 ||
        bench_put(own, NULL, llama_sample_room(c->vocab) * sizeof(float), &c->work, err) != 0) {
        sample_close(&c->p);
        return -1;
    }
    c->p.launches = LAUNCHES;
    c->p.goes_round = true;
    *out = &c->p;
    return 0;
}

static int enqueue(struct sample_problem *c, const struct kernel *k, int vocab, struct err *err)
{
    struct bench *b = &c->p.bench;
    struct launch l = {.grid = {llama_grid_sample(&k->gen, vocab, b->dev.facts.sms), 1, 1},
                       .block = k->gen.threads,
                       .smem = k->gen.smem,
                       .args = (void *[]){&c->token, &c->logits, &c->state, &c->recent, &c->work, &vocab}};
    return b->dev.launch(&b->dev, k->loaded, &l, err);
}

static int enqueue_chain(struct problem *p, const struct kernel *k, struct err *err)
{
    struct sample_problem *c = (struct sample_problem *)p;
    for (int i = 0; i < p->launches; i++)
        if (enqueue(c, k, c->vocab, err) != 0)
            return -1;
    return 0;
}

static int sample_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    return problem_graphs_launch(&((struct sample_problem *)p)->graphs, p, k, enqueue_chain, err);
}

/* Some picks of one kind among the first `vocab` tokens, beside the CPU's. */
static int compare_picks(struct sample_problem *c, const struct kernel *k, int kind, int vocab, double *error,
                         char where[120], struct err *err)
{
    struct device *dev = &c->p.bench.dev;
    struct sampler_params p = options(kind);
    struct sampler *sampler;
    struct sample_state state;
    int32_t got = -1;
    sample_state_make(&state, &p);
    if (sampler_open(&sampler, &p, vocab, err) != 0)
        return -1;
    int status = dev->upload(dev, c->state, &state, sizeof state, err);
    for (int i = 0; i < STEPS && status == 0; i++) {
        int32_t want = sampler_pick(sampler, c->host);
        sampler_accept(sampler, want);
        status = enqueue(c, k, vocab, err) != 0 || dev->download(dev, &got, c->token, sizeof got, err) != 0 ? -1 : 0;
        if (status == 0 && got != want) {
            *error = 2;
            snprintf(where, 120, "pick %d of kind %d: token %d instead of %d", i, kind, (int)got, (int)want);
        }
    }
    sampler_close(sampler);
    return status;
}

/* The last kind is the one that is timed: its state stays. */
static int compare(struct sample_problem *c, const struct kernel *k, int vocab, double *error, char where[120],
                   struct err *err)
{
    *error = 0;
    for (int kind = 0; kind < KINDS; kind++)
        if (compare_picks(c, k, kind, vocab, error, where, err) != 0)
            return -1;
    return 0;
}

static int sample_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct sample_problem *c = (struct sample_problem *)p;
    return compare(c, k, c->vocab < SMALL_VOCAB ? c->vocab : SMALL_VOCAB, error, where, err);
}

static int sample_whole(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct sample_problem *c = (struct sample_problem *)p;
    if (compare(c, k, c->vocab, error, where, err) != 0)
        return -1;
    return problem_graphs_make(&c->graphs, p, k, enqueue_chain, err);
}

const struct problem_family problem_sample = {sample_open,  sample_close, sample_launch,
                                              sample_check, sample_whole, sample_forget};
