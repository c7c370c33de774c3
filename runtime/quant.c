/* Block formats of ggml, expanded one value at a time. Layouts after the GGUF specification and ggml's block structs. */
#include "quant.h"

#include <assert.h>
#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

const struct quant_info *quant_info(uint32_t type)
{
    static const struct quant_info info[] = {
        [QUANT_F32] = {"F32", 1, 4},       [QUANT_F16] = {"F16", 1, 2},       [QUANT_Q4_0] = {"Q4_0", 32, 18},
        [QUANT_Q4_1] = {"Q4_1", 32, 20},   [QUANT_Q5_0] = {"Q5_0", 32, 22},   [QUANT_Q5_1] = {"Q5_1", 32, 24},
        [QUANT_Q8_0] = {"Q8_0", 32, 34},   [QUANT_Q4_K] = {"Q4_K", 256, 144}, [QUANT_Q5_K] = {"Q5_K", 256, 176},
        [QUANT_Q6_K] = {"Q6_K", 256, 210}, [QUANT_BF16] = {"BF16", 1, 2},
    };
    return type < sizeof info / sizeof *info && info[type].name ? &info[type] : NULL;
}

int quant_type_named(const char *name)
{
    for (uint32_t type = 0; type <= QUANT_BF16; type++)
        if (quant_info(type) && !strcasecmp(quant_info(type)->name, name))
            return (int)type;
    return -1;
}

void quant_kernel_name(enum quant_type type, char name[8])
{
    const char *from = quant_info(type)->name;
    int i = 0;
    for (; from[i] && i < 7; i++)
        name[i] = (char)tolower((unsigned char)from[i]);
    name[i] = 0;
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float quant_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) { /* subnormal: mantissa * 2^-24, exact */
        float f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t quant_float_to_half(float f)
{
    uint32_t bits = bits_of_float(f), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000) /* NaN: keep it one, quiet */
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a <
        0x38800000) /* subnormal: next to 0.5 an fp32 has the spacing 2^-24 of these halves, so the sum rounds to them */
        return (uint16_t)(sign | (bits_of_float(float_of_bits(a) + 0.5f) - 0x3f000000));
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

float quant_bfloat_to_float(uint16_t h)
{
    return float_of_bits((uint32_t)h << 16);
}

uint16_t quant_float_to_bfloat(float f)
{
    uint32_t bits = bits_of_float(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float half_at(const uint8_t *p)
{
    return quant_half_to_float(u16_at(p));
}

/* Q4_0, Q4_1, Q5_0 and Q5_1: 32 values; a half scale, for _1 a half offset, for 5 bits one word of high bits, then 16 bytes
 * with value j in the low and value j + 16 in the high nibble of byte j. _0 is centred, _1 counts from its offset. */
static void expand_legacy(const uint8_t *b, float *y, int bits, bool has_offset)
{
    float d = half_at(b), offset = has_offset ? half_at(b + 2) : 0;
    float centre = has_offset ? 0 : (float)(1 << (bits - 1));
    const uint8_t *p = b + (has_offset ? 4 : 2);
    uint32_t high = 0;
    if (bits == 5) {
        high = (uint32_t)u16_at(p) | (uint32_t)u16_at(p + 2) << 16;
        p += 4;
    }
    for (int j = 0; j < 32; j++) {
        uint32_t q = (j < 16 ? p[j] & 15u : (uint32_t)(p[j - 16] >> 4)) | (high >> j & 1) << 4;
        y[j] = d * ((float)q - centre) + offset;
    }
}

static void expand_q8_0(const uint8_t *b, float *y)
{
    float d = half_at(b);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)(int8_t)b[2 + j];
}

/* The eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K share 12 bytes: those of the first four groups lie in the
 * low six bits of bytes 0..3 and 4..7, those of the last four in nibbles of bytes 8..11 with their top two bits above the
 * first ones'. */
static void scale_and_min(const uint8_t *s, int group, int *scale, int *min)
{
    if (group < 4) {
        *scale = s[group] & 63;
        *min = s[group + 4] & 63;
    } else {
        *scale = (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
        *min = s[group + 4] >> 4 | s[group] >> 6 << 4;
    }
}

/* Q4_K and Q5_K: 256 values in eight groups of 32. Two groups share 32 bytes, low nibbles first; the fifth bit of value j of
 * group g is bit g of byte j of `high`. */
static void expand_q45_k(const uint8_t *b, float *y, const uint8_t *high, const uint8_t *nibbles)
{
    float d = half_at(b), dmin = half_at(b + 2);
    for (int g = 0; g < 8; g++) {
        int scale, min;
        scale_and_min(b + 4, g, &scale, &min);
        float step = d * (float)scale, offset = dmin * (float)min;
        for (int j = 0; j < 32; j++) {
            int q = nibbles[g / 2 * 32 + j] >> (g & 1 ? 4 : 0) & 15;
            if (high)
                q |= (high[j] >> g & 1) << 4;
            y[g * 32 + j] = step * (float)q - offset;
        }
    }
}

/* Q6_K: two halves of 128 values, each four quarters of 32. Low nibbles: 64 bytes a half, quarters 0 and 1 in the low, 2 and 3
 * in the high nibbles; high two bits: 32 bytes a half, quarter k at bit 2k. One signed scale for 16 values. */
static void expand_q6_k(const uint8_t *b, float *y)
{
    float d = half_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i / 32 % 4, j = i % 32;
        int low = b[half * 64 + (quarter & 1) * 32 + j] >> (quarter & 2 ? 4 : 0) & 15;
        int high = b[128 + half * 32 + j] >> 2 * quarter & 3;
        y[i] = d * (float)(int8_t)b[192 + i / 16] * (float)((low | high << 4) - 32);
    }
}

void quant_to_float(enum quant_type type, const void *src, float *dst, size_t n)
{
    const struct quant_info *info = quant_info(type);
    assert(info && n % (size_t)info->block == 0);
    const uint8_t *b = src;
    if (type == QUANT_F32) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    for (size_t i = 0; i < n; i += (size_t)info->block, b += info->bytes) {
        float *y = dst + i;
        switch (type) {
        case QUANT_F32:
            break;
        case QUANT_F16:
            *y = half_at(b);
            break;
        case QUANT_BF16:
            *y = quant_bfloat_to_float(u16_at(b));
            break;
        case QUANT_Q4_0:
            expand_legacy(b, y, 4, false);
            break;
        case QUANT_Q4_1:
            expand_legacy(b, y, 4, true);
            break;
        case QUANT_Q5_0:
            expand_legacy(b, y, 5, false);
            break;
        case QUANT_Q5_1:
            expand_legacy(b, y, 5, true);
            break;
        case QUANT_Q8_0:
            expand_q8_0(b, y);
            break;
        case QUANT_Q4_K:
            expand_q45_k(b, y, NULL, b + 16);
            break;
        case QUANT_Q5_K:
            expand_q45_k(b, y, b + 16, b + 48);
            break;
        case QUANT_Q6_K:
            expand_q6_k(b, y);
            break;
        }
    }
}
