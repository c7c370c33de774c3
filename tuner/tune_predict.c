/* Predicted times of a whole space, before anything of it is compiled. */
#include "predict.h"
#include "tune.h"

int tune_predict(const struct tune_space *space, double *predicted, struct err *err)
{
    for (int i = 0; i < space->nvalid; i++) {
        struct gen_kernel k;
        struct prediction p;
        if (tune_space_spec(space, space->valid[i], &k, err) != 0)
            return -1;
        const struct predict_input in = {.gpu = &space->gpu, .spec = &k, .sizes = &space->problem.sizes,
                                         .bytes = space->bytes, .flops = space->flops};
        predicted[i] = predict_time(&in, &p, NULL) == 0 ? p.ms : 0;
        gen_kernel_free(&k);
    }
    return 0;
}
