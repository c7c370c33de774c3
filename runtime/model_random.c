#include "model_random.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* From the models' published config.json. */
static const struct shape {
    const char *name;
    int layers, hidden, heads, kv_heads, ffn, vocab, ctx;
    double rope_base;
    bool tied;
} shapes[] = {
    {"smollm2-135m", 30, 576, 9, 3, 1536, 49152, 8192, 100000, true},
    {"smollm2-1.7b", 24, 2048, 32, 32, 8192, 49152, 8192, 130000, true},
    {"tinyllama-1.1b", 22, 2048, 32, 4, 5632, 32000, 2048, 10000, false},
    {"llama-3.2-1b", 16, 2048, 32, 8, 8192, 128256, 131072, 500000, true},
    {"llama-3.2-3b", 28, 3072, 24, 8, 8192, 128256, 131072, 500000, true},
    {"llama-3.1-8b", 32, 4096, 32, 8, 14336, 128256, 131072, 500000, false},
    {"llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096, 10000, false},
    {"llama-2-13b", 40, 5120, 40, 40, 13824, 32000, 4096, 10000, false},
    {"llama-3.1-70b", 80, 8192, 64, 8, 28672, 128256, 131072, 500000, false},
    {"mistral-7b", 32, 4096, 32, 8, 14336, 32768, 32768, 1000000, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, PER_LAYER = 9, LAYERS_MAX = 80 };

#define NAMES                                                                                                          \
    "smollm2-135m|smollm2-1.7b|tinyllama-1.1b|llama-3.2-1b|llama-3.2-3b|llama-3.1-8b|llama-2-7b|llama-2-13b|"          \
    "llama-3.1-70b|mistral-7b"
const char model_random_help[] = "random weights of a known shape: " NAMES;

/* Tensors and weights of a random model: one allocation. */
struct weights {
    struct tensor tensor[3 + PER_LAYER * LAYERS_MAX];
    unsigned char data[];
};

/* Values of about +-0.04, in blocks of the type: random bits, but for the halves that hold the scales. */
static void random_block(enum quant_type type, unsigned char *block, int bytes, uint64_t *seed)
{
    for (int i = 0; i < bytes; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        block[i] = (unsigned char)(*seed >> 56);
    }
    float value = ((float)block[0] - 127.5f) / 3000;
    float scale = type == QUANT_Q8_0 ? 3e-4f : type == QUANT_Q4_0 || type == QUANT_Q4_1 ? 5e-3f : 2.5e-3f;
    uint16_t half = quant_float_to_half(scale), min = quant_float_to_half(-8 * scale),
             k = quant_float_to_half(scale / 32);
    switch (type) {
    case QUANT_F32:
        memcpy(block, &value, sizeof value);
        break;
    case QUANT_F16:
        half = quant_float_to_half(value);
        memcpy(block, &half, 2);
        break;
    case QUANT_BF16:
        half = quant_float_to_bfloat(value);
        memcpy(block, &half, 2);
        break;
    case QUANT_Q4_1:
    case QUANT_Q5_1:
        memcpy(block + 2, &min, 2);
        memcpy(block, &half, 2);
        break;
    case QUANT_Q4_0:
    case QUANT_Q5_0:
    case QUANT_Q8_0:
        memcpy(block, &half, 2);
        break;
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        memcpy(block, &k, 2);
        memcpy(block + 2, &k, 2);
        break;
    case QUANT_Q6_K:
        memcpy(block + 208, &k, 2);
        break;
    }
}

/* Where tensors go: one after another, or with `repeated` all matrices into one pattern behind the vectors. */
struct room {
    bool repeated;
    size_t used;            /* bytes, but for the pattern */
    unsigned char *pattern; /* once there is memory: of `blocks` and SHIFTS blocks, the same again and again */
    size_t blocks;
};

/* A pattern is at least so many bytes and blocks, and an odd number of times 16 blocks: no row of a matrix is like the one before. Each
 * matrix begins at another block of it. */
enum { PATTERN_BYTES = 1 << 20, PATTERN_BLOCKS = 4096, SHIFTS = 64 * 16 };

static size_t pattern_blocks(enum quant_type type)
{
    size_t blocks = PATTERN_BYTES / (size_t)quant_info(type)->bytes;
    blocks = blocks > PATTERN_BLOCKS ? blocks : PATTERN_BLOCKS;
    return (blocks / 32 * 2 + 1) * 16;
}

void model_random_blocks(enum quant_type type, unsigned char *data, size_t blocks, uint64_t seed)
{
    int bytes = quant_info(type)->bytes;
    for (size_t i = 0; i < blocks; i++)
        random_block(type, data + i * (size_t)bytes, bytes, &seed);
}

/* Blocks of a type: a pattern, again and again. */
static void fill(enum quant_type type, unsigned char *data, size_t bytes, uint64_t seed)
{
    const struct quant_info *info = quant_info(type);
    size_t pattern = pattern_blocks(type) * (size_t)info->bytes;
    pattern = pattern < bytes ? pattern : bytes;
    model_random_blocks(type, data, pattern / (size_t)info->bytes, seed);
    for (size_t i = pattern; i < bytes; i += pattern)
        memcpy(data + i, data, bytes - i < pattern ? bytes - i : pattern);
}

/* The next tensor of the allocation; without one (w NULL) only *r moves on. Norms are 1. */
static const struct tensor *put(struct weights *w, size_t number, struct room *r, enum quant_type type, int in, int out)
{
    const struct quant_info *info = quant_info(type);
    size_t bytes = (size_t)in / (size_t)info->block * (size_t)info->bytes * (size_t)out, at = r->used;
    bool repeated = r->repeated && out > 1;
    if (!repeated)
        r->used += (bytes + 63) / 64 * 64;
    if (!w)
        return NULL;
    unsigned char *data = (unsigned char *)(((uintptr_t)w->data + 63) / 64 * 64) + at;
    if (repeated)
        data = r->pattern + number % 64 * 16 * (size_t)info->bytes;
    struct tensor *t = &w->tensor[number];
    *t = (struct tensor){
        .name = "random", .name_len = 6, .type = type, .ndim = 2, .ne = {in, out, 1, 1}, .data = data, .bytes = bytes};
    if (repeated)
        t->repeats = r->blocks * (size_t)info->bytes;
    else if (out > 1)
        fill(type, data, bytes, number);
    for (int i = 0; out == 1 && i < in; i++)
        memcpy(data + 4 * i, &(float){1}, 4);
    return t;
}

/* All tensors of the model. */
static void put_all(struct weights *w, struct model *m, const struct shape *s, enum quant_type type, struct room *r)
{
    size_t n = 0;
    int d = s->hidden / s->heads, kv = d * s->kv_heads;
    struct model_layer none;
    m->embed = put(w, n++, r, type, s->hidden, s->vocab);
    m->output = s->tied ? m->embed : put(w, n++, r, type, s->hidden, s->vocab);
    m->out_norm = put(w, n++, r, QUANT_F32, s->hidden, 1);
    for (int i = 0; i < s->layers; i++) {
        struct model_layer *l = w ? &m->layer[i] : &none;
        l->attn_norm = put(w, n++, r, QUANT_F32, s->hidden, 1);
        l->wq = put(w, n++, r, type, s->hidden, s->hidden);
        l->wk = put(w, n++, r, type, s->hidden, kv);
        l->wv = put(w, n++, r, type, s->hidden, kv);
        l->wo = put(w, n++, r, type, s->hidden, s->hidden);
        l->ffn_norm = put(w, n++, r, QUANT_F32, s->hidden, 1);
        l->gate = put(w, n++, r, type, s->hidden, s->ffn);
        l->up = put(w, n++, r, type, s->hidden, s->ffn);
        l->down = put(w, n++, r, type, s->ffn, s->hidden);
    }
}

static const struct shape *find(const char *name, const char *option, struct err *err)
{
    for (const struct shape *s = shapes; s < shapes + SHAPES; s++)
        if (!strcmp(s->name, name))
            return s;
    err_set(err, "%s %s: there are %s", option, name, NAMES);
    return NULL;
}

static struct model_shape shape_of(const struct shape *s)
{
    return (struct model_shape){
        .arch = "llama",
        .layers = s->layers,
        .hidden = s->hidden,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->hidden / s->heads,
        .ffn = s->ffn,
        .vocab = s->vocab,
        .ctx_train = s->ctx,
        .norm_eps = 1e-5f,
        .rope_dim = s->hidden / s->heads,
        .rope_base = s->rope_base,
        .rope_factor = 1,
        .rope_interleaved = true,
    };
}

int model_random_shape(struct model_shape *out, const char *name, struct err *err)
{
    const struct shape *s = find(name, "--model-shape", err);
    if (!s)
        return -1;
    *out = shape_of(s);
    return 0;
}

int model_random(struct model *m, const char *name, enum quant_type type, bool repeated, struct err *err)
{
    const struct shape *s = find(name, "--shape", err);
    *m = (struct model){0};
    if (!s)
        return -1;
    const struct quant_info *info = quant_info(type);
    if (s->hidden % info->block || s->ffn % info->block)
        return err_set(err, "--shape %s: its rows of %d and %d are no whole blocks of %s", name, s->hidden, s->ffn,
                       info->name);
    struct room room = {.repeated = repeated, .blocks = pattern_blocks(type)};
    put_all(NULL, m, s, type, &room);
    size_t vectors = 64 + room.used, pattern = repeated ? (room.blocks + SHIFTS) * (size_t)info->bytes : 0;
    size_t bytes = sizeof(struct weights) + vectors + pattern;
    char what[64];
    snprintf(what, sizeof what, "--shape %s in %s", name, info->name);
    if (memory_check(bytes, what, err) < 0)
        return -1;
    struct weights *w = err_alloc(bytes, 1, what, err);
    m->layer = err_calloc((size_t)s->layers, sizeof *m->layer, "the model's layers", err);
    m->owned = w;
    if (!w || !m->layer || weave_open(&m->weave, err) < 0) {
        model_close(m);
        return -1;
    }
    room.used = 0;
    room.pattern = w->data + vectors;
    if (repeated)
        fill(type, room.pattern, pattern, 0);
    put_all(w, m, s, type, &room);
    m->shape = shape_of(s);
    return 0;
}
