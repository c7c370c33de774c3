#ifndef WEIR_CURSOR_H
#define WEIR_CURSOR_H

/* Reads a byte range that nobody vouches for. The first read past the end sets `bad`, which stays: from then on every read
 * gives zero (NULL for bytes) and moves nothing, so a parser checks once after a group of reads, before it uses a length.
 * Numbers are little endian, at any alignment. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const unsigned char *data; /* [size], not owned */
    size_t size;               /* bytes */
    size_t pos;                /* bytes read, <= size; after an error: where the read began that did not fit */
    bool bad;                  /* a read did not fit */
};

/* A cursor at the beginning of data[size], which must outlive it. */
struct cursor cursor_over(const void *data, size_t size);

/* Bytes that are left; 0 after an error. */
size_t cursor_left(const struct cursor *c);

/* The next number of that type. */
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
float cursor_f32(struct cursor *c);
double cursor_f64(struct cursor *c);

/* The next n bytes, in place; NULL where they do not fit. n is 64 bits wide so that a length from a file goes in unchecked. */
const void *cursor_bytes(struct cursor *c, uint64_t n);

/* Moves on by count * size bytes, the product checked for overflow. */
void cursor_skip(struct cursor *c, uint64_t count, uint64_t size);

#endif
