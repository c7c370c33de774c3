% include "attn_common.cu.t"

/* Turns row m of q and k by the angles of position m, in fp32: pairs of neighbours (x, y) by rot[m] = {cos, sin}.
 *   qr [T][heads][${d}], kr [T][kv_heads][${d}], written    q, k the same, rows q_stride and k_stride elements apart
 *   rot [positions][${d // 2}]
 * Grid: enough blocks for one thread a piece of 16 bytes. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *RESTRICT qr, half_t *RESTRICT kr, const half_t *RESTRICT q, const half_t *RESTRICT k, const struct f2 *RESTRICT rot, int T, int heads,
 int kv_heads, int q_stride, int k_stride)
{
    int per_row = (heads + kv_heads) * ${d // 8};
    i64 at = (i64)bid_x() * ${threads} + tid();
    if (at >= (i64)T * per_row)
        return;
    int m = (int)(at / per_row), c = (int)(at % per_row), of_q = heads * ${d // 8};
    struct f4 turn[2];
    read_turn(turn, rot + (i64)m * ${d // 2} + c % ${d // 8} * 4);
    if (c < of_q)
        st16(qr + (i64)m * heads * ${d} + c * 8, turn_pairs(ld16(q + (i64)m * q_stride + c * 8), turn, 1.0f));
    else
        st16(kr + (i64)m * kv_heads * ${d} + (c - of_q) * 8, turn_pairs(ld16(k + (i64)m * k_stride + (c - of_q) * 8), turn, 1.0f));
}
