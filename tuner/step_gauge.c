#include "step_gauge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend_cuda.h"
#include "runtime/llama.h"

enum {
    PAIRS_AT_ONCE = 4, /* of the two graphs, without waiting in between: marks 0 .. 2 * PAIRS_AT_ONCE */
    PAIRS = 16,
    REPLAYS_MAX = 200
};
static const double sample_ms = 3, behind = 1.02; /* of what is further behind, four pairs say enough */

/* How far logits may be from those of the step as it stands, relative to their length: tiles add in another order, which a deep model of
 * random weights makes more of. A wrong one is off by about 1. */
static const double logits_bound = 0.25;

struct step_gauge {
    const struct step_kernel *kernel; /* [n], the caller's */
    int n;
    struct backend be;
    struct cuda_backend *c;
    int number[STEP_KERNELS_MAX];            /* in the backend's set of kernels, -1: it has none such */
    bool launched[STEP_KERNELS_MAX];         /* by the step */
    void *first, *base, *other;              /* graphs: as it was opened, as it stands, with one tile exchanged */
    int replays;                             /* a sample */
    int tried;                               /* the kernel of `other`, -1: there is none */
    struct cuda_tile tile;                   /* its */
    struct cuda_tile kept[STEP_KERNELS_MAX]; /* what `first` launches and the step no longer has */
    bool has_kept[STEP_KERNELS_MAX];
    float *logits[2]; /* [vocab] of the step as it stands, of another; owned */
};

static int enqueue(void *user, struct err *err)
{
    return cuda_decode_enqueue(user, DECODE_ALL, err);
}

static int capture(struct step_gauge *g, void **graph, struct err *err)
{
    return device_capture(&g->c->dev, enqueue, g->c, graph, err);
}

/* Fills the cache as a long text does, and leaves the packet of the next token. */
static int fill(struct step_gauge *g, const struct step_model *what, struct err *err)
{
    const struct cascade_params *p = what->p;
    const struct model *m = what->model;
    size_t n = (size_t)p->sinks + (size_t)p->window + (size_t)p->stride;
    int32_t *tokens = err_alloc(n, sizeof *tokens, "a text", err);
    uint64_t seed = 1;
    if (!tokens)
        return -1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (int32_t)((seed >> 33) % (uint64_t)m->shape.vocab);
    }
    int rc = llama_feed(&g->be, m, p, tokens, n, NULL, NULL, err);
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = llama_forward(&g->be, m, tokens, 1, err);
    if (rc == 0)
        rc = g->c->dev.sync(&g->c->dev, err);
    if (rc == 0)
        cuda_decode_packet(g->c, tokens[1]);
    free(tokens);
    return rc;
}

/* Which of the backend's kernels are the meter's, and which of them the step launches: captures `first`. */
static int find_kernels(struct step_gauge *g, struct err *err)
{
    struct cuda_backend *c = g->c;
    int count = cuda_kernels_count(c->kernels);
    bool *launched = err_calloc((size_t)count + 1, sizeof *launched, "the step's kernels", err);
    if (!launched)
        return -1;
    c->launched = launched;
    int rc = capture(g, &g->first, err);
    c->launched = NULL;
    for (int k = 0; k < g->n && rc == 0; k++) {
        g->number[k] = -1;
        for (int i = 0; i < count; i++) {
            const char *kernel, *params;
            struct pairs shape;
            cuda_kernels_wanted(c->kernels, i, &kernel, &params);
            if (!strcmp(kernel, g->kernel[k].problem.kernel) && pairs_parse(&shape, params, NULL) == 0 &&
                pairs_equal(&shape, &g->kernel[k].problem.shape))
                g->number[k] = i;
        }
        g->launched[k] = g->number[k] >= 0 && launched[g->number[k]];
    }
    free(launched);
    return rc;
}

static void drop_tried(struct step_gauge *g)
{
    if (g->tried < 0)
        return;
    g->c->dev.sync(&g->c->dev, NULL);
    if (g->other)
        g->c->dev.release_graph(&g->c->dev, g->other);
    g->other = NULL;
    kernel_free(&g->tile.built);
    g->tried = -1;
}

/* Logits of the step without what it does to the cache, which makes them the same again and again. */
static int read_logits(struct step_gauge *g, float *out, struct err *err)
{
    struct cuda_backend *c = g->c;
    size_t bytes = (size_t)c->shape->vocab * sizeof *out;
    if (c->dev.fill(&c->dev, c->logits, 0xff, bytes, err) != 0 ||
        cuda_decode_enqueue(c, DECODE_ALL & ~(unsigned)DECODE_UPDATE, err) != 0)
        return -1;
    return c->dev.download(&c->dev, out, c->logits, bytes, err);
}

static int check_logits(struct step_gauge *g, struct err *err)
{
    double error = 0, length = 0;
    if (read_logits(g, g->logits[1], err) != 0)
        return -1;
    for (int i = 0; i < g->c->shape->vocab; i++) {
        double want = (double)g->logits[0][i], off = (double)g->logits[1][i] - want;
        error += off * off;
        length += want * want;
    }
    if (!isfinite(length) || error <= logits_bound * logits_bound * length) /* the step's own may be no numbers */
        return 0;
    return err_set(err, "its logits are off by %.2g of their length", sqrt(error / length));
}

/* Builds kernel k with a tile and captures the step with it; the step stands as it was. */
static int capture_with(struct step_gauge *g, int k, const struct pairs *tile, struct err *err)
{
    struct cuda_backend *c = g->c;
    drop_tried(g);
    if (g->number[k] < 0)
        return err_set(err, "the model has no such kernel");
    if (cuda_kernels_build(c->kernels, g->number[k], tile, &g->tile, err) != 0)
        return -1;
    g->tried = k;
    if (read_logits(g, g->logits[0], err) != 0)
        return -1;
    cuda_exchange(c, g->number[k], &g->tile);
    int rc = check_logits(g, err) == 0 && capture(g, &g->other, err) == 0 ? 0 : -1;
    cuda_exchange(c, g->number[k], &g->tile);
    return rc;
}

void step_gauge_keep(struct step_gauge *g)
{
    struct cuda_backend *c = g->c;
    int k = g->tried;
    c->dev.sync(&c->dev, NULL);
    cuda_exchange(c, g->number[k], &g->tile);
    if (g->base != g->first)
        c->dev.release_graph(&c->dev, g->base);
    g->base = g->other;
    if (g->has_kept[k])
        kernel_free(&g->tile.built);
    else
        g->kept[k] = g->tile;
    g->has_kept[k] = true;
    g->other = NULL;
    g->tried = -1;
}

static int time_once(struct step_gauge *g, double *ms, struct err *err)
{
    struct device *dev = &g->c->dev;
    float took;
    for (int i = 0; i < 2; i++)
        if (dev->mark(dev, 0, err) != 0 || dev->replay(dev, g->base, err) != 0 || dev->mark(dev, 1, err) != 0 ||
            dev->elapsed(dev, 0, 1, &took, err) != 0)
            return -1;
    *ms = (double)took;
    return 0;
}

/* Pairs [n] of both graphs' times, the one and the other first by turns. */
static int time_pairs(struct step_gauge *g, void *const graph[2], double ms[2][PAIRS], int n, struct err *err)
{
    struct device *dev = &g->c->dev;
    for (int done = 0; done < n; done += PAIRS_AT_ONCE) {
        for (int i = 0; i < 2 * PAIRS_AT_ONCE; i++) {
            if (dev->mark(dev, i, err) != 0)
                return -1;
            for (int r = 0; r < g->replays; r++)
                if (dev->replay(dev, graph[(i + i / 2) % 2], err) != 0)
                    return -1;
        }
        if (dev->mark(dev, 2 * PAIRS_AT_ONCE, err) != 0)
            return -1;
        for (int i = 0; i < 2 * PAIRS_AT_ONCE; i++) {
            float took;
            if (dev->elapsed(dev, i, i + 1, &took, err) != 0)
                return -1;
            ms[(i + i / 2) % 2][done + i / 2] = (double)took / g->replays;
        }
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *v, int n, double q)
{
    double sorted[PAIRS];
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return sorted[(int)(q * (n - 1) + 0.5)];
}

static void take_times(double ms[2][PAIRS], int n, struct step_time *out)
{
    double ratio[PAIRS];
    for (int i = 0; i < n; i++)
        ratio[i] = ms[1][i] / ms[0][i];
    out->base_ms = quantile(ms[0], n, 0.5);
    out->ms = quantile(ms[1], n, 0.5);
    out->ratio = quantile(ratio, n, 0.5);
    out->spread = quantile(ratio, n, 0.9) - quantile(ratio, n, 0.1);
}

static int compare(struct step_gauge *g, void *base, void *other, struct step_time *out, struct err *err)
{
    void *const graph[2] = {base, other};
    double ms[2][PAIRS];
    for (int i = 0; i < 2; i++) /* the first replay of a graph brings it to the GPU */
        if (g->c->dev.replay(&g->c->dev, graph[i], err) != 0)
            return -1;
    if (time_pairs(g, graph, ms, PAIRS_AT_ONCE, err) != 0)
        return -1;
    take_times(ms, PAIRS_AT_ONCE, out);
    if (out->ratio > behind)
        return 0;
    if (time_pairs(g, graph, ms, PAIRS, err) != 0)
        return -1;
    take_times(ms, PAIRS, out);
    return 0;
}

/* Where a process before this one had come to. */
static int put_tiles(struct step_gauge *g, struct err *err)
{
    for (int k = 0; k < g->n; k++) {
        struct pairs tile;
        const struct pairs *want = &g->kernel[k].tile;
        if (!g->launched[k] || want->n == 0)
            continue;
        if (cuda_kernels_tile(g->c->kernels, g->number[k], &tile, err) != 0)
            return -1;
        if (pairs_equal(&tile, want))
            continue;
        if (capture_with(g, k, want, err) != 0)
            return -1;
        step_gauge_keep(g);
    }
    return 0;
}

int step_gauge_open(struct step_gauge **out, const struct step_model *what, const struct step_kernel *kernel, int n,
                    struct err *err)
{
    struct step_gauge *g = *out = err_calloc(1, sizeof *g, "a decoding step", err);
    size_t vocab = (size_t)what->model->shape.vocab;
    struct device dev;
    double ms;
    if (!g)
        return -1;
    g->kernel = kernel;
    g->n = n;
    g->tried = -1;
    for (int i = 0; i < 2; i++)
        if (!(g->logits[i] = err_alloc(vocab, sizeof *g->logits[i], "logits", err)))
            return -1;
    if ((what->open_device ? what->open_device(&dev, err) : device_cuda_open(&dev, 0, err)) != 0 ||
        backend_cuda_open_on(&g->be, &dev, what->model, what->p, what->o, err) != 0)
        return -1;
    g->c = g->be.state;
    if (fill(g, what, err) != 0 || find_kernels(g, err) != 0)
        return -1;
    g->base = g->first;
    if (put_tiles(g, err) != 0 || time_once(g, &ms, err) != 0)
        return -1;
    g->replays = (int)fmin(REPLAYS_MAX, ceil(sample_ms / fmax(ms, 1e-3)));
    return 0;
}

int step_gauge_exchange(struct step_gauge *g, int i, const struct pairs *tile, struct step_time *out, struct err *err)
{
    return capture_with(g, i, tile, err) == 0 ? compare(g, g->base, g->other, out, err) : -1;
}

int step_gauge_whole(struct step_gauge *g, struct step_time *out, struct err *err)
{
    return compare(g, g->first, g->base, out, err);
}

int step_gauge_kernel(struct step_gauge *g, int i, bool *launched, struct pairs *tile, struct err *err)
{
    *launched = g->launched[i];
    return *launched ? cuda_kernels_tile(g->c->kernels, g->number[i], tile, err) : 0;
}

bool step_gauge_works(struct step_gauge *g)
{
    return g->c->dev.sync(&g->c->dev, NULL) == 0;
}
