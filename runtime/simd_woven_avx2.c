/* Woven Q4_0 and Q4_1 (simd_woven.h): weaving, the activations, expansion, and products with AVX2.
 *
 * vpmaddubsw adds up two products of a nibble and a digit in 16 bits; a block adds eight of those to a lane, 8 * 2 * 15 * 128 = 30720
 * at the most, and only then widens. */
#if defined(__x86_64__)
#include "simd_woven.h"

#include <math.h>
#include <string.h>

bool woven_has(enum quant_type type)
{
    return type == QUANT_Q4_0 || type == QUANT_Q4_1;
}

void woven_weave(enum quant_type type, const void *w, size_t row_bytes, void *woven)
{
    const size_t head = woven_head(type), block = head + WOVEN_BLOCK / 2;
    unsigned char *to = woven;
    for (size_t at = 0; at < row_bytes; at += block, to += SIMD_WOVEN_ROWS * block)
        for (size_t r = 0; r < SIMD_WOVEN_ROWS; r++) {
            const unsigned char *from = (const unsigned char *)w + r * row_bytes + at;
            for (size_t h = 0; h < head; h += 2)
                memcpy(to + SIMD_WOVEN_ROWS * h + 2 * r, from + h, 2);
            for (size_t j = 0; j < 4; j++)
                memcpy(to + SIMD_WOVEN_ROWS * head + 32 * j + 4 * r, from + head + 4 * j, 4);
        }
}

/* --- the activations ---------------------------------------------------------------------------------------------------- */

/* Unit of the integers of 32 activations, and its inverse. An infinity or a NaN makes it NaN, to spoil the product as it would
 * in fp32. */
static float unit_of(const float *x, bool coarse, float *inverse)
{
    /* Magnitudes of floats are ordered as their bits are, NaN above all. */
    __m256i largest = _mm256_setzero_si256(), magnitude = _mm256_set1_epi32(0x7fffffff);
    for (int i = 0; i < WOVEN_BLOCK; i += 8) {
        __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
        largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    float most = _mm_cvtss_f32(_mm_castsi128_ps(m)), top = coarse ? 127 : (float)SIMD_FINEST;
    *inverse =
        most > 1e-30f && most < INFINITY ? top / most : 0; /* the smallest floats have no inverse: as good as 0 */
    return most < INFINITY ? most / top : NAN;
}

/* The low bytes of 32 integers, in their order. */
static inline __m256i low_bytes(const __m256i *v)
{
    const __m256i byte = _mm256_set1_epi32(255);
    __m256i a = _mm256_packus_epi32(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
    __m256i b = _mm256_packus_epi32(_mm256_and_si256(v[2], byte), _mm256_and_si256(v[3], byte));
    /* Packing keeps to the halves of a vector. */
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline int32_t sum_of(const __m256i *v)
{
    __m256i all = _mm256_add_epi32(_mm256_add_epi32(v[0], v[1]), _mm256_add_epi32(v[2], v[3]));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static void put_block(struct woven_block *a, const float *x, bool coarse)
{
    float inverse, unit = unit_of(x, coarse, &inverse);
    __m256i v[WOVEN_BLOCK / 8];
    for (int i = 0; i < WOVEN_BLOCK / 8; i++)
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inverse)));
    int32_t sum = sum_of(v), leading = sum;
    for (int d = coarse ? 0 : SIMD_DIGITS - 1; d >= 0;
         d--) { /* v = (what the next round sees) * 256 + a digit in -128..127 */
        _mm256_storeu_si256((__m256i *)(void *)a->digit[d], low_bytes(v));
        for (int i = 0; i < WOVEN_BLOCK / 8; i++)
            v[i] = _mm256_srai_epi32(_mm256_add_epi32(v[i], _mm256_set1_epi32(128)), 8);
        if (d == SIMD_DIGITS - 1)
            leading = sum_of(v);
    }
    a->scale = unit;
    a->sum = (float)sum * unit; /* of X, so that its rounding cancels as that of the products does */
    a->bias[0] = -8 * leading;
    a->bias[1] = coarse ? 0 : -8 * (sum - 256 * leading);
}

void woven_prepare(struct simd_row *x)
{
    struct woven_block *a = woven_blocks(x);
    for (int i = 0; i < x->n; i += WOVEN_BLOCK)
        put_block(&a[i / WOVEN_BLOCK], x->x + i, x->coarse);
}

/* --- products ------------------------------------------------------------------------------------------------------------ */

static inline __m256i load_vector(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Eight rows of so many blocks. */
ALWAYS_INLINE void eight_rows(const enum quant_type type, const unsigned char *w, int blocks,
                              const struct woven_block *a, const int digits, float *out)
{
    const size_t head = woven_head(type) * SIMD_WOVEN_ROWS;
    const __m256i mask = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    __m256 top_sum = _mm256_setzero_ps(), last_sum = top_sum, offset = top_sum;
    for (int b = 0; b < blocks; b++, a++, w += head + 128) {
        for (int line = 0; line < 3; line++)
            _mm_prefetch((const char *)w + WOVEN_AHEAD + 64 * line, _MM_HINT_T0);
        __m256i part[SIMD_DIGITS];
        UNROLL
        for (int j = 0; j < 4; j++) {
            __m256i q = load_vector(w + head + 32 * j), low = _mm256_and_si256(q, mask);
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(q, 4), mask);
            UNROLL
            for (int d = 0; d < digits; d++) {
                __m256i p = _mm256_maddubs_epi16(low, woven_digits(a->digit[d] + 4 * j));
                part[d] = j ? _mm256_add_epi16(part[d], p) : p;
                part[d] = _mm256_add_epi16(part[d], _mm256_maddubs_epi16(high, woven_digits(a->digit[d] + 16 + 4 * j)));
            }
        }
        __m256i top = _mm256_madd_epi16(part[0], digits == 1 ? one : _mm256_set1_epi16(256)), last;
        if (digits > 1) {
            top = _mm256_add_epi32(top, _mm256_madd_epi16(part[1], one));
            last = _mm256_madd_epi16(part[2], one);
        }
        __m256 scale = _mm256_mul_ps(woven_halves(w), _mm256_set1_ps(a->scale));
        if (type == QUANT_Q4_1) { /* weight = d * nibble + m */
            offset = _mm256_fmadd_ps(woven_halves(w + 2 * SIMD_WOVEN_ROWS), _mm256_set1_ps(a->sum), offset);
        } else { /* weight = d * (nibble - 8) */
            top = _mm256_add_epi32(top, _mm256_set1_epi32(a->bias[0]));
            if (digits > 1)
                last = _mm256_add_epi32(last, _mm256_set1_epi32(a->bias[1]));
        }
        top_sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(top), top_sum);
        if (digits > 1)
            last_sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(last), last_sum);
    }
    if (digits > 1)
        top_sum = _mm256_fmadd_ps(top_sum, _mm256_set1_ps(256), last_sum);
    _mm256_storeu_ps(out, _mm256_add_ps(top_sum, offset));
}

#include "simd_woven_rows.h"

void woven_expand(enum quant_type type, const void *woven, int from, float *dst, size_t dst_k, int n)
{
    const size_t head = woven_head(type) * SIMD_WOVEN_ROWS;
    const unsigned char *w = (const unsigned char *)woven + (size_t)(from / WOVEN_BLOCK) * (head + 128);
    const __m256i mask = _mm256_set1_epi32(15);
    for (int i = 0; i < n; i += WOVEN_BLOCK, w += head + 128) {
        __m256 d = woven_halves(w), m;
        m = type == QUANT_Q4_1 ? woven_halves(w + 2 * SIMD_WOVEN_ROWS) : _mm256_mul_ps(d, _mm256_set1_ps(-8));
        for (int j = 0; j < 4; j++) {
            __m256i q = load_vector(w + head + 32 * j);
            float *low = dst + (size_t)(i + 4 * j) * dst_k;
            for (int k = 0; k < 4; k++, low += dst_k, q = _mm256_srli_epi32(q, 8)) {
                __m256i high = _mm256_and_si256(_mm256_srli_epi32(q, 4), mask);
                _mm256_storeu_ps(low, _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(q, mask)), m));
                _mm256_storeu_ps(low + WOVEN_BLOCK / 2 * dst_k, _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(high), m));
            }
        }
    }
}

const struct simd_woven simd_woven_avx2 = {
    .has = woven_has,
    .weave = woven_weave,
    .prepare = woven_prepare,
    .matvec = matvec,
    .expand = woven_expand,
};
#else
typedef int simd_woven_avx2_is_for_x86; /* an empty translation unit is no C */
#endif
