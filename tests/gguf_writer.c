#include "gguf_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Types of metadata in the file. */
enum { T_U32 = 4, T_I32 = 5, T_F32 = 6, T_BOOL = 7, T_STR = 8, T_ARRAY = 9, T_I64 = 11 };

static void give_up(const char *what)
{
    fprintf(stderr, "gguf_writer: %s\n", what);
    abort();
}

void bytes_put(struct bytes *b, const void *data, size_t n)
{
    if (n > b->room - b->size) {
        b->room = (b->size + n) * 2;
        b->data = realloc(b->data, b->room);
        if (!b->data)
            give_up("out of memory");
    }
    if (n)
        memcpy(b->data + b->size, data, n);
    b->size += n;
}

static void bytes_little(struct bytes *b, uint64_t v, unsigned n)
{
    unsigned char p[8];
    for (unsigned i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
    bytes_put(b, p, n);
}

void bytes_u32(struct bytes *b, uint32_t v)
{
    bytes_little(b, v, 4);
}

void bytes_u64(struct bytes *b, uint64_t v)
{
    bytes_little(b, v, 8);
}

void bytes_str(struct bytes *b, const char *s)
{
    bytes_u64(b, strlen(s));
    bytes_put(b, s, strlen(s));
}

static void bytes_f32(struct bytes *b, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    bytes_u32(b, u);
}

static struct bytes *begin_kv(struct gguf_writer *w, const char *key, uint32_t type)
{
    w->nkv++;
    bytes_str(&w->kv, key);
    bytes_u32(&w->kv, type);
    return &w->kv;
}

static struct bytes *begin_array(struct gguf_writer *w, const char *key, uint32_t type, size_t n)
{
    struct bytes *b = begin_kv(w, key, T_ARRAY);
    bytes_u32(b, type);
    bytes_u64(b, n);
    return b;
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    bytes_u32(begin_kv(w, key, T_U32), v);
}

void gguf_put_i64(struct gguf_writer *w, const char *key, int64_t v)
{
    bytes_u64(begin_kv(w, key, T_I64), (uint64_t)v);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v)
{
    bytes_f32(begin_kv(w, key, T_F32), v);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
    bytes_little(begin_kv(w, key, T_BOOL), v, 1);
}

void gguf_put_str(struct gguf_writer *w, const char *key, const char *v)
{
    bytes_str(begin_kv(w, key, T_STR), v);
}

void gguf_put_strs(struct gguf_writer *w, const char *key, const char *const *v, size_t n)
{
    struct bytes *b = begin_array(w, key, T_STR, n);
    for (size_t i = 0; i < n; i++)
        bytes_str(b, v[i]);
}

void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    struct bytes *b = begin_array(w, key, T_I32, n);
    for (size_t i = 0; i < n; i++)
        bytes_u32(b, (uint32_t)v[i]);
}

void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n)
{
    struct bytes *b = begin_array(w, key, T_F32, n);
    for (size_t i = 0; i < n; i++)
        bytes_f32(b, v[i]);
}

static size_t alignment(const struct gguf_writer *w)
{
    return w->alignment ? w->alignment : 32;
}

static void pad(struct bytes *b, size_t to)
{
    while (b->size % to)
        bytes_put(b, "", 1);
}

void gguf_put_tensor_entry(struct gguf_writer *w, const char *name, uint32_t type, int ndim, const int64_t *ne,
                           uint64_t offset)
{
    w->ntensors++;
    bytes_str(&w->info, name);
    bytes_u32(&w->info, (uint32_t)ndim);
    for (int i = 0; i < ndim; i++)
        bytes_u64(&w->info, (uint64_t)ne[i]);
    bytes_u32(&w->info, type);
    bytes_u64(&w->info, offset);
}

void gguf_put_tensor(struct gguf_writer *w, const char *name, enum quant_type type, int ndim, const int64_t *ne,
                     const void *data, size_t size)
{
    pad(&w->data, alignment(w));
    gguf_put_tensor_entry(w, name, type, ndim, ne, w->data.size);
    bytes_put(&w->data, data, size);
}

struct bytes gguf_writer_finish(struct gguf_writer *w)
{
    struct bytes out = {0};
    bytes_put(&out, "GGUF", 4);
    bytes_u32(&out, w->version ? w->version : 3);
    bytes_u64(&out, w->ntensors);
    bytes_u64(&out, w->nkv);
    bytes_put(&out, w->kv.data, w->kv.size);
    bytes_put(&out, w->info.data, w->info.size);
    if (w->data.size) {
        pad(&out, alignment(w));
        bytes_put(&out, w->data.data, w->data.size);
    }
    free(w->kv.data);
    free(w->info.data);
    free(w->data.data);
    *w = (struct gguf_writer){0};
    return out;
}

static uint64_t random_bits(uint64_t *seed) /* splitmix64 */
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double random_uniform(uint64_t *seed)
{
    return (double)(random_bits(seed) >> 11) * 0x1p-53;
}

double random_normal(uint64_t *seed)
{
    double u = 1 - random_uniform(seed), v = random_uniform(seed);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

int random_int(uint64_t *seed, int lo, int hi)
{
    return lo + (int)(random_uniform(seed) * ((double)hi - lo + 1));
}

static void put_half(unsigned char *p, double v)
{
    uint16_t h = quant_float_to_half((float)v);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
}

/* Random quants with a scale that gives them the wanted deviation; `sigma` jitters from block to block. */
static void random_block(enum quant_type type, unsigned char *b, double sigma, uint64_t *seed)
{
    const struct quant_info *info = quant_info(type);
    for (int i = 0; i < info->bytes; i++)
        b[i] = (unsigned char)random_bits(seed);
    float f = (float)(random_normal(seed) * sigma);
    uint16_t h;
    double jitter = sigma * (0.75 + 0.5 * random_uniform(seed));
    /* A uniform quant of `bits` bits deviates by 2^bits / sqrt(12). */
    double d4 = jitter * sqrt(12) / 16, d5 = d4 / 2, d8 = d4 / 16;
    switch (type) {
    case QUANT_F32:
        memcpy(b, &f, 4);
        break;
    case QUANT_F16:
        put_half(b, (double)f);
        break;
    case QUANT_BF16:
        h = quant_float_to_bfloat(f);
        b[0] = (unsigned char)h;
        b[1] = (unsigned char)(h >> 8);
        break;
    case QUANT_Q8_0:
        put_half(b, d8);
        break;
    case QUANT_Q4_0:
        put_half(b, d4);
        break;
    case QUANT_Q4_1:
        put_half(b, d4);
        put_half(b + 2, -7.5 * d4);
        break;
    case QUANT_Q5_0:
        put_half(b, d5);
        break;
    case QUANT_Q5_1:
        put_half(b, d5);
        put_half(b + 2, -15.5 * d5);
        break;
    case QUANT_Q4_K: /* 6-bit scales and minima, on average 31.5 */
        put_half(b, d4 / 31.5);
        put_half(b + 2, 7.5 * d4 / 31.5);
        break;
    case QUANT_Q5_K:
        put_half(b, d5 / 31.5);
        put_half(b + 2, 15.5 * d5 / 31.5);
        break;
    case QUANT_Q6_K: /* signed 8-bit scales, root mean square 74 */
        put_half(b + 208, d4 / 4 / 74);
        break;
    }
}

unsigned char *random_blocks(enum quant_type type, size_t n, double sigma, uint64_t *seed, size_t *bytes)
{
    const struct quant_info *info = quant_info(type);
    size_t blocks = n / (size_t)info->block;
    *bytes = blocks * (size_t)info->bytes;
    unsigned char *out = malloc(*bytes + 1);
    if (!out || n % (size_t)info->block)
        give_up("no memory for blocks, or a row that is no multiple of the block");
    for (size_t i = 0; i < blocks; i++)
        random_block(type, out + i * (size_t)info->bytes, sigma, seed);
    return out;
}
