/* The CUDA backend's weights: which matrices become one on the device, and their way there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend_cuda.h"
#include "llama_grid.h"
#include "threads.h"

/* --- what there is ----------------------------------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* The next place in the memory for weights, from its beginning. */
static devptr place(struct cuda_backend *c, size_t bytes)
{
    devptr at = c->weight_bytes;
    c->weight_bytes += aligned(bytes);
    return at;
}

static int want_matvec(struct cuda_backend *c, struct cuda_matrix *m, bool norm, const char *to, struct err *err)
{
    char type[8];
    const char *half = c->bf16 ? "bf16" : "fp16";
    quant_kernel_name(m->type, type);
    m->matvec =
        cuda_kernels_want(c->kernels, err, "matvec", "n=%d w=%s norm=%d to=%s t=%s", m->inputs, type, norm, to, half);
    if (m->matvec < 0 ||
        cuda_kernels_size(c->kernels, m->matvec, "rows", strcmp(to, "gate") ? m->rows : m->rows / 2, err) != 0)
        return -1;
    m->dequantise = -1;
    if (m->direct)
        return 0;
    m->dequantise = cuda_kernels_want(c->kernels, err, "dequantise", "w=%s t=%s", type, half);
    long rows = m->rows;
    if (!strcmp(to, "f32") && rows > LLAMA_VOCAB_PIECE) /* the vocabulary is expanded in pieces */
        rows = LLAMA_VOCAB_PIECE;
    return m->dequantise < 0 ? -1 : cuda_kernels_size(c->kernels, m->dequantise, "elements", rows * m->inputs, err);
}

static struct cuda_matrix matrix_of(const struct cuda_backend *c, const struct tensor *t)
{
    return (struct cuda_matrix){.from = t,
                                .type = t->type,
                                .inputs = (int)t->ne[0],
                                .rows = (int)t->ne[1],
                                .bytes = t->bytes,
                                .direct = t->type == (c->bf16 ? QUANT_BF16 : QUANT_F16)};
}

/* Matrices that share an input: one after another in memory, and one part where they are of one type. `from` of a part is the first
 * of its tensors; the others follow in the order of the model. */
static int plan_linear(struct cuda_backend *c, struct cuda_linear *l, const struct tensor *const *t, int n, bool norm,
                       const char *to, struct err *err)
{
    bool same = true;
    *l = (struct cuda_linear){.inputs = (int)t[0]->ne[0], .halved = !strcmp(to, "gate")};
    for (int i = 0; i < n; i++) {
        same = same && t[i]->type == t[0]->type;
        l->rows += (int)t[i]->ne[1];
    }
    for (int i = 0; i < n; i++) {
        struct cuda_matrix m = matrix_of(c, t[i]);
        if (i > 0 && same) {
            l->part[0].rows += m.rows;
            l->part[0].bytes += m.bytes;
        } else {
            l->part[l->parts++] = m;
        }
    }
    for (int i = 0; i < l->parts; i++) {
        l->part[i].at = place(c, l->part[i].bytes);
        if (want_matvec(c, &l->part[i], norm, to, err) != 0)
            return -1;
    }
    return 0;
}

static int plan_layer(struct cuda_backend *c, int i, struct err *err)
{
    const struct model_layer *m = &c->m->layer[i];
    struct cuda_layer *l = &c->layer[i];
    const struct tensor *qkv[] = {m->wq, m->wk, m->wv}, *gate_up[] = {m->gate, m->up};
    l->combine = m->gate->type == m->up->type;
    l->attn_norm = place(c, m->attn_norm->bytes);
    l->ffn_norm = place(c, m->ffn_norm->bytes);
    l->has_bias = m->bq || m->bk || m->bv;
    if (l->has_bias)
        l->bias = place(c, (size_t)c->qkv * sizeof(float));
    return plan_linear(c, &l->qkv, qkv, 3, true, "half", err) || plan_linear(c, &l->wo, &m->wo, 1, false, "add", err) ||
                   plan_linear(c, &l->gate_up, gate_up, 2, true, l->combine ? "gate" : "half", err) ||
                   plan_linear(c, &l->down, &m->down, 1, false, "add", err)
               ? -1
               : 0;
}

int cuda_weights_plan(struct cuda_backend *c, struct err *err)
{
    char type[8];
    c->layer = err_calloc((size_t)c->shape->layers, sizeof *c->layer, "the layers", err);
    if (!c->layer)
        return -1;
    for (int i = 0; i < c->shape->layers; i++)
        if (plan_layer(c, i, err) != 0)
            return -1;
    if (plan_linear(c, &c->output, &c->m->output, 1, true, "f32", err) != 0)
        return -1;
    c->embed = c->output.part[0];
    if (c->m->embed != c->m->output) {
        c->embed = matrix_of(c, c->m->embed);
        c->embed.at = place(c, c->embed.bytes);
    }
    c->out_norm = place(c, c->m->out_norm->bytes);
    c->weight_bytes += 256; /* kernels may ask ahead */
    /* The first product of cuBLAS takes a fifth of a second. While all weights are read in less than a millisecond, a short prompt is
     * done sooner without it. */
    c->few = c->weight_bytes < (size_t)1 << 30 ? 16 : 4;
    quant_kernel_name(c->embed.type, type);
    c->kernel[CK_EMBED] = cuda_kernels_want(c->kernels, err, "embed", "n=%d w=%s t=%s", c->shape->hidden, type,
                                            c->bf16 ? "bf16" : "fp16");
    return c->kernel[CK_EMBED] < 0 ? -1 : 0;
}

/* --- their way to the device ---------------------------------------------------------------------------------------------------- */

/* Bytes: of one of two buffers, at most and at least; of what a thread copies at a time; and how far ahead of it a file is asked for. */
enum { STAGING_MOST = 32 << 20, STAGING_LEAST = 2 << 20, PIECE = 256 << 10, AHEAD = 512 << 20 };

struct loader {
    struct cuda_backend *c;
    const struct backend_options *o;
    struct pool *pool;
    unsigned char *staging[2]; /* page-locked */
    size_t room;               /* bytes of each */
    int turn;                  /* the one that is being filled */
    size_t used, done;         /* bytes in it; bytes of all tensors so far */
};

/* What goes into the staging buffer: bytes, or rows in another order. */
struct copy {
    unsigned char *to;
    const unsigned char *from;
    size_t bytes, row; /* row: bytes of a row where rows are put into order, else 0 */
    int first;         /* number of the first row that is copied */
    int head_dim, turning;
};

/* The row of the file that becomes row r: of each head, pairs (i, i + turning) become neighbours. */
static int source_row(const struct copy *k, int r)
{
    int e = r % k->head_dim;
    return e < 2 * k->turning ? r - e + e / 2 + (e % 2 ? k->turning : 0) : r;
}

/* Has the system read what lies further on in the file and is not in memory, so that a disk has much to do at a time. Behind the file's
 * end both calls are errors which change nothing. */
static void ask_ahead(const unsigned char *from, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)from + AHEAD) / page * page;
    unsigned char resident;
    if (mincore((void *)first, 1, &resident) == 0 && !(resident & 1))
        (void)madvise((void *)first, bytes, MADV_WILLNEED);
}

/* Bytes of each staging buffer. On an H200's machine locking one took 0.85 ms a MB, and a turn from one to the other 0.085 ms: this
 * makes the least of both. */
static size_t staging_bytes(size_t weights)
{
    size_t bytes = (size_t)(sqrt((double)weights / 20e6) * 1e6) / PIECE * PIECE;
    return bytes > STAGING_MOST ? STAGING_MOST : bytes < STAGING_LEAST ? STAGING_LEAST : bytes;
}

static void copy_piece(void *context, int item, int thread)
{
    (void)thread;
    const struct copy *k = context;
    size_t from = (size_t)item * PIECE, to = from + PIECE < k->bytes ? from + PIECE : k->bytes;
    if (!k->row) {
        ask_ahead(k->from + from, to - from);
        memcpy(k->to + from, k->from + from, to - from);
        return;
    }
    for (size_t r = (from + k->row - 1) / k->row; r * k->row < to; r++)
        memcpy(k->to + r * k->row, k->from + (size_t)source_row(k, k->first + (int)r) * k->row, k->row);
}

/* Sends what the buffer holds on its way and turns to the other one, once that has been read. */
static int turn_over(struct loader *l, struct err *err)
{
    struct device *dev = &l->c->dev;
    if (dev->mark(dev, MARK_LOAD + l->turn, err) != 0)
        return -1;
    l->turn ^= 1;
    l->used = 0;
    if (l->o && l->o->progress)
        l->o->progress(l->o->progress_user, l->done, l->c->weight_bytes);
    return dev->wait(dev, MARK_LOAD + l->turn, err);
}

/* Copies the first `bytes` of a tensor to `to` on the device; with `pairs` its rows (or elements, of a vector) are put into order. */
static int put_bytes(struct loader *l, devptr to, const struct tensor *t, size_t bytes, bool pairs, struct err *err)
{
    const struct cuda_backend *c = l->c;
    struct device *dev = &l->c->dev;
    size_t rows = (size_t)(t->ne[1] == 1 ? t->ne[0] : t->ne[1]), row = t->bytes / rows;
    if (row > l->room)
        return err_set(err, "a row of %zu bytes of weights is too long for the GPU's loader", row);
    for (size_t done = 0; done < bytes;) {
        size_t room = l->room - l->used, left = bytes - done, n = left < room ? left : room;
        if (pairs)
            n = n / row * row;
        if (n == 0) {
            if (turn_over(l, err) != 0)
                return -1;
            continue;
        }
        struct copy k = {.to = l->staging[l->turn] + l->used,
                         .from = (const unsigned char *)t->data + (pairs ? 0 : done),
                         .bytes = n,
                         .row = pairs ? row : 0,
                         .first = (int)(done / row),
                         .head_dim = c->shape->head_dim,
                         .turning = c->shape->rope_dim / 2};
        pool_run(l->pool, (int)((n + PIECE - 1) / PIECE), copy_piece, &k);
        if (dev->upload_async(dev, to + done, k.to, n, err) != 0)
            return -1;
        done += n;
        l->done += n;
        l->used += (n + 255) / 256 * 256;
        if (l->used >= l->room && turn_over(l, err) != 0)
            return -1;
    }
    return 0;
}

/* What is there of a tensor again and again, twice as much each time. Rows are as random in one order as in another. */
static int repeat(struct cuda_backend *c, devptr at, const struct tensor *t, struct err *err)
{
    const struct gen_kernel *g = &cuda_kernels_get(c->kernels, c->kernel[CK_COPY])->gen;
    int64_t block = g->threads * gen_value(g, "u");
    if (t->bytes % 16 || t->repeats % 16)
        return err_set(err, "%zu bytes of random weights: no multiple of 16", t->bytes);
    for (size_t done = t->repeats, n; done < t->bytes; done += n) {
        n = t->bytes - done < done ? t->bytes - done : done;
        int64_t pieces = (int64_t)(n / 16);
        devptr to = at + done;
        if (cuda_run(c, c->kernel[CK_COPY], (pieces + block - 1) / block, 1, 1, false, (void *[]){&at, &to, &pieces},
                     err) != 0)
            return -1;
    }
    return 0;
}

static int put(struct loader *l, devptr to, const struct tensor *t, bool pairs, struct err *err)
{
    bool repeats = t->repeats > 0 && t->repeats < t->bytes;
    if (put_bytes(l, to, t, repeats ? t->repeats : t->bytes, pairs && !repeats, err) != 0 ||
        (repeats && repeat(l->c, to, t, err) != 0))
        return -1;
    l->done += repeats ? t->bytes - t->repeats : 0;
    return 0;
}

/* The tensors of a linear: one after another where they are one part. */
static int put_linear(struct loader *l, struct cuda_linear *linear, const struct tensor *const *t, int n, int pairs,
                      struct err *err)
{
    devptr at = linear->part[0].at;
    for (int i = 0; i < n; i++) {
        if (linear->parts > 1)
            at = linear->part[i].at;
        if (put(l, at, t[i], i < pairs, err) != 0)
            return -1;
        at += t[i]->bytes;
    }
    return 0;
}

/* Biases, zero where the model has none. */
static int put_bias(struct loader *l, const struct cuda_layer *layer, const struct model_layer *m, int pairs,
                    struct err *err)
{
    const struct cuda_backend *c = l->c;
    const struct tensor *t[] = {m->bq, m->bk, m->bv};
    const int count[] = {c->q, c->kv, c->kv};
    devptr at = layer->bias;
    for (int i = 0; i < 3; at += (devptr)count[i++] * sizeof(float))
        if (t[i] ? put(l, at, t[i], i < pairs, err)
                 : l->c->dev.fill(&l->c->dev, at, 0, (size_t)count[i] * sizeof(float), err))
            return -1;
    return 0;
}

static int put_layer(struct loader *l, int i, struct err *err)
{
    struct cuda_layer *layer = &l->c->layer[i];
    const struct model_layer *m = &l->c->m->layer[i];
    const struct tensor *qkv[] = {m->wq, m->wk, m->wv}, *gate_up[] = {m->gate, m->up};
    int pairs = l->c->shape->rope_interleaved ? 0 : 2;
    if (layer->has_bias && put_bias(l, layer, m, pairs, err) != 0)
        return -1;
    return put(l, layer->attn_norm, m->attn_norm, false, err) || put(l, layer->ffn_norm, m->ffn_norm, false, err) ||
                   put_linear(l, &layer->qkv, qkv, 3, pairs, err) || put_linear(l, &layer->wo, &m->wo, 1, 0, err) ||
                   put_linear(l, &layer->gate_up, gate_up, 2, 0, err) ||
                   put_linear(l, &layer->down, &m->down, 1, 0, err)
               ? -1
               : 0;
}

/* Places were counted from 0: now that the memory is there, from its address. */
static void set_addresses(struct cuda_backend *c)
{
    struct cuda_linear *output[] = {&c->output};
    for (int i = 0; i < c->shape->layers; i++) {
        struct cuda_layer *l = &c->layer[i];
        struct cuda_linear *all[] = {&l->qkv, &l->wo, &l->gate_up, &l->down};
        for (size_t k = 0; k < 4; k++)
            for (int p = 0; p < all[k]->parts; p++)
                all[k]->part[p].at += c->weights;
        l->attn_norm += c->weights;
        l->ffn_norm += c->weights;
        l->bias += l->has_bias ? c->weights : 0;
    }
    output[0]->part[0].at += c->weights;
    c->embed.at += c->weights;
    c->out_norm += c->weights;
}

static int put_all(struct loader *l, struct err *err)
{
    struct cuda_backend *c = l->c;
    if (put(l, c->embed.at, c->m->embed, false, err) != 0 || put(l, c->out_norm, c->m->out_norm, false, err) != 0)
        return -1;
    for (int i = 0; i < c->shape->layers; i++)
        if (put_layer(l, i, err) != 0)
            return -1;
    if (c->m->embed != c->m->output && put(l, c->output.part[0].at, c->m->output, false, err) != 0)
        return -1;
    return c->dev.sync(&c->dev, err);
}

int cuda_weights_load(struct cuda_backend *c, const struct backend_options *o, struct err *err)
{
    struct loader l = {.c = c, .o = o, .room = staging_bytes(c->weight_bytes)};
    int rc = -1;
    set_addresses(c);
    if (c->m->embed->repeats && cuda_kernels_finish(c->kernels, err) != 0) /* one of them makes the weights */
        return -1;
    if (pool_open(&l.pool, o ? o->threads : 0, err) == 0 &&
        c->dev.alloc_pinned(&c->dev, l.room, (void **)&l.staging[0], err) == 0 &&
        c->dev.alloc_pinned(&c->dev, l.room, (void **)&l.staging[1], err) == 0)
        rc = put_all(&l, err);
    if (rc != 0) /* what is under way must not outlive its buffers */
        c->dev.sync(&c->dev, NULL);
    c->dev.release_pinned(&c->dev, l.staging[0]);
    c->dev.release_pinned(&c->dev, l.staging[1]);
    pool_close(l.pool);
    return rc;
}
