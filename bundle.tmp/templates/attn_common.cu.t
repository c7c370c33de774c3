% -- What the attention kernels over the cache's runs share. The environment holds d; locals of an included file stay in it.
% include "attn_step.cu.t"
% local chunks = d // 8                                  -- pieces of 16 bytes in a row
% local low = 1; while chunks % (2 * low) == 0 and low < 8 do low = 2 * low end
% local period = 8 // low                                -- rows until a row starts at the same bank again
% local how = low == 8 and "its low three bits are crossed with the row's." or
%   "rows of this length shift the banks by themselves, crossing the low bits does the rest."
/* Byte offset of piece c (16 bytes) of row r in a tile of rows of ${d}. The eight rows that one phase of ldmatrix reads lie in
 * different banks: ${how} */
DEVICE unsigned swizzle(int r, int c)
{
    return (unsigned)(r * ${2 * d} + ((c ^ (${period == 1 and "r" or "r / " .. period} & ${low - 1})) << 4));
}

/* The swizzled offset 16 columns times k further on in the same row: only the low bits of a piece's number are crossed. */
DEVICE unsigned columns16(unsigned at, int k)
{
    return (at ^ ((2 * k & ${low - 1}) << 4)) + ((2 * k & ~${low - 1}) << 4);
}

/* The cosines and sines of four pairs. */
DEVICE void read_turn(struct f4 turn[2], const struct f2 *from)
{
    turn[0] = *(const struct f4 *)from;
    turn[1] = *(const struct f4 *)(from + 2);
}

/* Turns eight elements, four adjacent pairs, in fp32; `way` is 1 or -1. */
DEVICE struct u4 turn_pairs(struct u4 x, const struct f4 turn[2], float way)
{
    struct f2 a = unpack2(x.x), b = unpack2(x.y), c = unpack2(x.z), e = unpack2(x.w);
    float s0 = way * turn[0].y, s1 = way * turn[0].w, s2 = way * turn[1].y, s3 = way * turn[1].w;
    x.x = pack2(a.x * turn[0].x - a.y * s0, a.x * s0 + a.y * turn[0].x);
    x.y = pack2(b.x * turn[0].z - b.y * s1, b.x * s1 + b.y * turn[0].z);
    x.z = pack2(c.x * turn[1].x - c.y * s2, c.x * s2 + c.y * turn[1].x);
    x.w = pack2(e.x * turn[1].z - e.y * s3, e.x * s3 + e.y * turn[1].z);
    return x;
}
