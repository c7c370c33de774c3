/* What the kernels of forward_case.h must write, in double precision and without cleverness. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "forward_case.h"
#include "runtime/likelihood.h"

/* Element i of what is read. */
static double read(const struct forward_case *c, int64_t i)
{
    const struct quant_info *info = quant_info(c->type);
    float block[256];
    size_t unit = (size_t)(i / info->block) % c->units;
    quant_to_float(c->type, c->period + unit * (size_t)info->bytes, block, (size_t)info->block);
    return (double)block[i % info->block];
}

static void norm_row(const struct forward_case *c, int64_t row, double *want)
{
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++)
        sum += read(c, row * c->n + i) * read(c, row * c->n + i);
    double scale = 1 / sqrt(sum / (double)c->n + FORWARD_EPS);
    for (int64_t i = 0; i < c->n; i++)
        want[i] = read(c, row * c->n + i) * scale * (double)c->by_host[i];
}

/* Element i of a row of all but norms and likelihoods. */
static double element(const struct forward_case *c, int64_t row, int64_t i)
{
    if (c->kernel == FORWARD_SWIGLU) {
        double gate = read(c, 2 * row * c->n + i);
        return gate / (1 + exp(-gate)) * read(c, (2 * row + 1) * c->n + i);
    }
    if (c->kernel == FORWARD_EMBED)
        row = c->ids_host[row];
    return read(c, row * c->n + i) + (c->kernel == FORWARD_BIAS ? (double)c->by_host[i] : 0);
}

/* Every group of rows and every piece of the vocabulary finds the same logits. */
static int likelihoods(const struct forward_case *c, double *want, struct err *err)
{
    float *logits = err_alloc((size_t)c->n, sizeof *logits, "logits", err);
    for (int t = 0; logits && t < c->tokens; t++) {
        for (int64_t i = 0; i < c->n; i++)
            logits[i] = (float)read(c, (int64_t)(t % c->rows) * c->wide + i % c->wide);
        want[t] = likelihood_nats(logits, (int)c->n, c->ids_host[t]);
    }
    free(logits);
    return logits ? 0 : -1;
}

/* Rounding of the output, and of fp32 on the way there. */
static double bound_of(const struct forward_case *c, double want)
{
    double half = c->b->type ? 0x1p-8 : 0x1p-11, size = fabs(want);
    switch (c->kernel) {
    case FORWARD_NORM:
    case FORWARD_SWIGLU:
    case FORWARD_BIAS:
        return (1.01 * half + 1e-5) * size + 1e-7;
    case FORWARD_DEQUANTISE:
        return 1.01 * half * size + 1e-6;
    case FORWARD_EMBED:
        return 1e-6 * (1 + size);
    case FORWARD_LIKELIHOOD:
        break;
    }
    return 3e-6 * (1 + size);
}

int forward_case_truth(const struct forward_case *c, double *want, double *bound, struct err *err)
{
    size_t outputs = forward_case_outputs(c);
    if (c->kernel == FORWARD_LIKELIHOOD && likelihoods(c, want, err) != 0)
        return -1;
    for (int64_t row = 0; row < c->tokens && c->kernel != FORWARD_LIKELIHOOD; row++)
        if (c->kernel == FORWARD_NORM)
            norm_row(c, row, want + row * c->n);
        else
            for (int64_t i = 0; i < c->n; i++)
                want[row * c->n + i] = element(c, row, i);
    for (size_t i = 0; i < outputs; i++)
        bound[i] = bound_of(c, want[i]);
    return 0;
}
