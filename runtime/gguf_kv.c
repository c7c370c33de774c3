/* Metadata of a GGUF file, by key. Values lie inside the file: that was checked when it was opened. */
#include "gguf_private.h"

#include <stdlib.h>
#include <string.h>

#include "cursor.h"

static const struct kv *find_kv(const struct gguf *g, const char *key)
{
    const struct kv want = {.key = key, .key_len = strlen(key)}, *w = &want;
    const struct kv **found = g->nkv ? bsearch(&w, g->by_key, g->nkv, sizeof w, gguf_compare_kv) : NULL;
    return found ? *found : NULL;
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return find_kv(g, key) != NULL;
}

/* One number at the cursor as a signed 64-bit integer; false where the type is no integer or the value does not fit. */
static bool read_int(struct cursor *c, uint32_t type, int64_t *out)
{
    uint64_t u;
    switch (type) {
    case KV_U8:
    case KV_BOOL:
        *out = cursor_u8(c);
        return true;
    case KV_I8:
        *out = (int8_t)cursor_u8(c);
        return true;
    case KV_U16:
        *out = cursor_u16(c);
        return true;
    case KV_I16:
        *out = (int16_t)cursor_u16(c);
        return true;
    case KV_U32:
        *out = cursor_u32(c);
        return true;
    case KV_I32:
        *out = (int32_t)cursor_u32(c);
        return true;
    case KV_I64:
        *out = (int64_t)cursor_u64(c);
        return true;
    case KV_U64:
        u = cursor_u64(c);
        if (u > INT64_MAX)
            return false;
        *out = (int64_t)u;
        return true;
    default:
        return false;
    }
}

static bool read_float(struct cursor *c, uint32_t type, double *out)
{
    int64_t i;
    if (type == KV_F32)
        *out = (double)cursor_f32(c);
    else if (type == KV_F64)
        *out = cursor_f64(c);
    else if (read_int(c, type, &i))
        *out = (double)i;
    else
        return false;
    return true;
}

static struct cursor value_cursor(const struct gguf *g, const struct kv *kv)
{
    struct cursor c = cursor_over(g->data, g->size);
    c.pos = kv->at;
    return c;
}

bool gguf_get_int(const struct gguf *g, const char *key, int64_t *out)
{
    const struct kv *kv = find_kv(g, key);
    if (!kv)
        return false;
    struct cursor c = value_cursor(g, kv);
    return read_int(&c, kv->type, out);
}

bool gguf_get_float(const struct gguf *g, const char *key, double *out)
{
    const struct kv *kv = find_kv(g, key);
    if (!kv)
        return false;
    struct cursor c = value_cursor(g, kv);
    return read_float(&c, kv->type, out);
}

bool gguf_get_str(const struct gguf *g, const char *key, const char **str, size_t *len)
{
    const struct kv *kv = find_kv(g, key);
    if (!kv || kv->type != KV_STR)
        return false;
    *str = (const char *)g->data + kv->at;
    *len = (size_t)kv->count;
    return true;
}

static const struct kv *find_array(const struct gguf *g, const char *key)
{
    const struct kv *kv = find_kv(g, key);
    return kv && kv->type == KV_ARRAY ? kv : NULL;
}

int64_t gguf_array_len(const struct gguf *g, const char *key)
{
    /* Fits: each element takes a byte of the file or more. */
    const struct kv *kv = find_array(g, key);
    return kv ? (int64_t)kv->count : -1;
}

bool gguf_array_strs(const struct gguf *g, const char *key, const char **str, size_t *len)
{
    const struct kv *kv = find_array(g, key);
    if (!kv || kv->of != KV_STR)
        return false;
    struct cursor c = value_cursor(g, kv);
    for (uint64_t i = 0; i < kv->count; i++) {
        len[i] = (size_t)cursor_u64(&c);
        str[i] = cursor_bytes(&c, len[i]);
    }
    return true;
}

bool gguf_array_ints(const struct gguf *g, const char *key, int32_t *out)
{
    const struct kv *kv = find_array(g, key);
    if (!kv)
        return false;
    struct cursor c = value_cursor(g, kv);
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t v;
        if (!read_int(&c, kv->of, &v) || v < INT32_MIN || v > INT32_MAX)
            return false;
        out[i] = (int32_t)v;
    }
    return true;
}

bool gguf_array_floats(const struct gguf *g, const char *key, float *out)
{
    const struct kv *kv = find_array(g, key);
    if (!kv)
        return false;
    struct cursor c = value_cursor(g, kv);
    for (uint64_t i = 0; i < kv->count; i++) {
        double v;
        if (!read_float(&c, kv->of, &v))
            return false;
        out[i] = (float)v;
    }
    return true;
}
