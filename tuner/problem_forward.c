/* What a chunk runs beside attention and matrix products: rms_norm, swiglu, add_bias, dequantise, embed, likelihood. Timed is a chain of
 * launches, as inference makes them. Activations and logits are those that the product ahead has just written: the chain goes over the same
 * ones again, so that an L2 holds as much of them as it can. Weights come from memory: a chain goes over more of them than an L2 keeps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "forward_case.h"
#include "problem_graphs.h"

enum {
    LEAST_LAUNCHES = 16,    /* of a chain, so that its first one does not count */
    WHOLE_BYTES = 256 << 20 /* of an output that are compared at full size, the last ones */
};

struct forward_problem {
    struct problem p;
    struct kernel own; /* with its default tile */
    struct forward_case big, small;
    int rounds; /* through all passes, that a launch makes */
    struct problem_graphs graphs;
    double *want, *bound; /* of the small case, [outputs]; owned, NULL until the first check */
    void *after;          /* of the big case's output, with the default tile; owned */
};

static void forward_forget(struct problem *p, const struct kernel *k)
{
    problem_graphs_drop(&((struct forward_problem *)p)->graphs, p, k);
}

static void forward_close(struct problem *p)
{
    struct forward_problem *f = (struct forward_problem *)p;
    problem_graphs_drop(&f->graphs, p, NULL);
    forward_case_close(&f->big);
    forward_case_close(&f->small);
    kernel_free(&f->own);
    free(f->want);
    free(f->bound);
    free(f->after);
    free(f);
}

static int forward_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    char shape[PAIRS_TEXT_MAX];
    if (forward_kernel_named(what->kernel) < 0)
        return 0;
    struct forward_problem *f = problem_new(sizeof *f, &problem_forward, b, what, err);
    if (!f)
        return -1;
    size_t least = b->dev.elapsed ? PROBLEM_CHAIN_BYTES : 1; /* where nothing is timed, little will do */
    pairs_text(&what->shape, shape);
    if (forward_case_open(&f->big, &f->p.bench, what, false, least, err) != 0 ||
        bench_kernel(&f->p.bench, what->kernel, shape, &f->own, err) != 0) {
        forward_close(&f->p);
        return -1;
    }
    int launches = f->big.passes * f->big.steps;
    f->rounds = b->dev.elapsed ? (LEAST_LAUNCHES - 1) / launches + 1 : 1;
    f->p.launches = f->rounds * f->big.passes;
    f->p.goes_round = true;
    *out = &f->p;
    return 0;
}

static int enqueue_chain(struct problem *p, const struct kernel *k, struct err *err)
{
    struct forward_problem *f = (struct forward_problem *)p;
    for (int i = 0; i < f->p.launches; i++)
        if (forward_case_run(&f->big, k, i % f->big.passes, err) != 0)
            return -1;
    return 0;
}

static int forward_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    return problem_graphs_launch(&((struct forward_problem *)p)->graphs, p, k, enqueue_chain, err);
}

static int make_truth(struct forward_problem *f, struct err *err)
{
    struct forward_case *c = &f->small;
    if (forward_case_open(c, &f->p.bench, &f->p.what, true, 0, err) != 0)
        return -1;
    size_t outputs = forward_case_outputs(c);
    f->want = err_alloc(outputs, sizeof *f->want, "the truth", err);
    f->bound = err_alloc(outputs, sizeof *f->bound, "the truth", err);
    if (f->want && f->bound && forward_case_truth(c, f->want, f->bound, err) == 0)
        return 0;
    free(f->want);
    f->want = NULL;
    return -1;
}

/* Number i of an output. */
static double number(const struct forward_case *c, const void *out, size_t i)
{
    if (!forward_case_halves(c))
        return (double)((const float *)out)[i];
    uint16_t h = ((const uint16_t *)out)[i];
    return (double)(c->b->type ? quant_bfloat_to_float(h) : quant_half_to_float(h));
}

static int forward_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct forward_problem *f = (struct forward_problem *)p;
    struct forward_case *c = &f->small;
    if ((!f->want && make_truth(f, err) != 0) || forward_case_prepare(c, err) != 0 ||
        forward_case_run(c, k, 0, err) != 0)
        return -1;
    void *got = problem_fetch(&p->bench, c->out, c->out_bytes, err);
    *error = 0;
    for (size_t i = 0; got && i < forward_case_outputs(c); i++) {
        double have = number(c, got, i), ratio = fabs(have - f->want[i]) / f->bound[i];
        if (isnan(ratio))
            ratio = INFINITY;
        if (ratio > *error) {
            *error = ratio;
            snprintf(where, 120, "number %zu: %.6g instead of %.6g", i, have, f->want[i]);
        }
    }
    free(got);
    return got ? problem_graphs_make(&f->graphs, p, k, enqueue_chain, err) : -1;
}

/* The last bytes of what the first pass writes at full size. */
static void *run_whole(struct forward_problem *f, const struct kernel *k, size_t bytes, struct err *err)
{
    const struct forward_case *c = &f->big;
    if (forward_case_prepare(c, err) != 0 || forward_case_run(c, k, 0, err) != 0)
        return NULL;
    return problem_fetch(&f->p.bench, c->out + (c->out_bytes - bytes), bytes, err);
}

/* Of likelihoods, whose sums are rounded otherwise by another tile. */
static double compare_nats(const float *got, const float *want, size_t n, char where[120])
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double ratio = fabs((double)got[i] - want[i]) / (6e-6 * (1 + fabs((double)want[i])));
        if (isnan(ratio))
            ratio = INFINITY;
        if (ratio > worst) {
            worst = ratio;
            snprintf(where, 120, "row %zu: %.7g nats instead of %.7g", i, (double)got[i], (double)want[i]);
        }
    }
    return worst;
}

/* But for sums it is the same to the last bit for every tile. */
static double compare(const struct forward_case *c, const void *got, const void *want, size_t bytes, char where[120])
{
    if (c->kernel == FORWARD_LIKELIHOOD)
        return compare_nats(got, want, bytes / sizeof(float), where);
    if (c->kernel == FORWARD_NORM)
        return problem_compare_halves(c->b->type, got, want, bytes / 2 / (size_t)c->n, (int)c->n, where);
    bool same = memcmp(got, want, bytes) == 0;
    snprintf(where, 120, "%s", same ? "" : "the output differs from that of the default tile");
    return same ? 0 : 2;
}

static int forward_whole(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct forward_problem *f = (struct forward_problem *)p;
    const struct forward_case *c = &f->big;
    size_t row = c->out_bytes / (size_t)c->tokens, rows = WHOLE_BYTES / row, bytes = c->out_bytes;
    if (bytes > WHOLE_BYTES) /* whole rows, where there are several */
        bytes = rows ? rows * row : WHOLE_BYTES;
    if (!f->after && !(f->after = run_whole(f, &f->own, bytes, err)))
        return -1;
    void *got = run_whole(f, k, bytes, err);
    if (!got)
        return -1;
    *error = compare(c, got, f->after, bytes, where);
    free(got);
    return 0;
}

const struct problem_family problem_forward = {forward_open,  forward_close, forward_launch,
                                               forward_check, forward_whole, forward_forget};
