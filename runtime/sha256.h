#ifndef WEIR_SHA256_H
#define WEIR_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* SHA-256 (FIPS 180-4), for the names and checksums of cache entries. */
struct sha256 {
    uint32_t h[8];
    uint64_t bytes;          /* taken in so far */
    unsigned char block[64]; /* the part that does not fill a block yet */
};

/* The digest of all bytes between begin and end. */
void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t bytes);
void sha256_end(struct sha256 *s, unsigned char digest[32]);

#endif
