#include "quant_blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emu/half.h"

const struct weight_type weight_types[WEIGHT_TYPES] = {
    {"f32", 0, 1, 4},       {"f16", 1, 1, 2},       {"bf16", 30, 1, 2},     {"q8_0", 8, 32, 34},
    {"q4_0", 2, 32, 18},    {"q4_1", 3, 32, 20},    {"q5_0", 6, 32, 22},    {"q5_1", 7, 32, 24},
    {"q4_k", 12, 256, 144}, {"q5_k", 13, 256, 176}, {"q6_k", 14, 256, 210},
};
enum { F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K };

/* A random half of about the given size at p; its value. */
static double put_half(struct kit *k, uint8_t *p, double size)
{
    uint16_t h = float_to_fp16((float)(size * kit_normal(k)));
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    return fp16_to_float(h);
}

static void plain(struct kit *k, int type, uint8_t *b, double *v)
{
    float x = (float)kit_normal(k);
    uint16_t h = type == F16 ? float_to_fp16(x) : float_to_bf16(x);
    if (type == F32)
        memcpy(b, &x, 4);
    else
        memcpy(b, &h, 2);
    *v = type == F32 ? x : type == F16 ? fp16_to_float(h) : bf16_to_float(h);
}

static void block_of_32(struct kit *k, int type, uint8_t *b, double *v)
{
    int wide = type == Q5_0 || type == Q5_1, offset = type == Q4_1 || type == Q5_1, levels = wide ? 32 : 16;
    double d = put_half(k, b, type == Q8_0 ? 0.02 : 0.2), m = offset ? put_half(k, b + 2, 1) : -d * levels / 2;
    uint8_t *nibbles = b + 2 + (offset ? 2 : 0) + (wide ? 4 : 0), *high = b + 2 + (offset ? 2 : 0);
    for (int i = 0; i < 32; i++) {
        if (type == Q8_0) {
            int q = kit_int(k, -128, 127);
            b[2 + i] = (uint8_t)q;
            v[i] = d * q;
            continue;
        }
        int q = kit_int(k, 0, levels - 1);
        nibbles[i % 16] |= (uint8_t)((q & 15) << (i < 16 ? 0 : 4));
        if (wide)
            high[i / 8] |= (uint8_t)(q >> 4 << i % 8);
        v[i] = d * q + m;
    }
}

static void block_with_minima(struct kit *k, int type, uint8_t *b, double *v)
{
    double d = put_half(k, b, 0.005), least = put_half(k, b + 2, 0.03);
    uint8_t *scales = b + 4, *high = b + 16, *nibbles = b + (type == Q5_K ? 48 : 16);
    for (int g = 0; g < 8; g++) {
        int scale = kit_int(k, 0, 63), min = kit_int(k, 0, 63);
        if (g < 4) {
            scales[g] |= (uint8_t)scale;
            scales[4 + g] |= (uint8_t)min;
        } else {
            scales[4 + g] = (uint8_t)((scale & 15) | (min & 15) << 4);
            scales[g - 4] |= (uint8_t)(scale >> 4 << 6);
            scales[g] |= (uint8_t)(min >> 4 << 6);
        }
        for (int i = 0; i < 32; i++) {
            int q = kit_int(k, 0, type == Q5_K ? 31 : 15);
            nibbles[g / 2 * 32 + i] |= (uint8_t)((q & 15) << (g % 2 * 4));
            if (type == Q5_K)
                high[i] |= (uint8_t)(q >> 4 << g);
            v[g * 32 + i] = d * scale * q - least * min;
        }
    }
}

static void block_with_signed_scales(struct kit *k, uint8_t *b, double *v)
{
    double d = put_half(k, b + 208, 0.001);
    int scale[16];
    for (int i = 0; i < 16; i++) {
        scale[i] = kit_int(k, -128, 127);
        b[192 + i] = (uint8_t)scale[i];
    }
    for (int i = 0; i < 256; i++) {
        int q = kit_int(k, 0, 63), half = i / 128, quarter = i / 32 % 4, j = i % 32;
        b[half * 64 + quarter % 2 * 32 + j] |= (uint8_t)((q & 15) << (quarter / 2 * 4));
        b[128 + half * 32 + j] |= (uint8_t)(q >> 4 << 2 * quarter);
        v[i] = d * scale[i / 16] * (q - 32);
    }
}

void weights_random(struct kit *k, struct weights *w, const struct weight_type *type, size_t count)
{
    int kind = (int)(type - weight_types);
    w->type = type;
    w->bytes = count / (size_t)type->block * (size_t)type->bytes;
    w->data = calloc(w->bytes, 1);
    w->value = malloc(count * sizeof *w->value);
    for (size_t i = 0; i < count; i += (size_t)type->block) {
        uint8_t *b = w->data + i / (size_t)type->block * (size_t)type->bytes;
        if (kind <= BF16)
            plain(k, kind, b, w->value + i);
        else if (kind <= Q5_1)
            block_of_32(k, kind, b, w->value + i);
        else if (kind <= Q5_K)
            block_with_minima(k, kind, b, w->value + i);
        else
            block_with_signed_scales(k, b, w->value + i);
    }
}

void weights_free(struct weights *w)
{
    free(w->data);
    free(w->value);
    memset(w, 0, sizeof *w);
}
