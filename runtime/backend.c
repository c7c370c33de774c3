/* Which machine a model runs on. */
#include "backend.h"

#include <stdio.h>

int backend_open(struct backend *be, const struct model *m, const struct cascade_params *p,
                 const struct backend_options *o, char *note, size_t room, struct err *err)
{
    note[0] = 0;
    if (o->kind == BACKEND_CUDA)
        return err_set(
            err, "--gpu: no GPU backend is available here; `weir doctor` says why, and without --gpu the CPU is used");
    if (o->set)
        snprintf(note, room, "--set %s has no effect: the CPU runs no generated kernels", o->set);
    return backend_cpu_open(be, m, p, o, err);
}
