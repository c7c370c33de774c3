#include "stream_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aside.h"
#include "cursor.h"
#include "sha256.h"

static const char magic[8] = "weirstrm";
enum { VERSION = 1, DIGEST = 32, MAX_LAYERS = 1 << 16, MAX_HEADS = 4096, MAX_HEAD_DIM = 1024, MAX_VOCAB = 1 << 24 };

/* Goes through the fields of a file in their order and writes them, reads them or, with neither, counts their bytes: so there is one
 * description of the format and not three. */
struct coder {
    FILE *out;
    struct cursor *in;
    struct sha256 sum; /* of what is written */
    uint64_t bytes;
};

static void code(struct coder *c, void *v, size_t n)
{
    if (n == 0) /* and v perhaps NULL */
        return;
    c->bytes += n;
    if (c->out) {
        fwrite(v, 1, n, c->out);
        sha256_add(&c->sum, v, n);
    } else if (c->in) {
        const void *from = cursor_bytes(c->in, n);
        if (from)
            memcpy(v, from, n);
        else
            memset(v, 0, n);
    }
}

/* Ints, enums and flags are 32 bits wide in the file. */
static int code_int(struct coder *c, int v)
{
    int32_t fixed = v;
    code(c, &fixed, sizeof fixed);
    return fixed;
}

/* --- the head ------------------------------------------------------------------------------------------------------------------ */

static uint64_t code_start(struct coder *c, char mark[8], int *version, uint64_t bytes)
{
    code(c, mark, sizeof magic);
    *version = code_int(c, *version);
    code(c, &bytes, sizeof bytes);
    return bytes;
}

static void code_cascade(struct coder *c, struct cascade_params *p)
{
    p->sinks = code_int(c, p->sinks);
    p->subcaches = code_int(c, p->subcaches);
    p->window = code_int(c, p->window);
    p->span = code_int(c, p->span);
    p->stride = code_int(c, p->stride);
    p->eager = code_int(c, p->eager) != 0;
    p->reduction = code_int(c, p->reduction);
    p->policy = code_int(c, p->policy);
    p->positions = code_int(c, p->positions);
    p->select = code_int(c, p->select);
    p->span_score = code_int(c, p->span_score);
    code(c, &p->ema, sizeof p->ema);
    code(c, p->every, sizeof p->every);
}

static void code_sampling(struct coder *c, struct sampler_params *p)
{
    code(c, &p->temperature, sizeof p->temperature);
    code(c, &p->top_p, sizeof p->top_p);
    code(c, &p->min_p, sizeof p->min_p);
    code(c, &p->repeat_penalty, sizeof p->repeat_penalty);
    p->top_k = code_int(c, p->top_k);
    p->repeat_last = code_int(c, p->repeat_last);
    code(c, &p->seed, sizeof p->seed);
}

/* The head up to its arrays, whose sizes it holds. Returns whether logits follow. */
static bool code_sizes(struct coder *c, struct stream_head *h)
{
    code(c, h->model, sizeof h->model);
    h->layers = code_int(c, h->layers);
    h->kv_heads = code_int(c, h->kv_heads);
    h->head_dim = code_int(c, h->head_dim);
    h->vocab = code_int(c, h->vocab);
    h->cache_type = (enum quant_type)code_int(c, (int)h->cache_type);
    code_cascade(c, &h->cascade);
    code(c, &h->seen, sizeof h->seen);
    code_sampling(c, &h->sampler.p);
    code(c, &h->sampler.random, sizeof h->sampler.random);
    h->chat.begun = code_int(c, h->chat.begun) != 0;
    code(c, h->chat.family, sizeof h->chat.family);
    h->sampler.nrecent = code_int(c, h->sampler.nrecent);
    return code_int(c, h->logits != NULL) != 0;
}

static void code_arrays(struct coder *c, struct stream_head *h)
{
    code(c, h->sampler.recent, (size_t)h->sampler.nrecent * sizeof *h->sampler.recent);
    if (h->logits)
        code(c, h->logits, (size_t)h->vocab * sizeof *h->logits);
}

void stream_head_free(struct stream_head *h)
{
    free(h->sampler.recent);
    free(h->logits);
    *h = (struct stream_head){0};
}

/* --- the layers ------------------------------------------------------------------------------------------------------------------ */

/* What is held, which is the same in all layers. */
struct held {
    struct cascade_run run[CASCADE_MAX_RUNS];
    int runs, rows; /* rows: of one head's cache */
    int kv_heads, cascades;
    size_t row_bytes; /* a key or a value */
    size_t count;     /* tokens held */
};

static struct held held_of(const struct stream_head *h)
{
    struct held held = {.rows = cascade_rows(&h->cascade), .kv_heads = h->kv_heads};
    struct cascade_state state;
    cascade_state_at(&h->cascade, h->seen, &state);
    held.runs = cascade_runs(&h->cascade, &state, held.run);
    held.count = (size_t)cascade_held(&h->cascade, &state);
    held.cascades = h->cascade.policy == POLICY_HOMOGENEOUS ? 1 : h->kv_heads;
    held.row_bytes = (size_t)h->head_dim * (size_t)quant_info(h->cache_type)->bytes;
    return held;
}

static uint64_t layer_bytes(const struct held *held)
{
    uint64_t a_token = 2 * (uint64_t)held->kv_heads * held->row_bytes + (uint64_t)held->cascades * 12;
    return held->count * a_token;
}

/* The held rows of `heads` arrays [rows] of elements of `size` bytes. */
static void code_rows(struct coder *c, const struct held *held, void *array, int heads, size_t size)
{
    for (int head = 0; head < heads; head++)
        for (int i = 0; i < held->runs; i++) {
            size_t row = (size_t)head * (size_t)held->rows + (size_t)held->run[i].row;
            code(c, (unsigned char *)array + row * size, (size_t)held->run[i].len * size);
        }
}

static void code_layer(struct coder *c, const struct held *held, struct cache_layer *l)
{
    size_t head_bytes = (size_t)held->rows * held->row_bytes;
    for (int kv = 0; kv < held->kv_heads; kv++) {
        code_rows(c, held, (unsigned char *)l->k + (size_t)kv * head_bytes, 1, held->row_bytes);
        code_rows(c, held, (unsigned char *)l->v + (size_t)kv * head_bytes, 1, held->row_bytes);
    }
    code_rows(c, held, l->score, held->cascades, sizeof *l->score);
    code_rows(c, held, l->origin, held->cascades, sizeof *l->origin);
}

/* Room for one layer as the file has it; rows that hold nothing are zero, their origin -1. */
static int layer_open(struct cache_layer *l, const struct held *held, struct err *err)
{
    size_t rows = (size_t)held->rows, keys = (size_t)held->kv_heads * rows, places = (size_t)held->cascades * rows;
    l->k = err_calloc(keys, held->row_bytes, "a layer's keys", err);
    l->v = err_calloc(keys, held->row_bytes, "a layer's values", err);
    l->score = err_calloc(places, sizeof *l->score, "a layer's scores", err);
    l->origin = err_alloc(places, sizeof *l->origin, "a layer's token numbers", err);
    if (l->origin)
        memset(l->origin, 0xff, places * sizeof *l->origin);
    return l->k && l->v && l->score && l->origin ? 0 : -1;
}

static void layer_close(struct cache_layer *l)
{
    free(l->k);
    free(l->v);
    free(l->score);
    free(l->origin);
}

/* --- writing ------------------------------------------------------------------------------------------------------------------ */

static void write_digest(struct coder *c)
{
    unsigned char digest[DIGEST];
    sha256_end(&c->sum, digest);
    fwrite(digest, 1, sizeof digest, c->out);
}

static void code_head(struct coder *c, const struct stream_head *h, uint64_t bytes)
{
    struct stream_head copy = *h;
    char mark[sizeof magic];
    int version = VERSION;
    memcpy(mark, magic, sizeof mark);
    code_start(c, mark, &version, bytes);
    code_sizes(c, &copy);
    code_arrays(c, &copy);
}

int stream_file_write(const char *path, const struct stream_head *h, struct backend *be, struct err *err)
{
    if (!be->read_layer)
        return err_set(err, "%s: the %s backend cannot save a stream", path, be->name);
    struct held held = held_of(h);
    struct cache_layer layer = {0};
    struct aside a = {0};
    struct coder count = {0}, c = {0};
    int rc = -1;
    code_head(&count, h, 0);
    if (layer_open(&layer, &held, err) < 0 || aside_open(&a, path, err) < 0)
        goto done;
    c.out = a.f;
    sha256_begin(&c.sum);
    code_head(&c, h, count.bytes + layer_bytes(&held) * (uint64_t)h->layers + DIGEST);
    for (int i = 0; i < h->layers; i++) {
        if (be->read_layer(be, i, &layer, err) < 0)
            goto done;
        code_layer(&c, &held, &layer);
        if (ferror(a.f)) /* a full disk: aside_keep says so */
            break;
    }
    write_digest(&c);
    rc = aside_keep(&a, true, err);
done:
    aside_drop(&a);
    layer_close(&layer);
    return rc;
}

/* --- reading ------------------------------------------------------------------------------------------------------------------ */

static bool in(int v, int lo, int hi)
{
    return v >= lo && v <= hi;
}

/* What the code that takes it relies on. A wrong value behind a checksum that fits is no accident, so one message serves all. */
static bool sizes_are_sane(const struct stream_head *h)
{
    const struct cascade_params *p = &h->cascade;
    return in(h->layers, 1, MAX_LAYERS) && in(h->kv_heads, 1, MAX_HEADS) && in(h->head_dim, 1, MAX_HEAD_DIM) &&
           in(h->vocab, 1, MAX_VOCAB) &&
           (h->cache_type == QUANT_F32 || h->cache_type == QUANT_F16 || h->cache_type == QUANT_BF16) &&
           in((int)p->reduction, REDUCE_MEAN, REDUCE_MEDIAN) && in((int)p->policy, 0, POLICY_HOMOGENEOUS) &&
           in((int)p->positions, 0, POSITIONS_ORIGINAL) && in((int)p->select, 0, SELECT_RANDOM) &&
           in((int)p->span_score, 0, SPAN_MEAN) && cascade_check(p, NULL) == 0 && h->seen >= 0 &&
           h->seen < INT64_C(1) << 56 && sampler_check(&h->sampler.p, NULL) == 0 &&
           in(h->sampler.nrecent, 0, h->sampler.p.repeat_last) && !h->chat.family[sizeof h->chat.family - 1];
}

/* Reads the head. What it allocates belongs to f->head. */
static int read_head(struct stream_file *f, struct cursor *in, struct err *err)
{
    struct stream_head *h = &f->head;
    struct coder c = {.in = in};
    bool logits = code_sizes(&c, h);
    if (in->bad || !sizes_are_sane(h)) {
        h->sampler.nrecent = 0;
        return err_set(err, "%s: holds no stream that can be; it was not written by weir", f->path);
    }
    h->sampler.recent = err_alloc((size_t)h->sampler.nrecent, sizeof *h->sampler.recent, "the sampler's state", err);
    if (logits)
        h->logits = err_alloc((size_t)h->vocab, sizeof *h->logits, "logits", err);
    if (!h->sampler.recent || (logits && !h->logits))
        return -1;
    code_arrays(&c, h);
    for (int i = 0; i < h->sampler.nrecent; i++)
        if (h->sampler.recent[i] < 0 || h->sampler.recent[i] >= h->vocab)
            in->bad = true;
    f->layers_at = in->pos;
    struct held held = held_of(h);
    uint64_t left = f->size - in->pos - DIGEST, each = layer_bytes(&held);
    if (in->bad || left % (uint64_t)h->layers || left / (uint64_t)h->layers != each)
        return err_set(err, "%s: holds no stream that can be; it was not written by weir", f->path);
    return 0;
}

/* f->path and the data are there. */
static int check(struct stream_file *f, struct err *err)
{
    struct cursor in = cursor_over(f->data, f->size);
    struct coder c = {.in = &in};
    unsigned char digest[DIGEST];
    char mark[sizeof magic];
    int version = 0;
    uint64_t bytes = code_start(&c, mark, &version, 0);
    if (f->size < sizeof magic || memcmp(mark, magic, sizeof magic) != 0)
        return err_set(err, "%s: is no stream that weir saved", f->path);
    if (!in.bad && version != VERSION)
        return err_set(err, "%s: is a stream of format %d, and this program reads format %d", f->path, version,
                       VERSION);
    if (in.bad || bytes != f->size || bytes < in.pos + DIGEST)
        return err_set(err, "%s: has %zu bytes and not the %llu that were saved; the copy may be incomplete", f->path,
                       f->size, (unsigned long long)bytes);
    sha256_begin(&c.sum);
    sha256_add(&c.sum, f->data, f->size - DIGEST);
    sha256_end(&c.sum, digest);
    if (memcmp(digest, f->data + f->size - DIGEST, DIGEST) != 0)
        return err_set(err, "%s: is damaged: its checksum does not fit", f->path);
    in.size = f->size - DIGEST;
    return read_head(f, &in, err);
}

static int map(struct stream_file *f, struct err *err)
{
    struct stat st;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, "%s: %s", f->path, strerror(errno));
    int rc = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        rc = err_set(err, "%s: is no file", f->path);
    f->size = rc == 0 ? (size_t)st.st_size : 0;
    if (f->size > 0) {
        void *data = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
        f->mapped = data != MAP_FAILED;
        f->data = f->mapped ? data : NULL;
        if (!f->mapped)
            rc = err_set(err, "%s: cannot be mapped: %s", f->path, strerror(errno));
    }
    close(fd);
    return rc;
}

/* data NULL: the file at path. */
static int open_stream(struct stream_file *f, const char *path, const void *data, size_t size, struct err *err)
{
    *f = (struct stream_file){.data = data, .size = size, .path = strdup(path)};
    int rc = f->path ? 0 : err_set(err, "%s: out of memory", path);
    if (rc == 0 && !data)
        rc = map(f, err);
    if (rc == 0)
        rc = check(f, err);
    if (rc != 0)
        stream_file_close(f);
    return rc;
}

int stream_file_open(struct stream_file *f, const char *path, struct err *err)
{
    return open_stream(f, path, NULL, 0, err);
}

int stream_file_open_memory(struct stream_file *f, const void *data, size_t size, const char *label, struct err *err)
{
    return open_stream(f, label, data, size, err);
}

void stream_file_close(struct stream_file *f)
{
    stream_head_free(&f->head);
    if (f->mapped)
        munmap((void *)f->data, f->size);
    free(f->path);
    *f = (struct stream_file){0};
}

/* Replaces *array [n] by the same in another type. */
static int convert(void **array, size_t n, enum quant_type from, enum quant_type to, struct err *err)
{
    const struct quant_info *a = quant_info(from), *b = quant_info(to);
    unsigned char *out = err_alloc(n, (size_t)b->bytes, "a layer in another type", err);
    if (!out)
        return -1;
    for (size_t i = 0; i < n; i++) {
        float v;
        quant_to_float(from, (unsigned char *)*array + i * (size_t)a->bytes, &v, 1);
        uint16_t half = to == QUANT_F16 ? quant_float_to_half(v) : quant_float_to_bfloat(v);
        memcpy(out + i * (size_t)b->bytes, to == QUANT_F32 ? (void *)&v : (void *)&half, (size_t)b->bytes);
    }
    free(*array);
    *array = out;
    return 0;
}

int stream_file_load(const struct stream_file *f, struct backend *be, struct err *err)
{
    const struct stream_head *h = &f->head;
    if (!be->write_layer)
        return err_set(err, "%s: the %s backend cannot load a stream", f->path, be->name);
    struct held held = held_of(h);
    struct cursor in = cursor_over(f->data, f->size - DIGEST);
    struct coder c = {.in = &in};
    size_t elements = (size_t)held.kv_heads * (size_t)held.rows * (size_t)h->head_dim;
    int rc = 0;
    in.pos = f->layers_at;
    for (int i = 0; i < h->layers && rc == 0; i++) {
        struct cache_layer layer = {0};
        rc = layer_open(&layer, &held, err);
        if (rc == 0)
            code_layer(&c, &held, &layer);
        if (rc == 0 && h->cache_type != be->cache_type)
            rc = convert(&layer.k, elements, h->cache_type, be->cache_type, err) < 0 ||
                         convert(&layer.v, elements, h->cache_type, be->cache_type, err) < 0
                     ? -1
                     : 0;
        if (rc == 0)
            rc = be->write_layer(be, i, &layer, err);
        layer_close(&layer);
    }
    return rc == 0 ? be->set_clock(be, h->seen, err) : -1;
}
