/* Each 32 activations become multiples X of (largest of them) / 8355000 in three signed digits of base 256, as with AVX-512
 * (simd_dot_avx512.h says why that is as exact as fp32). vpmaddubsw adds up two products of a nibble and a digit in 16 bits;
 * both halves of a block make 4 * 15 * 128 = 7680 at the most, vpmaddwd adds pairs of those, weighted, in 32 bits: the exact
 * integer sum of 8 weights * X a lane, below 8 * 15 * 2^23 < 2^30. */
#if defined(__x86_64__)
#include "simd_dot_avx2.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "simd_unroll.h"

enum {
    DIGITS = 3,
    BLOCK = 32,
    GROUP = 64, /* activations of one step: two blocks, one in each half of a vector */
    FINEST = 8355000,
    ROWS = 2,    /* rows that share the loads of the activations */
    AHEAD = 1024 /* bytes: what is fetched while a step computes */
};

struct nibble_group {            /* 32-byte aligned, as its size and the room are */
    int8_t digit[DIGITS][2][32]; /* leading digit first; of the first 16 of both blocks, of the last 16 */
    float scale[8];              /* by lane: what the integer 1 stands for */
    float sum[8];    /* lanes 1 and 5: sum of X * scale of their blocks, to meet Q4_1's offsets; the others 0 */
    int32_t bias[8]; /* by lane: -8 * sum of the X that meet the lane's weights */
};
_Static_assert(sizeof(struct nibble_group) <= GROUP * 16, "simd_row_room is too small");

bool dot_avx2_has(enum quant_type type)
{
    return type == QUANT_Q4_0 || type == QUANT_Q4_1 || type == QUANT_Q8_0;
}

static inline __m256i load_group(const void *p)
{
    return _mm256_load_si256((const __m256i *)p);
}

/* --- the activations ---------------------------------------------------------------------------------------------------- */

/* Unit of the integers of 32 activations, and its inverse. An infinity or a NaN makes it NaN, to spoil the product as it would
 * in fp32. */
static float unit_of(const float *x, bool coarse, float *inverse)
{
    /* Magnitudes of floats are ordered as their bits are, NaN above all. */
    __m256i largest = _mm256_setzero_si256(), magnitude = _mm256_set1_epi32(0x7fffffff);
    for (int i = 0; i < BLOCK; i += 8) {
        __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
        largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    float most = _mm_cvtss_f32(_mm_castsi128_ps(m)), top = coarse ? 127 : (float)FINEST;
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

/* Sums of 32 integers by lane: those at 4 * lane and the 3 behind it, in both halves. */
static inline __m128i sums_by_lane(const __m256i *v)
{
    __m256i pairs = _mm256_hadd_epi32(_mm256_add_epi32(v[0], v[2]), _mm256_add_epi32(v[1], v[3]));
    __m256i fours = _mm256_hadd_epi32(pairs, pairs);
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
}

/* 32 activations into block b (0, 1) of a group. */
static void put_block(struct nibble_group *g, int b, const float *x, bool coarse)
{
    float inverse, unit = unit_of(x, coarse, &inverse);
    __m256i v[BLOCK / 8];
    for (int i = 0; i < BLOCK / 8; i++)
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inverse)));
    __m128i sums = sums_by_lane(v);
    int32_t sum[4];
    _mm_storeu_si128((__m128i *)(void *)sum, sums);
    _mm_store_si128((__m128i *)(void *)(g->bias + 4 * b), _mm_mullo_epi32(sums, _mm_set1_epi32(-8)));
    _mm_store_ps(g->scale + 4 * b, _mm_set1_ps(unit));
    /* Of X, so that its rounding cancels as that of the products does. */
    g->sum[4 * b + 1] = (float)(sum[0] + sum[1] + sum[2] + sum[3]) * unit;
    for (int d = coarse ? 0 : DIGITS - 1; d >= 0;
         d--) { /* v = (what the next round sees) * 256 + a digit in -128..127 */
        __m256i digit = low_bytes(v);
        _mm_store_si128((__m128i *)(void *)(g->digit[d][0] + 16 * b), _mm256_castsi256_si128(digit));
        _mm_store_si128((__m128i *)(void *)(g->digit[d][1] + 16 * b), _mm256_extracti128_si256(digit, 1));
        for (int i = 0; i < BLOCK / 8; i++)
            v[i] = _mm256_srai_epi32(_mm256_add_epi32(v[i], _mm256_set1_epi32(128)), 8);
    }
}

void dot_avx2_prepare(struct simd_row *x, enum quant_type type)
{
    if (type != QUANT_Q4_0 && type != QUANT_Q4_1)
        return;
    struct nibble_group *g = (struct nibble_group *)(void *)x->room;
    memset(g, 0, (size_t)(x->n + GROUP - 1) / GROUP * sizeof *g);
    for (int i = 0; i < x->n; i += BLOCK)
        put_block(&g[i / GROUP], i / BLOCK % 2, x->x + i, x->coarse);
}

/* --- nibbles ------------------------------------------------------------------------------------------------------------ */

ALWAYS_INLINE __m256i nibble_product(__m256i q, const struct nibble_group *g, const int digits)
{
    const __m256i mask = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
    __m256i low = _mm256_and_si256(q, mask), high = _mm256_and_si256(_mm256_srli_epi16(q, 4), mask), part[DIGITS];
    UNROLL
    for (int i = 0; i < digits; i++)
        part[i] = _mm256_add_epi16(_mm256_maddubs_epi16(low, load_group(g->digit[i][0])),
                                   _mm256_maddubs_epi16(high, load_group(g->digit[i][1])));
    if (digits == 1)
        return _mm256_madd_epi16(part[0], one);
    __m256i top = _mm256_madd_epi16(part[0], _mm256_set1_epi16(256));
    top = _mm256_add_epi32(top, _mm256_madd_epi16(part[1], one));
    return _mm256_add_epi32(_mm256_slli_epi32(top, 8), _mm256_madd_epi16(part[2], one));
}

/* Two blocks at src times a group. Sums of scales and of offsets apart: two chains of additions are done sooner than one. */
ALWAYS_INLINE void nibble_step(const enum quant_type type, const unsigned char *src, const struct nibble_group *g,
                               const int digits, __m256 *sum, __m256 *offset)
{
    const size_t block = type == QUANT_Q4_1 ? 20 : 18, head = block - 16;
    __m128i q0 = _mm_loadu_si128((const __m128i *)(const void *)(src + head));
    __m128i q1 = _mm_loadu_si128((const __m128i *)(const void *)(src + block + head));
    __m256i product = nibble_product(_mm256_inserti128_si256(_mm256_castsi128_si256(q0), q1, 1), g, digits);
    __m256 scale = _mm256_load_ps(g->scale);
    if (type == QUANT_Q4_1) { /* weight = d * nibble + m */
        int32_t dm0, dm1;
        memcpy(&dm0, src, sizeof dm0);
        memcpy(&dm1, src + block, sizeof dm1);
        /* d0 m0 d0 m0 d1 m1 d1 m1 */
        __m256 dm = _mm256_cvtph_ps(_mm_unpacklo_epi64(_mm_set1_epi32(dm0), _mm_set1_epi32(dm1)));
        scale = _mm256_mul_ps(scale, _mm256_moveldup_ps(dm));
        *offset = _mm256_fmadd_ps(dm, _mm256_load_ps(g->sum), *offset);
    } else { /* weight = d * (nibble - 8) */
        int16_t d0, d1;
        memcpy(&d0, src, sizeof d0);
        memcpy(&d1, src + block, sizeof d1);
        scale = _mm256_mul_ps(scale, _mm256_cvtph_ps(_mm_unpacklo_epi64(_mm_set1_epi16(d0), _mm_set1_epi16(d1))));
        product = _mm256_add_epi32(product, load_group(g->bias));
    }
    *sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(product), *sum);
}

static inline float sum_lanes(__m256 a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

ALWAYS_INLINE void nibble_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, const int rows,
                               const struct simd_row *x, const int digits, float *out)
{
    const size_t block = type == QUANT_Q4_1 ? 20 : 18;
    const struct nibble_group *g = (const struct nibble_group *)(const void *)x->room;
    __m256 sum[ROWS], offset[ROWS];
    UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = offset[r] = _mm256_setzero_ps();
    int whole = x->n / GROUP;
    for (int i = 0; i < whole; i++) {
        UNROLL
        for (int r = 0; r < rows; r++) {
            const unsigned char *src = w + (size_t)r * row_bytes + (size_t)i * 2 * block;
            _mm_prefetch((const char *)src + AHEAD, _MM_HINT_T0);
            nibble_step(type, src, &g[i], digits, &sum[r], &offset[r]);
        }
    }
    for (int r = 0; x->n % GROUP && r < rows; r++) { /* a last block without its neighbour */
        unsigned char last[2 * 20] = {0};
        memcpy(last, w + (size_t)r * row_bytes + (size_t)whole * 2 * block, block);
        nibble_step(type, last, &g[whole], digits, &sum[r], &offset[r]);
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        out[r] = sum_lanes(_mm256_add_ps(sum[r], offset[r]));
}

/* --- bytes -------------------------------------------------------------------------------------------------------------- */

static float q8_0_row(const unsigned char *w, const float *x, int n)
{
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < n; i += BLOCK, w += 34) {
        uint16_t d;
        memcpy(&d, w, sizeof d);
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        __m256 part = _mm256_setzero_ps();
        UNROLL
        for (int j = 0; j < BLOCK; j += 8) {
            __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(w + 2 + j));
            part = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_loadu_ps(x + i + j), part);
        }
        sum = _mm256_fmadd_ps(_mm256_set1_ps(_cvtsh_ss(d)), part, sum);
    }
    return sum_lanes(sum);
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */

ALWAYS_INLINE void all_nibble_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                                   const struct simd_row *x, const int digits, float *out)
{
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        nibble_rows(type, w + (size_t)r * row_bytes, row_bytes, ROWS, x, digits, out + r);
    for (; r < rows; r++)
        nibble_rows(type, w + (size_t)r * row_bytes, row_bytes, 1, x, digits, out + r);
}

void dot_avx2_matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                     float *out)
{
    if (type == QUANT_Q8_0) {
        for (int r = 0; r < rows; r++)
            out[r] = q8_0_row((const unsigned char *)w + (size_t)r * row_bytes, x->x, x->n);
    } else if (type == QUANT_Q4_1) {
        if (x->coarse)
            all_nibble_rows(QUANT_Q4_1, w, row_bytes, rows, x, 1, out);
        else
            all_nibble_rows(QUANT_Q4_1, w, row_bytes, rows, x, DIGITS, out);
    } else if (x->coarse) {
        all_nibble_rows(QUANT_Q4_0, w, row_bytes, rows, x, 1, out);
    } else {
        all_nibble_rows(QUANT_Q4_0, w, row_bytes, rows, x, DIGITS, out);
    }
}
#else
typedef int simd_dot_avx2_is_for_x86; /* an empty translation unit is no C */
#endif
