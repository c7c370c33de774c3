#ifndef WEIR_SIMD_WOVEN_AVX2_H
#define WEIR_SIMD_WOVEN_AVX2_H

/* Woven Q4_0 and Q4_1, multiplied in integers, for simd_avx2.c. */

#include "simd.h"

extern const struct simd_woven simd_woven_avx2;

#endif
