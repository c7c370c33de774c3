#ifndef WEIR_SIMD_DOT_AVX512_H
#define WEIR_SIMD_DOT_AVX512_H

/* Products of quantised rows with a prepared row in integers (VNNI), for simd_avx512.c.
 *
 * Each 32 activations become multiples X of (largest of them) / 8355000, so that |X| < 2^23, in three signed digits of base 256.
 * vpdpbusd adds up 4 products of an unsigned weight and a digit in each 32-bit lane; from the leading digit on, the lane is
 * shifted by 8 and the next digit added, which gives the exact integer sum of weight * X: at most 4 * 63 * 8355000 for six bits, below
 * 2^31. Signed bytes are made unsigned by adding 128, which leaves no room for three digits in a lane: the last one is added up in
 * a lane of its own, and 128 times the activations is taken off both.
 *
 * The only rounding before the sums is that of X, by 2^-24 of the largest activation in its block. fp32 loses as much when it
 * adds a product to a sum of that size; it is better only where one activation is thousands of times its neighbours and meets
 * a weight near zero. */

#include <immintrin.h>

#include "simd_woven.h"

enum { ROWS = 4 }; /* rows that share the loads of the activations */

/* 64 activations in their order. */
struct byte_group {
    int8_t digit[SIMD_DIGITS][64]; /* leading digit first */
    float scale[16];               /* by lane: what the integer 1 stands for */
    float sum[16];                 /* by lane: sum of the activations X * scale that meet the lane's weights */
    int32_t bias[2][16];           /* by lane: -128 * (leading digit * 256 + middle one), and that of the last one */
    int32_t bias_6[16];            /* by lane: -32 * sum of X */
};

/* They lie in the row's room behind those for woven weights, as one row may meet matrices of several types. */
static inline struct byte_group *byte_groups(const struct simd_row *x)
{
    return (struct byte_group *)(void *)(x->room + woven_room((size_t)x->n));
}
_Static_assert(8 * sizeof(struct woven_block) + 4 * sizeof(struct byte_group) <= 256 * 16,
               "simd_row_room is too small");

/* Where a step fetches ahead: for row r at + r * pitch. */
struct fetch {
    const char *at;
    size_t pitch;
};

/* For the step at byte `done` of these rows, `step` bytes of each. Short rows that are read side by side are no stream that the
 * machine would foresee; but the rows that follow them lie in order, and each step fetches its share of those. */
ALWAYS_INLINE struct fetch fetch_for(const unsigned char *w, size_t row_bytes, const int rows, size_t done, size_t step)
{
    enum { AHEAD = 1024, SHORT = 4096 };
    const char *row = (const char *)w;
    return row_bytes < SHORT ? (struct fetch){row + (size_t)rows * (row_bytes + done) + AHEAD, step}
                             : (struct fetch){row + done + AHEAD, row_bytes};
}

/* Whether there is a product in integers for a type; the other two are for such types only. */
bool dot_avx512_has(enum quant_type type);
void dot_avx512_prepare(struct simd_row *x, enum quant_type type);
void dot_avx512_matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                       float *out);

/* Q4_K, Q5_K, Q6_K (simd_dotk_avx512.c). */
void dotk_avx512_matvec(enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                        const struct simd_row *x, float *out);

#endif
