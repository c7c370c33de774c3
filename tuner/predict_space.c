#include "predict_space.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/kernel.h"
#include "runtime/threads.h"

/* Leaders that are compiled by several threads, each with a generator of its own. */
struct crew {
    const struct tune_space *space;
    struct predict_space *out;
    struct kernel_cache cache;
    const int *config; /* [n] indices into space->valid */
    int n;
    struct gen *gen[POOL_MAX_THREADS]; /* by thread; NULL: not opened yet */
    struct err err[POOL_MAX_THREADS];  /* by thread: what the last one that failed says */
};

static int predict_spec(const struct tune_space *s, int config, struct prediction *out, struct err *err)
{
    struct gen_kernel spec;
    if (tune_space_spec(s, s->valid[config], &spec, err) != 0)
        return -1;
    struct predict_input in = {&s->gpu, &spec, NULL, &s->problem.sizes, s->bytes, s->flops};
    return predict_time(&in, out, err);
}

static int predict_compiled(const struct tune_space *s, const struct kernel_cache *cache, struct gen *gen, int config,
                            struct prediction *out, struct err *err)
{
    struct gen_param param[TUNE_PARAMS_MAX];
    struct pairs tile;
    struct kernel k;
    int n = tune_space_params(s, s->valid[config], &tile, param);
    if (kernel_build(gen, cache, s->problem.kernel, s->gpu_arg, param, n, &k, err) != 0)
        return -1;
    struct predict_input in = {&s->gpu, &k.gen, &k.cubin, &s->problem.sizes, s->bytes, s->flops};
    int status = predict_time(&in, out, err);
    kernel_free(&k);
    return status;
}

static void compile_one(void *context, int item, int thread)
{
    struct crew *c = context;
    const char *home = gen_home(c->space->gen);
    struct prediction p;
    if (!c->gen[thread] && gen_open(&c->gen[thread], home[0] ? home : NULL, &c->err[thread]) != 0)
        c->gen[thread] = NULL;
    else if (predict_compiled(c->space, &c->cache, c->gen[thread], c->config[item], &p, &c->err[thread]) == 0)
        c->out->sim[c->config[item]] = p;
}

/* -1 where none of them compiled. */
static int compile_all(struct crew *c, struct err *err)
{
    struct pool *pool;
    if (pool_open(&pool, 0, err) != 0)
        return -1;
    pool_run(pool, c->n, compile_one, c);
    pool_close(pool);
    for (int i = 0; i < c->n; i++)
        c->out->compiled += c->out->sim[c->config[i]].ms > 0;
    c->out->refused = c->n - c->out->compiled;
    for (int i = 0; i < POOL_MAX_THREADS; i++) {
        if (c->gen[i])
            gen_close(c->gen[i]);
        if (!c->out->compiled && c->err[i].msg[0])
            *err = c->err[i];
    }
    return c->out->compiled ? 0 : -1;
}

struct place {
    double ms;
    int stage, config;
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->stage != y->stage)
        return x->stage - y->stage;
    return x->ms != y->ms ? (x->ms > y->ms) - (x->ms < y->ms) : x->config - y->config;
}

/* The kernel's default among the valid configs, -1. */
static int default_of(const struct tune_space *s)
{
    for (int i = 0; i < s->nvalid; i++)
        if (s->valid[i] == s->by_default)
            return i;
    return -1;
}

static void sort(const struct tune_space *s, struct predict_space *p, struct place *place)
{
    for (int i = 0; i < p->n; i++) {
        bool sim = p->sim[i].ms > 0, spec = p->all[i].ms > 0;
        place[i] = (struct place){sim ? p->sim[i].ms : p->all[i].ms, sim ? 0 : spec ? 1 : 2, i};
    }
    qsort(place, (size_t)p->n, sizeof *place, by_place);
    for (int i = 0; i < p->n; i++)
        p->order[i] = place[i].config;
    p->pick = p->order[0];
    int def = default_of(s);
    bool same_stage = def >= 0 && (p->sim[def].ms > 0) == (p->sim[p->pick].ms > 0);
    if (same_stage &&
        predict_space_of(p, def)->ms <= (1 + predict_tells(s->problem.kernel)) * predict_space_of(p, p->pick)->ms)
        p->pick = def;
}

int predict_space(const struct tune_space *s, int compile, bool (*keep)(void *user, int config), void *user,
                  struct predict_space *out, struct err *err)
{
    size_t n = (size_t)s->nvalid;
    memset(out, 0, sizeof *out);
    out->n = s->nvalid;
    out->all = err_calloc(n + 1, sizeof *out->all, "predictions", err);
    out->sim = err_calloc(n + 1, sizeof *out->sim, "predictions", err);
    out->order = err_calloc(n + 1, sizeof *out->order, "predictions", err);
    struct place *place = err_calloc(n + 1, sizeof *place, "predictions", err);
    int *chosen = err_calloc(n + 1, sizeof *chosen, "predictions", err);
    int known = 0, status = -1;
    if (!out->all || !out->sim || !out->order || !place || !chosen)
        goto done;
    for (int i = 0; i < out->n; i++) {
        if (predict_spec(s, i, &out->all[i], err) != 0)
            out->all[i].ms = 0;
        known += out->all[i].ms > 0;
    }
    if (!known) {
        if (!out->n)
            err_set(err, "%s: no config is valid for %s", s->problem.kernel, s->gpu.name);
        goto done;
    }
    sort(s, out, place);
    struct crew crew = {.space = s, .out = out, .config = chosen};
    for (int i = 0; i < known; i++)
        if (i < compile || (compile > 0 && out->order[i] == default_of(s)) || (keep && keep(user, out->order[i])))
            chosen[crew.n++] = out->order[i];
    kernel_cache_default(&crew.cache);
    if (crew.n && compile_all(&crew, err) != 0)
        goto done;
    sort(s, out, place);
    status = 0;
done:
    free(place);
    free(chosen);
    if (status != 0)
        predict_space_free(out);
    return status;
}

int predict_space_add(const struct tune_space *s, struct predict_space *p, int config, struct err *err)
{
    struct kernel_cache cache;
    kernel_cache_default(&cache);
    struct place *place = err_calloc((size_t)p->n + 1, sizeof *place, "predictions", err);
    int status = place ? predict_compiled(s, &cache, s->gen, config, &p->sim[config], err) : -1;
    if (status == 0) {
        p->compiled++;
        sort(s, p, place);
    } else {
        p->sim[config].ms = 0;
    }
    free(place);
    return status;
}

void predict_space_free(struct predict_space *p)
{
    free(p->all);
    free(p->sim);
    free(p->order);
    memset(p, 0, sizeof *p);
}

const struct prediction *predict_space_of(const struct predict_space *p, int config)
{
    return p->sim[config].ms > 0 ? &p->sim[config] : &p->all[config];
}
