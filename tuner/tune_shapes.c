#include "tune_shapes.h"

#include <string.h>

#include "runtime/attn_grid.h"
#include "runtime/quant.h"

enum { COPY_PIECES = 1 << 25 /* of 16 bytes: 512 MB */ };

struct sizes_from {
    const struct model_shape *shape;
    const struct cascade_params *p;
    const struct pairs *own; /* of the kernel, as model_kernels has them */
};

/* The kernels that are tuned, by the names of their sizes. Those that take little of a chunk come last: whoever has no time for all
 * tunes the first. */
static const struct {
    const char *kernel, *sizes;
} tuned[] = {
    {"matvec", "rows"},
    {"attn_decode", "keys kv_heads"},
    {"attn_prefill_wgmma", "tokens held heads kv_heads"},
    {"attn_prefill", "tokens held heads kv_heads"},
    {"attn_scores", "tokens held heads kv_heads"},
    {"attn_turn", "tokens heads kv_heads"},
    {"attn_score_reduce", "tokens held heads cascades"},
    {"cascade_update", "tokens moved kv_heads"},
    {"attn_decode_scores", "keys cascades layers"},
    {"stream_copy", "n"},
    {"dequantise", "elements"},
    {"swiglu", "tokens ffn"},
    {"rms_norm", "tokens"},
    {"add_bias", "tokens n"},
    {"embed", "tokens"},
    {"likelihood", "tokens vocab"},
    {"sample", "vocab"},
};
enum { TUNED = sizeof tuned / sizeof *tuned };

static long value_of(const char *name, const struct sizes_from *f)
{
    const struct model_shape *s = f->shape;
    const struct cascade_params *p = f->p;
    long held = p->sinks + p->window, cascades = p->policy == POLICY_HOMOGENEOUS ? 1 : s->kv_heads;
    long keys = held + p->span / 2 + 1; /* half a span is pending, and the token itself */
    long layers = attn_decode_layers(s->layers, s->heads, attn_decode_stride(cascade_rows(p)));
    long moved = 0; /* of what a chunk pushes out of sub-cache i, half or less goes further at each step */
    for (int i = 1; i < p->subcaches; i++)
        moved += p->stride >> i;
    const struct {
        const char *name;
        long value;
    } all[] = {{"tokens", p->stride},  {"held", held},      {"heads", s->heads}, {"kv_heads", s->kv_heads},
               {"cascades", cascades}, {"keys", keys},      {"layers", layers},  {"moved", moved},
               {"ffn", s->ffn},        {"vocab", s->vocab}, {"n", COPY_PIECES}};
    for (size_t i = 0; i < sizeof all / sizeof *all && !pairs_get(f->own, name); i++)
        if (!strcmp(all[i].name, name))
            return all[i].value;
    return pairs_long(f->own, name, 0);
}

static int put_sizes(const char *names, const struct sizes_from *f, struct pairs *sizes, struct err *err)
{
    char text[64], *save = NULL;
    snprintf(text, sizeof text, "%s", names);
    sizes->n = 0;
    for (char *name = strtok_r(text, " ", &save); name; name = strtok_r(NULL, " ", &save))
        if (pairs_put_long(sizes, name, value_of(name, f), err) != 0)
            return -1;
    return 0;
}

int tune_model_problems(const struct model *m, const struct cascade_params *p, const char *type,
                        struct tune_problem *out, struct err *err)
{
    struct model_kernels list;
    int n = 0;
    if (model_kernels(&list, m, p, type, err) != 0)
        return -1;
    for (int k = 0; k < TUNED; k++)
        for (int i = 0; i < list.n; i++) {
            if (strcmp(list.at[i].kernel, tuned[k].kernel) != 0)
                continue;
            const struct sizes_from from = {&m->shape, p, &list.at[i].sizes};
            memset(&out[n], 0, sizeof out[n]);
            if (put_sizes(tuned[k].sizes, &from, &out[n].sizes, err) != 0)
                return -1;
            memcpy(out[n].kernel, list.at[i].kernel, sizeof out[n].kernel);
            out[n++].shape = list.at[i].shape;
        }
    return n;
}

int tune_shape_problems(const struct model_shape *shape, const struct cascade_params *p, const char *type,
                        struct tune_problem *out, struct err *err)
{
    return tune_model_problems(&(struct model){.shape = *shape}, p, type, out, err);
}

int tune_step_problems(const struct model *m, const struct cascade_params *p, const char *type,
                       struct tune_problem *out, struct err *err)
{
    int n = tune_model_problems(m, p, type, out, err), kept = 0;
    for (int i = 0; i < n; i++)
        if (!pairs_get(&out[i].sizes, "tokens") && !pairs_get(&out[i].sizes, "elements") &&
            strcmp(out[i].kernel, "stream_copy") != 0 && strcmp(out[i].kernel, "sample") != 0)
            out[kept++] = out[i];
    return n < 0 ? -1 : kept;
}

/* A matrix without its data. */
static struct tensor matrix(enum quant_type type, int inputs, int rows)
{
    const struct quant_info *info = quant_info(type);
    return (struct tensor){.type = type,
                           .ndim = 2,
                           .ne = {inputs, rows, 1, 1},
                           .bytes = (size_t)inputs / (size_t)info->block * (size_t)info->bytes * (size_t)rows};
}

int tune_weight_problems(const struct model_shape *s, enum quant_type weights, const struct cascade_params *p,
                         const char *type, struct tune_problem *out, struct err *err)
{
    int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim, block = quant_info(weights)->block, kept = 0;
    struct tensor norm = matrix(QUANT_F32, s->hidden, 1), wq = matrix(weights, s->hidden, q),
                  wk = matrix(weights, s->hidden, kv), wo = matrix(weights, q, s->hidden),
                  gate = matrix(weights, s->hidden, s->ffn), down = matrix(weights, s->ffn, s->hidden),
                  vocab = matrix(weights, s->hidden, s->vocab);
    struct model_layer layer = {.attn_norm = &norm,
                                .wq = &wq,
                                .wk = &wk,
                                .wv = &wk,
                                .wo = &wo,
                                .ffn_norm = &norm,
                                .gate = &gate,
                                .up = &gate,
                                .down = &down};
    struct model m = {.shape = *s, .embed = &vocab, .out_norm = &norm, .output = &vocab, .layer = &layer};
    if (s->hidden % block || q % block || s->ffn % block) /* no model is all of such weights */
        return 0;
    m.shape.layers = 1;
    int n = tune_model_problems(&m, p, type, out, err);
    for (int i = 0; i < n; i++)
        if (pairs_get(&out[i].shape, "w"))
            out[kept++] = out[i];
    return n < 0 ? -1 : kept;
}
