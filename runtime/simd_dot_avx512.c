/* Products in integers: making a row ready, and rows of Q4_0, Q4_1 and Q8_0. */
#if defined(__x86_64__)
#include "simd_dot_avx512.h"

#include <math.h>
#include <string.h>

/* Below 127 * 65536 + 127 * 256 + 127, the largest of three digits, by more than the rounding of its inverse. */
static const float finest = 8355000;

static bool is_k(enum quant_type type)
{
    return type == QUANT_Q4_K || type == QUANT_Q5_K || type == QUANT_Q6_K;
}

bool dot_avx512_has(enum quant_type type)
{
    return type == QUANT_Q4_0 || type == QUANT_Q4_1 || type == QUANT_Q8_0 || is_k(type);
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
    float top = coarse ? 127 : finest, unit = largest / top;
    /* The smallest floats have no inverse; then the block is as good as zero. */
    *inverse = _mm512_set1_ps(largest > 1e-30f ? top / largest : 0);
    /* An infinity or a NaN must spoil the product as it would in fp32. */
    __mmask16 odd = _mm512_fpclass_ps_mask(low, 0x99) | _mm512_fpclass_ps_mask(high, 0x99);
    return odd ? NAN : unit;
}

/* One block of 32 activations into the group's block b (0..3). */
static void put_nibble_block(struct nibble_group *g, int b, const float *x, bool coarse)
{
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16), inverse;
    _mm_store_ps(&g->scale[4 * b], _mm_set1_ps(unit_of(low, high, coarse, &inverse)));
    put_digits(low, inverse, coarse, g->digit[0] + 16 * b, 2 * 64);
    put_digits(high, inverse, coarse, g->digit[1] + 16 * b, 2 * 64);
}

/* Sums by lane of X, from `per` vectors of each digit. Where a type's weights have an offset, it is about as large as the
 * weights, and what rounding does to both must cancel as they do: so these are sums of X, not of the activations before. */
static __m512i sum_digits(const int8_t (*digit)[64], const int digits, const int per)
{
    __m512i one = _mm512_set1_epi8(1), sum = _mm512_setzero_si512();
    for (int i = 0; i < per * digits; i++) {
        if (i && i % per == 0)
            sum = _mm512_slli_epi32(sum, 8);
        sum = _mm512_dpbusd_epi32(sum, one, _mm512_load_si512(digit[i]));
    }
    return sum;
}

static void put_nibble_sums(struct nibble_group *g, const int digits)
{
    __m512i sum = sum_digits((const int8_t(*)[64])g->digit, digits, 2);
    _mm512_store_ps(g->sum, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_load_ps(g->scale)));
    _mm512_store_si512(g->bias, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-8)));
}

/* The same for block b (0..1) of a group in their own order. */
static void put_byte_block(struct byte_group *g, int b, const float *x, bool coarse)
{
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16), inverse;
    _mm256_store_ps(&g->scale[8 * b], _mm256_set1_ps(unit_of(low, high, coarse, &inverse)));
    put_digits(low, inverse, coarse, g->digit[0] + 32 * b, 64);
    put_digits(high, inverse, coarse, g->digit[0] + 32 * b + 16, 64);
}

static void put_byte_sums(struct byte_group *g, const int digits)
{
    const int8_t(*digit)[64] = (const int8_t(*)[64])g->digit;
    __m512i first = sum_digits(digit, digits > 1 ? digits - 1 : 1, 1), sum = sum_digits(digit, digits, 1);
    __m512i last = digits > 1 ? sum_digits(digit + digits - 1, 1, 1) : _mm512_setzero_si512(),
            by = _mm512_set1_epi32(-128);
    _mm512_store_ps(g->sum, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_load_ps(g->scale)));
    _mm512_store_si512(g->bias[0], _mm512_mullo_epi32(first, by));
    _mm512_store_si512(g->bias[1], _mm512_mullo_epi32(last, by));
    _mm512_store_si512(g->bias_6, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-32)));
}

void dot_avx512_prepare(struct simd_row *x, enum quant_type type)
{
    const int digits = x->coarse ? 1 : DIGITS;
    if (type == QUANT_Q8_0 || is_k(type)) {
        struct byte_group *g = byte_groups(x);
        memset(g, 0, (size_t)(x->n + 63) / 64 * sizeof *g);
        for (int i = 0; i < x->n; i += 32)
            put_byte_block(&g[i / 64], i / 32 % 2, x->x + i, x->coarse);
        for (int i = 0; i < x->n; i += 64)
            put_byte_sums(&g[i / 64], digits);
    } else if (dot_avx512_has(type)) {
        struct nibble_group *g = nibble_groups(x);
        memset(g, 0, (size_t)(x->n + GROUP - 1) / GROUP * sizeof *g);
        for (int i = 0; i < x->n; i += 32)
            put_nibble_block(&g[i / GROUP], i / 32 % 4, x->x + i, x->coarse);
        for (int i = 0; i < x->n; i += GROUP)
            put_nibble_sums(&g[i / GROUP], digits);
    }
}

/* --- nibble types -------------------------------------------------------------------------------------------------------------- */

/* The exact integers of one step: lanes 4b .. 4b+3 are block b's. q holds the blocks' nibbles, 16 bytes each. */
ALWAYS_INLINE __m512i nibble_product(__m512i q, const __m512i *digit, const int digits)
{
    __m512i mask = _mm512_set1_epi8(15), low = _mm512_and_si512(q, mask);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(q, 4), mask), sum = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < digits; i++) {
        if (i)
            sum = _mm512_slli_epi32(sum, 8);
        sum = _mm512_dpbusd_epi32(sum, low, digit[2 * i]);
        sum = _mm512_dpbusd_epi32(sum, high, digit[2 * i + 1]);
    }
    return sum;
}

/* Nibbles of the 4 blocks at src; d and m by lane. whole: all four are there; the last step of a row may have
 * fewer blocks. */
ALWAYS_INLINE __m512i load_q4_1(const unsigned char *src, const bool whole, unsigned blocks, __m512 *d, __m512 *m)
{
    const __m512i q_index = _mm512_setr_epi32(1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19);
    static const _Alignas(64) int16_t dm_index[32] = {0, 0, 0, 0, 10, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30,
                                                      1, 1, 1, 1, 11, 11, 11, 11, 21, 21, 21, 21, 31, 31, 31, 31};
    __m512i a, b;
    if (whole) {
        a = _mm512_loadu_si512(src);
        b = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)(src + 64)));
    } else {
        uint32_t there = (1u << 5 * blocks) - 1;
        a = _mm512_maskz_loadu_epi32((__mmask16)there, src);
        b = _mm512_maskz_loadu_epi32((__mmask16)(there >> 16), src + 64);
    }
    __m512i dm = _mm512_permutexvar_epi16(_mm512_load_si512(dm_index), a); /* the last block's begin at dword 15 */
    *d = _mm512_cvtph_ps(_mm512_castsi512_si256(dm));
    *m = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(dm, 1));
    return _mm512_permutex2var_epi32(a, q_index, b);
}

ALWAYS_INLINE __m512i load_q4_0(const unsigned char *src, const bool whole, unsigned blocks, __m512 *d)
{
    static const _Alignas(64) int16_t q_index[32] = {1,  2,  3,  4,  5,  6,  7,  8,  10, 11, 12, 13, 14, 15, 16, 17,
                                                     19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31, 32, 33, 34, 35};
    static const _Alignas(64) int16_t d_index[32] = {0, 0, 0, 0, 9, 9, 9, 9, 18, 18, 18, 18, 27, 27, 27, 27,
                                                     0, 0, 0, 0, 0, 0, 0, 0, 0,  0,  0,  0,  0,  0,  0,  0};
    __m512i a, b;
    if (whole) {
        a = _mm512_loadu_si512(src);
        b = _mm512_castsi128_si512(_mm_loadl_epi64((const __m128i *)(const void *)(src + 64)));
    } else {
        uint64_t there = (1ull << 9 * blocks) - 1;
        a = _mm512_maskz_loadu_epi16((__mmask32)there, src);
        b = _mm512_maskz_loadu_epi16((__mmask32)(there >> 32), src + 64);
    }
    *d = _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(_mm512_load_si512(d_index), a)));
    return _mm512_permutex2var_epi16(a, _mm512_load_si512(q_index), b);
}

/* One step of `rows` rows. */
ALWAYS_INLINE void nibble_step(const enum quant_type type, const unsigned char *src, size_t row_bytes, const int rows,
                               const struct nibble_group *g, const int digits, const bool whole, unsigned blocks,
                               struct fetch next, __m512 *sum)
{
    __m512i digit[2 * DIGITS];
    UNROLL
    for (int i = 0; i < 2 * digits; i++)
        digit[i] = _mm512_load_si512(g->digit[i]);
    __m512 scale = _mm512_load_ps(g->scale), sums = _mm512_load_ps(g->sum);
    __m512i bias = _mm512_load_si512(g->bias);
    UNROLL
    for (int r = 0; r < rows; r++) {
        const unsigned char *row = src + (size_t)r * row_bytes;
        __m512 d, m;
        _mm_prefetch(next.at + (size_t)r * next.pitch, _MM_HINT_T0);
        if (type == QUANT_Q4_1) { /* weight = d * nibble + m */
            __m512i product = nibble_product(load_q4_1(row, whole, blocks, &d, &m), digit, digits);
            sum[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, scale), _mm512_cvtepi32_ps(product), sum[r]);
            sum[r] = _mm512_fmadd_ps(m, sums, sum[r]);
        } else { /* weight = d * (nibble - 8) */
            __m512i product = _mm512_add_epi32(nibble_product(load_q4_0(row, whole, blocks, &d), digit, digits), bias);
            sum[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, scale), _mm512_cvtepi32_ps(product), sum[r]);
        }
    }
}

ALWAYS_INLINE void nibble_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, const int rows,
                               const struct simd_row *x, const int digits, float *out)
{
    const size_t step = type == QUANT_Q4_1 ? 80 : 72;
    const struct nibble_group *g = nibble_groups(x);
    __m512 sum[ROWS];
    UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_ps();
    int whole = x->n / GROUP;
    for (int i = 0; i < whole; i++)
        nibble_step(type, w + (size_t)i * step, row_bytes, rows, &g[i], digits, true, 4,
                    fetch_for(w, row_bytes, rows, (size_t)i * step, step), sum);
    if (x->n % GROUP)
        nibble_step(type, w + (size_t)whole * step, row_bytes, rows, &g[whole], digits, false,
                    (unsigned)(x->n % GROUP) / 32, fetch_for(w, row_bytes, rows, (size_t)whole * step, step), sum);
    UNROLL
    for (int r = 0; r < rows; r++)
        out[r] = _mm512_reduce_add_ps(sum[r]);
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
    __m512i digit[DIGITS], bias = _mm512_load_si512(g->bias[0]), last_bias = _mm512_load_si512(g->bias[1]);
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

/* ------------------------------------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void some_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, const int rows,
                             const struct simd_row *x, const int digits, float *out)
{
    if (type == QUANT_Q8_0)
        byte_rows(w, row_bytes, rows, x, digits, out);
    else
        nibble_rows(type, w, row_bytes, rows, x, digits, out);
}

ALWAYS_INLINE void all_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                            const struct simd_row *x, const int digits, float *out)
{
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        some_rows(type, w + (size_t)r * row_bytes, row_bytes, ROWS, x, digits, out + r);
    for (; r < rows; r++)
        some_rows(type, w + (size_t)r * row_bytes, row_bytes, 1, x, digits, out + r);
}

/* Type and digits are known at compile time in each of the branches. */
ALWAYS_INLINE void rows_of_type(const enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                                const struct simd_row *x, float *out)
{
    if (x->coarse)
        all_rows(type, w, row_bytes, rows, x, 1, out);
    else
        all_rows(type, w, row_bytes, rows, x, DIGITS, out);
}

void dot_avx512_matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                       float *out)
{
    switch (type) {
    case QUANT_Q4_0:
        rows_of_type(QUANT_Q4_0, w, row_bytes, rows, x, out);
        break;
    case QUANT_Q4_1:
        rows_of_type(QUANT_Q4_1, w, row_bytes, rows, x, out);
        break;
    case QUANT_Q8_0:
        rows_of_type(QUANT_Q8_0, w, row_bytes, rows, x, out);
        break;
    default:
        dotk_avx512_matvec(type, w, row_bytes, rows, x, out);
    }
}
#else
typedef int simd_dot_avx512_is_for_x86; /* an empty translation unit is no C */
#endif
