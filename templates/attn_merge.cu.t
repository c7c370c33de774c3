% local in_registers = r <= 16       -- the values of one row, else a column of shared memory
% local x = in_registers and "x[h]" or "x[h * " .. threads .. "]"
% local unroll = in_registers and "UNROLL" or "NO_UNROLL"
% include "attn_step.cu.t"

/* 2^(x - high), and 1 where both are equal: two minus infinities (a split without keys) too. */
DEVICE float weight(float x, float high)
{
    return x == high ? 1.0f : exp2_f(x - high);
}

/* Ends the attention of one query token: the splits' parts become outputs and log-sum-exps, the logits become scores.
 *
 *   grid  (slices, cascades): block (i, p) takes the i-th part of the outputs of the ${r} heads of cascade p, and of its rows
 *   part_o  [heads][splits][${d}]   part_ml  [heads][splits] m, l   logits  [heads][logit_stride], all from attn_decode
 *   score   [cascades][rows]: gamma * score + ${reduce} of the heads' probabilities, for held rows
 *   o       [heads][${d}]     lse  [heads] m + log2(l)     chunk_score  [cascades], the token's own */
KERNEL(${name}, ${threads}, ${min_blocks})
(const float *part_o, const struct f2 *part_ml, int splits, const float *logits, int logit_stride,
 const struct attn_step *step, float *score, half_t *o, float *lse, float *chunk_score, float gamma, int rows)
{
    const int slice = bid_x(), slices = nbid_x(), p = bid_y();
    const int w = warp(), held = step->held, nruns = step->nruns;
    float *high_s = (float *)smem(), *lse_s = high_s + ${r}, *sum_s = lse_s + ${r}; /* [${r}] each */
    struct f4 *part_s = (struct f4 *)(smem() + ${parts_at});                        /* [${wp}][8] */
    int *end_s = (int *)(smem() + ${runs_at}), *row_s = end_s + 36; /* position after each run; row less position in it */
% if not in_registers then
    float *x = (float *)(smem() + ${columns_at}) + tid(); /* this thread's ${r} values, ${threads} apart */
% end
    if (tid() <= nruns) {
        struct attn_run run = {rows, 1, 0, held}; /* behind the last run: the token's own key */
        if (tid() < nruns)
            run = step->run[tid()];
        end_s[tid()] = run.pos + run.len;
        row_s[tid()] = run.row - run.pos;
    }
    grid_wait();
    grid_launch_next();

    /* 1. m and l of all splits. Every block needs them, and works them out for itself. */
    for (int h = w; h < ${r}; h += ${wp}) {
        const struct f2 *ml = part_ml + (i64)(p * ${r} + h) * splits;
        float high = NEG_INF, sum = 0.0f;
        for (int i = lane(); i < splits; i += 32)
            high = max_f(high, ml[i].x);
        for (int k = 16; k > 0; k /= 2)
            high = max_f(high, shfl_xor_f(high, k));
        for (int i = lane(); i < splits; i += 32)
            sum += weight(ml[i].x, high) * ml[i].y;
        for (int k = 16; k > 0; k /= 2)
            sum += shfl_xor_f(sum, k);
        if (lane() == 0) {
            high_s[h] = high;
            sum_s[h] = sum;
            lse_s[h] = high + log2_f(sum);
            if (slice == 0)
                lse[p * ${r} + h] = lse_s[h];
        }
    }
    sync_block();

    /* 2. Outputs, 4 elements a thread: 8 neighbours, and ${threads // 8} threads for the splits of each. */
    const int share = (${r * d // 4} + slices - 1) / slices;
    const int begin = slice * share, end = min_i(begin + share, ${r * d // 4});
    for (int base = begin; base < end; base += 8) {
        const int quad = base + tid() % 8, h = quad / ${d // 4};
        struct f4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
        if (quad < end) {
            const i64 head = (i64)(p * ${r} + h) * splits;
            for (int i = tid() / 8; i < splits; i += ${threads // 8}) {
                float by = weight(part_ml[head + i].x, high_s[h]);
                struct f4 x = *(const struct f4 *)&part_o[(head + i) * ${d} + quad % ${d // 4} * 4];
                sum.x += by * x.x;
                sum.y += by * x.y;
                sum.z += by * x.z;
                sum.w += by * x.w;
            }
        }
        for (int k = 8; k < 32; k *= 2) {
            sum.x += shfl_xor_f(sum.x, k);
            sum.y += shfl_xor_f(sum.y, k);
            sum.z += shfl_xor_f(sum.z, k);
            sum.w += shfl_xor_f(sum.w, k);
        }
        if (lane() < 8)
            part_s[w * 8 + lane()] = sum;
        sync_block();
        if (tid() < 8 && quad < end) {
            for (int i = 1; i < ${wp}; i++) {
                struct f4 x = part_s[i * 8 + tid()];
                sum.x += x.x;
                sum.y += x.y;
                sum.z += x.z;
                sum.w += x.w;
            }
            const float l = sum_s[h];
            struct u2 out = {pack2(sum.x / l, sum.y / l), pack2(sum.z / l, sum.w / l)};
            *(struct u2 *)&o[(i64)(p * ${r * d}) + quad * 4] = out;
        }
        sync_block();
    }

    /* 3. Scores, a row a thread. */
    const int rows_share = (held + slices) / slices;
    const int last = min_i((slice + 1) * rows_share, held + 1);
    int run = 0;
    for (int pos = slice * rows_share + tid(); pos < last; pos += ${threads}) {
        while (pos >= end_s[run])
            run++;
        const int row = pos + row_s[run];
        const float *logit = logits + (i64)(p * ${r}) * logit_stride + row;
        float *mine = row == rows ? &chunk_score[p] : &score[(i64)p * rows + row];
        const float old = row == rows ? 0.0f : gamma * *mine;
% if in_registers then
        float x[${r}];
% end
        ${unroll}
        for (int h = 0; h < ${r}; h++)
            ${x} = logit[(i64)h * logit_stride];
        ${unroll}
        for (int h = 0; h < ${r}; h++)
            ${x} = exp2_f(${x} - lse_s[h]);
% if reduce == "mean" then
        float value = 0.0f;
        ${unroll}
        for (int h = 0; h < ${r}; h++)
            value += ${x};
        value *= 1.0f / ${r};
% elseif reduce == "max" then
        float value = 0.0f;
        ${unroll}
        for (int h = 0; h < ${r}; h++)
            value = max_f(value, ${x});
% else
        /* The lower middle one, bit by bit: none is negative, so their bits are in their order. */
        unsigned middle = 0;
        for (int bit = 30; bit >= 0; bit--) {
            unsigned probe = middle | 1u << bit;
            int below = 0;
            ${unroll}
            for (int h = 0; h < ${r}; h++)
                below += (float_bits(${x}) & 0x7fffffffu) < probe;
            if (below <= ${(r - 1) // 2})
                middle = probe;
        }
        float value = bits_float(middle);
% end
        *mine = old + value;
    }
}
