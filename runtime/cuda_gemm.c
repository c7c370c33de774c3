/* The device `cuda`: products of matrices by cuBLASLt, which takes its time to choose how to make one: so each shape's choice is
 * kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cublas_api.h"
#include "cuda_device.h"
#include "timeline.h"

enum { PRODUCTS = 64, WORKSPACE = 32 << 20 /* bytes; what cuBLAS itself takes on Hopper */ };

struct product {
    struct gemm shape; /* pointers aside */
    cublaslt_desc desc;
    cublaslt_layout w, x, y;
    struct cublaslt_algo algo;
    size_t workspace;
};

struct cuda_products {
    const struct cublas_api *api;
    cublaslt lt;
    devptr workspace;
    int count, next; /* next: to be given up when there are PRODUCTS */
    struct product product[PRODUCTS];
};

static int blas_check(int status, struct err *err, const char *what)
{
    return status == 0 ? 0 : err_set(err, "%s fails in cuBLASLt with status %d", what, status);
}

static void free_product(const struct cublas_api *api, struct product *p)
{
    if (p->desc)
        api->desc_destroy(p->desc);
    if (p->w)
        api->layout_destroy(p->w);
    if (p->x)
        api->layout_destroy(p->x);
    if (p->y)
        api->layout_destroy(p->y);
    memset(p, 0, sizeof *p);
}

void cuda_gemm_close(struct cuda *c)
{
    struct cuda_products *s = c->products;
    if (!s)
        return;
    for (int i = 0; i < s->count; i++)
        free_product(s->api, &s->product[i]);
    if (s->lt)
        s->api->destroy(s->lt);
    if (s->workspace)
        c->api->memory_free(s->workspace);
    free(s);
    c->products = NULL;
}

/* cuBLAS sees columns where we see rows: y^T [n][m] = (w^T)^T x^T. */
static int make_product(struct cuda_products *s, struct product *p, const struct gemm *g, struct err *err)
{
    const struct cublas_api *api = s->api;
    struct cublaslt_heuristic found;
    cublaslt_preference preference = NULL;
    int half = g->bf16 ? CUBLAS_R_16BF : CUBLAS_R_16F, transposed = CUBLAS_OP_T, count = 0, status;
    size_t room = WORKSPACE;
    char what[96];
    snprintf(what, sizeof what, "a product of %d x %d and %d x %d", g->m, g->k, g->k, g->n);
    p->shape = *g;
    if ((status = api->desc_create(&p->desc, CUBLAS_COMPUTE_32F, CUBLAS_R_32F)) == 0 &&
        (status = api->desc_set(p->desc, CUBLASLT_DESC_TRANSA, &transposed, sizeof transposed)) == 0 &&
        (status = api->layout_create(&p->w, half, (uint64_t)g->k, (uint64_t)g->n, g->k)) == 0 &&
        (status = api->layout_create(&p->x, half, (uint64_t)g->k, (uint64_t)g->m, g->k)) == 0 &&
        (status = api->layout_create(&p->y, g->wide ? CUBLAS_R_32F : half, (uint64_t)g->n, (uint64_t)g->m, g->y_row)) ==
            0 &&
        (status = api->preference_create(&preference)) == 0 &&
        (status = api->preference_set(preference, CUBLASLT_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room)) == 0)
        status = api->choose(s->lt, p->desc, p->w, p->x, p->y, p->y, preference, 1, &found, &count);
    if (preference)
        api->preference_destroy(preference);
    if (status == 0 && count == 0)
        return err_set(err, "cuBLASLt knows no way to make %s", what);
    if (blas_check(status, err, what) != 0)
        return -1;
    p->algo = found.algo;
    p->workspace = found.workspace;
    return 0;
}

/* May run beside the thread that uses the device, also while that one captures a graph. */
int cuda_gemm_open(struct device *dev, struct err *err)
{
    struct cuda *c = dev->state;
    const struct cublas_api *api;
    cu_deviceptr workspace = 0;
    if (c->products)
        return 0;
    if (cublas_api_open(&api, err) != 0 || cuda_enter(c, err) != 0)
        return -1;
    struct cuda_products *s = err_calloc(1, sizeof *s, "the products of matrices", err);
    if (!s)
        return -1;
    c->products = s;
    s->api = api;
    if (blas_check(api->create(&s->lt), err, "opening it") == 0 &&
        cuda_check(c, c->api->memory_alloc(&workspace, WORKSPACE), err, "allocating cuBLAS's memory") == 0) {
        s->workspace = workspace;
        timeline("cuBLAS");
        return 0;
    }
    cuda_gemm_close(c);
    return -1;
}

static bool same_shape(const struct gemm *a, const struct gemm *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->y_row == b->y_row && a->bf16 == b->bf16 &&
           a->wide == b->wide && a->add == b->add;
}

/* The choice for a shape, made where it was not made before. */
static struct product *product_for(struct cuda_products *s, const struct gemm *g, struct err *err)
{
    for (int i = 0; i < s->count; i++)
        if (same_shape(&s->product[i].shape, g))
            return &s->product[i];
    int at = s->count < PRODUCTS ? s->count++ : s->next++ % PRODUCTS;
    struct product *p = &s->product[at];
    free_product(s->api, p);
    if (make_product(s, p, g, err) == 0)
        return p;
    free_product(s->api, p);
    return NULL;
}

int cuda_gemm(struct device *dev, const struct gemm *g, struct err *err)
{
    struct cuda *c = dev->state;
    const float one = 1, old = g->add ? 1 : 0;
    if (cuda_gemm_open(dev, err) != 0 || cuda_enter(c, err) != 0)
        return -1;
    struct cuda_products *s = c->products;
    const struct product *p = product_for(s, g, err);
    if (!p)
        return -1;
    snprintf(c->last, sizeof c->last, "a product of %d x %d and %d x %d", g->m, g->k, g->k, g->n);
    return blas_check(s->api->product(s->lt, p->desc, &one, g->w, p->w, g->x, p->x, &old, g->y, p->y, g->y, p->y,
                                      &p->algo, s->workspace, WORKSPACE, c->stream),
                      err, c->last);
}
