#include "cursor.h"

#include <string.h>

struct cursor cursor_over(const void *data, size_t size)
{
    return (struct cursor){.data = data, .size = size};
}

size_t cursor_left(const struct cursor *c)
{
    return c->bad ? 0 : c->size - c->pos;
}

const void *cursor_bytes(struct cursor *c, uint64_t n)
{
    if (c->bad || n > c->size - c->pos) {
        c->bad = true;
        return NULL;
    }
    const unsigned char *p = c->data + c->pos;
    c->pos += (size_t)n;
    return p;
}

void cursor_skip(struct cursor *c, uint64_t count, uint64_t size)
{
    if (size != 0 && count > UINT64_MAX / size)
        c->bad = true;
    else
        cursor_bytes(c, count * size);
}

static uint64_t little_endian(struct cursor *c, unsigned bytes)
{
    const unsigned char *p = cursor_bytes(c, bytes);
    uint64_t v = 0;
    for (unsigned i = 0; p && i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)little_endian(c, 1);
}

uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)little_endian(c, 2);
}

uint32_t cursor_u32(struct cursor *c)
{
    return (uint32_t)little_endian(c, 4);
}

uint64_t cursor_u64(struct cursor *c)
{
    return little_endian(c, 8);
}

float cursor_f32(struct cursor *c)
{
    uint32_t bits = cursor_u32(c);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

double cursor_f64(struct cursor *c)
{
    uint64_t bits = cursor_u64(c);
    double f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
