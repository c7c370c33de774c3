#ifndef WEIR_SIMD_DOT_AVX2_H
#define WEIR_SIMD_DOT_AVX2_H

/* Products of quantised rows with a row of activations, without expanding them in memory, for simd_avx2.c: Q4_0 and Q4_1 in
 * integers, Q8_0 in fp32. */

#include "simd.h"

/* Whether there is such a product for a type; the last is for such types only. */
bool dot_avx2_has(enum quant_type type);
void dot_avx2_prepare(struct simd_row *x, enum quant_type type);
void dot_avx2_matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                     float *out);

#endif
