/* One token's products: matvec, timed as a chain of launches, each row of it checked against a product in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matvec_chain.h"
#include "problem_graphs.h"
#include "runtime/occupancy.h"

struct matvec_problem {
    struct problem p;
    struct matvec_chain chain;
    double *want, *bound; /* [rows], and how far a right kernel may be from it; owned, NULL until the first check */
    struct problem_graphs graphs;
};

static void matvec_forget(struct problem *p, const struct kernel *k)
{
    problem_graphs_drop(&((struct matvec_problem *)p)->graphs, p, k);
}

static void matvec_close(struct problem *p)
{
    struct matvec_problem *c = (struct matvec_problem *)p;
    problem_graphs_drop(&c->graphs, p, NULL);
    matvec_chain_close(&c->chain);
    free(c->want);
    free(c->bound);
    free(c);
}

static int matvec_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    if (strcmp(what->kernel, "matvec"))
        return 0;
    const char *w = pairs_get(&what->shape, "w"), *to = pairs_get(&what->shape, "to");
    int type = w ? quant_type_named(w) : -1;
    struct matvec_product product = {.type = type < 0 ? QUANT_BF16 : (enum quant_type)type,
                                     .n = (int)pairs_long(&what->shape, "n", 0),
                                     .rows = (int)pairs_long(&what->sizes, "rows", 0),
                                     .norm = pairs_long(&what->shape, "norm", 0) != 0};
    snprintf(product.to, sizeof product.to, "%s", to ? to : "half");
    if (type < 0 || product.n < 8 || product.rows < 1 || product.n % quant_info(product.type)->block)
        return err_set(err, "%s: no product has n=%d and rows=%d", what->kernel, product.n, product.rows);
    struct matvec_problem *c = problem_new(sizeof *c, &problem_matvec, b, what, err);
    if (!c)
        return -1;
    size_t least = b->dev.elapsed ? PROBLEM_CHAIN_BYTES : 1; /* where nothing is timed, few matrices will do */
    if (matvec_chain_open(&c->chain, &c->p.bench, &product, least, err) != 0) {
        matvec_close(&c->p);
        return -1;
    }
    c->p.launches = c->chain.matrices;
    *out = &c->p;
    return 0;
}

static int enqueue(struct matvec_problem *c, const struct kernel *k, bool first_only, struct err *err)
{
    return matvec_chain_enqueue(&c->chain, k, first_only, bench_blocks(&c->p.bench, k), err);
}

static int enqueue_chain(struct problem *p, const struct kernel *k, struct err *err)
{
    return enqueue((struct matvec_problem *)p, k, false, err);
}

static int matvec_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    return problem_graphs_launch(&((struct matvec_problem *)p)->graphs, p, k, enqueue_chain, err);
}

/* ------------------------------------------------------------------------------------------------ the truth */

/* The inputs as the product takes them, in double precision. */
static double *true_inputs(const struct matvec_chain *c, struct err *err)
{
    double sum = 0, *x = err_alloc((size_t)c->p.n, sizeof *x, "inputs", err);
    if (!x)
        return NULL;
    for (int i = 0; i < c->p.n; i++)
        sum += (double)c->in[i] * (double)c->in[i];
    double scale = 1 / sqrt(sum / c->p.n + 1e-5);
    for (int i = 0; i < c->p.n; i++)
        x[i] = c->p.norm ? (double)c->in[i] * scale * (double)c->by[i] : (double)c->in[i];
    return x;
}

struct sum {
    double value, size; /* of the products, and of their absolute values */
};

/* Row r of the matrix times x; the period's weights come as numbers. */
static struct sum dot(const struct matvec_chain *c, const float *period, const double *x, int r)
{
    size_t block = (size_t)quant_info(c->p.type)->block, all = MATVEC_PERIOD * block,
           at = (size_t)r * (size_t)c->p.n % all;
    struct sum s = {0};
    for (int i = 0; i < c->p.n; i++) {
        double v = (double)period[at] * x[i];
        s.value += v;
        s.size += fabs(v);
        at = at + 1 == all ? 0 : at + 1;
    }
    return s;
}

/* Output r, and what rounding may make of it: of the inputs to 16 bits where they are normed, of fp32 sums, of the output. */
static void truth_of(struct matvec_problem *c, const float *period, const double *x, int r)
{
    const struct matvec_product *p = &c->chain.p;
    double half = c->p.bench.type ? 0x1p-8 : 0x1p-11, share = 0x1p-18 + (p->norm ? half + 1e-6 : 0);
    struct sum s = dot(&c->chain, period, x, r);
    double v = s.value, error = s.size * share + 1e-7;
    bool halves = !strcmp(p->to, "half") || !strcmp(p->to, "gate");
    if (!strcmp(p->to, "gate")) {
        struct sum up = dot(&c->chain, period, x, p->rows + r);
        double gate = v / (1 + exp(-v));
        error = 1.1 * error * fabs(up.value) + (fabs(gate) + error) * (up.size * share + 1e-7) +
                1e-5 * fabs(gate * up.value);
        v = gate * up.value;
    }
    c->want[r] = v;
    c->bound[r] = error + (halves ? half : 1e-6) * (fabs(v) + error);
}

static int make_truth(struct matvec_problem *c, struct err *err)
{
    const struct matvec_product *p = &c->chain.p;
    const struct quant_info *info = quant_info(p->type);
    size_t all = (size_t)info->block * MATVEC_PERIOD, rows = (size_t)p->rows;
    double *x = true_inputs(&c->chain, err);
    float *period = err_alloc(all, sizeof *period, "weights", err);
    c->want = err_alloc(rows, sizeof *c->want, "the truth", err);
    c->bound = err_alloc(rows, sizeof *c->bound, "the truth", err);
    int rc = x && period && c->want && c->bound ? 0 : -1;
    if (rc == 0) {
        quant_to_float(p->type, c->chain.block, period, all);
        for (int r = 0; r < p->rows; r++)
            truth_of(c, period, x, r);
    } else {
        free(c->want);
        c->want = NULL;
    }
    free(x);
    free(period);
    return rc;
}

/* Runs k over the first matrix and compares every row. */
static int matvec_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct matvec_problem *c = (struct matvec_problem *)p;
    struct bench *b = &p->bench;
    bool halves = !strcmp(c->chain.p.to, "half") || !strcmp(c->chain.p.to, "gate"), add = !strcmp(c->chain.p.to, "add");
    size_t rows = (size_t)c->chain.p.rows, bytes = rows * (halves ? 2 : 4);
    if (!c->want && make_truth(c, err) != 0)
        return -1;
    /* NaN, so that what is not written shows; nothing, where the kernel adds to it. */
    if (b->dev.fill(&b->dev, c->chain.y, add ? 0 : 0xff, bytes, err) != 0 || enqueue(c, k, true, err) != 0)
        return -1;
    void *got = problem_fetch(b, c->chain.y, bytes, err);
    *error = 0;
    for (size_t r = 0; got && r < rows; r++) {
        uint16_t h = halves ? ((uint16_t *)got)[r] : 0;
        double have = (double)(!halves   ? ((float *)got)[r]
                               : b->type ? quant_bfloat_to_float(h)
                                         : quant_half_to_float(h)),
               ratio = fabs(have - c->want[r]) / c->bound[r];
        if (isnan(ratio))
            ratio = INFINITY;
        if (ratio > *error) {
            *error = ratio;
            snprintf(where, 120, "row %zu: %.6g instead of %.6g", r, have, c->want[r]);
        }
    }
    free(got);
    return got ? problem_graphs_make(&c->graphs, p, k, enqueue_chain, err) : -1;
}

const struct problem_family problem_matvec = {matvec_open,  matvec_close, matvec_launch,
                                              matvec_check, NULL,         matvec_forget};
