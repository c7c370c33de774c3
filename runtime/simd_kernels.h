/* The parts of simd.h that read the same for every vector width; simd_avx2.c and simd_avx512.c include it once each, after they
 * have defined
 *     LANES, vf                         floats a vector, and the vector
 *     v_load v_store v_set1 v_zero v_add v_sub v_mul v_div v_fma v_max v_sum v_largest
 *     v_exp2                            2^x, 0 below -150 (NaN stays NaN)
 *     v_swap_pairs                      {x1, x0, x3, x2, ...}
 *     v_even_pairs v_odd_pairs          {x0, x0, x2, x2, ...}, {x1, x1, x3, x3, ...}
 *     v_turn                            a * b - c in even lanes, a * b + c in odd ones
 *     PRODUCT_ROWS, PRODUCT_PANELS      largest tile of `product` that keeps its sums in registers
 *     WIDE_PANELS, WIDEST_PANELS        panels of such a tile of up to 3 rows, and of one row
 *     what simd_expand.h wants
 * No include guard: it belongs to its includer. */

#include <math.h>
#include <string.h>

#include "simd_unroll.h"
#include "simd_expand.h"

enum { PER_PANEL = PANEL / LANES }; /* vectors a panel */

/* One tile of sums, ROWS x PANELS * 16, kept in registers over all of k. Of the factors, the side with fewer vectors is held
 * beside them while the other passes by one vector at a time. */
ALWAYS_INLINE void product_tile(const int rows, const int panels, const struct simd_product *p, const float *a,
                                const float *b, float *c)
{
    enum { ACROSS = WIDEST_PANELS * PER_PANEL };
    const int across = panels * PER_PANEL;
    vf sum[PRODUCT_ROWS][ACROSS];
    size_t a_row = p->a_row, b_k = p->b_k, b_panel = p->b_panel, c_row = p->c_row;
    UNROLL
    for (int m = 0; m < rows; m++) {
        UNROLL
        for (int v = 0; v < across; v++)
            sum[m][v] = p->add ? v_load(c + (size_t)m * c_row + v * LANES) : v_zero();
    }
    for (int k = 0; k < p->k; k++) {
        vf held[(int)PRODUCT_ROWS > (int)ACROSS ? PRODUCT_ROWS : ACROSS];
        if (rows < across) {
            UNROLL
            for (int m = 0; m < rows; m++)
                held[m] = v_set1(a[(size_t)m * a_row + (size_t)k]);
            UNROLL
            for (int v = 0; v < across; v++) {
                vf bv = v_load(b + (size_t)(v / PER_PANEL) * b_panel + v % PER_PANEL * LANES);
                UNROLL
                for (int m = 0; m < rows; m++)
                    sum[m][v] = v_fma(held[m], bv, sum[m][v]);
            }
        } else {
            UNROLL
            for (int v = 0; v < across; v++)
                held[v] = v_load(b + (size_t)(v / PER_PANEL) * b_panel + v % PER_PANEL * LANES);
            UNROLL
            for (int m = 0; m < rows; m++) {
                vf av = v_set1(a[(size_t)m * a_row + (size_t)k]);
                UNROLL
                for (int v = 0; v < across; v++)
                    sum[m][v] = v_fma(av, held[v], sum[m][v]);
            }
        }
        b += b_k;
    }
    UNROLL
    for (int m = 0; m < rows; m++) {
        UNROLL
        for (int v = 0; v < across; v++)
            v_store(c + (size_t)m * c_row + v * LANES, sum[m][v]);
    }
}

/* All rows, one group of panels. */
ALWAYS_INLINE void product_panels(const int panels, const struct simd_product *p, const float *b, float *c)
{
    const float *a = p->a;
    int m = 0;
    for (; m + PRODUCT_ROWS <= p->m; m += PRODUCT_ROWS)
        product_tile(PRODUCT_ROWS, panels, p, a + (size_t)m * p->a_row, b, c + (size_t)m * p->c_row);
    a += (size_t)m * p->a_row;
    c += (size_t)m * p->c_row;
    switch (p->m - m) { /* the tile's sums must be counted at compile time */
    case 5:
        product_tile(5, panels, p, a, b, c);
        break;
    case 4:
        product_tile(4, panels, p, a, b, c);
        break;
    case 3:
        product_tile(3, panels, p, a, b, c);
        break;
    case 2:
        product_tile(2, panels, p, a, b, c);
        break;
    case 1:
        product_tile(1, panels, p, a, b, c);
        break;
    }
}
_Static_assert(PRODUCT_ROWS == 6, "the switch above handles up to 5 rows left over");

/* Panels [*done, ...) in groups of so many, for rows that are few. */
ALWAYS_INLINE void product_few(const int rows, const int panels, const struct simd_product *p, int *done)
{
    for (; *done + panels <= p->panels; *done += panels)
        product_tile(rows, panels, p, p->a, p->b + (size_t)*done * p->b_panel, p->c + (size_t)*done * PANEL);
}

/* Any tile adds up an element in the same order, so which one it falls into does not show. */
static void product(const struct simd_product *p)
{
    int done = 0;
    if (p->m == 1)
        product_few(1, WIDEST_PANELS, p, &done);
    else if (p->m == 2)
        product_few(2, WIDE_PANELS, p, &done);
    else if (p->m == 3)
        product_few(3, WIDE_PANELS, p, &done);
    for (; done + PRODUCT_PANELS <= p->panels; done += PRODUCT_PANELS)
        product_panels(PRODUCT_PANELS, p, p->b + (size_t)done * p->b_panel, p->c + (size_t)done * PANEL);
    for (; done < p->panels; done++)
        product_panels(1, p, p->b + (size_t)done * p->b_panel, p->c + (size_t)done * PANEL);
}

static float dot(const float *a, const float *b, int n)
{
    vf s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
    int i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 = v_fma(v_load(a + i), v_load(b + i), s0);
        s1 = v_fma(v_load(a + i + LANES), v_load(b + i + LANES), s1);
        s2 = v_fma(v_load(a + i + 2 * LANES), v_load(b + i + 2 * LANES), s2);
        s3 = v_fma(v_load(a + i + 3 * LANES), v_load(b + i + 3 * LANES), s3);
    }
    for (; i + LANES <= n; i += LANES)
        s0 = v_fma(v_load(a + i), v_load(b + i), s0);
    float sum = v_sum(v_add(v_add(s0, s1), v_add(s2, s3)));
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* A row of F16 or BF16 times x. */
ALWAYS_INLINE float dot_halves(const bool brain, const unsigned char *w, const float *x, int n)
{
    vf s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLL
        for (int v = 0; v < 4; v++) {
            const unsigned char *from = w + 2 * (i + v * LANES);
            s[v] = v_fma(brain ? load_bfloats(from) : load_halves(from), v_load(x + i + v * LANES), s[v]);
        }
    }
    float rest[4 * LANES], sum = v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
    quant_to_float(brain ? QUANT_BF16 : QUANT_F16, w + 2 * i, rest, (size_t)(n - i));
    for (int j = 0; i + j < n; j++)
        sum += rest[j] * x[i + j];
    return sum;
}

/* Rows of any type: expanded piece by piece into the first-level cache, where they are not as good as floats. */
static void matvec_expanding(enum quant_type type, const void *w, size_t row_bytes, int rows, const struct simd_row *x,
                             float *out)
{
    enum { PIECE = 1024 };
    const struct quant_info *info = quant_info(type);
    float expanded[PIECE];
    for (int r = 0; r < rows; r++) {
        const unsigned char *src = (const unsigned char *)w + (size_t)r * row_bytes;
        float sum = 0;
        if (type == QUANT_F16 || type == QUANT_BF16) {
            out[r] = type == QUANT_BF16 ? dot_halves(true, src, x->x, x->n) : dot_halves(false, src, x->x, x->n);
            continue;
        }
        for (int i = 0; i < x->n; i += PIECE) {
            int n = x->n - i < PIECE ? x->n - i : PIECE;
            expand(type, src, expanded, (size_t)n);
            src += PIECE / info->block * info->bytes;
            sum += dot(expanded, x->x + i, n);
        }
        out[r] = sum;
    }
}

static float max(const float *x, int n)
{
    float largest = -INFINITY;
    int i = 0;
    if (n >= LANES) {
        vf m0 = v_load(x), m1 = m0;
        for (; i + 2 * LANES <= n; i += 2 * LANES) {
            m0 = v_max(m0, v_load(x + i));
            m1 = v_max(m1, v_load(x + i + LANES));
        }
        largest = v_largest(v_max(m0, m1));
    }
    for (; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

static float sum_of_exp2(float *x, int n, float scale, float top)
{
    vf s0 = v_zero(), s1 = v_zero(), sc = v_set1(scale), t = v_set1(top);
    int i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vf e0 = v_exp2(v_sub(v_mul(v_load(x + i), sc), t));
        vf e1 = v_exp2(v_sub(v_mul(v_load(x + i + LANES), sc), t));
        v_store(x + i, e0);
        v_store(x + i + LANES, e1);
        s0 = v_add(s0, e0);
        s1 = v_add(s1, e1);
    }
    float sum = v_sum(v_add(s0, s1));
    for (; i < n; i++)
        sum += x[i] = exp2f(x[i] * scale - top);
    return sum;
}

static void scale(float *x, float w, int n)
{
    vf wv = v_set1(w);
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(x + i, v_mul(wv, v_load(x + i)));
    for (; i < n; i++)
        x[i] *= w;
}

static void add_scaled(float *acc, const float *x, float w, int n)
{
    vf wv = v_set1(w);
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(acc + i, v_fma(wv, v_load(x + i), v_load(acc + i)));
    for (; i < n; i++)
        acc[i] += w * x[i];
}

static void rotate(const float *x, float *y, const float *cs, int pairs)
{
    int i = 0, n = 2 * pairs;
    for (; i + LANES <= n; i += LANES) {
        vf xv = v_load(x + i), t = v_load(cs + i);
        v_store(y + i, v_turn(xv, v_even_pairs(t), v_mul(v_swap_pairs(xv), v_odd_pairs(t))));
    }
    for (; i < n; i += 2) {
        float a = x[i], b = x[i + 1];
        y[i] = a * cs[i] - b * cs[i + 1];
        y[i + 1] = a * cs[i + 1] + b * cs[i];
    }
}

static void rms_norm(const float *x, const float *w, float *y, int n, float eps)
{
    float scale = 1 / sqrtf(dot(x, x, n) / (float)n + eps);
    vf s = v_set1(scale);
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(y + i, v_mul(v_mul(v_load(x + i), s), v_load(w + i)));
    for (; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void swiglu(float *gate, const float *up, int n)
{
    const float log2e = 1.44269504f;
    vf one = v_set1(1), minus = v_set1(-log2e);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf g = v_load(gate + i), e = v_exp2(v_mul(g, minus));
        v_store(gate + i, v_mul(v_div(g, v_add(one, e)), v_load(up + i)));
    }
    for (; i < n; i++)
        gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}
