% include "weights.cu.t"
% if norm == 1 then
% include "block_sum.cu.t"
% end
% if to == "gate" then
% include "silu.cu.t"
% end

/* The product of row `row` and the inputs, in every lane. */
DEVICE float product(const unsigned char *weights, const half_t *x_s, int row)
{
    float sum = 0.0f;
    for (int unit = lane(); unit < ${n // 8}; unit += 32) {
        float v[8];
        unit_values(v, weights + (i64)row * ${row_bytes}, unit);
        UNROLL
        for (int i = 0; i < 4; i++)
            sum += v[i] * to_float(x_s[unit_first(unit) + i]) + v[4 + i] * to_float(x_s[unit_second(unit) + i]);
    }
    UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        sum += shfl_xor_f(sum, mask);
    return sum;
}

/* y = W x for one token; each block takes ${a_block} outputs at a time, until none is left. Any grid.
% if to == "half" then
 *   y [rows] ${t}, written: W x + bias
% elseif to == "add" then
 *   y [rows] fp32: W x is added
% elseif to == "gate" then
 *   y [rows] ${t}, written: silu(gate x) * (up x)
% else
 *   y [rows] fp32, written
% end
 *   weights [${to == "gate" and "2 * rows: gate, then up" or "rows"}][${n}] of ${w}, 16-byte aligned, nobody writes them
% if norm == 1 then
 *   x [${n}] fp32, normed here: x / sqrt(mean(x^2) + eps) * norm_weight [${n}] fp32
% else
 *   x [${n}] ${t}       norm_weight, eps: not used
% end
 *   bias [rows] fp32 or NULL, for to = half only */
KERNEL(${name}, ${threads}, ${min_blocks})
(void *y, const unsigned char *weights, const void *x, const float *norm_weight, const float *bias, int rows, float eps)
{
    half_t *x_s = (half_t *)smem(); /* [${n}] */
    grid_launch_next();
    grid_wait();
% if norm == 1 then
    const float *x_in = (const float *)x;
    float sum = 0.0f;
    for (int i = tid(); i < ${n}; i += ${threads})
        sum += x_in[i] * x_in[i];
    const float scale = rsqrt_f(block_sum(sum, (float *)(smem() + ${2 * n})) * ${1 / n}f + eps);
    for (int i = tid(); i < ${n}; i += ${threads})
        x_s[i] = from_float(x_in[i] * scale * norm_weight[i]);
% else
    for (int i = tid(); i < ${n}; i += ${threads})
        x_s[i] = ((const half_t *)x)[i];
% end
    sync_block();
    for (int row = bid_x() * ${wp} + warp(); row < rows; row += nbid_x() * ${wp}) {
        float v = product(weights, x_s, row);
% if to == "gate" then
        v = silu(v) * product(weights, x_s, rows + row);
% end
        if (lane() == 0) {
% if to == "half" then
            if (bias)
                v += bias[row];
% end
% if to == "half" or to == "gate" then
            ((half_t *)y)[row] = from_float(v);
% elseif to == "add" then
            ((float *)y)[row] += v;
% else
            ((float *)y)[row] = v;
% end
        }
    }
}
