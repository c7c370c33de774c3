/* Which machine a model runs on. */
#include "backend.h"

#include <stdio.h>

#include "device.h"

/* The GPU, if there is one. 1 where there is none at all, which needs no remark. */
static int open_gpu(struct backend *be, const struct model *m, const struct cascade_params *p,
                    const struct backend_options *o, struct err *err)
{
    int gpus = 0;
    if (device_cuda_count(&gpus, err) != 0 || gpus == 0)
        return 1;
    return backend_cuda_open(be, m, p, o, err);
}

int backend_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                 const struct backend_options *o, char *note, size_t room, struct err *err)
{
    struct err why = {""};
    note[0] = 0;
    if (o->kind == BACKEND_CUDA)
        return backend_cuda_open(be, m, p, o, err);
    int status = o->kind == BACKEND_AUTO ? open_gpu(be, m, p, o, &why) : 1;
    if (status == 0)
        return 0;
    if (status < 0)
        snprintf(note, room, "%.400s; the CPU is used", why.msg);
    else if (o->set)
        snprintf(note, room, "--set %s has no effect: the CPU runs no generated kernels", o->set);
    return backend_cpu_open(be, m, p, o, err);
}

int backend_check_tokens(const int32_t *token, int n, int vocab, struct err *err)
{
    for (int i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= vocab)
            return err_set(err, "token %d is outside the model's vocabulary of %d", (int)token[i], vocab);
    return 0;
}
