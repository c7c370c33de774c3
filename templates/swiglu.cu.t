% include "silu.cu.t"

/* h = silu(gate) * up.
 *   h [T][ffn] ${t}, written       gu [T][2][ffn] ${t}: gate, then up, of each row       ffn a multiple of 8
 * Grid: enough blocks for one thread a piece of eight. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *RESTRICT h, const half_t *gu, int T, int ffn)
{
    grid_launch_next();
    grid_wait();
    const int per_row = ffn / 8;
    const i64 at = (i64)bid_x() * ${threads} + tid();
    if (at >= (i64)T * per_row)
        return;
    const i64 row = at / per_row;
    const int c = (int)(at % per_row) * 8;
    const struct u4 gate = ld16(gu + row * 2 * ffn + c), up = ld16(gu + row * 2 * ffn + ffn + c);
    const unsigned g[4] = {gate.x, gate.y, gate.z, gate.w}, u[4] = {up.x, up.y, up.z, up.w};
    unsigned out[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const struct f2 x = unpack2(g[i]), y = unpack2(u[i]);
        out[i] = pack2(silu(x.x) * y.x, silu(x.y) * y.y);
    }
    const struct u4 r = {out[0], out[1], out[2], out[3]};
    st16(h + row * ffn + c, r);
}
