#include "cases_llama.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_kit.h"
#include "quant_blocks.h"
#include "runtime/likelihood.h"
#include "runtime/llama_grid.h"

static const char *const half_names[] = {"fp16", "bf16"};

static uint16_t *random_halves(struct kit *k, int type, size_t n, double size)
{
    uint16_t *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = half_of(type, size * kit_normal(k));
    return x;
}

static float *random_floats(struct kit *k, size_t n, double size)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(size * kit_normal(k));
    return x;
}

/* --- embed, dequantise ------------------------------------------------------------------------------------------------ */

static void embed_case(struct kit *kit, const struct weight_type *type, int n, int half)
{
    enum { ROWS = 9 };
    static const int tokens[] = {3, 0, 8, 3, 7};
    enum { T = sizeof tokens / sizeof *tokens };
    struct kernel k;
    struct weights w;
    struct kit_norm norm = {0};
    char params[96];
    snprintf(params, sizeof params, "n=%d w=%s t=%s", n, type->name, half_names[half]);
    kit_kernel(kit, &k, "embed", params);
    weights_random(kit, &w, type, (size_t)ROWS * (size_t)n);
    float *out = malloc((size_t)T * (size_t)n * sizeof *out);
    int count = T;
    devptr x = kit_put(kit, NULL, (size_t)T * (size_t)n * sizeof *out), table = kit_put(kit, w.data, w.bytes),
           ids = kit_put(kit, tokens, sizeof tokens);
    kit_launch(kit, &k, T, 1, 1, (void *[]){&x, &table, &ids, &count});
    kit_get(kit, out, x, (size_t)T * (size_t)n * sizeof *out);
    for (int i = 0; i < T; i++)
        for (int j = 0; j < n; j++) {
            double want = w.value[(size_t)tokens[i] * (size_t)n + (size_t)j];
            kit_near(&norm, type->name, i, j, out[i * n + j], want, 1e-6 * (1 + fabs(want)));
        }
    kit_release(kit, x);
    kit_release(kit, table);
    kit_release(kit, ids);
    free(out);
    weights_free(&w);
    kernel_free(&k);
}

void llama_embed(void **state)
{
    struct kit *kit = KIT(state);
    for (int i = 0; i < WEIGHT_TYPES; i++) {
        embed_case(kit, &weight_types[i], weight_types[i].block == 256 ? 768 : 576, i % 2);
        if (weight_types[i].block == 1)
            embed_case(kit, &weight_types[i], 40, (i + 1) % 2);
        if (!kit->emulated)
            embed_case(kit, &weight_types[i], 4096, 1);
    }
}

static void dequantise_case(struct kit *kit, const struct weight_type *type, long long elements, int half,
                            unsigned grid)
{
    struct kernel k;
    struct weights w;
    struct kit_norm norm = {0};
    char params[96];
    snprintf(params, sizeof params, "w=%s t=%s", type->name, half_names[half]);
    kit_kernel(kit, &k, "dequantise", params);
    weights_random(kit, &w, type, (size_t)elements);
    uint16_t *got = malloc((size_t)elements * 2);
    devptr out = kit_put(kit, NULL, (size_t)elements * 2), blocks = kit_put(kit, w.data, w.bytes);
    grid = grid ? grid : llama_grid_dequantise(&k.gen, elements, kit->dev.facts.sms);
    kit_launch(kit, &k, grid, 1, 1, (void *[]){&out, &blocks, &elements});
    kit_get(kit, got, out, (size_t)elements * 2);
    for (long long i = 0; i < elements; i++) {
        double want = w.value[i];
        kit_near(&norm, type->name, 0, (int)i, half_value(half, got[i]), want,
                 half_rounding(half) * 1.01 * fabs(want) + 1e-6);
    }
    kit_release(kit, out);
    kit_release(kit, blocks);
    free(got);
    weights_free(&w);
    kernel_free(&k);
}

void llama_dequantise(void **state)
{
    struct kit *kit = KIT(state);
    for (int i = 0; i < WEIGHT_TYPES; i++)
        for (int half = 0; half < 2; half++) {
            int unit = weight_types[i].block == 1 ? 8 : weight_types[i].block;
            dequantise_case(kit, &weight_types[i], unit, half, 0);
            dequantise_case(kit, &weight_types[i], 13 * unit, half, 3);
        }
    /* More than one span of a block's: by one block, and by two. */
    long long many = kit->emulated ? 2 * 256 * 64 * 8 + 32 : 5000000;
    for (unsigned grid = 1; grid < 3; grid++)
        dequantise_case(kit, &weight_types[3], many, 1, grid);
    if (!kit->emulated)
        dequantise_case(kit, &weight_types[10], many / 256 * 256, 0, 0);
}

/* --- rms_norm, swiglu, add_bias ---------------------------------------------------------------------------------------- */

static double rms_scale(const float *x, int n, double eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return 1 / sqrt(sum / n + eps);
}

static void rms_norm_case(struct kit *kit, int n, int T, int half, double size)
{
    struct kernel k;
    struct kit_norm norm = {0};
    char params[96];
    float eps = 1e-5f;
    snprintf(params, sizeof params, "n=%d t=%s", n, half_names[half]);
    kit_kernel(kit, &k, "rms_norm", params);
    size_t count = (size_t)T * (size_t)n;
    float *x = random_floats(kit, count, size), *weight = random_floats(kit, (size_t)n, 1);
    uint16_t *got = malloc(count * 2);
    x[(size_t)(T - 1) * (size_t)n + 3] = NAN; /* of the last row: all of it, and of no other */
    devptr y = kit_put(kit, NULL, count * 2), in = kit_put(kit, x, count * sizeof *x),
           by = kit_put(kit, weight, (size_t)n * sizeof *weight);
    kit_launch(kit, &k, (unsigned)T, 1, 1, (void *[]){&y, &in, &by, &T, &eps});
    kit_get(kit, got, y, count * 2);
    for (int t = 0; t < T; t++) {
        double scale = rms_scale(x + (size_t)t * (size_t)n, n, (double)eps);
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)t * (size_t)n + (size_t)i;
            double want = x[at] * scale * weight[i];
            if (t == T - 1)
                assert_true(isnan(half_value(half, got[at])));
            else
                kit_near(&norm, params, t, i, half_value(half, got[at]), want,
                         (half_rounding(half) + 1e-5) * fabs(want) + 1e-7);
        }
    }
    kit_release(kit, y);
    kit_release(kit, in);
    kit_release(kit, by);
    free(x);
    free(weight);
    free(got);
    kernel_free(&k);
}

void llama_rms_norm(void **state)
{
    struct kit *kit = KIT(state);
    static const int sizes[] = {4, 36, 576, 2048, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int half = 0; half < 2; half++)
            rms_norm_case(kit, sizes[i], 3, half, i % 2 ? 30 : 0.01);
}

static double silu(double v)
{
    return v / (1 + exp(-v));
}

void llama_swiglu(void **state)
{
    struct kit *kit = KIT(state);
    static const double gates[] = {-200, -30, -1, -0.0, 0.001, 1, 30, 500};
    for (int half = 0; half < 2; half++) {
        struct kernel k;
        struct kit_norm norm = {0};
        char params[32];
        int T = 3, ffn = 8 * kit_int(kit, 11, 90);
        size_t count = (size_t)T * (size_t)ffn;
        snprintf(params, sizeof params, "t=%s", half_names[half]);
        kit_kernel(kit, &k, "swiglu", params);
        uint16_t *gu = random_halves(kit, half, 2 * count, 3), *got = malloc(count * 2);
        for (int i = 0; i < 8; i++)
            gu[2 * ffn + 5 * i] = half_of(half, gates[i]);
        gu[2 * ffn + ffn + 77] = half_of(half, NAN);
        devptr h = kit_put(kit, NULL, count * 2), in = kit_put(kit, gu, count * 4);
        kit_launch(kit, &k, llama_grid_pieces(&k.gen, T, ffn), 1, 1, (void *[]){&h, &in, &T, &ffn});
        kit_get(kit, got, h, count * 2);
        for (int t = 0; t < T; t++)
            for (int i = 0; i < ffn; i++) {
                double want = silu(half_value(half, gu[2 * t * ffn + i])) * half_value(half, gu[(2 * t + 1) * ffn + i]),
                       have = half_value(half, got[t * ffn + i]);
                if (t == 1 && i == 77)
                    assert_true(isnan(have));
                else
                    kit_near(&norm, "swiglu", t, i, have, want, (half_rounding(half) + 1e-5) * fabs(want) + 1e-7);
            }
        kit_release(kit, h);
        kit_release(kit, in);
        free(gu);
        free(got);
        kernel_free(&k);
    }
}

void llama_add_bias(void **state)
{
    struct kit *kit = KIT(state);
    for (int half = 0; half < 2; half++) {
        struct kernel k;
        struct kit_norm norm = {0};
        char params[32];
        int T = 3, n = 8 * kit_int(kit, 11, 90);
        size_t count = (size_t)T * (size_t)n;
        snprintf(params, sizeof params, "t=%s", half_names[half]);
        kit_kernel(kit, &k, "add_bias", params);
        uint16_t *y = random_halves(kit, half, count, 1), *got = malloc(count * 2);
        float *bias = random_floats(kit, (size_t)n, 1);
        devptr to = kit_put(kit, y, count * 2), by = kit_put(kit, bias, (size_t)n * sizeof *bias);
        kit_launch(kit, &k, llama_grid_pieces(&k.gen, T, n), 1, 1, (void *[]){&to, &by, &T, &n});
        kit_get(kit, got, to, count * 2);
        for (size_t i = 0; i < count; i++) {
            double want = half_value(half, y[i]) + bias[i % (size_t)n];
            kit_near(&norm, "add_bias", (int)i / n, (int)i % n, half_value(half, got[i]), want,
                     half_rounding(half) * 1.01 * fabs(want) + 1e-7);
        }
        kit_release(kit, to);
        kit_release(kit, by);
        free(y);
        free(got);
        free(bias);
        kernel_free(&k);
    }
}

/* --- likelihood --------------------------------------------------------------------------------------------------------- */

/* Logits [rows][vocab] to rows of one piece of the vocabulary, `row` apart; what lies behind the piece is left out of it. */
static void put_piece(struct kit *kit, devptr at, const float *x, int rows, int vocab, int first, int count, int row)
{
    float *piece = malloc((size_t)rows * (size_t)row * sizeof *piece);
    for (int i = 0; i < rows * row; i++)
        piece[i] = i % row < count ? x[i / row * vocab + first + i % row] : NAN;
    struct err err = {""};
    if (kit->dev.upload(&kit->dev, at, piece, (size_t)rows * (size_t)row * sizeof *piece, &err) != 0)
        fail_msg("%s", err.msg);
    free(piece);
}

/* The vocabulary in pieces of `wide` tokens; twice, for the same bits. most > 0: a logit that outdoes all others. */
static void likelihood_case(struct kit *kit, int rows, int vocab, int wide, double size, double most)
{
    struct kernel k;
    struct kit_norm norm = {0};
    size_t count = (size_t)rows * (size_t)vocab;
    float *x = random_floats(kit, count, size), *got = malloc((size_t)rows * sizeof *got),
          *again = malloc((size_t)rows * sizeof *again);
    int *target = malloc((size_t)rows * sizeof *target), row = (wide + 3) / 4 * 4;
    for (int i = 0; i < rows; i++)
        target[i] = i == 0 ? 0 : i == 1 ? vocab - 1 : kit_int(kit, 0, vocab - 1);
    if (most > 0) /* in row 1 the target's own: close to certain */
        for (int i = 0; i < rows; i++)
            x[(size_t)i * (size_t)vocab + (size_t)(i == 1 ? target[i] : kit_int(kit, 0, vocab - 1))] = (float)most;
    for (int i = 0; i < vocab / 2; i++) /* the first row begins with nothing at all, or ends with it */
        x[wide < vocab ? i : vocab - 1 - i] = -INFINITY;
    x[target[0]] = 1;
    if (rows > 3)
        x[(size_t)3 * (size_t)vocab + (size_t)kit_int(kit, 0, vocab - 1)] = NAN;
    kit_kernel(kit, &k, "likelihood", "t=bf16");
    devptr nats = kit_put(kit, NULL, (size_t)rows * sizeof *got), state = kit_put(kit, NULL, (size_t)rows * 16),
           logits = kit_put(kit, NULL, (size_t)rows * (size_t)row * sizeof *x),
           token = kit_put(kit, target, (size_t)rows * sizeof *target);
    for (int run = 0; run < 2; run++) {
        for (int first = 0; first < vocab; first += wide) {
            int n = vocab - first < wide ? vocab - first : wide;
            put_piece(kit, logits, x, rows, vocab, first, n, row);
            kit_launch(kit, &k, (unsigned)rows, 1, 1,
                       (void *[]){&nats, &state, &logits, &token, &first, &n, &row, &vocab});
        }
        kit_get(kit, run ? again : got, nats, (size_t)rows * sizeof *got);
    }
    assert_memory_equal(got, again, (size_t)rows * sizeof *got);
    for (int i = 0; i < rows; i++) {
        double want = likelihood_nats(x + (size_t)i * (size_t)vocab, vocab, target[i]);
        if (i == 3)
            assert_true(isnan((double)got[i]));
        else
            kit_near(&norm, "likelihood", vocab, i, (double)got[i], want, 3e-6 * (1 + fabs(want)));
    }
    devptr all[] = {nats, state, logits, token};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kit_release(kit, all[i]);
    free(x);
    free(got);
    free(again);
    free(target);
    kernel_free(&k);
}

void llama_likelihood(void **state)
{
    struct kit *kit = KIT(state);
    likelihood_case(kit, 5, 301, 304, 3, 0);   /* all at once, with an odd end */
    likelihood_case(kit, 4, 2000, 512, 3, 30); /* in pieces, the last one short */
    likelihood_case(kit, 2, 1031, 100, 0.1, 0);
    likelihood_case(kit, 1, 5, 5, 40, 0); /* one row: it need be no multiple of 4 */
    if (!kit->emulated) {
        likelihood_case(kit, 384, 49152, 8192, 3, 0);
        likelihood_case(kit, 7, 128256, 8192, 3, 25);
    }
}
