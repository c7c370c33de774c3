/* Expansion of quantised blocks for simd_avx2.c and simd_avx512.c, which include it once each, after they have defined
 *     LANES, vf, v_set1                                   as for simd_kernels.h
 *     store_bytes(float *dst, __m128i b, vf d, vf m)      dst[i] = d * b[i] + m for 16 unsigned bytes
 *     store_signed_bytes(float *dst, __m128i b, vf d)     dst[i] = d * b[i] for 16 signed bytes
 *     load_halves, load_bfloats(const unsigned char *)    LANES values as a vf
 * Layouts: quant.c. A product of two scales is exact in fp32, so results are those of quant_to_float up to one rounding.
 * No include guard: it belongs to its includer. */

#include <string.h>

static inline float half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

static inline __m128i load16(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline __m128i low_nibbles(__m128i q)
{
    return _mm_and_si128(q, _mm_set1_epi8(15));
}

static inline __m128i high_nibbles(__m128i q)
{
    return _mm_and_si128(_mm_srli_epi16(q, 4), _mm_set1_epi8(15));
}

/* 16 bits as 16 bytes of 0 or 16. */
static inline __m128i fifth_bits(const unsigned char *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    const __m128i one = _mm_set1_epi64x((long long)0x8040201008040201);
    __m128i spread =
        _mm_shuffle_epi8(_mm_cvtsi32_si128(bits), _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(spread, one), one), _mm_set1_epi8(16));
}

/* Q4_0, Q4_1, Q5_0, Q5_1. */
ALWAYS_INLINE void expand_legacy(const unsigned char *src, float *dst, size_t n, const int bits, const bool has_offset)
{
    const size_t high = has_offset ? 4 : 2, nibbles = high + (bits == 5 ? 4 : 0);
    for (size_t i = 0; i < n; i += 32, src += nibbles + 16) {
        float scale = half_at(src);
        vf d = v_set1(scale), m = v_set1(has_offset ? half_at(src + 2) : (bits == 5 ? -16 : -8) * scale);
        __m128i q = load16(src + nibbles), q0 = low_nibbles(q), q1 = high_nibbles(q);
        if (bits == 5) {
            q0 = _mm_or_si128(q0, fifth_bits(src + high));
            q1 = _mm_or_si128(q1, fifth_bits(src + high + 2));
        }
        store_bytes(dst + i, q0, d, m);
        store_bytes(dst + i + 16, q1, d, m);
    }
}

static void expand_q8_0(const unsigned char *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 32, src += 34) {
        vf d = v_set1(half_at(src));
        store_signed_bytes(dst + i, load16(src + 2), d);
        store_signed_bytes(dst + i + 16, load16(src + 18), d);
    }
}

/* The 6-bit scales [8] and minima [8] of Q4_K and Q5_K from their 12 bytes. */
static inline void scales_and_minima(const unsigned char *s, unsigned char *scale, unsigned char *min)
{
    for (int g = 0; g < 4; g++) {
        scale[g] = s[g] & 63;
        min[g] = s[g + 4] & 63;
        scale[g + 4] = (unsigned char)((s[g + 8] & 15) | s[g] >> 6 << 4);
        min[g + 4] = (unsigned char)(s[g + 8] >> 4 | s[g + 4] >> 6 << 4);
    }
}

/* Q4_K, Q5_K. */
ALWAYS_INLINE void expand_q45_k(const unsigned char *src, float *dst, size_t n, const int bits)
{
    const size_t nibbles = bits == 5 ? 48 : 16;
    for (size_t i = 0; i < n; i += 256, src += nibbles + 128) {
        unsigned char scale[8], min[8];
        float d = half_at(src), dmin = half_at(src + 2);
        scales_and_minima(src + 4, scale, min);
        for (int g = 0; g < 8; g++) {
            vf step = v_set1(d * scale[g]), offset = v_set1(-dmin * min[g]);
            for (size_t j = 0; j < 32; j += 16) {
                __m128i q = load16(src + nibbles + (size_t)(g / 2 * 32) + j);
                q = g & 1 ? high_nibbles(q) : low_nibbles(q);
                if (bits == 5) {
                    __m128i h = _mm_srl_epi16(load16(src + 16 + j), _mm_cvtsi32_si128(g));
                    q = _mm_or_si128(q, _mm_slli_epi16(_mm_and_si128(h, _mm_set1_epi8(1)), 4));
                }
                store_bytes(dst + i + (size_t)(g * 32) + j, q, step, offset);
            }
        }
    }
}

static void expand_q6_k(const unsigned char *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 256, src += 210) {
        float d = half_at(src + 208);
        for (size_t part = 0; part < 16; part++) { /* of 16 values */
            size_t half = part / 8, quarter = part / 2 % 4, j = part % 2 * 16;
            __m128i low = load16(src + half * 64 + (quarter & 1) * 32 + j);
            __m128i high = _mm_srl_epi16(load16(src + 128 + half * 32 + j), _mm_cvtsi32_si128((int)(2 * quarter)));
            low = quarter & 2 ? high_nibbles(low) : low_nibbles(low);
            __m128i q = _mm_or_si128(low, _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4));
            float step = d * (float)(signed char)src[192 + part];
            store_bytes(dst + i + part * 16, q, v_set1(step), v_set1(-32 * step));
        }
    }
}

static void expand_halves(enum quant_type type, const unsigned char *src, float *dst, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(dst + i, type == QUANT_F16 ? load_halves(src + 2 * i) : load_bfloats(src + 2 * i));
    quant_to_float(type, src + 2 * i, dst + i, n - i);
}

static void expand(enum quant_type type, const void *src, float *dst, size_t n)
{
    switch (type) {
    case QUANT_F32:
        memcpy(dst, src, n * sizeof *dst);
        break;
    case QUANT_F16:
    case QUANT_BF16:
        expand_halves(type, src, dst, n);
        break;
    case QUANT_Q4_0:
        expand_legacy(src, dst, n, 4, false);
        break;
    case QUANT_Q4_1:
        expand_legacy(src, dst, n, 4, true);
        break;
    case QUANT_Q5_0:
        expand_legacy(src, dst, n, 5, false);
        break;
    case QUANT_Q5_1:
        expand_legacy(src, dst, n, 5, true);
        break;
    case QUANT_Q8_0:
        expand_q8_0(src, dst, n);
        break;
    case QUANT_Q4_K:
        expand_q45_k(src, dst, n, 4);
        break;
    case QUANT_Q5_K:
        expand_q45_k(src, dst, n, 5);
        break;
    case QUANT_Q6_K:
        expand_q6_k(src, dst, n);
        break;
    }
}
