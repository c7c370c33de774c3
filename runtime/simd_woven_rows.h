/* Rows of woven weights times a prepared row, for simd_woven_avx2.c and simd_woven_avx512.c, which include it once each, after they have
 * defined
 *     eight_rows(type, w, blocks, activations, digits, out)      SIMD_WOVEN_ROWS rows at w
 * Type and digits are known at compile time in each of the calls. */

ALWAYS_INLINE void all_rows(const enum quant_type type, const unsigned char *w, size_t row_bytes, int rows,
                            const struct simd_row *x, const int digits, float *out)
{
    for (int r = 0; r < rows; r += SIMD_WOVEN_ROWS)
        eight_rows(type, w + (size_t)r * row_bytes, x->n / WOVEN_BLOCK, woven_blocks(x), digits, out + r);
}

static void matvec(enum quant_type type, const void *woven, size_t row_bytes, int rows, const struct simd_row *x,
                   float *out)
{
    if (type == QUANT_Q4_1 && x->coarse)
        all_rows(QUANT_Q4_1, woven, row_bytes, rows, x, 1, out);
    else if (type == QUANT_Q4_1)
        all_rows(QUANT_Q4_1, woven, row_bytes, rows, x, SIMD_DIGITS, out);
    else if (x->coarse)
        all_rows(QUANT_Q4_0, woven, row_bytes, rows, x, 1, out);
    else
        all_rows(QUANT_Q4_0, woven, row_bytes, rows, x, SIMD_DIGITS, out);
}
