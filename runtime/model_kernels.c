#include "model_kernels.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cascade_options.h"

/* Adds a kernel with a shape like "d=64 t=bf16", unless it is there. */
__attribute__((format(printf, 4, 5))) static int add(struct model_kernels *list, struct err *err, const char *kernel,
                                                     const char *shape, ...)
{
    char text[PAIRS_TEXT_MAX];
    struct model_kernel k = {.kernel = kernel};
    va_list ap;
    va_start(ap, shape);
    vsnprintf(text, sizeof text, shape, ap);
    va_end(ap);
    if (pairs_parse(&k.shape, text, err) != 0)
        return -1;
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->at[i].kernel, kernel) && pairs_equal(&list->at[i].shape, &k.shape))
            return 0;
    if (list->n == MODEL_KERNELS_MAX)
        return err_set(err, "the model wants more than %d kernels", MODEL_KERNELS_MAX);
    list->at[list->n++] = k;
    return 0;
}

/* Attention, scores and cascade. */
static int add_attention(struct model_kernels *list, const struct model_shape *s, const struct cascade_params *p,
                         const char *t, struct err *err)
{
    const char *reduce = cascade_reduction_name(p->reduction);
    int d = s->head_dim, g = s->heads / s->kv_heads, r = p->policy == POLICY_HOMOGENEOUS ? s->heads : g;
    return add(list, err, "attn_turn", "d=%d t=%s", d, t) || add(list, err, "attn_prefill", "d=%d t=%s", d, t) ||
                   add(list, err, "attn_scores", "d=%d t=%s", d, t) ||
                   add(list, err, "attn_score_reduce", "reduce=%s", reduce) ||
                   add(list, err, "attn_decode", "d=%d g=%d t=%s", d, g, t) ||
                   add(list, err, "attn_merge", "d=%d r=%d reduce=%s t=%s", d, r, reduce, t) ||
                   add(list, err, "cascade_update", "d=%d b=%d t=%s", d, p->span, t)
               ? -1
               : 0;
}

int model_kernels(struct model_kernels *list, const struct model *m, const struct cascade_params *p, const char *type,
                  struct err *err)
{
    list->n = 0;
    return add(list, err, "stream_copy", "t=%s", type) || add_attention(list, &m->shape, p, type, err) ? -1 : 0;
}
