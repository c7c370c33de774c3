#ifndef WEIR_SIMD_WOVEN_H
#define WEIR_SIMD_WOVEN_H

/* Woven Q4_0 and Q4_1, multiplied in integers, for simd_avx2.c and simd_avx512.c: eight rows side by side, one a 32-bit lane. A block of
 * 32 inputs of the eight rows takes the bytes that it had in them: 8 scales, (Q4_1) 8 offsets, then four vectors, of which lane r of
 * vector j holds bytes 4j .. 4j+3 of row r's nibbles, that is the weights 4j .. 4j+3 and 16+4j .. 16+4j+3.
 *
 * Each 32 activations become multiples X of (largest of them) / 8355000 in three signed digits of base 256 (simd_dot_avx512.h says why
 * that is as exact as fp32). The leading two digits of a block make at most 32 * 15 * 2^15 < 2^24, the last one less: both are whole
 * numbers in fp32, and the first rounding is that of the sum over blocks. */

#include <immintrin.h>
#include <string.h>

#include "simd.h"
#include "simd_unroll.h"

enum {
    WOVEN_BLOCK = 32,
    WOVEN_AHEAD = 4096 /* bytes that are fetched ahead; the machine itself looks no further than a page */
};

/* The activations of a block. */
struct woven_block {
    int8_t digit[SIMD_DIGITS][WOVEN_BLOCK]; /* leading digit first */
    float scale;                            /* what the integer 1 stands for */
    float sum;                              /* of X * scale, to meet Q4_1's offsets */
    int32_t bias[2];                        /* -8 * sums of X's leading two digits and of its last one, for Q4_0 */
};

/* They lie at the beginning of the row's room, [n / WOVEN_BLOCK]. */
static inline struct woven_block *woven_blocks(const struct simd_row *x)
{
    return (struct woven_block *)(void *)x->room;
}

/* The bytes that they take there, a multiple of 64. */
static inline size_t woven_room(size_t n)
{
    return (n + 127) / 128 * 4 * sizeof(struct woven_block);
}

/* Bytes of a block's scales and offsets in a row. */
static inline size_t woven_head(const enum quant_type type)
{
    return type == QUANT_Q4_1 ? 4 : 2;
}

/* Eight rows' scales or offsets. */
static inline __m256 woven_halves(const unsigned char *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* Four digits in every lane. */
static inline __m256i woven_digits(const int8_t *digit)
{
    int32_t four;
    memcpy(&four, digit, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Those of struct simd_woven that both versions share (simd_woven_avx2.c). */
bool woven_has(enum quant_type type);
void woven_weave(enum quant_type type, const void *w, size_t row_bytes, void *woven);
void woven_prepare(struct simd_row *x);
void woven_expand(enum quant_type type, const void *woven, int from, float *dst, size_t dst_k, int n);

extern const struct simd_woven simd_woven_avx2, simd_woven_avx512;

#endif
