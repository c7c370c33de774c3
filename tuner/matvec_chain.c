#include "matvec_chain.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/llama_grid.h"
#include "runtime/model_random.h"

enum { FEWEST = 3, MOST = 16 };

/* The matrices: the period of blocks, as often as they want. */
static int put_weights(struct matvec_chain *c, struct err *err)
{
    struct device *dev = &c->b->dev;
    size_t period = (size_t)quant_info(c->p.type)->bytes * MATVEC_PERIOD;
    if (!(c->block = err_alloc(MATVEC_PERIOD, (size_t)quant_info(c->p.type)->bytes, "random weights", err)) ||
        dev->alloc(dev, c->matrix * (size_t)c->matrices, &c->weights, err) != 0)
        return -1;
    model_random_blocks(c->p.type, c->block, MATVEC_PERIOD, 1);
    for (int i = 0; i < c->matrices; i++)
        for (size_t at = 0; at < c->matrix; at += period) {
            /* What lies between two matrices is never used, but it is read. */
            size_t left = c->matrix - at, part = left < period ? left : period;
            if (dev->upload(dev, c->weights + (devptr)i * c->matrix + at, c->block, part, err) != 0)
                return -1;
        }
    return 0;
}

static int put_inputs(struct matvec_chain *c, struct err *err)
{
    struct bench *b = c->b;
    size_t n = (size_t)c->p.n;
    uint64_t seed = 7;
    uint16_t *half = err_alloc(n, sizeof *half, "inputs", err);
    int rc = -1;
    if (half && (c->in = err_alloc(n, sizeof *c->in, "inputs", err)) &&
        (c->by = err_alloc(n, sizeof *c->by, "inputs", err))) {
        for (size_t i = 0; i < n; i++) {
            float v = bench_normal(&seed);
            half[i] = b->type ? quant_float_to_bfloat(v) : quant_float_to_half(v);
            c->in[i] = c->p.norm ? v : b->type ? quant_bfloat_to_float(half[i]) : quant_half_to_float(half[i]);
            c->by[i] = bench_normal(&seed);
        }
        rc = bench_put(b, c->p.norm ? (void *)c->in : (void *)half, n * (c->p.norm ? 4 : 2), &c->x, err) != 0 ||
                     bench_put(b, c->by, n * sizeof *c->by, &c->norm_weight, err) != 0
                 ? -1
                 : 0;
    }
    free(half);
    return rc;
}

int matvec_chain_open(struct matvec_chain *c, struct bench *b, const struct matvec_product *p, size_t least,
                      struct err *err)
{
    const struct quant_info *info = quant_info(p->type);
    size_t ends = strcmp(p->to, "gate") ? 1 : 2,
           bytes = ends * (size_t)p->rows * ((size_t)p->n / (size_t)info->block * (size_t)info->bytes);
    *c = (struct matvec_chain){.b = b, .p = *p, .matrix = (bytes + 255) / 256 * 256};
    size_t wanted = least / c->matrix + 1;
    c->matrices = wanted < FEWEST ? FEWEST : wanted > MOST ? MOST : (int)wanted;
    return put_weights(c, err) != 0 || put_inputs(c, err) != 0 ||
                   bench_put(b, NULL, 2 * (size_t)p->rows * sizeof(float), &c->y, err) != 0
               ? -1
               : 0;
}

void matvec_chain_close(struct matvec_chain *c)
{
    if (!c->b)
        return;
    struct device *dev = &c->b->dev;
    dev->release(dev, c->weights);
    dev->release(dev, c->x);
    dev->release(dev, c->norm_weight);
    dev->release(dev, c->y);
    free(c->block);
    free(c->in);
    free(c->by);
}

int matvec_chain_enqueue(const struct matvec_chain *c, const struct kernel *k, bool first_only, int blocks,
                         struct err *err)
{
    struct device *dev = &c->b->dev;
    devptr none = 0, by = c->p.norm ? c->norm_weight : none;
    float eps = 1e-5f;
    int rows = c->p.rows;
    unsigned grid = llama_grid_matvec(&k->gen, rows, dev->facts.sms, blocks);
    for (int i = 0; i < (first_only ? 1 : c->matrices); i++) {
        devptr from = c->weights + (devptr)i * c->matrix, y = c->y + (i ? (devptr)rows * sizeof(float) : 0);
        struct launch l = {.grid = {grid, 1, 1},
                           .block = k->gen.threads,
                           .smem = k->gen.smem,
                           .overlap = !c->apart,
                           .args = (void *[]){&y, &from, (void *)&c->x, &by, &none, &rows, &eps}};
        if (dev->launch(dev, k->loaded, &l, err) != 0)
            return -1;
    }
    return 0;
}
