#include "forward_case.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/llama_grid.h"
#include "runtime/model_random.h"

enum {
    PERIOD_BYTES = 1 << 20,
    PASSES_MIN = 2,
    PASSES_MAX = 256,
    SMALL_TOKENS = 3,
    SMALL_ROW = 1096,
    SMALL_MATRIX = 161 * 256, /* whole blocks of every type, more than one span of any number of warps */
    SMALL_VOCAB = 8802,
    SMALL_PIECE = 4400 /* more than the most threads take at once */
};

static const struct {
    const char *name;
    bool in_shape; /* n is a shape parameter */
    const char *n; /* its name */
    bool weights, halves /* that are written */;
} kernels[FORWARD_KERNELS] = {
    [FORWARD_NORM] = {"rms_norm", true, "n", false, true},
    [FORWARD_SWIGLU] = {"swiglu", false, "ffn", false, true},
    [FORWARD_BIAS] = {"add_bias", false, "n", false, true},
    [FORWARD_DEQUANTISE] = {"dequantise", false, "elements", true, true},
    [FORWARD_EMBED] = {"embed", true, "n", true, false},
    [FORWARD_LIKELIHOOD] = {"likelihood", false, "vocab", false, false},
};

int forward_kernel_named(const char *name)
{
    for (int i = 0; i < FORWARD_KERNELS; i++)
        if (!strcmp(kernels[i].name, name))
            return i;
    return -1;
}

size_t forward_case_outputs(const struct forward_case *c)
{
    return c->kernel == FORWARD_LIKELIHOOD ? (size_t)c->tokens : (size_t)c->tokens * (size_t)c->n;
}

bool forward_case_halves(const struct forward_case *c)
{
    return kernels[c->kernel].halves;
}

/* ------------------------------------------------------------------------------------------------ sizes */

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void make_small(struct forward_case *c)
{
    c->tokens = (int)least_of(c->tokens, SMALL_TOKENS);
    if (c->kernel == FORWARD_SWIGLU || c->kernel == FORWARD_BIAS)
        c->n = least_of(c->n, SMALL_ROW);
    if (c->kernel == FORWARD_DEQUANTISE)
        c->n = least_of(c->n, SMALL_MATRIX);
    if (c->kernel == FORWARD_LIKELIHOOD)
        c->n = least_of(c->n, SMALL_VOCAB);
}

/* How the vocabulary is taken: as inference does; a small one in two pieces, its rows in groups of two. */
static void set_pieces(struct forward_case *c)
{
    int vocab = (int)c->n;
    c->wide = llama_vocab_piece(vocab);
    c->rows = (int)least_of(llama_vocab_rows(vocab, c->tokens), c->tokens);
    if (c->small) {
        c->wide = (int)least_of(SMALL_PIECE, (vocab / 2 + 3) / 4 * 4);
        c->rows = (int)least_of(c->tokens, 2);
    }
    c->steps = ((vocab + c->wide - 1) / c->wide) * ((c->tokens + c->rows - 1) / c->rows);
}

/* Bytes of so many elements of what is read. */
static size_t bytes_of(const struct forward_case *c, size_t elements)
{
    const struct quant_info *info = quant_info(c->type);
    return elements / (size_t)info->block * (size_t)info->bytes;
}

static int set_sizes(struct forward_case *c, const struct tune_problem *what, size_t least, struct err *err)
{
    const struct pairs *of_n = kernels[c->kernel].in_shape ? &what->shape : &what->sizes;
    const char *w = pairs_get(&what->shape, "w");
    bool weights = kernels[c->kernel].weights, matrix = c->kernel == FORWARD_DEQUANTISE,
         floats = c->kernel == FORWARD_NORM || c->kernel == FORWARD_LIKELIHOOD;
    int type = weights ? (w ? quant_type_named(w) : -1) : floats ? QUANT_F32 : c->b->type ? QUANT_BF16 : QUANT_F16;
    c->tokens = matrix ? 1 : (int)pairs_long(&what->sizes, "tokens", 0);
    c->n = pairs_long(of_n, kernels[c->kernel].n, 0);
    if (type < 0 || c->tokens < 1 || c->tokens > 1 << 20 || c->n < 4 || c->n > (int64_t)1 << 31 ||
        c->n % quant_info((uint32_t)type)->block)
        return err_set(err, "%s: it does not run with tokens=%d and %s=%lld", what->kernel, c->tokens,
                       kernels[c->kernel].n, (long long)c->n);
    c->type = (enum quant_type)type;
    c->passes = c->steps = 1;
    if (c->small)
        make_small(c);
    if (c->kernel == FORWARD_LIKELIHOOD)
        set_pieces(c);
    size_t row = bytes_of(c, (size_t)c->n), rows = (size_t)c->tokens;
    c->pass_bytes = c->kernel == FORWARD_LIKELIHOOD ? (size_t)c->rows * (size_t)c->wide * sizeof(float) : row * rows;
    if (c->kernel == FORWARD_SWIGLU)
        c->pass_bytes *= 2;
    if (matrix) /* each begins at a multiple of this */
        c->pass_bytes = (c->pass_bytes + 255) / 256 * 256;
    if (weights && !c->small) {
        size_t wanted = least / c->pass_bytes + 1;
        c->passes = wanted < PASSES_MIN ? PASSES_MIN : wanted > PASSES_MAX ? PASSES_MAX : (int)wanted;
    }
    c->out_bytes = forward_case_outputs(c) * (forward_case_halves(c) ? 2 : 4);
    return 0;
}

/* ------------------------------------------------------------------------------------------------ memory */

/* The period, again and again. */
static int fill(const struct forward_case *c, devptr at, size_t bytes, struct err *err)
{
    size_t period = c->units * (size_t)quant_info(c->type)->bytes;
    for (size_t done = 0; done < bytes; done += period)
        if (c->b->dev.upload(&c->b->dev, at + done, c->period, bytes - done < period ? bytes - done : period, err) != 0)
            return -1;
    return 0;
}

static int make_period(struct forward_case *c, struct err *err)
{
    size_t unit = (size_t)quant_info(c->type)->bytes;
    uint64_t seed = 11;
    c->units = PERIOD_BYTES / unit | 1; /* odd, so that no row begins like one that is near */
    c->period = err_alloc(c->units, unit, "random numbers", err);
    if (!c->period)
        return -1;
    if (kernels[c->kernel].weights) {
        model_random_blocks(c->type, c->period, c->units, 1);
        return 0;
    }
    for (size_t i = 0; i < c->units; i++) {
        float v = 2 * bench_normal(&seed);
        uint16_t h = c->type == QUANT_BF16 ? quant_float_to_bfloat(v) : quant_float_to_half(v);
        memcpy(c->period + i * unit, c->type == QUANT_F32 ? (void *)&v : (void *)&h, unit);
    }
    return 0;
}

/* Weights of the norm, or a bias. */
static int put_by(struct forward_case *c, struct err *err)
{
    uint64_t seed = 5;
    c->by_host = err_alloc((size_t)c->n, sizeof *c->by_host, "a row", err);
    for (int64_t i = 0; c->by_host && i < c->n; i++)
        c->by_host[i] = bench_normal(&seed);
    return c->by_host ? bench_put(c->b, c->by_host, (size_t)c->n * sizeof *c->by_host, &c->by, err) : -1;
}

/* Rows of the table all over it, none twice; or tokens of the vocabulary, its ends among them. */
static int put_ids(struct forward_case *c, struct err *err)
{
    bool embed = c->kernel == FORWARD_EMBED;
    size_t count = (size_t)c->tokens * (size_t)c->passes, of = embed ? count : (size_t)c->n;
    c->ids_host = err_alloc(count, sizeof *c->ids_host, "tokens", err);
    for (size_t i = 0; c->ids_host && i < count; i++)
        c->ids_host[i] = (int)(!embed && i == 1 ? of - 1 : i * 7919 % of);
    return c->ids_host ? bench_put(c->b, c->ids_host, count * sizeof *c->ids_host, &c->ids, err) : -1;
}

static int put_all(struct forward_case *c, struct err *err)
{
    struct device *dev = &c->b->dev;
    bool in_place = c->kernel == FORWARD_BIAS;
    if (make_period(c, err) != 0 || dev->alloc(dev, c->out_bytes, &c->out, err) != 0)
        return -1;
    if (!in_place && dev->alloc(dev, c->pass_bytes * (size_t)c->passes, &c->in, err) != 0)
        return -1;
    bool table = c->kernel == FORWARD_EMBED; /* whose rows go on from pass to pass */
    for (int i = 0; i < (table ? 1 : c->passes) && !in_place; i++)
        if (fill(c, c->in + (devptr)i * c->pass_bytes, c->pass_bytes * (size_t)(table ? c->passes : 1), err) != 0)
            return -1;
    if ((in_place || c->kernel == FORWARD_NORM) && put_by(c, err) != 0)
        return -1;
    if ((table || c->kernel == FORWARD_LIKELIHOOD) && put_ids(c, err) != 0)
        return -1;
    if (c->kernel == FORWARD_LIKELIHOOD && dev->alloc(dev, (size_t)c->tokens * 4 * sizeof(float), &c->state, err) != 0)
        return -1;
    return forward_case_prepare(c, err);
}

int forward_case_open(struct forward_case *c, struct bench *b, const struct tune_problem *what, bool small,
                      size_t least, struct err *err)
{
    *c = (struct forward_case){
        .b = b, .kernel = (enum forward_kernel)forward_kernel_named(what->kernel), .small = small};
    return set_sizes(c, what, least, err) != 0 ? -1 : put_all(c, err);
}

void forward_case_close(struct forward_case *c)
{
    const devptr all[] = {c->in, c->by, c->ids, c->state, c->out};
    for (size_t i = 0; c->b && i < sizeof all / sizeof *all; i++)
        c->b->dev.release(&c->b->dev, all[i]);
    free(c->period);
    free(c->by_host);
    free(c->ids_host);
    *c = (struct forward_case){.b = NULL};
}

int forward_case_prepare(const struct forward_case *c, struct err *err)
{
    if (c->kernel == FORWARD_BIAS)
        return fill(c, c->out, c->out_bytes, err);
    return c->b->dev.fill(&c->b->dev, c->out, 0xff, c->out_bytes, err);
}

/* ------------------------------------------------------------------------------------------------ launches */

static int launch(const struct forward_case *c, const struct kernel *k, unsigned blocks, void **args, struct err *err)
{
    struct launch l = {.grid = {blocks, 1, 1}, .block = k->gen.threads, .smem = k->gen.smem, .args = args};
    return c->b->dev.launch(&c->b->dev, k->loaded, &l, err);
}

/* A piece of the vocabulary for a group of rows. */
static int launch_likelihood(const struct forward_case *c, const struct kernel *k, int step, struct err *err)
{
    int groups = (c->tokens + c->rows - 1) / c->rows, vocab = (int)c->n, first = step / groups * c->wide,
        done = step % groups * c->rows;
    int count = (int)least_of(vocab - first, c->wide), rows = (int)least_of(c->tokens - done, c->rows), row = c->wide;
    devptr nats = c->out + (devptr)done * sizeof(float), state = c->state + (devptr)done * 4 * sizeof(float),
           token = c->ids + (devptr)done * sizeof(int), logits = c->in;
    return launch(c, k, (unsigned)rows, (void *[]){&nats, &state, &logits, &token, &first, &count, &row, &vocab}, err);
}

int forward_case_run(const struct forward_case *c, const struct kernel *k, int pass, struct err *err)
{
    devptr in = c->in + (devptr)pass * c->pass_bytes, out = c->out, by = c->by, table = c->in,
           ids = c->ids + (devptr)pass * (devptr)c->tokens * sizeof(int);
    int T = c->tokens, n = (int)c->n, sms = c->b->dev.facts.sms;
    int64_t elements = c->n;
    float epsilon = (float)FORWARD_EPS;
    unsigned pieces = c->kernel == FORWARD_SWIGLU || c->kernel == FORWARD_BIAS ? llama_grid_pieces(&k->gen, T, n) : 0;
    unsigned spans = llama_grid_dequantise(&k->gen, elements, sms);
    if (c->small) /* a block takes several, as those of a large matrix do */
        spans = (spans + 1) / 2;
    switch (c->kernel) {
    case FORWARD_NORM:
        return launch(c, k, (unsigned)T, (void *[]){&out, &in, &by, &T, &epsilon}, err);
    case FORWARD_SWIGLU:
        return launch(c, k, pieces, (void *[]){&out, &in, &T, &n}, err);
    case FORWARD_BIAS:
        return launch(c, k, pieces, (void *[]){&out, &by, &T, &n}, err);
    case FORWARD_DEQUANTISE:
        return launch(c, k, spans, (void *[]){&out, &in, &elements}, err);
    case FORWARD_EMBED:
        return launch(c, k, (unsigned)T, (void *[]){&out, &table, &ids, &T}, err);
    case FORWARD_LIKELIHOOD:
        for (int i = 0; i < c->steps; i++)
            if (launch_likelihood(c, k, i, err) != 0)
                return -1;
        return 0;
    }
    return -1;
}
