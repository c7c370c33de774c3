/* Kernels that move memory: cascade_update, stream_copy. What they make is the same to the last bit for every tile, so they are compared
 * with the default tile's result, which the kernels' own tests hold to the oracle. */
#include <stdlib.h>
#include <string.h>

#include "bench_update.h"
#include "problem.h"

enum { CHECK_WINDOW = 1024, CHECK_T = 600 };

struct update_problem {
    struct problem p;
    struct bench small_bench;
    struct update_bench big, small;
    bool has_small;
    void *before[4], *after[4]; /* k, v, score, origin of the small case, before and after the default's run; owned */
};

static void update_close(struct problem *p)
{
    struct update_problem *c = (struct update_problem *)p;
    if (c->big.b)
        update_bench_close(&c->big);
    if (c->small.b)
        update_bench_close(&c->small);
    for (int i = 0; i < 4; i++) {
        free(c->before[i]);
        free(c->after[i]);
    }
    free(c);
}

static int update_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    struct update_problem *c = problem_new(sizeof *c, &problem_memory, b, what, err);
    if (!c)
        return -1;
    int T = (int)pairs_long(&what->sizes, "tokens", 0);
    c->p.bench.kv_heads = (int)pairs_long(&what->sizes, "kv_heads", 0);
    c->p.bench.heads = c->p.bench.kv_heads;
    c->p.bench.cascade.p.span = (int)pairs_long(&what->shape, "b", 16);
    /* How much moves depends on the chunk, not on how large the cache around it is. */
    if (T < 1 || c->p.bench.kv_heads < 1)
        err_set(err, "%s: no chunk has %d tokens", what->kernel, T);
    else if (update_bench_open(&c->big, &c->p.bench, 4 * T, T, err) == 0) {
        *out = &c->p;
        return 0;
    }
    update_close(&c->p);
    return -1;
}

static int run(struct update_bench *u, const struct kernel *k, struct err *err)
{
    struct kernel own = u->update;
    if (k)
        u->update = *k;
    int status = update_bench_layer(u, 0, err);
    u->update = own;
    return status;
}

static int update_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    return run(&((struct update_problem *)p)->big, k, err);
}

static void list_state(const struct update_bench *u, const struct bench *b, devptr at[4], size_t bytes[4])
{
    size_t cache = (size_t)b->kv_heads * (size_t)u->rows * (size_t)b->head_dim * 2,
           n = (size_t)u->cascades * (size_t)u->rows;
    const devptr where[4] = {u->k, u->v, u->score, u->origin};
    const size_t size[4] = {cache, cache, n * sizeof(float), n * sizeof(int64_t)};
    memcpy(at, where, sizeof where);
    memcpy(bytes, size, sizeof size);
}

static int open_small(struct update_problem *c, struct err *err)
{
    devptr at[4];
    size_t bytes[4];
    struct bench *b = &c->small_bench;
    *b = c->p.bench;
    b->kv_heads = b->heads = 2;
    if (update_bench_open(&c->small, b, CHECK_WINDOW, CHECK_T, err) != 0)
        return -1;
    list_state(&c->small, b, at, bytes);
    for (int i = 0; i < 4; i++)
        if (!(c->before[i] = problem_fetch(b, at[i], bytes[i], err)))
            return -1;
    if (run(&c->small, NULL, err) != 0)
        return -1;
    for (int i = 0; i < 4; i++)
        if (!(c->after[i] = problem_fetch(b, at[i], bytes[i], err)))
            return -1;
    c->has_small = true;
    return 0;
}

static int update_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    static const char *const names[] = {"keys", "values", "scores", "origins"};
    struct update_problem *c = (struct update_problem *)p;
    struct bench *b = &c->small_bench;
    devptr at[4];
    size_t bytes[4];
    if (!c->has_small && open_small(c, err) != 0)
        return -1;
    list_state(&c->small, b, at, bytes);
    for (int i = 0; i < 4; i++)
        if (b->dev.upload(&b->dev, at[i], c->before[i], bytes[i], err) != 0)
            return -1;
    if (run(&c->small, k, err) != 0)
        return -1;
    *error = 0;
    for (int i = 0; i < 4; i++) {
        void *got = problem_fetch(b, at[i], bytes[i], err);
        if (!got)
            return -1;
        if (memcmp(got, c->after[i], bytes[i])) {
            *error = 2;
            snprintf(where, 120, "%s differ from those of the default tile", names[i]);
        }
        free(got);
    }
    return 0;
}

static const struct problem_family update_family = {NULL, update_close, update_launch, update_check, NULL, NULL};

/* ------------------------------------------------------------------------------------------------ stream_copy */

struct copy_problem {
    struct problem p;
    devptr from, to;
    int64_t n; /* pieces of 16 bytes */
};

static void copy_close(struct problem *p)
{
    struct copy_problem *c = (struct copy_problem *)p;
    p->bench.dev.release(&p->bench.dev, c->from);
    p->bench.dev.release(&p->bench.dev, c->to);
    free(c);
}

static int copy_launch(struct problem *p, const struct kernel *k, struct err *err)
{
    struct copy_problem *c = (struct copy_problem *)p;
    unsigned a_block = k->gen.threads * (unsigned)gen_value(&k->gen, "u");
    struct launch l = {.grid = {(unsigned)((c->n + a_block - 1) / a_block), 1, 1},
                       .block = k->gen.threads,
                       .args = (void *[]){&c->from, &c->to, &c->n}};
    return p->bench.dev.launch(&p->bench.dev, k->loaded, &l, err);
}

static int copy_check(struct problem *p, const struct kernel *k, double *error, char where[120], struct err *err)
{
    struct copy_problem *c = (struct copy_problem *)p;
    struct bench *b = &p->bench;
    size_t bytes = (size_t)c->n * 16;
    if (b->dev.fill(&b->dev, c->to, 0xff, bytes, err) != 0 || copy_launch(p, k, err) != 0)
        return -1;
    void *a = problem_fetch(b, c->from, bytes, err), *z = problem_fetch(b, c->to, bytes, err);
    int status = a && z ? 0 : -1;
    *error = status == 0 && memcmp(a, z, bytes) ? 2 : 0;
    snprintf(where, 120, "%s", *error > 0 ? "the copy differs" : "");
    free(a);
    free(z);
    return status;
}

static const struct problem_family copy_family = {NULL, copy_close, copy_launch, copy_check, NULL, NULL};

static int copy_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    struct copy_problem *c = problem_new(sizeof *c, &copy_family, b, what, err);
    if (!c)
        return -1;
    c->n = pairs_long(&what->sizes, "n", 0);
    if (c->n < 1 || c->n > 1 << 28)
        err_set(err, "stream_copy: n=%ld pieces of 16 bytes", (long)c->n);
    else if (bench_random(&c->p.bench, (size_t)c->n * 8, &c->from, err) == 0 &&
             bench_put(&c->p.bench, NULL, (size_t)c->n * 16, &c->to, err) == 0) {
        *out = &c->p;
        return 0;
    }
    copy_close(&c->p);
    return -1;
}

static int memory_open(struct problem **out, struct bench *b, const struct tune_problem *what, struct err *err)
{
    if (!strcmp(what->kernel, "stream_copy"))
        return copy_open(out, b, what, err);
    if (strcmp(what->kernel, "cascade_update"))
        return 0;
    if (update_open(out, b, what, err) != 0)
        return -1;
    (*out)->family = &update_family;
    return 0;
}

const struct problem_family problem_memory = {memory_open, NULL, NULL, NULL, NULL, NULL};
