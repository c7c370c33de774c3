% -- The inputs of matvec: read, normed, rounded to t, into shared memory.
% local mine = (n // 4 + threads - 1) // threads   -- pieces of four inputs a thread
% local ragged = n // 4 % threads ~= 0
/* What the thread can read of the inputs before the kernels ahead have ended: the norm's weights, at the places of its inputs. */
struct early {
% if norm == 1 then
    struct f4 weight[${mine}];
% else
    char none;
% end
};

DEVICE void read_early(struct early *e, const float *norm_weight)
{
% if norm == 1 then
    UNROLL
    for (int i = 0; i < ${mine}; i++) {
        const int at = i * ${threads} + tid();
        const struct f4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
        e->weight[i] = ${ragged and "at < " .. n // 4 .. " ? " or ""}((const struct f4 *)norm_weight)[at]${ragged and " : zero" or ""};
    }
% end
}

/* The inputs as pairs of ${t} into x_s [${n}], ready for all threads on return.
% if quant == 1 then
 * A group of 32 lies as 4 units (weights.cu.t) of 8: 4c, 4c + 2, 4c + 1, 4c + 3, then the same 16 further on, which is how unit c of
 * a group of weights comes.
%   if sums > 0 then
 * group_sums [${n // 32}]${sums == 2 and "[2]" or ""}: the sum of each group${sums == 2 and "'s first and last 16" or ""}.
%   end
% end
 */
DEVICE void read_inputs(half_t *x_s, float *group_sums, float *part, const void *x, const struct early *e, float eps)
{
% if norm == 1 then
    struct f4 v[${mine}];
    float sum = 0.0f;
    UNROLL
    for (int i = 0; i < ${mine}; i++) {
        const int at = i * ${threads} + tid();
        const struct f4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
        v[i] = ${ragged and "at < " .. n // 4 .. " ? " or ""}((const struct f4 *)x)[at]${ragged and " : zero" or ""};
        sum += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
    }
    const float scale = rsqrt_f(block_sum(sum, part) * ${1 / n}f + eps);
% end
    UNROLL
    for (int i = 0; i < ${mine}; i++) {
        const int at = i * ${threads} + tid();
        struct u2 p = {0, 0};
% if norm == 1 then
%   if quant == 1 then
        p.x = pack2(v[i].x * scale * e->weight[i].x, v[i].z * scale * e->weight[i].z);
        p.y = pack2(v[i].y * scale * e->weight[i].y, v[i].w * scale * e->weight[i].w);
%   else
        p.x = pack2(v[i].x * scale * e->weight[i].x, v[i].y * scale * e->weight[i].y);
        p.y = pack2(v[i].z * scale * e->weight[i].z, v[i].w * scale * e->weight[i].w);
%   end
% else
        ${ragged and "if (at < " .. n // 4 .. ")\n            " or ""}p = ((const struct u2 *)x)[at];
%   if quant == 1 then
        const struct u2 q = {(p.x & 0xffffu) | p.y << 16, p.x >> 16 | (p.y & 0xffff0000u)};
        p = q;
%   end
% end
% if sums > 0 then
        const struct f2 a = unpack2(p.x), b = unpack2(p.y);
        float sum_of_4 = (a.x + b.x) + (a.y + b.y);
        sum_of_4 += shfl_xor_f(sum_of_4, 1);
        sum_of_4 += shfl_xor_f(sum_of_4, 2);
%   if sums == 1 then
        sum_of_4 += shfl_xor_f(sum_of_4, 4);
%   end
        if (${ragged and "at < " .. n // 4 .. " && " or ""}at % ${8 // sums} == 0)
            group_sums[at / ${8 // sums}] = sum_of_4;
% end
% if quant == 1 then
        const int to = at / 8 * 32 + at % 4 * 8 + at / 4 % 2 * 4;
% else
        const int to = 4 * at;
% end
        ${ragged and "if (at < " .. n // 4 .. ")\n            " or ""}*(struct u2 *)(x_s + to) = p;
    }
    sync_block();
}

/* What is added to output `out`; read before the product is there, so that nothing waits for it. */
DEVICE float addend(const void *y, const float *bias, int out)
{
% if to == "half" then
    return bias ? bias[out] : 0.0f;
% elseif to == "add" then
    return ((const float *)y)[out];
% else
    return 0.0f;
% end
}

% if to == "gate" then
DEVICE void put_output(void *y, int out, float gate, float up) { ((half_t *)y)[out] = from_float(silu(gate) * up); }
% elseif to == "half" then
DEVICE void put_output(void *y, int out, float v) { ((half_t *)y)[out] = from_float(v); }
% else
DEVICE void put_output(void *y, int out, float v) { ((float *)y)[out] = v; }
% end
