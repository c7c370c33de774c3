#include "problem_attn.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of its parts on the device. */
struct sizes {
    size_t q, kv, cache, score, lse, chunk_score;
};

static struct sizes sizes_of(const struct attn_inputs *in)
{
    size_t T = (size_t)in->T, d = (size_t)in->d, kv = (size_t)in->kv, heads = kv * (size_t)in->g,
           rows = (size_t)in->layout->rows, cascades = (size_t)in->cascades;
    return (struct sizes){.q = T * heads * d * 2,
                          .kv = T * kv * d * 2,
                          .cache = kv * rows * d * 2,
                          .score = cascades * rows * sizeof(float),
                          .lse = heads * T * sizeof(float),
                          .chunk_score = cascades * T * sizeof(float)};
}

int attn_case_open(struct attn_case *c, struct bench *b, const struct attn_places *at, const struct attn_step *layout,
                   int T, int cascades, struct err *err)
{
    struct attn_inputs *in = &c->in;
    c->bench = b;
    c->at = *at;
    *in = (struct attn_inputs){.T = T,
                               .d = b->head_dim,
                               .g = b->heads / b->kv_heads,
                               .kv = b->kv_heads,
                               .type = b->type,
                               .cascades = cascades,
                               .reduction = b->cascade.p.reduction,
                               .ema = b->cascade.p.ema,
                               .theta = BENCH_THETA,
                               .layout = layout};
    struct sizes n = sizes_of(in);
    if (!(in->q = problem_fetch(b, at->q, n.q, err)) || !(in->k = problem_fetch(b, at->k, n.kv, err)) ||
        !(in->v = problem_fetch(b, at->v, n.kv, err)) || !(in->k_cache = problem_fetch(b, at->k_cache, n.cache, err)) ||
        !(in->v_cache = problem_fetch(b, at->v_cache, n.cache, err)) ||
        !(in->score = problem_fetch(b, at->score, n.score, err)) || attn_truth_make(&c->truth, in, err) != 0)
        return -1;
    c->open = true;
    return 0;
}

void attn_case_free(struct attn_case *c)
{
    attn_truth_free(&c->truth);
    attn_inputs_free(&c->in);
}

int attn_case_prepare(struct attn_case *c, struct err *err)
{
    struct device *dev = &c->bench->dev;
    struct sizes n = sizes_of(&c->in);
    return dev->fill(dev, c->at.o, 0xff, n.q, err) || dev->fill(dev, c->at.lse, 0xff, n.lse, err) ||
                   dev->fill(dev, c->at.chunk_score, 0xff, n.chunk_score, err) ||
                   dev->upload(dev, c->at.score, c->in.score, n.score, err)
               ? -1
               : 0;
}

int attn_case_compare(struct attn_case *c, double *error, char where[120], struct err *err)
{
    struct bench *b = c->bench;
    struct sizes n = sizes_of(&c->in);
    uint16_t *o = problem_fetch(b, c->at.o, n.q, err);
    float *lse = problem_fetch(b, c->at.lse, n.lse, err), *score = problem_fetch(b, c->at.score, n.score, err),
          *chunk_score = problem_fetch(b, c->at.chunk_score, n.chunk_score, err);
    int status = o && lse && score && chunk_score ? 0 : -1;
    if (status == 0)
        *error = attn_truth_compare(&c->truth, &c->in, o, lse, score, chunk_score, where);
    free(o);
    free(lse);
    free(score);
    free(chunk_score);
    return status;
}
