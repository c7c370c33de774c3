/* Products with weight matrices. A few tokens: rows of weights as they are, or woven (weave.h). More: blocks of 64 outputs are
 * expanded to fp32 panels, which stay in the second-level cache while the chunk's rows pass by; there is never an fp32 copy of a
 * matrix. */
#include <string.h>

#include "backend_cpu.h"

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int up_to(int n, int multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static size_t row_bytes(const struct tensor *w)
{
    return w->bytes / (size_t)w->ne[1];
}

/* --- a few tokens ----------------------------------------------------------------------------------------------------- */

struct matvec_job {
    struct cpu *c;
    const struct cpu_linear *l; /* [n] */
    int n, T;
    float *gated; /* [T][out]: l[0] and l[1] are gate and up, and this gets silu(gate) * up; else NULL */
};

static void rows_times(const struct cpu *c, const struct cpu_linear *l, int first, int rows, int t, float *out)
{
    size_t bytes = row_bytes(l->w), at = (size_t)first * bytes;
    if (l->woven)
        c->simd->woven->matvec(l->w->type, l->woven + at, bytes, rows, &c->row[t], out);
    else
        c->simd->matvec(l->w->type, (const unsigned char *)l->w->data + at, bytes, rows, &c->row[t], out);
}

static void matvec_item(void *context, int item, int thread)
{
    struct matvec_job *j = context;
    const struct cpu_linear *l = j->l;
    int blocks;
    while (item >= (blocks = up_to((int)l->w->ne[1], CPU_MATVEC_ROWS) / CPU_MATVEC_ROWS)) {
        item -= blocks;
        l++;
    }
    int first = item * CPU_MATVEC_ROWS, rows = least(CPU_MATVEC_ROWS, (int)l->w->ne[1] - first);
    float out[CPU_MATVEC_ROWS], up[CPU_MATVEC_ROWS];
    for (int t = 0; t < j->T; t++) {
        rows_times(j->c, l, first, rows, t, out);
        if (j->gated) {
            rows_times(j->c, l + 1, first, rows, t, up);
            j->c->simd->swiglu(out, up, rows);
            memcpy(j->gated + (size_t)t * (size_t)l->w->ne[1] + first, out, (size_t)rows * sizeof *out);
            continue;
        }
        float *y = l->y + (size_t)t * l->y_row + first;
        for (int r = 0; r < rows; r++)
            y[r] = l->add ? y[r] + out[r] : out[r];
    }
}

static void prepare_rows(struct cpu *c, const struct cpu_linear *l, int n, const float *x, size_t x_row, int T)
{
    for (int t = 0; t < T; t++) {
        c->row[t].n = (int)l->w->ne[0];
        c->row[t].x = x + (size_t)t * x_row;
        bool woven = false;
        for (int i = 0; i < n; i++) {
            if (!l[i].woven && (i == 0 || l[i].w->type != l[i - 1].w->type))
                c->simd->prepare(&c->row[t], l[i].w->type);
            if (l[i].woven && !woven)
                c->simd->woven->prepare(&c->row[t]);
            woven = woven || l[i].woven;
        }
    }
}

/* --- chunks ------------------------------------------------------------------------------------------------------------- */

/* As expand_panel, of a woven matrix, whose rows are whole groups. */
static void expand_woven(const struct cpu *c, const struct cpu_linear *l, int first, int k0, int depth, float *panel)
{
    for (int r = 0; r < CPU_BLOCK; r += SIMD_WOVEN_ROWS)
        if (first + r < l->w->ne[1])
            c->simd->woven->expand(l->w->type, l->woven + (size_t)(first + r) * row_bytes(l->w), k0, panel + r,
                                   CPU_BLOCK, depth);
        else
            for (int k = 0; k < depth; k++)
                memset(panel + (size_t)k * CPU_BLOCK + r, 0, SIMD_WOVEN_ROWS * sizeof *panel);
}

/* Rows [first, first + CPU_BLOCK) of a matrix, inputs [k0, k0 + depth), to panel form [depth][CPU_BLOCK]; rows past the matrix's
 * end are zero. */
static void expand_panel(const struct cpu *c, struct cpu_scratch *s, const struct cpu_linear *l, int first, int k0,
                         int depth, float *panel)
{
    const struct tensor *w = l->w;
    if (l->woven) {
        expand_woven(c, l, first, k0, depth, panel);
        return;
    }
    const struct quant_info *info = quant_info(w->type);
    size_t bytes = row_bytes(w), skip = (size_t)(k0 / info->block) * (size_t)info->bytes;
    int padded = up_to(depth, PANEL);
    for (int p = 0; p < CPU_BLOCK; p += PANEL) {
        for (int r = 0; r < PANEL; r++) {
            float *row = s->expanded + (size_t)r * CPU_DEPTH;
            int out = first + p + r, filled = 0;
            if (out < w->ne[1]) {
                c->simd->expand(w->type, (const unsigned char *)w->data + (size_t)out * bytes + skip, row,
                                (size_t)depth);
                filled = depth;
            }
            memset(row + filled, 0, (size_t)(padded - filled) * sizeof *row);
        }
        c->simd->transpose(s->expanded, CPU_DEPTH, panel + p, CPU_BLOCK, padded);
    }
}

struct chunk_job {
    struct cpu *c;
    const struct cpu_linear *l;
    const float *x;
    size_t x_row;
    int T, row_blocks, rows; /* tokens, in so many blocks of so many */
    float *gated;
};

/* tile [T][CPU_BLOCK] (+)= x times the panel */
static void panel_product(const struct cpu *c, const float *x, size_t x_row, int T, const float *panel, int depth,
                          float *y, size_t y_row, bool add)
{
    struct simd_product p = {.m = T,
                             .panels = CPU_BLOCK / PANEL,
                             .k = depth,
                             .a = x,
                             .a_row = x_row,
                             .b = panel,
                             .b_k = CPU_BLOCK,
                             .b_panel = PANEL,
                             .c = y,
                             .c_row = y_row,
                             .add = add};
    c->simd->product(&p);
}

/* A block of outputs for which y has no room of whole panels: through a tile. */
static void ragged_product(const struct cpu *c, struct cpu_scratch *s, const struct chunk_job *j,
                           const struct cpu_linear *l, int first, int t0, int t1, int k0, int depth)
{
    int outs = (int)l->w->ne[1] - first;
    panel_product(c, j->x + (size_t)t0 * j->x_row + k0, j->x_row, t1 - t0, s->panel, depth, s->tile, CPU_BLOCK, false);
    for (int t = t0; t < t1; t++) {
        float *y = l->y + (size_t)t * l->y_row + first;
        const float *from = s->tile + (size_t)(t - t0) * CPU_BLOCK;
        for (int o = 0; o < outs; o++)
            y[o] = l->add || k0 ? y[o] + from[o] : from[o];
    }
}

static void chunk_item(void *context, int item, int thread)
{
    struct chunk_job *j = context;
    struct cpu *c = j->c;
    struct cpu_scratch *s = &c->scratch[thread];
    int t0 = item % j->row_blocks * j->rows, t1 = least(j->T, t0 + j->rows), block = item / j->row_blocks, blocks;
    const struct cpu_linear *l = j->l;
    while (block >= (blocks = up_to((int)l->w->ne[1], CPU_BLOCK) / CPU_BLOCK)) {
        block -= blocks;
        l++;
    }
    int first = block * CPU_BLOCK, in = (int)l->w->ne[0];
    for (int k0 = 0; k0 < in; k0 += CPU_DEPTH) {
        int depth = least(CPU_DEPTH, in - k0);
        expand_panel(c, s, l, first, k0, depth, s->panel);
        if (first + CPU_BLOCK > l->w->ne[1])
            ragged_product(c, s, j, l, first, t0, t1, k0, depth);
        else
            panel_product(c, j->x + (size_t)t0 * j->x_row + k0, j->x_row, t1 - t0, s->panel, depth,
                          l->y + (size_t)t0 * l->y_row + first, l->y_row, l->add || k0);
    }
}

/* Gate and up of one block of outputs. */
static void gated_item(void *context, int item, int thread)
{
    struct chunk_job *j = context;
    struct cpu *c = j->c;
    struct cpu_scratch *s = &c->scratch[thread];
    int t0 = item % j->row_blocks * j->rows, T = least(j->T - t0, j->rows), first = item / j->row_blocks * CPU_BLOCK;
    int in = (int)j->l->w->ne[0], ffn = (int)j->l->w->ne[1], outs = least(CPU_BLOCK, ffn - first);
    float *tile[2] = {s->tile, s->tile + CPU_ROWS * CPU_BLOCK};
    for (int half = 0; half < 2; half++)
        for (int k0 = 0; k0 < in; k0 += CPU_DEPTH) {
            int depth = least(CPU_DEPTH, in - k0);
            expand_panel(c, s, &j->l[half], first, k0, depth, s->panel);
            panel_product(c, j->x + (size_t)t0 * j->x_row + k0, j->x_row, T, s->panel, depth, tile[half], CPU_BLOCK,
                          k0 > 0);
        }
    for (int i = 0; i < T; i++) {
        float *g = tile[0] + i * CPU_BLOCK;
        c->simd->swiglu(g, tile[1] + i * CPU_BLOCK, outs);
        memcpy(j->gated + (size_t)(t0 + i) * (size_t)ffn + first, g, (size_t)outs * sizeof *g);
    }
}

/* --- both ---------------------------------------------------------------------------------------------------------------- */

static int blocks_of(const struct cpu_linear *l, int n, int block)
{
    int blocks = 0;
    for (int i = 0; i < n; i++)
        blocks += up_to((int)l[i].w->ne[1], block) / block;
    return blocks;
}

static void run_linears(struct cpu *c, const struct cpu_linear *l, int n, const float *x, size_t x_row, int T,
                        float *gated)
{
    int counted = gated ? 1 : n;
    if (T <= CPU_MATVEC_TOKENS) {
        struct matvec_job j = {.c = c, .l = l, .n = n, .T = T, .gated = gated};
        prepare_rows(c, l, n, x, x_row, T);
        pool_run(c->pool, blocks_of(l, counted, CPU_MATVEC_ROWS), matvec_item, &j);
        return;
    }
    struct chunk_job j = {.c = c, .l = l, .x = x, .x_row = x_row, .T = T, .gated = gated};
    j.row_blocks = up_to(T, CPU_ROWS) / CPU_ROWS;
    j.rows = least(up_to((T + j.row_blocks - 1) / j.row_blocks, 6), CPU_ROWS); /* 6 rows are multiplied at a time */
    pool_run(c->pool, blocks_of(l, counted, CPU_BLOCK) * j.row_blocks, gated ? gated_item : chunk_item, &j);
}

void cpu_linears(struct cpu *c, const struct cpu_linear *l, int n, const float *x, size_t x_row, int T)
{
    run_linears(c, l, n, x, x_row, T, NULL);
}

void cpu_gated(struct cpu *c, int layer, const float *x, size_t x_row, int T, float *h)
{
    const struct model_layer *m = &c->m->layer[layer];
    const struct weave_layer w = cpu_woven(c, layer);
    struct cpu_linear l[2] = {{.w = m->gate, .woven = w.gate}, {.w = m->up, .woven = w.up}};
    run_linears(c, l, 2, x, x_row, T, h);
}
