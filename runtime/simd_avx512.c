/* simd.h for AVX-512 (F, BW, VL, DQ, VNNI). */
#if defined(__x86_64__)
#include "simd.h"
#include "simd_dot_avx512.h"
#include "simd_woven.h"

#include <immintrin.h>

enum { LANES = 16, PRODUCT_ROWS = 6, PRODUCT_PANELS = 4, WIDE_PANELS = 4, WIDEST_PANELS = 4 };
typedef __m512 vf;

static inline vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
static inline vf v_set1(float a)
{
    return _mm512_set1_ps(a);
}
static inline vf v_zero(void)
{
    return _mm512_setzero_ps();
}
static inline vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
static inline float v_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}
static inline float v_largest(vf a)
{
    return _mm512_reduce_max_ps(a);
}
static inline vf v_swap_pairs(vf a)
{
    return _mm512_permute_ps(a, 0xb1);
}
static inline vf v_even_pairs(vf a)
{
    return _mm512_moveldup_ps(a);
}
static inline vf v_odd_pairs(vf a)
{
    return _mm512_movehdup_ps(a);
}
static inline vf v_turn(vf a, vf b, vf c)
{
    return _mm512_fmaddsub_ps(a, b, c);
}

/* 2^x = 2^round(x) * 2^f; minimax polynomial of degree 6 over f in [-1/2, 1/2], relative error 2e-9 before rounding. */
static inline vf v_exp2(vf x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-160), x); /* the second operand is taken where one is NaN */
    vf whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, whole);
    vf y = _mm512_set1_ps(1.5345811625e-04f);
    y = v_fma(y, f, v_set1(1.3399931217e-03f));
    y = v_fma(y, f, v_set1(9.6184889585e-03f));
    y = v_fma(y, f, v_set1(5.5503287770e-02f));
    y = v_fma(y, f, v_set1(2.4022646891e-01f));
    y = v_fma(y, f, v_set1(6.9314720574e-01f));
    y = v_fma(y, f, v_set1(1));
    return _mm512_scalef_ps(y, whole);
}

static inline void store_bytes(float *dst, __m128i b, vf d, vf m)
{
    v_store(dst, v_fma(d, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b)), m));
}
static inline void store_signed_bytes(float *dst, __m128i b, vf d)
{
    v_store(dst, v_mul(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b))));
}
static inline vf load_halves(const unsigned char *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf load_bfloats(const unsigned char *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

#include "simd_kernels.h"

/* A 16 x 16 block: rows in, columns out. */
static inline void transpose_block(const float *src, size_t row, float *dst, size_t dst_k)
{
    __m512 r[16], t[16];
    UNROLL
    for (size_t i = 0; i < 16; i++)
        r[i] = v_load(src + i * row);
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    }
    /* r[4 q + c] holds, in its 128-bit lane l, column 4 l + c of rows 4 q .. 4 q + 3 */
    UNROLL
    for (int c = 0; c < 4; c++) {
        __m512 a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88), b = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        __m512 e = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd), f = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
        v_store(dst + (size_t)c * dst_k, _mm512_shuffle_f32x4(a, b, 0x88));
        v_store(dst + (size_t)(8 + c) * dst_k, _mm512_shuffle_f32x4(a, b, 0xdd));
        v_store(dst + (size_t)(4 + c) * dst_k, _mm512_shuffle_f32x4(e, f, 0x88));
        v_store(dst + (size_t)(12 + c) * dst_k, _mm512_shuffle_f32x4(e, f, 0xdd));
    }
}

static void transpose(const float *src, size_t row, float *dst, size_t dst_k, int n)
{
    for (int i = 0; i < n; i += 16)
        transpose_block(src + i, row, dst + (size_t)i * dst_k, dst_k);
}

static void matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                   float *out)
{
    if (dot_avx512_has(type))
        dot_avx512_matvec(type, w, row_bytes, rows, x, out);
    else
        matvec_expanding(type, w, row_bytes, rows, x, out);
}

const struct simd simd_avx512 = {
    .name = "avx512",
    .woven = &simd_woven_avx512,
    .product = product,
    .expand = expand,
    .transpose = transpose,
    .prepare = dot_avx512_prepare,
    .matvec = matvec,
    .max = max,
    .exp2_sum = sum_of_exp2,
    .scale = scale,
    .add_scaled = add_scaled,
    .rotate = rotate,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
};
#else
typedef int simd_avx512_is_for_x86; /* an empty translation unit is no C */
#endif
