#include "space.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/sha256.h"

void tune_problem_text(const struct tune_problem *p, char text[PROBLEM_TEXT_MAX])
{
    char shape[PAIRS_TEXT_MAX], sizes[PAIRS_TEXT_MAX];
    pairs_text(&p->shape, shape);
    pairs_text(&p->sizes, sizes);
    snprintf(text, PROBLEM_TEXT_MAX, "%s %s | %s", p->kernel, shape, sizes);
}

bool tune_problem_equal(const struct tune_problem *a, const struct tune_problem *b)
{
    return !strcmp(a->kernel, b->kernel) && pairs_equal(&a->shape, &b->shape) && pairs_equal(&a->sizes, &b->sizes);
}

/* How a kernel's trials are timed, where that has changed since the first were kept: those of another way say nothing either. */
static const char *timed_as(const char *kernel)
{
    return !strcmp(kernel, "attn_decode") ? "layers' attention in a chain" : "";
}

static int hash_config(const struct tune_space *s, int config, char revision[REVISION_MAX])
{
    struct gen_param params[TUNE_PARAMS_MAX];
    struct pairs tile;
    char *text = NULL;
    struct sha256 sha;
    unsigned char digest[32];
    int n = tune_space_params(s, config, &tile, params);
    if (gen_essence(s->gen, s->problem.kernel, s->gpu_arg, params, n, &text, NULL) != 0)
        return -1;
    sha256_begin(&sha);
    sha256_add(&sha, text, strlen(text));
    sha256_add(&sha, timed_as(s->problem.kernel), strlen(timed_as(s->problem.kernel)));
    sha256_end(&sha, digest);
    for (int i = 0; i < (REVISION_MAX - 1) / 2; i++)
        snprintf(revision + 2 * i, 3, "%02x", digest[i]);
    free(text);
    return 0;
}

const char *tune_space_revision(const struct tune_space *s, int config)
{
    if (!s->revision[config][0] && hash_config(s, config, s->revision[config]) != 0)
        return "";
    return s->revision[config];
}

static void count_cut(struct tune_space *s, const char *name)
{
    int i = 0;
    while (i < s->ncuts && strcmp(s->cut[i].name, name))
        i++;
    if (i == s->ncuts && i < CUTS_MAX)
        snprintf(s->cut[s->ncuts++].name, sizeof s->cut[i].name, "%s", name);
    if (i < CUTS_MAX)
        s->cut[i].configs++;
}

static int more_first(const void *a, const void *b)
{
    return ((const struct tune_cut *)b)->configs - ((const struct tune_cut *)a)->configs;
}

/* The default config's place, bytes and operations. */
static int read_facts(struct tune_space *s, struct err *err)
{
    struct gen_param params[TUNE_PARAMS_MAX];
    struct pairs tile = {0};
    struct gen_kernel k;
    int n = pairs_params(&s->problem.shape, params, 0);
    s->by_default = -1;
    if (gen_resolve(s->gen, s->problem.kernel, s->gpu_arg, params, n, &k, err) == 0) {
        for (int i = 0; i < s->all.ntile; i++)
            pairs_put_long(&tile, s->all.tile[i], gen_value(&k, s->all.tile[i]), NULL);
        s->by_default = tune_space_find(s, &tile);
    } else {
        if (s->nvalid == 0)
            return -1; /* with the default's reason */
        n = tune_space_params(s, s->valid[0], &tile, params);
        if (gen_resolve(s->gen, s->problem.kernel, s->gpu_arg, params, n, &k, err) != 0)
            return -1;
    }
    n = pairs_params(&s->problem.sizes, params, 0);
    return gen_work(s->gen, &k, params, n, &s->bytes, &s->flops, err);
}

int tune_space_open(struct tune_space *s, struct gen *g, const char *gpu, const struct tune_problem *problem,
                    const struct pairs *fixed, struct err *err)
{
    struct gen_param params[TUNE_PARAMS_MAX];
    memset(s, 0, sizeof *s);
    s->gen = g;
    s->problem = *problem;
    snprintf(s->gpu_arg, sizeof s->gpu_arg, "%s", gpu);
    int n = pairs_params(&s->problem.shape, params, 0);
    for (int i = 0; fixed && i < fixed->n; i++) {
        int has = gen_has_param(g, problem->kernel, fixed->at[i].name, err);
        if (has < 0)
            return -1;
        if (has) /* others are for other kernels */
            params[n++] = (struct gen_param){fixed->at[i].name, fixed->at[i].value};
    }
    if (gen_gpu(g, gpu, &s->gpu, err) != 0 || gen_space(g, problem->kernel, gpu, params, n, &s->all, err) != 0)
        return -1;
    s->valid = err_alloc((size_t)s->all.nconfigs + 1, sizeof *s->valid, "a tuning space", err);
    s->revision = err_calloc((size_t)s->all.nconfigs + 1, sizeof *s->revision, "a tuning space", err);
    if (!s->valid || !s->revision)
        goto failed;
    for (int i = 0; i < s->all.nconfigs; i++)
        if (!s->all.config[i].broken[0])
            s->valid[s->nvalid++] = i;
        else
            count_cut(s, s->all.config[i].broken);
    qsort(s->cut, (size_t)s->ncuts, sizeof *s->cut, more_first);
    if (read_facts(s, err) != 0)
        goto failed;
    return 0;
failed:
    tune_space_close(s);
    return -1;
}

void tune_space_close(struct tune_space *s)
{
    gen_space_free(&s->all);
    free(s->valid);
    free(s->revision);
    memset(s, 0, sizeof *s);
}

void tune_space_config(const struct tune_space *s, int config, struct pairs *tile)
{
    memset(tile, 0, sizeof *tile);
    for (int i = 0; i < s->all.ntile; i++)
        pairs_put_long(tile, s->all.tile[i], s->all.config[config].value[i], NULL);
}

/* The config with these values, one for each tile parameter. */
static int find_values(const struct tune_space *s, const long *value)
{
    for (int c = 0; c < s->all.nconfigs; c++) {
        int same = 0;
        while (same < s->all.ntile && value[same] == s->all.config[c].value[same])
            same++;
        if (same == s->all.ntile)
            return c;
    }
    return -1;
}

int tune_space_find(const struct tune_space *s, const struct pairs *tile)
{
    long value[PAIRS_MAX];
    struct gen_param params[TUNE_PARAMS_MAX];
    struct gen_kernel k;
    bool whole = true;
    for (int i = 0; i < s->all.ntile; i++) {
        whole = whole && pairs_get(tile, s->all.tile[i]);
        value[i] = pairs_long(tile, s->all.tile[i], -1);
    }
    if (!whole) {
        int n = pairs_params(tile, params, pairs_params(&s->problem.shape, params, 0));
        if (gen_resolve(s->gen, s->problem.kernel, s->gpu_arg, params, n, &k, NULL) != 0)
            return -1;
        for (int i = 0; i < s->all.ntile; i++)
            value[i] = gen_value(&k, s->all.tile[i]);
        gen_kernel_free(&k);
    }
    return find_values(s, value);
}

int tune_space_params(const struct tune_space *s, int config, struct pairs *tile,
                      struct gen_param param[TUNE_PARAMS_MAX])
{
    tune_space_config(s, config, tile);
    return pairs_params(tile, param, pairs_params(&s->problem.shape, param, 0));
}

int tune_space_spec(const struct tune_space *s, int config, struct gen_kernel *out, struct err *err)
{
    struct gen_param params[TUNE_PARAMS_MAX];
    struct pairs tile;
    int n = tune_space_params(s, config, &tile, params);
    return gen_resolve(s->gen, s->problem.kernel, s->gpu_arg, params, n, out, err);
}

void tune_space_print(const struct tune_space *s, FILE *out)
{
    char text[PROBLEM_TEXT_MAX];
    tune_problem_text(&s->problem, text);
    fprintf(out, "%s on %s: %d configs, %d valid\n", text, s->gpu.name, s->all.nconfigs, s->nvalid);
    for (int i = 0; i < s->ncuts; i++)
        fprintf(out, "  %6d cut by %s\n", s->cut[i].configs, s->cut[i].name);
}
