/* Products with woven Q4_0 and Q4_1 (simd_woven.h) where there is VNNI: vpdpbusd adds up four products of a nibble and a digit in 32
 * bits. In vectors of 256 bits, as one is a row group's: the weights come from memory, which is what such a product waits for. */
#if defined(__x86_64__)
#include "simd_woven.h"

/* sum + a digit of a block's activations times eight rows' nibbles. */
ALWAYS_INLINE __m256i add_digit(__m256i sum, const __m256i low[4], const __m256i high[4], const int8_t *digit)
{
    UNROLL
    for (int j = 0; j < 4; j++) {
        sum = _mm256_dpbusd_epi32(sum, low[j], woven_digits(digit + 4 * j));
        sum = _mm256_dpbusd_epi32(sum, high[j], woven_digits(digit + 16 + 4 * j));
    }
    return sum;
}

/* Eight rows of so many blocks. */
ALWAYS_INLINE void eight_rows(const enum quant_type type, const unsigned char *w, int blocks,
                              const struct woven_block *a, const int digits, float *out)
{
    const size_t head = woven_head(type) * SIMD_WOVEN_ROWS;
    const __m256i mask = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256 top_sum = _mm256_setzero_ps(), last_sum = top_sum, offset = top_sum;
    for (int b = 0; b < blocks; b++, a++, w += head + 128) {
        for (int line = 0; line < 3; line++)
            _mm_prefetch((const char *)w + WOVEN_AHEAD + 64 * line, _MM_HINT_T0);
        __m256i low[4], high[4];
        UNROLL
        for (int j = 0; j < 4; j++) {
            __m256i q = _mm256_loadu_si256((const __m256i *)(const void *)(w + head + 32 * j));
            low[j] = _mm256_and_si256(q, mask);
            high[j] = _mm256_and_si256(_mm256_srli_epi16(q, 4), mask);
        }
        const bool four_zero = type == QUANT_Q4_0; /* weight = d * (nibble - 8); of Q4_1 it is d * nibble + m */
        __m256i top = add_digit(zero, low, high, a->digit[0]);
        if (digits > 1)
            top = add_digit(_mm256_slli_epi32(top, 8), low, high, a->digit[1]);
        if (four_zero)
            top = _mm256_add_epi32(top, _mm256_set1_epi32(a->bias[0]));
        __m256 scale = _mm256_mul_ps(woven_halves(w), _mm256_set1_ps(a->scale));
        top_sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(top), top_sum);
        if (digits > 1) {
            __m256i last = add_digit(four_zero ? _mm256_set1_epi32(a->bias[1]) : zero, low, high, a->digit[2]);
            last_sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(last), last_sum);
        }
        if (type == QUANT_Q4_1)
            offset = _mm256_fmadd_ps(woven_halves(w + 2 * SIMD_WOVEN_ROWS), _mm256_set1_ps(a->sum), offset);
    }
    if (digits > 1)
        top_sum = _mm256_fmadd_ps(top_sum, _mm256_set1_ps(256), last_sum);
    _mm256_storeu_ps(out, _mm256_add_ps(top_sum, offset));
}

#include "simd_woven_rows.h"

const struct simd_woven simd_woven_avx512 = {
    .has = woven_has,
    .weave = woven_weave,
    .prepare = woven_prepare,
    .matvec = matvec,
    .expand = woven_expand,
};
#else
typedef int simd_woven_avx512_is_for_x86; /* an empty translation unit is no C */
#endif
