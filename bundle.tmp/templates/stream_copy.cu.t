/* Copies n pieces of 16 bytes: how fast this GPU's memory is, for every figure that is a fraction of it. */
KERNEL(${name}, ${threads}, ${min_blocks})
(const struct u4 *from, struct u4 *to, i64 n)
{
    const i64 first = (i64)bid_x() * ${threads * u} + tid();
    struct u4 x[${u}];
    UNROLL
    for (int i = 0; i < ${u}; i++)
        if (first + i * ${threads} < n)
            x[i] = ld16_stream(from + first + i * ${threads});
    UNROLL
    for (int i = 0; i < ${u}; i++)
        if (first + i * ${threads} < n)
            st16(to + first + i * ${threads}, x[i]);
}
