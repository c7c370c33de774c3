#include "tune_shapes.h"

#include <string.h>

#include "runtime/quant.h"

enum { COPY_PIECES = 1 << 25 /* of 16 bytes: 512 MB */ };

struct sizes_from {
    const struct model_shape *shape;
    const struct cascade_params *p;
    int rows; /* of a product */
};

static int put(struct pairs *sizes, struct err *err, int n, const char *const *name, const long *value)
{
    for (int i = 0; i < n; i++)
        if (pairs_put_long(sizes, name[i], value[i], err) != 0)
            return -1;
    return 0;
}

/* 1 where the kernel has sizes here, 0 where it is none to tune. */
static int sizes_of(const char *kernel, const struct sizes_from *f, struct pairs *sizes, struct err *err)
{
    static const char *const chunk[] = {"tokens", "held", "heads", "kv_heads"};
    long T = f->p->stride, held = f->p->sinks + f->p->window, heads = f->shape->heads, kv = f->shape->kv_heads;
    long cascades = f->p->policy == POLICY_HOMOGENEOUS ? 1 : kv;
    long keys = held + f->p->span / 2 + 1; /* half a span is pending, and the token itself */
    memset(sizes, 0, sizeof *sizes);
    if (!strcmp(kernel, "attn_prefill") || !strcmp(kernel, "attn_scores"))
        return put(sizes, err, 4, chunk, (long[]){T, held, heads, kv}) == 0 ? 1 : -1;
    if (!strcmp(kernel, "attn_turn"))
        return put(sizes, err, 3, (const char *const[]){"tokens", "heads", "kv_heads"}, (long[]){T, heads, kv}) == 0
                   ? 1
                   : -1;
    if (!strcmp(kernel, "attn_score_reduce"))
        return put(sizes, err, 4, (const char *const[]){"tokens", "held", "heads", "cascades"},
                   (long[]){T, held, heads, cascades}) == 0
                   ? 1
                   : -1;
    if (!strcmp(kernel, "matvec"))
        return put(sizes, err, 1, (const char *const[]){"rows"}, (long[]){f->rows}) == 0 ? 1 : -1;
    if (!strcmp(kernel, "attn_decode"))
        return put(sizes, err, 2, (const char *const[]){"keys", "kv_heads"}, (long[]){keys, kv}) == 0 ? 1 : -1;
    if (!strcmp(
            kernel,
            "cascade_update")) { /* of what a chunk pushes out of sub-cache i, half or less goes further at each step */
        long moved = 0;
        for (int i = 1; i < f->p->subcaches; i++)
            moved += T >> i;
        return put(sizes, err, 3, (const char *const[]){"tokens", "moved", "kv_heads"}, (long[]){T, moved, kv}) == 0
                   ? 1
                   : -1;
    }
    if (!strcmp(kernel, "stream_copy"))
        return put(sizes, err, 1, (const char *const[]){"n"}, (long[]){COPY_PIECES}) == 0 ? 1 : -1;
    return 0;
}

static int problems_of(const struct model *m, const struct cascade_params *p, const char *type,
                       struct tune_problem *out, struct err *err)
{
    struct model_kernels list;
    int n = 0;
    if (model_kernels(&list, m, p, type, err) != 0)
        return -1;
    for (int i = 0; i < list.n; i++) {
        const struct sizes_from from = {&m->shape, p, list.at[i].rows};
        int has = sizes_of(list.at[i].kernel, &from, &out[n].sizes, err);
        if (has < 0)
            return -1;
        if (has == 0)
            continue;
        snprintf(out[n].kernel, sizeof out[n].kernel, "%s", list.at[i].kernel);
        out[n++].shape = list.at[i].shape;
    }
    return n;
}

int tune_problems_of(const struct model_shape *shape, const struct cascade_params *p, const char *type,
                     struct tune_problem *out, struct err *err)
{
    return problems_of(&(struct model){.shape = *shape}, p, type, out, err);
}

int tune_step_problems(const struct model *m, const struct cascade_params *p, const char *type,
                       struct tune_problem *out, struct err *err)
{
    int n = problems_of(m, p, type, out, err), kept = 0;
    for (int i = 0; i < n; i++)
        if (!pairs_get(&out[i].sizes, "tokens") && strcmp(out[i].kernel, "stream_copy") != 0)
            out[kept++] = out[i];
    return n < 0 ? -1 : kept;
}

int tune_products_of(const struct model_shape *s, const enum quant_type weights[TUNE_PRODUCTS], const char *type,
                     struct tune_problem out[TUNE_PRODUCTS], struct err *err)
{
    const struct {
        int n, rows, norm;
        const char *to;
    } products[TUNE_PRODUCTS] = {{s->hidden, (s->heads + 2 * s->kv_heads) * s->head_dim, 1, "half"},
                                 {s->heads * s->head_dim, s->hidden, 0, "add"},
                                 {s->hidden, s->ffn, 1, "gate"},
                                 {s->ffn, s->hidden, 0, "add"},
                                 {s->hidden, s->vocab, 1, "f32"}};
    int n = 0;
    for (int i = 0; i < TUNE_PRODUCTS; i++) {
        bool wide = weights[i] == QUANT_BF16 || weights[i] == QUANT_F32;
        char shape[96], name[8];
        if (products[i].n % quant_info(weights[i])->block)
            continue;
        quant_kernel_name(weights[i], name);
        snprintf(shape, sizeof shape, "n=%d w=%s norm=%d to=%s t=%s", products[i].n, name, products[i].norm,
                 products[i].to,
                 type   ? type
                 : wide ? "bf16"
                        : "fp16");
        memset(&out[n], 0, sizeof out[n]);
        snprintf(out[n].kernel, sizeof out[n].kernel, "matvec");
        if (pairs_parse(&out[n].shape, shape, err) != 0 ||
            pairs_put_long(&out[n].sizes, "rows", products[i].rows, err) != 0)
            return -1;
        n++;
    }
    return n;
}

int tune_products_of_model(const struct model *m, const char *type, struct tune_problem out[TUNE_PRODUCTS],
                           struct err *err)
{
    const struct model_layer *l = &m->layer[0];
    const enum quant_type weights[TUNE_PRODUCTS] = {l->wq->type, l->wo->type, l->gate->type, l->down->type,
                                                    m->output->type};
    return tune_products_of(&m->shape, weights, type, out, err);
}
