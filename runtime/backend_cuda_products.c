/* The CUDA backend's products of matrices. Their library is large, so it is opened beside all else, and only the first product waits for
 * it: a short prompt, whose products the kernels for one token make, does not. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "backend_cuda.h"

struct cuda_products_opening {
    struct device *dev;
    pthread_t thread;
    bool waiting; /* for the thread */
    atomic_bool done;
    int rc;
    struct err err;
};

static void *open_library(void *context)
{
    struct cuda_products_opening *o = context;
    o->rc = o->dev->gemm_open(o->dev, &o->err);
    atomic_store(&o->done, true);
    return NULL;
}

int cuda_products_start(struct cuda_backend *c, struct err *err)
{
    struct cuda_products_opening *o = c->opening = err_calloc(1, sizeof *o, "the products of matrices", err);
    if (!o)
        return -1;
    o->dev = &c->dev;
    o->waiting = pthread_create(&o->thread, NULL, open_library, o) == 0;
    if (!o->waiting)
        open_library(o);
    return 0;
}

static int finish(struct cuda_products_opening *o, struct err *err)
{
    if (o->waiting)
        pthread_join(o->thread, NULL);
    o->waiting = false;
    return o->rc == 0 ? 0 : err_set(err, "%s", o->err.msg);
}

int cuda_products_check(struct cuda_backend *c, struct err *err)
{
    return atomic_load(&c->opening->done) ? finish(c->opening, err) : 0;
}

int cuda_product(struct cuda_backend *c, const struct gemm *g, struct err *err)
{
    return finish(c->opening, err) != 0 ? -1 : c->dev.gemm(&c->dev, g, err);
}

void cuda_products_close(struct cuda_backend *c)
{
    if (c->opening)
        finish(c->opening, NULL);
    free(c->opening);
    c->opening = NULL;
}
