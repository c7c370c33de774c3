/* Products in integers: making a row ready, and rows of Q8_0. */
#if defined(__x86_64__)
#include "simd_dot_avx512.h"

#include <math.h>
#include <string.h>

static bool is_k(enum quant_type type)
{
    return type == QUANT_Q4_K || type == QUANT_Q5_K || type == QUANT_Q6_K;
}

bool dot_avx512_has(enum quant_type type)
{
    return type == QUANT_Q8_0 || is_k(type);
}

/* Digits of 16 activations to 16 bytes of each digit's row. */
static void put_digits(__m512 x, __m512 inverse, bool coarse, int8_t *leading, size_t next)
{
    __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    if (coarse) {
        _mm_storeu_si128((__m128i *)(void *)leading, _mm512_cvtepi32_epi8(v));
        return;
    }
    __m512i half = _mm512_set1_epi32(128);
    __m512i middle = _mm512_srai_epi32(_mm512_add_epi32(v, half), 8); /* v = middle * 256 + digit in -128..127 */
    __m512i top = _mm512_srai_epi32(_mm512_add_epi32(middle, half), 8);
    _mm_storeu_si128((__m128i *)(void *)leading, _mm512_cvtepi32_epi8(top)); /* narrowing takes the low 8 bits */
    _mm_storeu_si128((__m128i *)(void *)(leading + next), _mm512_cvtepi32_epi8(middle));
    _mm_storeu_si128((__m128i *)(void *)(leading + 2 * next), _mm512_cvtepi32_epi8(v));
}

/* Unit of the block's integers, and its inverse in all lanes. */
static float unit_of(__m512 low, __m512 high, bool coarse, __m512 *inverse)
{
    float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    float top = coarse ? 127 : (float)SIMD_FINEST, unit = largest / top;
    /* The smallest floats have no inverse; then the block is as good as zero. */
    *inverse = _mm512_set1_ps(largest > 1e-30f ? top / largest : 0);
    /* An infinity or a NaN must spoil the product as it would in fp32. */
    __mmask16 odd = _mm512_fpclass_ps_mask(low, 0x99) | _mm512_fpclass_ps_mask(high, 0x99);
    return odd ? NAN : unit;
}

/* One block of 32 activations into the group's block b (0..1). */
static void put_byte_block(struct byte_group *g, int b, const float *x, bool coarse)
{
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16), inverse;
    _mm256_store_ps(&g->scale[8 * b], _mm256_set1_ps(unit_of(low, high, coarse, &inverse)));
    put_digits(low, inverse, coarse, g->digit[0] + 32 * b, 64);
    put_digits(high, inverse, coarse, g->digit[0] + 32 * b + 16, 64);
}

/* Sums by lane of X. Where a type's weights have an offset, it is about as large as the weights, and what rounding does to both must
 * cancel as they do: so these are sums of X, not of the activations before. */
static __m512i sum_digits(const int8_t (*digit)[64], const int digits)
{
    __m512i one = _mm512_set1_epi8(1), sum = _mm512_setzero_si512();
    for (int i = 0; i < digits; i++)
        sum = _mm512_dpbusd_epi32(_mm512_slli_epi32(sum, 8), one, _mm512_load_si512(digit[i]));
    return sum;
}

static void put_byte_sums(struct byte_group *g, const int digits)
{
    const int8_t(*digit)[64] = (const int8_t(*)[64])g->digit;
    __m512i first = sum_digits(digit, digits > 1 ? digits - 1 : 1), sum = sum_digits(digit, digits);
    __m512i last = digits > 1 ? sum_digits(digit + digits - 1, 1) : _mm512_setzero_si512(),
            by = _mm512_set1_epi32(-128);
    _mm512_store_ps(g->sum, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_load_ps(g->scale)));
    _mm512_store_si512(g->bias[0], _mm512_mullo_epi32(first, by));
    _mm512_store_si512(g->bias[1], _mm512_mullo_epi32(last, by));
    _mm512_store_si512(g->bias_6, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-32)));
}

void dot_avx512_prepare(struct simd_row *x, enum quant_type type)
{
    if (!dot_avx512_has(type))
        return;
    struct byte_group *g = byte_groups(x);
    memset(g, 0, (size_t)(x->n + 63) / 64 * sizeof *g);
    for (int i = 0; i < x->n; i += 32)
        put_byte_block(&g[i / 64], i / 32 % 2, x->x + i, x->coarse);
    for (int i = 0; i < x->n; i += 64)
        put_byte_sums(&g[i / 64], x->coarse ? 1 : SIMD_DIGITS);
}

/* --- signed bytes -------------------------------------------------------------------------------------------------------------- */

/* Two blocks of Q8_0, or one where the row ends: weights + 128, and the scale by lane. */
ALWAYS_INLINE __m512i load_q8_0(const unsigned char *src, const bool whole, __m512 *d)
{
    __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)(src + 2)), second = _mm256_setzero_si256();
    int16_t d0, d1 = 0;
    memcpy(&d0, src, sizeof d0);
    if (whole) {
        memcpy(&d1, src + 34, sizeof d1);
        second = _mm256_loadu_si256((const __m256i *)(const void *)(src + 36));
    }
    *d = _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(d0)), _mm_set1_epi16(d1), 1));
    __m512i q = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    return _mm512_xor_si512(q, _mm512_set1_epi8((char)128));
}

ALWAYS_INLINE void byte_step(const unsigned char *src, size_t row_bytes, const int rows, const struct byte_group *g,
                             const int digits, const bool whole, struct fetch next, __m512 *sum)
{
    __m512i digit[SIMD_DIGITS], bias = _mm512_load_si512(g->bias[0]), last_bias = _mm512_load_si512(g->bias[1]);
    UNROLL
    for (int i = 0; i < digits; i++)
        digit[i] = _mm512_load_si512(g->digit[i]);
    __m512 scale = _mm512_load_ps(g->scale);
    UNROLL
    for (int r = 0; r < rows; r++) {
        __m512 d, product;
        __m512i q = load_q8_0(src + (size_t)r * row_bytes, whole, &d);
        _mm_prefetch(next.at + (size_t)r * next.pitch, _MM_HINT_T0);
        if (digits == 1) {
            product = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(bias, q, digit[0]));
        } else { /* bias counts for the sum of both digits: it is added with the second */
            __m512i first = _mm512_slli_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), q, digit[0]), 8);
            first = _mm512_add_epi32(_mm512_dpbusd_epi32(first, q, digit[1]), bias);
            __m512 last = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(last_bias, q, digit[2]));
            product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), _mm512_set1_ps(256), last);
        }
        sum[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, scale), product, sum[r]);
    }
}

ALWAYS_INLINE void byte_rows(const unsigned char *w, size_t row_bytes, const int rows, const struct simd_row *x,
                             const int digits, float *out)
{
    const struct byte_group *g = byte_groups(x);
    __m512 sum[ROWS];
    UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_ps();
    int whole = x->n / 64;
    for (int i = 0; i < whole; i++)
        byte_step(w + (size_t)i * 68, row_bytes, rows, &g[i], digits, true,
                  fetch_for(w, row_bytes, rows, (size_t)i * 68, 68), sum);
    if (x->n % 64)
        byte_step(w + (size_t)whole * 68, row_bytes, rows, &g[whole], digits, false,
                  fetch_for(w, row_bytes, rows, (size_t)whole * 68, 68), sum);
    UNROLL
    for (int r = 0; r < rows; r++)
        out[r] = _mm512_reduce_add_ps(sum[r]);
}

ALWAYS_INLINE void all_rows(const unsigned char *w, size_t row_bytes, int rows, const struct simd_row *x,
                            const int digits, float *out)
{
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        byte_rows(w + (size_t)r * row_bytes, row_bytes, ROWS, x, digits, out + r);
    for (; r < rows; r++)
        byte_rows(w + (size_t)r * row_bytes, row_bytes, 1, x, digits, out + r);
}

void dot_avx512_matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                       float *out)
{
    if (type != QUANT_Q8_0)
        dotk_avx512_matvec(type, w, row_bytes, rows, x, out);
    else if (x->coarse)
        all_rows(w, row_bytes, rows, x, 1, out);
    else
        all_rows(w, row_bytes, rows, x, SIMD_DIGITS, out);
}
#else
typedef int simd_dot_avx512_is_for_x86; /* an empty translation unit is no C */
#endif
