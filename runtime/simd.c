/* Choice of the vector version, and the plain one: what the others are compared with, and what runs where they cannot. */
#include "simd.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <math.h>
#include <string.h>

static void product(const struct simd_product *p)
{
    for (int m = 0; m < p->m; m++)
        for (int panel = 0; panel < p->panels; panel++) {
            float *c = p->c + (size_t)m * p->c_row + (size_t)panel * PANEL;
            const float *a = p->a + (size_t)m * p->a_row, *b = p->b + (size_t)panel * p->b_panel;
            float sum[PANEL] = {0};
            if (p->add)
                memcpy(sum, c, sizeof sum);
            for (int k = 0; k < p->k; k++, b += p->b_k)
                for (int l = 0; l < PANEL; l++)
                    sum[l] += a[k] * b[l];
            memcpy(c, sum, sizeof sum);
        }
}

static void transpose(const float *src, size_t row, float *dst, size_t dst_k, int n)
{
    for (int i = 0; i < n; i++)
        for (size_t r = 0; r < PANEL; r++)
            dst[(size_t)i * dst_k + r] = src[r * row + (size_t)i];
}

static void prepare(struct simd_row *x, enum quant_type type)
{
    (void)x;
    (void)type;
}

static float dot(const float *a, const float *b, int n)
{
    float part[PANEL] = {0}, sum = 0;
    for (int i = 0; i < n; i++)
        part[i % PANEL] += a[i] * b[i];
    for (int l = 0; l < PANEL; l++)
        sum += part[l];
    return sum;
}

static void matvec(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                   float *out)
{
    enum { PIECE = 256 };
    const struct quant_info *info = quant_info(type);
    float expanded[PIECE];
    for (int r = 0; r < rows; r++) {
        const unsigned char *src = (const unsigned char *)w + (size_t)r * row_bytes;
        float sum = 0;
        for (int i = 0; i < x->n; i += PIECE) {
            int n = x->n - i < PIECE ? x->n - i : PIECE;
            quant_to_float(type, src, expanded, (size_t)n);
            src += PIECE / info->block * info->bytes;
            sum += dot(expanded, x->x + i, n);
        }
        out[r] = sum;
    }
}

static float max(const float *x, int n)
{
    float largest = -INFINITY;
    for (int i = 0; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

static float sum_of_exp2(float *x, int n, float scale, float top)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] = exp2f(x[i] * scale - top);
    return sum;
}

static void scale(float *x, float w, int n)
{
    for (int i = 0; i < n; i++)
        x[i] *= w;
}

static void add_scaled(float *acc, const float *x, float w, int n)
{
    for (int i = 0; i < n; i++)
        acc[i] += w * x[i];
}

static void rotate(const float *x, float *y, const float *cs, int pairs)
{
    for (int i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1], c = cs[2 * i], s = cs[2 * i + 1];
        y[2 * i] = a * c - b * s;
        y[2 * i + 1] = a * s + b * c;
    }
}

static void rms_norm(const float *x, const float *w, float *y, int n, float eps)
{
    float squares = dot(x, x, n), factor = 1 / sqrtf(squares / (float)n + eps);
    for (int i = 0; i < n; i++)
        y[i] = x[i] * factor * w[i];
}

static void swiglu(float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

const struct simd simd_plain = {
    .name = "plain",
    .product = product,
    .expand = quant_to_float,
    .transpose = transpose,
    .prepare = prepare,
    .matvec = matvec,
    .max = max,
    .exp2_sum = sum_of_exp2,
    .scale = scale,
    .add_scaled = add_scaled,
    .rotate = rotate,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
};

#if defined(__x86_64__)
/* clang 14's __builtin_cpu_supports does not know it. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static bool runs_here(const struct simd *s)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (s == &simd_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (s == &simd_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") && has_f16c();
#endif
    return s == &simd_plain;
}

static const struct simd *const versions[] = {
#if defined(__x86_64__)
    &simd_avx512,
    &simd_avx2,
#endif
    &simd_plain,
};

const struct simd *simd_best(void)
{
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (runs_here(versions[i]))
            return versions[i];
    return &simd_plain;
}

const struct simd *simd_named(const char *name)
{
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (!strcmp(versions[i]->name, name) && runs_here(versions[i]))
            return versions[i];
    return NULL;
}
