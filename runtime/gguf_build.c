#include "gguf_build.h"

#include <stdlib.h>
#include <string.h>

#include "gguf_private.h"

enum { COUNT_AT = 16 }; /* magic, version and the number of tensors stand before that of entries */

static void put(struct gguf_build *b, const void *v, size_t n)
{
    if (b->failed)
        return;
    if (b->size + n > b->room) {
        size_t room = (b->size + n) * 2;
        unsigned char *grown = realloc(b->data, room);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->size, v, n);
    b->size += n;
}

static void put_u32(struct gguf_build *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void put_u64(struct gguf_build *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static void put_key(struct gguf_build *b, const char *key, enum kv_type type)
{
    put_u64(b, strlen(key));
    put(b, key, strlen(key));
    put_u32(b, type);
    b->count++;
}

void gguf_build_begin(struct gguf_build *b)
{
    *b = (struct gguf_build){0};
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, 0);
    put_u64(b, 0);
}

void gguf_build_int(struct gguf_build *b, const char *key, int64_t v)
{
    put_key(b, key, KV_I64);
    put(b, &v, sizeof v);
}

void gguf_build_real(struct gguf_build *b, const char *key, double v)
{
    put_key(b, key, KV_F64);
    put(b, &v, sizeof v);
}

void gguf_build_text(struct gguf_build *b, const char *key, const char *v)
{
    put_key(b, key, KV_STR);
    gguf_build_element(b, v, "");
}

void gguf_build_texts(struct gguf_build *b, const char *key, size_t n)
{
    put_key(b, key, KV_ARRAY);
    put_u32(b, KV_STR);
    put_u64(b, n);
}

void gguf_build_element(struct gguf_build *b, const char *a, const char *z)
{
    put_u64(b, strlen(a) + strlen(z));
    put(b, a, strlen(a));
    put(b, z, strlen(z));
}

void gguf_build_ints(struct gguf_build *b, const char *key, const int32_t *v, size_t n)
{
    put_key(b, key, KV_ARRAY);
    put_u32(b, KV_I32);
    put_u64(b, n);
    put(b, v, n * sizeof *v);
}

int gguf_build_end(struct gguf_build *b, struct err *err)
{
    if (b->failed)
        return err_set(err, "out of memory for a model's metadata");
    memcpy(b->data + COUNT_AT, &b->count, sizeof b->count);
    return 0;
}
