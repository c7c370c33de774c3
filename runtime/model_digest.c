/* A model's fingerprint: cheap enough for every start, and different for any two models that are not the same. */
#include <string.h>

#include "model.h"
#include "sha256.h"

enum {
    PIECE = 4096,
    PIECES = 4
}; /* bytes of a large tensor that count: PIECES pieces, evenly spread, both ends among them */

static void add_tensor(struct sha256 *sum, const struct tensor *t)
{
    const unsigned char *data = t ? t->data : NULL;
    size_t bytes = t ? t->bytes : 0;
    int64_t head[6] = {t ? (int64_t)t->type : -1, 0, 0, 0, 0, (int64_t)bytes};
    for (int i = 0; t && i < 4; i++)
        head[1 + i] = t->ne[i];
    sha256_add(sum, head, sizeof head);
    if (bytes <= PIECE * PIECES) {
        sha256_add(sum, data, bytes);
        return;
    }
    for (size_t i = 0; i < PIECES; i++)
        sha256_add(sum, data + (bytes - PIECE) / (PIECES - 1) * i, PIECE);
}

void model_digest(const struct model *m, unsigned char digest[32])
{
    const struct model_shape *s = &m->shape;
    struct sha256 sum;
    const double numbers[] = {
        s->layers,        s->hidden,           s->heads,           s->kv_heads,        s->head_dim, s->ffn,
        s->vocab,         (double)s->norm_eps, s->rope_dim,        s->rope_base,       s->scaling,  s->rope_factor,
        s->rope_low_freq, s->rope_high_freq,   s->rope_ctx_origin, s->rope_interleaved};
    sha256_begin(&sum);
    sha256_add(&sum, numbers, sizeof numbers);
    const struct tensor *whole[] = {m->embed, m->out_norm, m->output, m->rope_freqs};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        add_tensor(&sum, whole[i]);
    for (int i = 0; i < s->layers; i++) {
        const struct model_layer *l = &m->layer[i];
        const struct tensor *of_layer[] = {l->attn_norm, l->wq, l->wk,       l->wv,   l->bq, l->bk,
                                           l->bv,        l->wo, l->ffn_norm, l->gate, l->up, l->down};
        for (size_t k = 0; k < sizeof of_layer / sizeof *of_layer; k++)
            add_tensor(&sum, of_layer[k]);
    }
    sha256_end(&sum, digest);
}
