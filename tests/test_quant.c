#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant.h"

static float bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A half by its definition. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double v = exponent == 0    ? ldexp(mantissa, -24)
               : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                : ldexp(1024 + mantissa, exponent - 25);
    return h & 0x8000 ? -v : v;
}

static void every_half_is_exact_and_comes_back(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_half_to_float((uint16_t)h);
        double v = half_value((uint16_t)h);
        if (isnan(v)) {
            assert_true(isnan(f));
            assert_true(isnan(half_value(quant_float_to_half(f))));
        } else {
            assert_true((double)f == v && !signbit(f) == !signbit(v));
            assert_int_equal(quant_float_to_half(f), h);
        }
    }
}

/* Between two neighbours: below the middle down, above it up, the middle itself to the even one. */
static void halves_round_to_nearest_even(void **state)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double a = half_value((uint16_t)h), b = half_value((uint16_t)(h + 1));
        float middle = (float)((a + b) / 2); /* exact in fp32 */
        assert_int_equal(quant_float_to_half(nextafterf(middle, 0)), h);
        assert_int_equal(quant_float_to_half(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(quant_float_to_half(middle), h + (h & 1));
        assert_int_equal(quant_float_to_half(-middle), 0x8000 | (h + (h & 1)));
    }
    assert_int_equal(quant_float_to_half(65519.0f), 0x7bff);
    assert_int_equal(quant_float_to_half(65520.0f), 0x7c00);
    assert_int_equal(quant_float_to_half(-INFINITY), 0xfc00);
    assert_int_equal(quant_float_to_half(1e-30f), 0);
}

static void bfloats_round_to_nearest_even(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_bfloat_to_float((uint16_t)h);
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        assert_int_equal(bits, h << 16);
        if (isnan(f)) {
            assert_true(isnan(quant_bfloat_to_float(quant_float_to_bfloat(f))));
            continue;
        }
        assert_int_equal(quant_float_to_bfloat(f), h);
        if ((h & 0x7fff) < 0x7f7f) {
            assert_int_equal(quant_float_to_bfloat(bits_to_float(h << 16 | 0x7fff)), h);
            assert_int_equal(quant_float_to_bfloat(bits_to_float(h << 16 | 0x8000)), h + (h & 1));
            assert_int_equal(quant_float_to_bfloat(bits_to_float(h << 16 | 0x8001)), h + 1);
        }
    }
    assert_true(isnan(quant_bfloat_to_float(quant_float_to_bfloat(bits_to_float(0x7f800001)))));
}

static void put_half(uint8_t *p, float v)
{
    uint16_t h = quant_float_to_half(v);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

static void plain_types(void **state)
{
    const float f[3] = {1.5f, -0.0f, 1e-40f};
    float y[3];
    uint8_t unaligned[13];
    memcpy(unaligned + 1, f, sizeof f);
    quant_to_float(QUANT_F32, unaligned + 1, y, 3);
    assert_memory_equal(y, f, sizeof f);
    put_half(unaligned + 1, 2.5f);
    put_half(unaligned + 3, -7.0f);
    quant_to_float(QUANT_F16, unaligned + 1, y, 2);
    assert_true(y[0] == 2.5f && y[1] == -7.0f);
    memcpy(unaligned + 1, "\x20\xc0\x80\x3f", 4);
    quant_to_float(QUANT_BF16, unaligned + 1, y, 2);
    assert_true(y[0] == -2.5f && y[1] == 1.0f);
}

/* Blocks of 32 built from the values: value j is j mod 16 or j itself, so a swapped nibble or bit shows at once. */
static void blocks_of_32(void **state)
{
    uint8_t b[34];
    float y[32];
    put_half(b, 0.5f);
    for (int j = 0; j < 16; j++)
        b[2 + j] = (uint8_t)(j | (15 - j) << 4);
    quant_to_float(QUANT_Q4_0, b, y, 32);
    for (int j = 0; j < 16; j++)
        assert_true(y[j] == 0.5f * (float)(j - 8) && y[j + 16] == 0.5f * (float)(7 - j));

    memmove(b + 4, b + 2, 16);
    put_half(b + 2, -3.0f);
    quant_to_float(QUANT_Q4_1, b, y, 32);
    for (int j = 0; j < 16; j++)
        assert_true(y[j] == 0.5f * (float)j - 3 && y[j + 16] == 0.5f * (float)(15 - j) - 3);

    /* five bits: value j is j */
    memcpy(b + 2, "\x00\x00\xff\xff", 4);
    for (int j = 0; j < 16; j++)
        b[6 + j] = (uint8_t)(j | j << 4);
    quant_to_float(QUANT_Q5_0, b, y, 32);
    for (int j = 0; j < 32; j++)
        assert_true(y[j] == 0.5f * (float)(j - 16));

    memmove(b + 4, b + 2, 20);
    put_half(b + 2, 1.0f);
    quant_to_float(QUANT_Q5_1, b, y, 32);
    for (int j = 0; j < 32; j++)
        assert_true(y[j] == 0.5f * (float)j + 1);

    for (int j = 0; j < 32; j++)
        b[2 + j] = (uint8_t)(8 * j - 128);
    quant_to_float(QUANT_Q8_0, b, y, 32);
    for (int j = 0; j < 32; j++)
        assert_true(y[j] == 0.5f * (float)(8 * j - 128));
}

/* Six-bit scales and minima of eight groups, packed into 12 bytes. */
static void pack_scales(uint8_t *p, const int *scale, const int *min)
{
    for (int g = 0; g < 4; g++) {
        p[g] = (uint8_t)(scale[g] | scale[g + 4] >> 4 << 6);
        p[g + 4] = (uint8_t)(min[g] | min[g + 4] >> 4 << 6);
        p[g + 8] = (uint8_t)((scale[g + 4] & 15) | (min[g + 4] & 15) << 4);
    }
}

static void blocks_of_256_with_minima(void **state)
{
    static const int scale[8] = {1, 63, 32, 7, 48, 21, 15, 62}, min[8] = {63, 0, 17, 33, 5, 47, 60, 31};
    uint8_t q4[144] = {0}, q5[176] = {0};
    float y4[256], y5[256];
    put_half(q4, 0.25f);
    put_half(q4 + 2, 0.125f);
    memcpy(q5, q4, 4);
    pack_scales(q4 + 4, scale, min);
    pack_scales(q5 + 4, scale, min);
    for (int i = 0; i < 256; i++) {
        int g = i / 32, j = i % 32, v = (i * 7 + g) % 32;
        q4[16 + g / 2 * 32 + j] |= (uint8_t)((v & 15) << (g & 1 ? 4 : 0));
        q5[48 + g / 2 * 32 + j] |= (uint8_t)((v & 15) << (g & 1 ? 4 : 0));
        q5[16 + j] |= (uint8_t)((v >> 4) << g);
    }
    quant_to_float(QUANT_Q4_K, q4, y4, 256);
    quant_to_float(QUANT_Q5_K, q5, y5, 256);
    for (int i = 0; i < 256; i++) {
        int g = i / 32, v = (i * 7 + g) % 32;
        assert_true(y4[i] == 0.25f * (float)(scale[g] * (v & 15)) - 0.125f * (float)min[g]);
        assert_true(y5[i] == 0.25f * (float)(scale[g] * v) - 0.125f * (float)min[g]);
    }
}

static void blocks_of_256_with_signed_scales(void **state)
{
    uint8_t b[210] = {0};
    float y[256];
    put_half(b + 208, 0.5f);
    for (int k = 0; k < 16; k++)
        b[192 + k] = (uint8_t)(k * 17 - 128);
    for (int i = 0; i < 256; i++) {
        int v = (i * 5 + 3) % 64, half = i / 128, quarter = i % 128 / 32, j = i % 32;
        b[half * 64 + quarter % 2 * 32 + j] |= (uint8_t)((v & 15) << (quarter / 2 * 4));
        b[128 + half * 32 + j] |= (uint8_t)(v >> 4 << quarter * 2);
    }
    quant_to_float(QUANT_Q6_K, b, y, 256);
    for (int i = 0; i < 256; i++)
        assert_true(y[i] == 0.5f * (float)((i / 16 * 17 - 128) * ((i * 5 + 3) % 64 - 32)));
}

static unsigned hex_byte(const char *p)
{
    unsigned v = 0;
    assert_int_equal(sscanf(p, "%2x", &v), 1);
    return v;
}

/* tests/vectors/quant.py says how the file was made. The bits must agree: one product, one sum. */
static void vectors_of_another_implementation(void **state)
{
    FILE *f = fopen("tests/vectors/quant.txt", "r");
    assert_non_null(f);
    static char block[1024], values[4096];
    unsigned type;
    int n, lines = 0;
    while (fscanf(f, "%u %d %1023s %4095s", &type, &n, block, values) == 4) {
        const struct quant_info *info = quant_info(type);
        uint8_t b[256];
        float y[256];
        assert_non_null(info);
        assert_int_equal(info->block, n);
        assert_int_equal(strlen(block), 2 * (size_t)info->bytes);
        for (int i = 0; i < info->bytes; i++)
            b[i] = (uint8_t)hex_byte(block + 2 * i);
        quant_to_float(type, b, y, (size_t)n);
        for (int i = 0; i < n; i++) {
            uint32_t bits = 0;
            for (int k = 0; k < 4; k++)
                bits = bits << 8 | hex_byte(values + 8 * i + 2 * k);
            float want = bits_to_float(bits);
            if (y[i] != want)
                fail_msg("%s value %d is %.9g, not %.9g", info->name, i, (double)y[i], (double)want);
        }
        lines++;
    }
    fclose(f);
    assert_int_equal(lines, 16);
}

static void types_that_are_not_read(void **state)
{
    static const uint32_t no[] = {4, 5, 9, 10, 11, 15, 16, 29, 31, 39, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_null(quant_info(no[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_exact_and_comes_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(bfloats_round_to_nearest_even),
        cmocka_unit_test(plain_types),
        cmocka_unit_test(blocks_of_32),
        cmocka_unit_test(blocks_of_256_with_minima),
        cmocka_unit_test(blocks_of_256_with_signed_scales),
        cmocka_unit_test(vectors_of_another_implementation),
        cmocka_unit_test(types_that_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
