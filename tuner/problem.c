#include "problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct problem_family *const families[] = {&problem_chunk, &problem_token, &problem_memory,
                                                        &problem_matvec, &problem_forward, &problem_sample};

int problem_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    *out = NULL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (families[i]->open(out, b, what, err) != 0)
            return -1;
        else if (*out)
            return 0;
    return err_set(err, "%s: the tuner cannot set it up for measurement", what->kernel);
}

void problem_close(struct problem *p)
{
    if (p)
        p->family->close(p);
}

void problem_forget(struct problem *p, const struct kernel *k)
{
    if (p && p->family->forget)
        p->family->forget(p, k);
}

void *problem_new(size_t size, const struct problem_family *family, const struct bench *b,
                  const struct tune_problem *what, struct err *err)
{
    struct problem *p = err_calloc(1, size, "a problem", err);
    if (!p)
        return NULL;
    const char *type = pairs_get(&what->shape, "t");
    p->family = family;
    p->bench = *b;
    p->what = *what;
    p->launches = 1;
    p->bench.quiet = true;
    p->bench.layers = 1;
    p->bench.type = !type || !strcmp(type, "bf16");
    p->bench.head_dim = (int)pairs_long(&what->shape, "d", 64);
    return p;
}

void *problem_fetch(struct bench *b, devptr from, size_t bytes, struct err *err)
{
    void *copy = err_alloc(bytes + 1, 1, "a copy of device memory", err);
    if (copy && b->dev.download(&b->dev, copy, from, bytes, err) != 0) {
        free(copy);
        copy = NULL;
    }
    return copy;
}

static float half(int type, uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return type ? f : quant_half_to_float(h);
}

double problem_compare_halves(int type, const uint16_t *got, const uint16_t *want, size_t rows, int d, char where[120])
{
    double worst = 0, bound = 4 * (type ? 0x1p-8 : 0x1p-11);
    where[0] = 0;
    for (size_t r = 0; r < rows; r++) {
        float error = 0, length = 0;
        for (int e = 0; e < d; e++) {
            float a = half(type, got[r * (size_t)d + (size_t)e]), b = half(type, want[r * (size_t)d + (size_t)e]);
            error += (a - b) * (a - b);
            length += b * b;
        }
        double ratio = sqrt((double)error / fmax((double)length, 1e-20)) / bound;
        if (isnan(ratio))
            ratio = INFINITY;
        if (ratio > worst) {
            worst = ratio;
            snprintf(where, 120, "output row %zu: off by %.2g of its length", r, ratio * bound);
        }
    }
    return worst;
}

double problem_compare_floats(const float *got, const float *want, size_t n, char where[120])
{
    double worst = 0;
    where[0] = 0;
    for (size_t i = 0; i < n; i++) {
        double ratio = fabs((double)got[i] - want[i]) / (1e-3 * fabs((double)want[i]) + 1e-6);
        if (isnan(ratio))
            ratio = INFINITY;
        if (ratio > worst) {
            worst = ratio;
            snprintf(where, 120, "number %zu: %.6g instead of %.6g", i, (double)got[i], (double)want[i]);
        }
    }
    return worst;
}
