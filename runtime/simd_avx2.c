/* simd.h for AVX2 with FMA and F16C. */
#if defined(__x86_64__)
#include "simd_woven.h"

#include <immintrin.h>

enum { LANES = 8, PRODUCT_ROWS = 6, PRODUCT_PANELS = 1, WIDE_PANELS = 2, WIDEST_PANELS = 4 };
typedef __m256 vf;

static inline vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}
static inline vf v_set1(float a)
{
    return _mm256_set1_ps(a);
}
static inline vf v_zero(void)
{
    return _mm256_setzero_ps();
}
static inline vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
static inline float v_sum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float v_largest(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline vf v_swap_pairs(vf a)
{
    return _mm256_permute_ps(a, 0xb1);
}
static inline vf v_even_pairs(vf a)
{
    return _mm256_moveldup_ps(a);
}
static inline vf v_odd_pairs(vf a)
{
    return _mm256_movehdup_ps(a);
}
static inline vf v_turn(vf a, vf b, vf c)
{
    return _mm256_fmaddsub_ps(a, b, c);
}

/* 2^x = 2^round(x) * 2^f; minimax polynomial of degree 6 over f in [-1/2, 1/2], relative error 2e-9 before rounding. The
 * exponent is added to the bits in two halves, so that results below the smallest normal number come out right as well. */
static inline vf v_exp2(vf x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-160), x); /* the second operand is taken where one is NaN */
    x = _mm256_min_ps(_mm256_set1_ps(160), x);
    vf whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm256_sub_ps(x, whole);
    vf y = v_set1(1.5345811625e-04f);
    y = v_fma(y, f, v_set1(1.3399931217e-03f));
    y = v_fma(y, f, v_set1(9.6184889585e-03f));
    y = v_fma(y, f, v_set1(5.5503287770e-02f));
    y = v_fma(y, f, v_set1(2.4022646891e-01f));
    y = v_fma(y, f, v_set1(6.9314720574e-01f));
    y = v_fma(y, f, v_set1(1));
    __m256i e = _mm256_cvtps_epi32(whole), half = _mm256_srai_epi32(e, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, half), bias), 23);
    return v_mul(v_mul(y, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

static inline void store_bytes(float *dst, __m128i b, vf d, vf m)
{
    v_store(dst, v_fma(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)), m));
    v_store(dst + 8, v_fma(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))), m));
}
static inline void store_signed_bytes(float *dst, __m128i b, vf d)
{
    v_store(dst, v_mul(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b))));
    v_store(dst + 8, v_mul(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))));
}
static inline vf load_halves(const unsigned char *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf load_bfloats(const unsigned char *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

#include "simd_kernels.h"

/* An 8 x 8 block: rows in, columns out. */
static inline void transpose_block(const float *src, size_t row, float *dst, size_t dst_k)
{
    __m256 r[8], t[8];
    UNROLL
    for (size_t i = 0; i < 8; i++)
        r[i] = v_load(src + i * row);
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL
    for (size_t c = 0; c < 4; c++) {
        v_store(dst + c * dst_k, _mm256_permute2f128_ps(r[c], r[4 + c], 0x20));
        v_store(dst + (4 + c) * dst_k, _mm256_permute2f128_ps(r[c], r[4 + c], 0x31));
    }
}

static void transpose(const float *src, size_t row, float *dst, size_t dst_k, int n)
{
    for (int i = 0; i < n; i += 8) {
        transpose_block(src + i, row, dst + (size_t)i * dst_k, dst_k);
        transpose_block(src + 8 * row + i, row, dst + (size_t)i * dst_k + 8, dst_k);
    }
}

static float q8_0_row(const unsigned char *w, const float *x, int n)
{
    enum { AHEAD = 4096 }; /* bytes: what is fetched while a block computes */
    vf sum = v_zero();
    for (int i = 0; i < n; i += 32, w += 34) {
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        vf part = v_zero();
        UNROLL
        for (int j = 0; j < 32; j += 8) {
            __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(w + 2 + j));
            part = v_fma(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), v_load(x + i + j), part);
        }
        sum = v_fma(v_set1(half_at(w)), part, sum);
    }
    return v_sum(sum);
}

/* Rows are used as they are; Q4_0 and Q4_1 are fast where they are woven. */
static void matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                   float *out)
{
    for (int r = 0; type == QUANT_Q8_0 && r < rows; r++)
        out[r] = q8_0_row((const unsigned char *)w + (size_t)r * row_bytes, x->x, x->n);
    if (type != QUANT_Q8_0)
        matvec_expanding(type, w, row_bytes, rows, x, out);
}

static void prepare(struct simd_row *x, enum quant_type type)
{
    (void)x;
    (void)type;
}

const struct simd simd_avx2 = {
    .name = "avx2",
    .woven = &simd_woven_avx2,
    .product = product,
    .expand = expand,
    .transpose = transpose,
    .prepare = prepare,
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
typedef int simd_avx2_is_for_x86; /* an empty translation unit is no C */
#endif
