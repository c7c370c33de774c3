/* Every vector version of simd.h against the plain one, and the integer products against double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_writer.h"
#include "runtime/simd.h"

static const struct simd *versions[2];
static int nversions;

static const enum quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0,
                                        QUANT_Q5_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
enum { TYPES = sizeof types / sizeof *types };

static float *numbers(size_t n, double sigma, uint64_t *seed)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64 + 64);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(sigma * random_normal(seed));
    return x;
}

static void assert_near(const char *what, const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * fmax(1, fabs((double)b[i]))))
            fail_msg("%s: element %zu of %zu is %.9g, plain has %.9g", what, i, n, (double)a[i], (double)b[i]);
}

static void test_product(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 200; round++) {
        int m = random_int(&seed, 1, 14), panels = random_int(&seed, 1, 9), k = random_int(&seed, 0, 70);
        struct simd_product p = {.m = m, .panels = panels, .k = k, .add = round % 2};
        bool side_by_side = round % 3; /* panels of one matrix, or panel after panel */
        p.a_row = (size_t)k + (size_t)random_int(&seed, 0, 3);
        p.b_k = side_by_side ? (size_t)panels * PANEL + 1 : PANEL;
        p.b_panel = side_by_side ? PANEL : (size_t)k * PANEL;
        p.c_row = (size_t)panels * PANEL + (size_t)random_int(&seed, 0, 5);
        size_t room = (size_t)m * p.c_row;
        float *a = numbers((size_t)m * p.a_row + 1, 1, &seed);
        float *b = numbers((size_t)(k + 1) * p.b_k + (size_t)panels * p.b_panel, 1, &seed);
        float *c = numbers(room, 1, &seed), *expected = numbers(room, 1, &seed);
        memcpy(expected, c, room * sizeof *c);
        float *start = numbers(room, 1, &seed);
        memcpy(start, c, room * sizeof *c);
        p.a = a;
        p.b = b;
        p.c = expected;
        simd_plain.product(&p);
        for (int v = 0; v < nversions; v++) {
            memcpy(c, start, room * sizeof *c);
            p.c = c;
            versions[v]->product(&p);
            assert_near(versions[v]->name, c, expected, room, 1e-5); /* what lies between the rows included */
        }
        free(a);
        free(b);
        free(c);
        free(expected);
        free(start);
    }
}

static void test_expand(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int i = 0; i < TYPES; i++)
        for (size_t n = 256; n <= 1024; n += 256) {
            size_t bytes, odd = quant_info(types[i])->block == 1 ? n - 13 : n;
            unsigned char *blocks = random_blocks(types[i], n, 1, &seed, &bytes);
            float *a = numbers(n, 1, &seed), *b = numbers(n, 1, &seed);
            quant_to_float(types[i], blocks, b, odd);
            for (int v = 0; v < nversions; v++) {
                versions[v]->expand(types[i], blocks, a, odd);
                assert_near(quant_info(types[i])->name, a, b, odd, 2e-7);
            }
            free(blocks);
            free(a);
            free(b);
        }
}

static void test_transpose(void **state)
{
    (void)state;
    uint64_t seed = 3;
    float *src = numbers(16 * 70, 1, &seed), *a = numbers(64 * 40, 1, &seed), *b = numbers(64 * 40, 1, &seed);
    memcpy(b, a, 64 * 40 * sizeof *a);
    simd_plain.transpose(src, 70, b, 40, 64);
    for (int v = 0; v < nversions; v++) {
        versions[v]->transpose(src, 70, a, 40, 64);
        assert_memory_equal(a, b, 64 * 40 * sizeof *a);
    }
    assert_true(b[3 * 40 + 5] == src[5 * 70 + 3]);
    free(src);
    free(a);
    free(b);
}

/* Rows times x by a version: as they are, or woven, where `rows` is taken up to whole groups. */
static void multiply(const struct simd *s, bool woven, enum quant_type type, const unsigned char *w, size_t row_bytes,
                     int rows, struct simd_row *x, float *out)
{
    if (!woven) {
        s->prepare(x, type);
        s->matvec(type, w, row_bytes, rows, x, out);
        return;
    }
    int whole = (rows + SIMD_WOVEN_ROWS - 1) / SIMD_WOVEN_ROWS * SIMD_WOVEN_ROWS;
    unsigned char *plain = calloc((size_t)whole, row_bytes), *to = malloc((size_t)whole * row_bytes);
    float *all = numbers((size_t)whole, 1, &(uint64_t){1});
    assert_true(plain && to);
    memcpy(plain, w, (size_t)rows * row_bytes);
    for (int r = 0; r < whole; r += SIMD_WOVEN_ROWS)
        s->woven->weave(type, plain + (size_t)r * row_bytes, row_bytes, to + (size_t)r * row_bytes);
    s->woven->prepare(x);
    s->woven->matvec(type, to, row_bytes, whole, x, all);
    memcpy(out, all, (size_t)rows * sizeof *out);
    free(plain);
    free(to);
    free(all);
}

/* Ways in which a version multiplies a type: 1, or 2 where it has it woven as well. */
static int ways(const struct simd *s, enum quant_type type)
{
    return s->woven && s->woven->has(type) ? 2 : 1;
}

/* Error of a version's product with each row against double precision, relative to the sizes of what is added up. */
static double matvec_error(const struct simd *s, bool woven, enum quant_type type, int n, int rows, bool coarse,
                           double outliers, uint64_t *seed)
{
    const struct quant_info *info = quant_info(type);
    size_t bytes, row_bytes = (size_t)(n / info->block * info->bytes);
    unsigned char *w = random_blocks(type, (size_t)n * (size_t)rows, 1, seed, &bytes);
    float *x = numbers((size_t)n, 1, seed), *out = numbers((size_t)rows, 1, seed), *row = numbers((size_t)n, 1, seed);
    for (int i = 0; i < n; i += 97)
        x[i] *= (float)outliers;
    struct simd_row r = {.n = n, .coarse = coarse, .x = x, .room = aligned_alloc(64, simd_row_room((size_t)n))};
    assert_non_null(r.room);
    multiply(s, woven, type, w, row_bytes, rows, &r, out);
    double worst = 0;
    for (int i = 0; i < rows; i++) {
        double sum = 0, size = 0;
        quant_to_float(type, w + (size_t)i * row_bytes, row, (size_t)n);
        for (int j = 0; j < n; j++) {
            double largest = 0; /* beside it */
            for (int l = j / 32 * 32; l < n && l < j / 32 * 32 + 32; l++)
                largest = fmax(largest, fabs((double)x[l]));
            sum += (double)row[j] * (double)x[j];
            size += (double)row[j] * (double)row[j] * ((double)x[j] * (double)x[j] + largest * largest / 64);
        }
        worst = fmax(worst, fabs((double)out[i] - sum) / sqrt(size));
    }
    free(w);
    free(x);
    free(out);
    free(row);
    free(r.room);
    return worst;
}

/* Products in integers must be no worse than fp32. The bound is about what fp32 sums of these lengths lose. */
static void test_matvec(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int i = 0; i < TYPES; i++)
        for (int round = 0; round < 24; round++) {
            int block = quant_info(types[i])->block, n = block == 256 ? 256 * (1 + round % 4) : 32 * (1 + round);
            double outliers = round % 3 == 0 ? 1 : round % 3 == 1 ? 30 : 1000;
            for (int v = 0; v < nversions; v++)
                for (int woven = 0; woven < ways(versions[v], types[i]); woven++) {
                    double error = matvec_error(versions[v], woven, types[i], n, 1 + round % 9, false, outliers, &seed);
                    if (error > 1.5e-6)
                        fail_msg("%s %s, woven %d: %d inputs, outliers of %g: error %g", versions[v]->name,
                                 quant_info(types[i])->name, woven, n, outliers, error);
                    error = matvec_error(versions[v], woven, types[i], n, 1 + round % 9, true, 1, &seed);
                    if (error > 0.05)
                        fail_msg("%s %s, woven %d: %d inputs, 8 bits: error %g", versions[v]->name,
                                 quant_info(types[i])->name, woven, n, error);
                }
        }
}

/* The largest weights and activations there are: no digit and no lane may overflow. */
static void test_matvec_extremes(void **state)
{
    (void)state;
    static const enum quant_type extreme[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    enum { N = 256 };
    float x[N], row[N], out;
    for (size_t i = 0; i < sizeof extreme / sizeof *extreme; i++)
        for (int fill = 0; fill < 256; fill++)
            for (int sign = 0; sign < 3; sign++)
                for (int v = 0; v < nversions; v++) {
                    const struct quant_info *info = quant_info(extreme[i]);
                    unsigned char w[N / 32 * 34];
                    memset(w, fill, sizeof w);
                    for (int b = 0; b < N / info->block; b++) { /* scale 1, minimum 1 */
                        unsigned char *block = w + b * info->bytes + (extreme[i] == QUANT_Q6_K ? 208 : 0);
                        bool has_min = extreme[i] == QUANT_Q4_1 || extreme[i] == QUANT_Q4_K || extreme[i] == QUANT_Q5_K;
                        memcpy(block, "\0\x3c\0\x3c", has_min ? 4 : 2);
                    }
                    uint64_t seed = (uint64_t)fill;
                    float size =
                        (float)exp(4 * random_normal(&seed)); /* many sizes: the inverse's rounding must not matter */
                    for (int j = 0; j < N; j++)
                        x[j] = size * (sign == 0 ? 1 : sign == 1 ? -1 : j % 2 ? 1 : -1);
                    struct simd_row r = {.n = N, .x = x, .room = aligned_alloc(64, simd_row_room(N))};
                    quant_to_float(extreme[i], w, row, N);
                    double sum = 0, all = 0;
                    for (int j = 0; j < N; j++) {
                        sum += (double)row[j] * (double)x[j];
                        /* where scale times value and minimum cancel, fp32 keeps what rounding does to each */
                        all += (fabs((double)row[j]) + (info->block == 256 ? 63 : 0)) * fabs((double)x[j]);
                    }
                    size_t bytes = (size_t)(N / info->block * info->bytes);
                    for (int woven = 0; woven < ways(versions[v], extreme[i]); woven++) {
                        multiply(versions[v], woven, extreme[i], w, bytes, 1, &r, &out);
                        if (!(fabs((double)out - sum) <= 1e-6 * all + 1e-30))
                            fail_msg("%s %s, woven %d, bytes %d: %g instead of %g", versions[v]->name, info->name,
                                     woven, fill, (double)out, sum);
                    }
                    free(r.room);
                }
}

/* A NaN among the activations spoils the product, and zeros give zero. */
static void test_matvec_odd_activations(void **state)
{
    (void)state;
    uint64_t seed = 6;
    enum { N = 256 };
    float x[N], out;
    for (int i = 0; i < TYPES; i++)
        for (int v = 0; v < nversions; v++) {
            size_t bytes;
            unsigned char *w = random_blocks(types[i], N, 1, &seed, &bytes);
            struct simd_row r = {.n = N, .x = x, .room = aligned_alloc(64, simd_row_room(N))};
            for (int woven = 0; woven < ways(versions[v], types[i]); woven++) {
                memset(x, 0, sizeof x);
                multiply(versions[v], woven, types[i], w, bytes, 1, &r, &out);
                assert_true(out == 0);
                x[77] = NAN;
                multiply(versions[v], woven, types[i], w, bytes, 1, &r, &out);
                assert_true(isnan(out));
            }
            free(w);
            free(r.room);
        }
}

/* Woven rows hold the same weights, whatever part of them is asked for. */
static void test_expand_woven(void **state)
{
    (void)state;
    uint64_t seed = 7;
    enum { N = 352, ROW = 19 };
    for (int i = 0; i < TYPES; i++)
        for (int v = 0; v < nversions; v++) {
            if (ways(versions[v], types[i]) < 2)
                continue;
            size_t bytes;
            unsigned char *w = random_blocks(types[i], N * SIMD_WOVEN_ROWS, 1, &seed, &bytes), *woven = malloc(bytes);
            float *out = numbers(N * ROW, 1, &seed), *row = numbers(N, 1, &seed);
            assert_non_null(woven);
            versions[v]->woven->weave(types[i], w, bytes / SIMD_WOVEN_ROWS, woven);
            for (int from = 0; from < N; from += 96) {
                int n = N - from < 160 ? N - from : 160;
                versions[v]->woven->expand(types[i], woven, from, out, ROW, n);
                for (size_t r = 0; r < SIMD_WOVEN_ROWS; r++) {
                    quant_to_float(types[i], w + r * (bytes / SIMD_WOVEN_ROWS), row, N);
                    for (int k = 0; k < n; k++)
                        assert_true(fabsf(out[(size_t)k * ROW + r] - row[from + k]) <=
                                    2e-7f * fmaxf(1, fabsf(row[from + k])));
                }
            }
            free(w);
            free(woven);
            free(out);
            free(row);
        }
}

static void test_elementwise(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (int n = 0; n < 200; n += n < 70 ? 1 : 13) {
        float *x = numbers((size_t)n + 1, 4, &seed), *y = numbers((size_t)n + 1, 1, &seed);
        float *a = numbers((size_t)n + 1, 1, &seed), *b = numbers((size_t)n + 1, 1, &seed);
        size_t bytes = ((size_t)n + 1) * sizeof *a;
        for (int v = 0; v < nversions; v++) {
            const struct simd *s = versions[v];
            assert_true(s->max(x, n) == simd_plain.max(x, n));

            memcpy(a, x, bytes);
            memcpy(b, x, bytes);
            float sa = s->exp2_sum(a, n, 1.5f, 3), sb = simd_plain.exp2_sum(b, n, 1.5f, 3);
            assert_near("exp2", a, b, (size_t)n + 1, 3e-7);
            assert_true(fabsf(sa - sb) <= 1e-5f * sb);

            memcpy(a, x, bytes);
            memcpy(b, x, bytes);
            s->add_scaled(a, y, 0.7f, n);
            simd_plain.add_scaled(b, y, 0.7f, n);
            assert_near("add_scaled", a, b, (size_t)n + 1, 3e-7);

            memcpy(a, x, bytes);
            s->scale(a, 0.7f, n);
            for (int i = 0; i <= n; i++)
                assert_true(a[i] == (i < n ? 0.7f * x[i] : x[i]));

            memcpy(a, x, bytes);
            memcpy(b, x, bytes);
            s->rotate(a, a, y, n / 2);
            simd_plain.rotate(b, b, y, n / 2);
            assert_near("rotate", a, b, (size_t)n + 1, 1e-6);

            s->rms_norm(x, y, a, n, 1e-5f);
            simd_plain.rms_norm(x, y, b, n, 1e-5f);
            assert_near("rms_norm", a, b, (size_t)n, 1e-6);

            memcpy(a, x, bytes);
            memcpy(b, x, bytes);
            s->swiglu(a, y, n);
            simd_plain.swiglu(b, y, n);
            assert_near("swiglu", a, b, (size_t)n + 1, 1e-6);
        }
        free(x);
        free(y);
        free(a);
        free(b);
    }
}

/* 2^x over its whole range, and where it ends. */
static void test_exp2(void **state)
{
    (void)state;
    for (int v = 0; v < nversions; v++)
        for (float x = -170; x < 127.9f; x += 0.037f) {
            float y[32];
            for (int i = 0; i < 32; i++)
                y[i] = x;
            versions[v]->exp2_sum(y, 32, 1, 0);
            double right = exp2((double)x);
            if (fabs((double)y[3] - right) > 2e-7 * right + 1e-45)
                fail_msg("%s: 2^%g is %g", versions[v]->name, (double)x, (double)y[3]);
            for (int i = 0; i < 32; i++)
                y[i] = i % 2 ? -INFINITY : 1;
            assert_true(versions[v]->exp2_sum(y, 32, 1, 1) == 16 && y[1] == 0 && y[30] == 1);
            y[5] = NAN;
            assert_true(isnan(versions[v]->exp2_sum(y, 32, 1, 1)));
            float gate[32], up[32];
            for (int i = 0; i < 32; i++) {
                gate[i] = i % 2 ? 500 : -500;
                up[i] = 2;
            }
            versions[v]->swiglu(gate, up, 32);
            assert_true(gate[1] == 1000 && fabsf(gate[0]) < 1e-30f);
        }
}

int main(void)
{
    static const char *names[] = {"avx2", "avx512"};
    for (int i = 0; i < 2; i++)
        if ((versions[nversions] = simd_named(names[i])))
            nversions++;
    if (nversions == 0) /* the plain version against double precision, at least */
        versions[nversions++] = &simd_plain;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product),         cmocka_unit_test(test_expand),
        cmocka_unit_test(test_transpose),       cmocka_unit_test(test_matvec),
        cmocka_unit_test(test_matvec_extremes), cmocka_unit_test(test_matvec_odd_activations),
        cmocka_unit_test(test_elementwise),     cmocka_unit_test(test_exp2),
        cmocka_unit_test(test_expand_woven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
