% include "block_sum.cu.t"

/* y = x / sqrt(mean(x^2) + eps) * weight, a row a block.
 *   grid  (T)       y [T][${n}] ${t}, written       x [T][${n}] fp32       weight [${n}] fp32 */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *RESTRICT y, const float *x, const float *weight, int T, float eps)
{
    grid_launch_next();
    grid_wait();
    const struct f4 *row = (const struct f4 *)(x + (i64)bid_x() * ${n});
% local mine = (n // 4 + threads - 1) // threads   -- pieces of four elements a thread
    struct f4 v[${mine}];
    float sum = 0.0f;
    UNROLL
    for (int i = 0; i < ${mine}; i++) {
        const int at = i * ${threads} + tid();
        struct f4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
        v[i] = at < ${n // 4} ? row[at] : zero;
        sum += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
    }
    const float scale = rsqrt_f(block_sum(sum, (float *)smem()) * ${1 / n}f + eps);
    UNROLL
    for (int i = 0; i < ${mine}; i++) {
        const int at = i * ${threads} + tid();
        if (at < ${n // 4}) {
            struct f4 by = ((const struct f4 *)weight)[at];
            struct u2 out = {pack2(v[i].x * scale * by.x, v[i].y * scale * by.y), pack2(v[i].z * scale * by.z, v[i].w * scale * by.w)};
            ((struct u2 *)(y + (i64)bid_x() * ${n}))[at] = out;
        }
    }
}
