/* y += bias, row by row.
 *   y [T][n] ${t}, in place       bias [n] fp32       n a multiple of 8
 * Grid: enough blocks for one thread a piece of eight. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *y, const float *RESTRICT bias, int T, int n)
{
    grid_launch_next();
    grid_wait();
    const i64 at = (i64)bid_x() * ${threads} + tid();
    if (at >= (i64)T * (n / 8))
        return;
    const int c = (int)(at % (n / 8)) * 8;
    const struct u4 v = ld16(y + at * 8);
    unsigned x[4] = {v.x, v.y, v.z, v.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
        const struct f2 p = unpack2(x[i]), b = *(const struct f2 *)(bias + c + 2 * i);
        x[i] = pack2(p.x + b.x, p.y + b.y);
    }
    const struct u4 r = {x[0], x[1], x[2], x[3]};
    st16(y + at * 8, r);
}
