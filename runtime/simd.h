#ifndef WEIR_SIMD_H
#define WEIR_SIMD_H

/* The CPU backend's arithmetic, in three versions: plain C (simd.c, the reference), AVX2 and AVX-512, chosen at run time. All
 * take any size; sizes named `multiple of 16` are the backend's own to keep. Results of one version do not depend on how the
 * work is cut into calls by row. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant.h"

enum { PANEL = 16 }; /* keys, or outputs of a weight matrix, that lie side by side */

/* A row of activations made ready for products with rows of weights (prepare). Woven Q4_0 and Q4_1 are multiplied in integers, with
 * AVX-512 Q8_0 and the K types too: each 32 activations become multiples of their largest value / 8355000, that is 24 bits with
 * the sign, kept as three digits of 8 bits, which is as exact as fp32 sums are (simd_dot_avx512.h says why, test_simd.c holds it
 * to that). With `coarse` (the option int8_activations) one digit is kept, where that is faster. */
struct simd_row {
    int n; /* elements */
    bool coarse;
    const float *x;      /* [n], the caller's */
    unsigned char *room; /* [simd_row_room(n)], 64-byte aligned, the caller's: for each version's own use */
};

/* Bytes at simd_row.room for n elements. */
static inline size_t simd_row_room(size_t n)
{
    return (n + 255) / 256 * 256 * 16;
}

/* Products A * B with B in panels: C[m][16 p + l] = sum over k of A[m][k] * B(k, p)[l], all fp32. */
struct simd_product {
    int m, panels, k;
    const float *a; /* A[m][k] at a[m * a_row + k] */
    size_t a_row;
    const float *b; /* B(k, p)[l] at b[k * b_k + p * b_panel + l] */
    size_t b_k, b_panel;
    float *c; /* C[m][16 p + l] at c[m * c_row + 16 p + l] */
    size_t c_row;
    bool add; /* C += instead of C = */
};

/* Digits of an activation, and the multiple that the largest of its block becomes: below 127 * 65536 + 127 * 256 + 127, the largest of
 * three digits, by more than the rounding of its inverse. */
enum { SIMD_DIGITS = 3, SIMD_FINEST = 8355000 };

enum { SIMD_WOVEN_ROWS = 8 };

/* Rows of weights of some types in another order of the same bytes, in which they are multiplied faster: woven, SIMD_WOVEN_ROWS at a
 * time, which take the place of those rows. */
struct simd_woven {
    bool (*has)(enum quant_type type); /* the others are for such types only */
    void (*weave)(enum quant_type type, const void *w, size_t row_bytes, void *woven); /* SIMD_WOVEN_ROWS rows */
    void (*prepare)(struct simd_row *x); /* for all types that are woven; what simd->prepare has made stays */
    /* As simd->matvec; rows a multiple of SIMD_WOVEN_ROWS, x made ready by the prepare of this struct. */
    void (*matvec)(enum quant_type type, const void *woven, size_t row_bytes, int rows, const struct simd_row *x,
                   float *out);
    /* Inputs [from, from + n) of SIMD_WOVEN_ROWS rows, both multiples of 32: dst[i * dst_k + r]. As expand and transpose. */
    void (*expand)(enum quant_type type, const void *woven, int from, float *dst, size_t dst_k, int n);
};

struct simd {
    const char *name;               /* "plain", "avx2", "avx512" */
    const struct simd_woven *woven; /* or NULL */

    void (*product)(const struct simd_product *p);

    /* As quant_to_float. */
    void (*expand)(enum quant_type type, const void *src, float *dst, size_t n);
    /* n columns of 16 rows (row r at src[r * row]) to panel form: dst[i * dst_k + r]. n a multiple of 16. */
    void (*transpose)(const float *src, size_t row, float *dst, size_t dst_k, int n);

    /* Rows of weights times a prepared row: out[r] = sum of row r (at w + r * row_bytes) * x. */
    void (*prepare)(struct simd_row *x, enum quant_type type);
    void (*matvec)(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                   float *out);

    float (*max)(const float *x, int n); /* -INFINITY for n = 0 */
    /* x[i] = exp2(x[i] * scale - top), and their sum; -INFINITY gives 0. */
    float (*exp2_sum)(float *x, int n, float scale, float top);
    /* x[i] *= w */
    void (*scale)(float *x, float w, int n);
    /* acc[i] += w * x[i] */
    void (*add_scaled)(float *acc, const float *x, float w, int n);
    /* Turns pairs (2i, 2i+1) of x by cs[i] = {cos, sin} into y (may be x). */
    void (*rotate)(const float *x, float *y, const float *cs, int pairs);
    /* y[i] = x[i] / sqrt(mean of squares + eps) * w[i] */
    void (*rms_norm)(const float *x, const float *w, float *y, int n, float eps);
    /* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i] */
    void (*swiglu)(float *gate, const float *up, int n);
};

/* The best version that this machine runs. */
const struct simd *simd_best(void);
/* By name, or NULL where this machine (or this build) does not run it. */
const struct simd *simd_named(const char *name);

extern const struct simd simd_plain;
#if defined(__x86_64__)
extern const struct simd simd_avx2, simd_avx512;
#endif

#endif
