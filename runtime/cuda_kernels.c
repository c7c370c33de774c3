#include "cuda_kernels.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_kernels.h"
#include "occupancy.h"
#include "threads.h"

enum { WANTED_MAX = 96 };

struct wanted {
    char kernel[48], params[PAIRS_TEXT_MAX];
    struct cuda_tile tile;
    struct pairs sizes; /* of its own */
};

struct cuda_kernels {
    struct device *dev;
    struct kernel_cache cache;
    char gpu[GEN_GPU_MAX];
    char *set; /* owned, or NULL */
    struct pairs sizes;
    wisdom_say *say;
    struct wisdom *wisdom; /* of the generator below; NULL: none */
    struct gen *gen;       /* for what is not done by the threads below */
    int count, threads;
    atomic_int next; /* to be built */
    pthread_mutex_t lock;
    struct err failed; /* the first error, "" if none */
    pthread_t thread[POOL_MAX_THREADS];
    struct wanted wanted[WANTED_MAX];
};

int cuda_kernels_new(struct cuda_kernels **out, struct device *dev, struct err *err)
{
    struct cuda_kernels *s = *out = err_calloc(1, sizeof *s, "the set of kernels", err);
    if (!s)
        return -1;
    s->dev = dev;
    pthread_mutex_init(&s->lock, NULL);
    kernel_cache_default(&s->cache);
    return 0;
}

static void join(struct cuda_kernels *s)
{
    for (int i = 0; i < s->threads; i++)
        pthread_join(s->thread[i], NULL);
    s->threads = 0;
}

void cuda_kernels_free(struct cuda_kernels *s)
{
    if (!s)
        return;
    atomic_store(&s->next, WANTED_MAX);
    join(s);
    for (int i = 0; i < s->count; i++)
        kernel_free(&s->wanted[i].tile.built);
    pthread_mutex_destroy(&s->lock);
    wisdom_close(s->wisdom);
    gen_close(s->gen);
    free(s->set);
    free(s);
}

int cuda_kernels_want(struct cuda_kernels *s, struct err *err, const char *kernel, const char *params, ...)
{
    struct wanted w = {0};
    va_list ap;
    va_start(ap, params);
    vsnprintf(w.params, sizeof w.params, params, ap);
    va_end(ap);
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->wanted[i].kernel, kernel) && !strcmp(s->wanted[i].params, w.params))
            return i;
    if (s->count == WANTED_MAX)
        return err_set(err, "the model wants more than %d kernels", WANTED_MAX);
    snprintf(w.kernel, sizeof w.kernel, "%s", kernel);
    s->wanted[s->count] = w;
    return s->count++;
}

/* Adds what --set gives of the kernel's parameters: "name=value", or "kernel.name=value". */
static int add_set(struct gen *g, const char *set, const char *kernel, struct pairs *p, struct err *err)
{
    struct pairs given;
    if (!set)
        return 0;
    if (pairs_parse(&given, set, err) != 0)
        return err_prefix(err, "--set");
    for (int i = 0; i < given.n; i++) {
        const char *name = given.at[i].name, *dot = strchr(name, '.');
        if (dot && ((size_t)(dot - name) != strlen(kernel) || strncmp(name, kernel, strlen(kernel)) != 0))
            continue;
        int has = gen_has_param(g, kernel, dot ? dot + 1 : name, err);
        if (has < 0 || (has && pairs_put(p, dot ? dot + 1 : name, given.at[i].value, err) != 0))
            return -1;
    }
    return 0;
}

int cuda_kernels_size(struct cuda_kernels *s, int number, const char *name, long value, struct err *err)
{
    struct pairs *own = &s->wanted[number].sizes;
    return pairs_long(own, name, 0) >= value ? 0 : pairs_put_long(own, name, value, err);
}

void cuda_kernels_tune(struct cuda_kernels *s, const struct pairs *sizes, wisdom_say *say)
{
    s->sizes = *sizes;
    s->say = say;
}

/* Adds the tile that wisdom has for the kernel. One thread at a time: the look-up runs the generator. */
static void add_wisdom(struct cuda_kernels *s, const struct wanted *w, struct pairs *p)
{
    struct pairs sizes;
    struct gen_param param[PAIRS_MAX];
    struct wisdom_found found;
    if (!s->wisdom)
        return;
    pthread_mutex_lock(&s->lock);
    model_kernel_sizes(&sizes, &s->sizes, &w->sizes);
    wisdom_best(s->wisdom, w->kernel, param, pairs_params(p, param, 0), &sizes, &found);
    if (s->say)
        s->say(false, found.line);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < found.config.n; i++)
        pairs_put(p, found.config.at[i].name, found.config.at[i].value, NULL);
}

/* A kernel with these parameters, compiled and loaded. */
static int build(struct cuda_kernels *s, struct gen *g, const char *kernel, const struct gen_param *param, int n,
                 struct cuda_tile *out, struct err *err)
{
    struct gen_gpu facts;
    int rc = gen_gpu(g, s->gpu, &facts, err);
    if (rc == 0 && s->dev->wants_source)
        rc = kernel_get(g, &s->cache, s->dev, kernel, param, n, &out->built, err);
    else if (rc == 0)
        rc = kernel_build(g, &s->cache, kernel, s->gpu, param, n, &out->built, err) != 0
                 ? -1
                 : kernel_load(&out->built, s->dev, err);
    if (rc != 0)
        return -1;
    struct occupancy o = occupancy_of(&facts, &out->built.gen, &out->built.cubin);
    out->blocks = o.blocks > 0 ? o.blocks : 1;
    return 0;
}

/* One kernel that is wanted. */
static int build_wanted(struct cuda_kernels *s, struct gen *g, struct wanted *w, struct err *err)
{
    struct pairs pairs;
    struct gen_param param[PAIRS_MAX];
    if (pairs_parse(&pairs, w->params, err) != 0 || add_set(g, s->set, w->kernel, &pairs, err) != 0)
        return -1;
    add_wisdom(s, w, &pairs);
    return build(s, g, w->kernel, param, pairs_params(&pairs, param, 0), &w->tile, err);
}

static void *build_all(void *context)
{
    struct cuda_kernels *s = context;
    struct gen *g = NULL;
    struct err err = {""};
    bool failed = gen_open(&g, NULL, &err) != 0;
    while (!failed) {
        int i = atomic_fetch_add(&s->next, 1);
        if (i >= s->count)
            break;
        failed = build_wanted(s, g, &s->wanted[i], &err) != 0;
    }
    pthread_mutex_lock(&s->lock);
    if (failed && !s->failed.msg[0])
        s->failed = err;
    pthread_mutex_unlock(&s->lock);
    if (failed) /* nobody needs the others then */
        atomic_store(&s->next, WANTED_MAX);
    if (g)
        gen_close(g);
    return NULL;
}

int cuda_kernels_start(struct cuda_kernels *s, const char *set, int threads, struct err *err)
{
    struct gen *g = NULL;
    if (gen_open(&g, NULL, err) != 0)
        return -1;
    s->gen = g;
    if (gen_gpu_name(g, s->dev->facts.name, s->dev->facts.sm, s->gpu, err) != 0 ||
        (s->sizes.n > 0 && !s->dev->wants_source && wisdom_open(&s->wisdom, g, s->gpu, s->say, err) != 0))
        return -1;
    if (set && !(s->set = strdup(set)))
        return err_set(err, "out of memory: the kernels' parameters");
    atomic_store(&s->next, 0);
    if (s->dev->wants_source) { /* the emulator takes one kernel at a time */
        build_all(s);
        return 0;
    }
    int most = threads > 0 ? threads : pool_cores();
    most = most < s->count ? most : s->count;
    while (s->threads < most && s->threads < POOL_MAX_THREADS &&
           pthread_create(&s->thread[s->threads], NULL, build_all, s) == 0)
        s->threads++;
    if (s->threads == 0)
        build_all(s);
    return 0;
}

int cuda_kernels_finish(struct cuda_kernels *s, struct err *err)
{
    join(s);
    if (s->failed.msg[0])
        return err_set(err, "%s", s->failed.msg);
    return 0;
}

int cuda_kernels_build(struct cuda_kernels *s, int number, const struct pairs *tile, struct cuda_tile *out,
                       struct err *err)
{
    const struct wanted *w = &s->wanted[number];
    struct pairs shape;
    struct gen_param param[2 * PAIRS_MAX];
    *out = (struct cuda_tile){0};
    if (pairs_parse(&shape, w->params, err) != 0)
        return -1;
    int n = pairs_params(tile, param, pairs_params(&shape, param, 0));
    if (build(s, s->gen, w->kernel, param, n, out, err) == 0)
        return 0;
    kernel_free(&out->built);
    *out = (struct cuda_tile){0};
    return -1;
}

void cuda_kernels_swap(struct cuda_kernels *s, int number, struct cuda_tile *other)
{
    struct cuda_tile was = s->wanted[number].tile;
    s->wanted[number].tile = *other;
    *other = was;
}

int cuda_kernels_tile(struct cuda_kernels *s, int number, struct pairs *tile, struct err *err)
{
    const struct gen_kernel *k = &s->wanted[number].tile.built.gen;
    tile->n = 0;
    for (int i = 0; i < k->nspec; i++) {
        int kind = gen_has_param(s->gen, k->kernel, k->param[i].name, err);
        if (kind < 0 || (kind == GEN_TILE && pairs_put_long(tile, k->param[i].name, k->param[i].value, err) != 0))
            return -1;
    }
    return 0;
}

const struct kernel *cuda_kernels_get(const struct cuda_kernels *s, int number)
{
    return &s->wanted[number].tile.built;
}

const struct pairs *cuda_kernels_wanted(const struct cuda_kernels *s, int number, const char **kernel,
                                        const char **params)
{
    *kernel = s->wanted[number].kernel;
    *params = s->wanted[number].params;
    return &s->wanted[number].sizes;
}

int cuda_kernels_count(const struct cuda_kernels *s)
{
    return s->count;
}

int cuda_kernels_blocks(const struct cuda_kernels *s, int number)
{
    return s->wanted[number].tile.blocks;
}
