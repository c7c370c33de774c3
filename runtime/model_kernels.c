#include "model_kernels.h"

#include <stdio.h>
#include <string.h>

#include "backend_cuda.h"

int model_kernels_add(struct model_kernels *list, const char *kernel, const char *shape, const struct pairs *sizes,
                      struct err *err)
{
    struct model_kernel k = {.sizes.n = 0};
    if (sizes)
        k.sizes = *sizes;
    snprintf(k.kernel, sizeof k.kernel, "%s", kernel);
    if (pairs_parse(&k.shape, shape, err) != 0)
        return -1;
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->at[i].kernel, kernel) && pairs_equal(&list->at[i].shape, &k.shape))
            return 0;
    if (list->n == MODEL_KERNELS_MAX)
        return err_set(err, "the model wants more than %d kernels", MODEL_KERNELS_MAX);
    list->at[list->n++] = k;
    return 0;
}

int model_kernels(struct model_kernels *list, const struct model *m, const struct cascade_params *p, const char *type,
                  struct err *err)
{
    list->n = 0;
    if (model_kernels_add(list, "stream_copy", "t=bf16", NULL, err) != 0)
        return -1;
    return backend_cuda_kernels(list, m, p, type, err);
}

void model_kernel_sizes(struct pairs *sizes, const struct pairs *of_model, const struct pairs *own)
{
    *sizes = *of_model;
    for (int i = 0; own && i < own->n; i++)
        pairs_put(sizes, own->at[i].name, own->at[i].value, NULL);
}

int model_sizes(struct pairs *sizes, const struct model_shape *s, const struct cascade_params *p, struct err *err)
{
    const struct {
        const char *name;
        long value;
    } all[] = {{"tokens", p->stride},
               {"held", p->sinks + p->window},
               {"keys", p->sinks + p->window},
               {"heads", s->heads},
               {"kv_heads", s->kv_heads},
               {"cascades", p->policy == POLICY_HOMOGENEOUS ? 1 : s->kv_heads},
               {"ffn", s->ffn},
               {"vocab", s->vocab}};
    sizes->n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (pairs_put_long(sizes, all[i].name, all[i].value, err) != 0)
            return -1;
    return 0;
}
