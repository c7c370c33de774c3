% -- matvec with weights of a plain type: each warp takes whole rows.
% local m = ends * r                                    -- matrix rows of a warp at a time
% local per = w == "f32" and 4 or 8                     -- weights of a piece of 16 bytes
% local row_pieces = n // per
% local steps = (row_pieces + 32 * u - 1) // (32 * u)
% local ragged = row_pieces % (32 * u) ~= 0
% local in_row = ragged and "piece < " .. row_pieces or nil
/* Row i of the warp's ${m} where its first output is `out`. Past the last output that one's row is read again. */
DEVICE int row_of(int out, int i, int rows)
{
% if to == "gate" then
    return min_i(out + i % ${r}, rows - 1) + i / ${r} * rows;
% else
    return min_i(out + i, rows - 1);
% end
}

/* Asks for one step of the rows. Each lane reads back what it asked for itself, so no lane waits for another. */
DEVICE void ask_step(struct u4 *stage, const unsigned char *weights, int out, int step, int rows)
{
    UNROLL
    for (int i = 0; i < ${m}; i++) {
        const unsigned char *row = weights + (i64)row_of(out, i, rows) * ${row_bytes};
        UNROLL
        for (int j = 0; j < ${u}; j++) {
            const int piece = (step * ${u} + j) * 32 + lane();
% if ragged then
            if (${in_row})
% end
                cp_async16_once(stage + (i * ${u} + j) * 32 + lane(), row + piece * 16, true);
        }
    }
}

/* Adds the products of one step. */
DEVICE void step_product(float sum[${m}], const struct u4 *stage, const half_t *x_s, int step)
{
    UNROLL
    for (int j = 0; j < ${u}; j++) {
        const int piece = (step * ${u} + j) * 32 + lane();
% if ragged then
        if (!(${in_row}))
            continue;
% end
% if per == 8 then
        const struct u4 x = lds16(x_s + piece * 8);
        const struct f2 x0 = unpack2(x.x), x1 = unpack2(x.y), x2 = unpack2(x.z), x3 = unpack2(x.w);
% else
        const struct u2 x = *(const struct u2 *)(x_s + piece * 4);
        const struct f2 x0 = unpack2(x.x), x1 = unpack2(x.y);
% end
        UNROLL
        for (int i = 0; i < ${m}; i++) {
            const struct u4 v = lds16(stage + (i * ${u} + j) * 32 + lane());
% local function value(word, high)
%   if w == "f32" then return ("bits_float(v.%s)"):format(word) end
%   if w == "bf16" then return high and ("bits_float(v.%s & 0xffff0000u)"):format(word) or ("bits_float(v.%s << 16)"):format(word) end
%   return ("fp16_value((unsigned short)%s)"):format(high and ("(v.%s >> 16)"):format(word) or "v." .. word)
% end
% for k, word in ipairs { "x", "y", "z", "w" } do
%   if per == 8 then
            sum[i] = fma_f(${value(word)}, x${k - 1}.x, sum[i]);
            sum[i] = fma_f(${value(word, true)}, x${k - 1}.y, sum[i]);
%   else
            sum[i] = fma_f(${value(word)}, x${(k - 1) // 2}.${(k - 1) % 2 == 0 and "x" or "y"}, sum[i]);
%   end
% end
        }
    }
}

% include "matvec_args.cu.t"
KERNEL(${name}, ${threads}, ${min_blocks})
(void *y, const unsigned char *weights, const void *x, const float *norm_weight, const float *bias, int rows, float eps)
{
    half_t *x_s = (half_t *)smem(); /* [${n}] */
    struct u4 *stages = (struct u4 *)(smem() + ${stages_at} + warp() * ${st * stage_bytes});
    const int next = nbid_x() * ${a_block};
    struct early early;

    grid_launch_next();
    int ahead = (warp() * nbid_x() + bid_x()) * ${r}, ahead_step = 0, ahead_stage = 0;
% local function ask(indent)
${indent}if (ahead < rows)
${indent}    ask_step(stages + ahead_stage * ${stage_bytes // 16}, weights, ahead, ahead_step, rows);
${indent}cp_async_commit();
${indent}ahead_stage = ahead_stage == ${st - 1} ? 0 : ahead_stage + 1;
%   if steps > 1 then
${indent}if (++ahead_step == ${steps}) {
${indent}    ahead_step = 0;
${indent}    ahead += next;
${indent}}
%   else
${indent}ahead += next;
%   end
% end
    for (int i = 0; i < ${st - 1}; i++) {
%   ask("        ")
    }
    read_early(&early, norm_weight);
    grid_wait();
    read_inputs(x_s, (float *)0, (float *)(smem() + ${part_at}), x, &early, eps);

    int stage = 0;
    for (int out = (warp() * nbid_x() + bid_x()) * ${r}; out < rows; out += next) {
        const bool mine = lane() < ${r} && out + lane() < rows; /* an output of this lane's */
        const float more = mine ? addend(y, bias, out + lane()) : 0.0f;
        float sum[${m}];
        UNROLL
        for (int i = 0; i < ${m}; i++)
            sum[i] = 0.0f;
        for (int step = 0; step < ${steps}; step++) {
            cp_async_wait(${st - 2});
%   ask("            ")
            step_product(sum, stages + stage * ${stage_bytes // 16}, x_s, step);
            stage = stage == ${st - 1} ? 0 : stage + 1;
        }
        UNROLL
        for (int i = 0; i < ${m}; i++) {
            UNROLL
            for (int mask = 16; mask > 0; mask /= 2)
                sum[i] += shfl_xor_f(sum[i], mask);
        }
        if (mine) {
            float v = sum[0]${to == "gate" and ", up = sum[" .. r .. "]" or ""};
            UNROLL
            for (int i = 1; i < ${r}; i++) {
                v = lane() == i ? sum[i] : v;
% if to == "gate" then
                up = lane() == i ? sum[${r} + i] : up;
% end
            }
            put_output(y, out + lane(), v + more${to == "gate" and ", up" or ""});
        }
    }
}
