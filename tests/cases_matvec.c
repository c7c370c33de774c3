#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_llama.h"
#include "device_kit.h"
#include "quant_blocks.h"
#include "runtime/llama_grid.h"

enum end { HALF, ADD, GATE, F32, ENDS };
static const char *const end_names[] = {"half", "add", "gate", "f32"}, *const half_names[] = {"fp16", "bf16"};

struct matvec {
    const struct weight_type *type;
    int n, rows, norm, half; /* half: 0 fp16, 1 bf16 */
    enum end to;
    bool bias;
    unsigned grid;     /* 0: as inference launches it */
    int nan_at;        /* this input is NaN; -1: none */
    double input_size; /* of the inputs */
};

static float *random_floats(struct kit *k, int n, double size)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int i = 0; i < n; i++)
        x[i] = (float)(size * kit_normal(k));
    return x;
}

/* The inputs as the product takes them: the halves, or normed in double precision. */
static void true_inputs(const struct matvec *c, const float *x32, const uint16_t *x16, const float *weight, float eps,
                        double *x)
{
    double sum = 0;
    for (int i = 0; i < c->n; i++)
        sum += (double)x32[i] * x32[i];
    for (int i = 0; i < c->n; i++)
        x[i] = c->norm ? x32[i] / sqrt(sum / c->n + (double)eps) * weight[i] : half_value(c->half, x16[i]);
}

struct sum {
    double value, size; /* of the products, and of their absolute values */
};

static struct sum dot(const double *w, const double *x, int n)
{
    struct sum s = {0};
    for (int i = 0; i < n; i++) {
        s.value += w[i] * x[i];
        s.size += fabs(w[i] * x[i]);
    }
    return s;
}

/* What row r should be, and how far a right kernel may be from it. */
static double truth(const struct matvec *c, const double *w, const double *x, int r, const float *bias,
                    const float *before, double *bound)
{
    const double fp32 = 0x1p-24 * 64, rounded = c->norm ? half_rounding(c->half) + 1e-6 : 0;
    struct sum s = dot(w + (size_t)r * (size_t)c->n, x, c->n);
    double v = s.value, error = s.size * (fp32 + rounded) + 1e-7;
    if (c->to == GATE) {
        struct sum up = dot(w + (size_t)(c->rows + r) * (size_t)c->n, x, c->n);
        double g = v / (1 + exp(-v));
        error = 1.1 * error * fabs(up.value) + (fabs(g) + error) * (up.size * (fp32 + rounded) + 1e-7) +
                1e-5 * fabs(g * up.value);
        v = g * up.value;
    }
    v += (c->to == HALF && bias ? bias[r] : 0) + (c->to == ADD ? before[r] : 0);
    *bound = error + (c->to == HALF || c->to == GATE ? half_rounding(c->half) : 1e-6) * (fabs(v) + error);
    return v;
}

static void matvec_case(struct kit *kit, const struct matvec *c)
{
    struct kernel k;
    struct weights w;
    struct kit_norm norm = {0};
    char params[128];
    size_t n = (size_t)c->n, rows = (size_t)c->rows;
    bool halves = c->to == HALF || c->to == GATE;
    size_t out_bytes = rows * (halves ? 2 : 4);
    float eps = 1e-5f;
    snprintf(params, sizeof params, "n=%d w=%s norm=%d to=%s t=%s", c->n, c->type->name, c->norm, end_names[c->to],
             half_names[c->half]);
    kit_kernel(kit, &k, "matvec", params);
    weights_random(kit, &w, c->type, (c->to == GATE ? 2 : 1) * rows * n);
    float *x32 = random_floats(kit, c->n, c->input_size), *weight = random_floats(kit, c->n, 1),
          *bias = random_floats(kit, c->rows, 1), *before = random_floats(kit, c->rows, 1);
    uint16_t *x16 = malloc(n * sizeof *x16);
    double *x = malloc(n * sizeof *x);
    if (c->nan_at >= 0)
        x32[c->nan_at] = NAN;
    for (int i = 0; i < c->n; i++)
        x16[i] = half_of(c->half, x32[i]);
    true_inputs(c, x32, x16, weight, eps, x);

    size_t room = (w.bytes + 15) / 16 * 16; /* the last piece of 16 bytes is read whole */
    unsigned char *blocks = calloc(1, room);
    memcpy(blocks, w.data, w.bytes);
    devptr none = 0, y = kit_put(kit, c->to == ADD ? before : NULL, out_bytes), from = kit_put(kit, blocks, room),
           in = c->norm ? kit_put(kit, x32, n * sizeof *x32) : kit_put(kit, x16, n * sizeof *x16),
           by = c->norm ? kit_put(kit, weight, n * sizeof *weight) : 0,
           added = c->bias ? kit_put(kit, bias, rows * sizeof *bias) : 0;
    int count = c->rows;
    unsigned grid = c->grid ? c->grid : llama_grid_matvec(&k.gen, c->rows, kit->dev.facts.sms, 2);
    kit_launch(kit, &k, grid, 1, 1,
               (void *[]){&y, &from, &in, c->norm ? &by : &none, c->bias ? &added : &none, &count, &eps});
    void *got = malloc(out_bytes);
    kit_get(kit, got, y, out_bytes);
    for (int r = 0; r < c->rows; r++) {
        double bound, want = truth(c, w.value, x, r, c->bias ? bias : NULL, before, &bound);
        double have = halves ? half_value(c->half, ((uint16_t *)got)[r]) : (double)((float *)got)[r];
        if (c->nan_at >= 0 && !isnan(have))
            fail_msg("%s: row %d is %g though an input is NaN", params, r, have);
        else if (c->nan_at < 0)
            kit_near(&norm, params, 0, r, have, want, bound);
    }
    if (c->nan_at < 0 && c->rows >= 16) /* of a few rows, a gate far below zero may multiply what rounding makes */
        kit_norm_check(&norm, params, c->norm || halves ? 3 * half_rounding(c->half) : 1e-5);
    kit_release(kit, y);
    kit_release(kit, from);
    kit_release(kit, in);
    if (c->norm)
        kit_release(kit, by);
    if (c->bias)
        kit_release(kit, added);
    free(got);
    free(blocks);
    free(x);
    free(x32);
    free(x16);
    free(weight);
    free(bias);
    free(before);
    weights_free(&w);
    kernel_free(&k);
}

/* Every type of weights, to both data types, on rows of whole and of broken 256s. */
void llama_matvec_every_type(void **state)
{
    struct kit *kit = KIT(state);
    for (int i = 0; i < WEIGHT_TYPES; i++)
        for (int half = 0; half < 2; half++) {
            const struct weight_type *type = &weight_types[i];
            struct matvec c = {
                .type = type, .n = 768, .rows = 21, .half = half, .to = F32, .nan_at = -1, .input_size = 1};
            matvec_case(kit, &c);
            c.n = type->block == 256 ? 256 : 576;
            c.rows = 35;
            c.grid = 1;
            matvec_case(kit, &c);
        }
}

/* Each end of one type with the norm and without it, a bias and none; ragged rows. */
static void every_end_of(struct kit *kit, int type, int n)
{
    for (int to = 0; to < ENDS; to++)
        for (int norm = 0; norm < 2; norm++) {
            struct matvec c = {.type = &weight_types[type],
                               .n = n,
                               .rows = kit_int(kit, 7, 50),
                               .norm = norm,
                               .half = (type + norm) % 2,
                               .to = (enum end)to,
                               .bias = to == HALF && norm,
                               .nan_at = -1,
                               .input_size = norm ? 20 : 1};
            matvec_case(kit, &c);
        }
}

/* The two cases that test_kernels.c walks the tiles of matvec with: the plain types, the quantised ones of 32. */
void llama_matvec_plain(void **state)
{
    struct kit *kit = KIT(state);
    every_end_of(kit, 2, 512);
    every_end_of(kit, 1, 576);
}

void llama_matvec_quants(void **state)
{
    struct kit *kit = KIT(state);
    every_end_of(kit, 7, 512);
    every_end_of(kit, 7, 576 - 32);
}

void llama_matvec_quants_of_256(void **state)
{
    struct kit *kit = KIT(state);
    every_end_of(kit, 9, 768);
    every_end_of(kit, 10, 256);
}

/* Sizes of real models, and the smallest that types allow. */
void llama_matvec_shapes(void **state)
{
    struct kit *kit = KIT(state);
    static const struct {
        int n, rows;
    } shapes[] = {{576, 40}, {1536, 19}, {2048, 17}, {4096, 9}, {32, 3}, {96, 70}, {8, 5}, {1000, 33}};
    static const int types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            const struct weight_type *type = &weight_types[types[i]];
            if (shapes[s].n % type->block != 0 || (kit->emulated && (i + s) % 3 != 0))
                continue;
            struct matvec c = {.type = type,
                               .n = shapes[s].n,
                               .rows = shapes[s].rows,
                               .norm = (int)i % 2,
                               .half = 1,
                               .to = i % 3 ? HALF : GATE,
                               .nan_at = -1,
                               .input_size = 1};
            matvec_case(kit, &c);
        }
    static const struct {
        int n, rows, type, to;
    } large[] = {{4096, 6144, 2, HALF}, {4096, 1024, 4, GATE}, {14336, 4096, 4, ADD},  {14336, 512, 3, ADD},
                 {1536, 576, 5, ADD},   {4096, 4096, 8, HALF}, {14336, 4096, 10, ADD}, {2048, 32003, 10, F32}};
    for (size_t i = 0; i < sizeof large / sizeof *large && !kit->emulated; i++) {
        struct matvec c = {.type = &weight_types[large[i].type],
                           .n = large[i].n,
                           .rows = large[i].rows,
                           .norm = large[i].to != ADD,
                           .half = 1,
                           .to = (enum end)large[i].to,
                           .nan_at = -1,
                           .input_size = 1};
        matvec_case(kit, &c);
    }
}

/* A NaN among the inputs is in every output. */
void llama_matvec_nan(void **state)
{
    struct kit *kit = KIT(state);
    for (int norm = 0; norm < 2; norm++)
        for (int i = 1; i < WEIGHT_TYPES; i += 3) {
            struct matvec c = {.type = &weight_types[i],
                               .n = 512,
                               .rows = 18,
                               .norm = norm,
                               .half = i % 2,
                               .to = i % 2 ? F32 : HALF,
                               .nan_at = kit_int(kit, 0, 511),
                               .input_size = 1};
            matvec_case(kit, &c);
        }
}
