#include "gemm.h"

#include "half.h"

static float value(const struct gemm *g, devptr base, size_t at)
{
    uint16_t bits = ((const uint16_t *)(uintptr_t)base)[at];
    return g->bf16 ? bf16_to_float(bits) : fp16_to_float(bits);
}

static void put(const struct gemm *g, size_t at, float v)
{
    if (g->wide) {
        float *y = (float *)(uintptr_t)g->y + at;
        *y = g->add ? *y + v : v;
    } else {
        uint16_t *y = (uint16_t *)(uintptr_t)g->y + at;
        float sum = g->add ? value(g, g->y, at) + v : v;
        *y = g->bf16 ? float_to_bf16(sum) : float_to_fp16(sum);
    }
}

void emu_gemm(const struct gemm *g)
{
    size_t k = (size_t)g->k;
    for (int i = 0; i < g->m; i++)
        for (int j = 0; j < g->n; j++) {
            float sum = 0;
            for (size_t e = 0; e < k; e++)
                sum += value(g, g->x, (size_t)i * k + e) * value(g, g->w, (size_t)j * k + e);
            put(g, (size_t)i * (size_t)g->y_row + (size_t)j, sum);
        }
}
