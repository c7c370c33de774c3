#ifndef WEIR_SIMD_DOT_AVX512_H
#define WEIR_SIMD_DOT_AVX512_H

#include "simd.h"

/* Products of quantised rows with a prepared row in integers (VNNI), for simd_avx512.c. Whether there is one for a type: */
bool dot_avx512_has(enum quant_type type);
void dot_avx512_prepare(struct simd_row *x, enum quant_type type);
void dot_avx512_matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                       float *out);

#endif
