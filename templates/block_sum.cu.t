/* The sum of v over the block, in every thread; `part` is room for ${threads // 32} floats of shared memory that nobody else
 * touches. The order of the sum is fixed. */
DEVICE float block_sum(float v, float *part)
{
    UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        v += shfl_xor_f(v, mask);
    if (lane() == 0)
        part[warp()] = v;
    sync_block();
    v = 0.0f;
    UNROLL
    for (int i = 0; i < ${threads // 32}; i++)
        v += part[i];
    return v;
}
