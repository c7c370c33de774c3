/* Products in integers with rows of Q4_K, Q5_K and Q6_K. Layouts: quant.c. Four groups of 64 activations meet a block of 256. */
#if defined(__x86_64__)
#include "simd_dot_avx512.h"

#include <string.h>

static inline float half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

static inline __m256i load32(const unsigned char *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m512i join(__m256i low, __m256i high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Sums by lane of unsigned weights times X. */
ALWAYS_INLINE __m512i byte_product(__m512i q, const struct byte_group *g, const int digits)
{
    __m512i sum = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < digits; i++) {
        if (i)
            sum = _mm512_slli_epi32(sum, 8);
        sum = _mm512_dpbusd_epi32(sum, q, _mm512_load_si512(g->digit[i]));
    }
    return sum;
}

/* Lanes of the two blocks of 32 in group i of 64: value 2 i, then value 2 i + 1. */
static inline __m512i lanes_of_pair(int i)
{
    return _mm512_inserti64x4(_mm512_set1_epi32(2 * i), _mm256_set1_epi32(2 * i + 1), 1);
}

/* The eight 6-bit scales and minima, as floats, out of their 12 bytes. */
static inline void scales_and_minima(const unsigned char *p, float d, float dmin, __m512 *scale, __m512 *min)
{
    uint32_t a, b, c;
    memcpy(&a, p, 4);
    memcpy(&b, p + 4, 4);
    memcpy(&c, p + 8, 4);
    uint32_t scale_high = (c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4,
             min_high = (c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
    __m128i bytes = _mm_setr_epi32((int)(a & 0x3f3f3f3f), (int)scale_high, (int)(b & 0x3f3f3f3f), (int)min_high);
    __m512 all = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); /* 8 scales, 8 minima */
    __m512 by = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(d), _mm512_set1_ps(-dmin));
    *scale = _mm512_mul_ps(all, by);
    *min = _mm512_shuffle_f32x4(*scale, *scale, 0xee);
}

ALWAYS_INLINE __m512 block_q45(const unsigned char *src, const int bits, const struct byte_group *g, const int digits,
                               __m512 sum)
{
    const __m256i fifteen = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    const unsigned char *nibbles = src + (bits == 5 ? 48 : 16);
    __m256i high = bits == 5 ? load32(src + 16) : _mm256_setzero_si256();
    __m512 scale, min;
    scales_and_minima(src + 4, half_at(src), half_at(src + 2), &scale, &min);
    UNROLL
    for (int i = 0; i < 4; i++, g++) {
        __m256i q = load32(nibbles + 32 * i), low = _mm256_and_si256(q, fifteen);
        __m256i up = _mm256_and_si256(_mm256_srli_epi16(q, 4), fifteen);
        if (bits == 5) {
            low = _mm256_or_si256(low, _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(high, 2 * i), one), 4));
            up = _mm256_or_si256(up, _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(high, 2 * i + 1), one), 4));
        }
        __m512 product = _mm512_cvtepi32_ps(byte_product(join(low, up), g, digits));
        __m512i lanes = lanes_of_pair(i);
        __m512 by = _mm512_mul_ps(_mm512_permutexvar_ps(lanes, scale), _mm512_load_ps(g->scale));
        sum = _mm512_fmadd_ps(by, product, sum);
        sum = _mm512_fmadd_ps(_mm512_permutexvar_ps(lanes, min), _mm512_load_ps(g->sum), sum);
    }
    return sum;
}

ALWAYS_INLINE __m512 block_q6(const unsigned char *src, const struct byte_group *g, const int digits, __m512 sum)
{
    const __m512i fifteen = _mm512_set1_epi8(15), two_bits = _mm512_set1_epi8(0x30);
    const __m512i four_each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(src + 192));
    __m512 scale = _mm512_mul_ps(_mm512_set1_ps(half_at(src + 208)), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
    UNROLL
    for (int i = 0; i < 4; i++, g++) { /* i: half of the block, then low or high nibbles */
        __m512i q = _mm512_loadu_si512(src + 64 * (i / 2));
        __m256i h = load32(src + 128 + 32 * (i / 2));
        __m512i high = join(h, _mm256_srli_epi16(h, 2)); /* the bits of quarters 0 and 1 at 0, of 2 and 3 at 4 */
        if (i % 2 == 0)
            q = _mm512_or_si512(_mm512_and_si512(q, fifteen), _mm512_and_si512(_mm512_slli_epi16(high, 4), two_bits));
        else
            q = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(q, 4), fifteen), _mm512_and_si512(high, two_bits));
        __m512i product = _mm512_add_epi32(byte_product(q, g, digits), _mm512_load_si512(g->bias_6));
        __m512i lanes = _mm512_add_epi32(four_each, _mm512_set1_epi32(4 * i));
        __m512 by = _mm512_mul_ps(_mm512_permutexvar_ps(lanes, scale), _mm512_load_ps(g->scale));
        sum = _mm512_fmadd_ps(by, _mm512_cvtepi32_ps(product), sum);
    }
    return sum;
}

/* Two rows side by side: enough to have work while one waits, and few enough registers. */
enum { K_ROWS = 2 };

ALWAYS_INLINE void some_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, const int rows,
                             const struct simd_row *x, const int digits, float *out)
{
    const size_t step = type == QUANT_Q4_K ? 144 : type == QUANT_Q5_K ? 176 : 210;
    const struct byte_group *g = byte_groups(x);
    __m512 sum[K_ROWS];
    UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < (size_t)x->n / 256; i++) {
        struct fetch next = fetch_for(w, row_bytes, rows, i * step, step);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const unsigned char *src = w + (size_t)r * row_bytes + i * step;
            for (size_t line = 0; line < step; line += 64)
                _mm_prefetch(next.at + (size_t)r * next.pitch + line, _MM_HINT_T0);
            sum[r] = type == QUANT_Q6_K ? block_q6(src, g + 4 * i, digits, sum[r])
                                        : block_q45(src, type == QUANT_Q5_K ? 5 : 4, g + 4 * i, digits, sum[r]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        out[r] = _mm512_reduce_add_ps(sum[r]);
}

ALWAYS_INLINE void all_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                            const struct simd_row *x, const int digits, float *out)
{
    int r = 0;
    for (; r + K_ROWS <= rows; r += K_ROWS)
        some_rows(type, w + (size_t)r * row_bytes, row_bytes, K_ROWS, x, digits, out + r);
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
        all_rows(type, w, row_bytes, rows, x, SIMD_DIGITS, out);
}

void dotk_avx512_matvec(enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                        const struct simd_row *x, float *out)
{
    switch (type) {
    case QUANT_Q4_K:
        rows_of_type(QUANT_Q4_K, w, row_bytes, rows, x, out);
        break;
    case QUANT_Q5_K:
        rows_of_type(QUANT_Q5_K, w, row_bytes, rows, x, out);
        break;
    default:
        rows_of_type(QUANT_Q6_K, w, row_bytes, rows, x, out);
    }
}
#else
typedef int simd_dotk_avx512_is_for_x86; /* an empty translation unit is no C */
#endif
