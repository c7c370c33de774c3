% include "block_sum.cu.t"

/* The largest v of the block, in every thread; `part` as for block_sum. */
DEVICE float block_max(float v, float *part)
{
    UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        v = max_f(v, shfl_xor_f(v, mask));
    if (lane() == 0)
        part[warp()] = v;
    sync_block();
    UNROLL
    for (int i = 0; i < ${wp}; i++)
        v = max_f(v, part[i]);
    return v;
}

/* e^(v - from); 0 for minus infinity, also from there. */
DEVICE float exp_from(float v, float from)
{
    return v == NEG_INF ? 0.0f : exp2_f((v - from) * ${1 / math.log(2)}f);
}

/* Logits at .. at + 3 of count; those behind the end count nothing. */
DEVICE struct f4 piece(const float *x, int at, int count)
{
    struct f4 v = {NEG_INF, NEG_INF, NEG_INF, NEG_INF};
    if (at + 4 <= count)
        return *(const struct f4 *)(x + at);
    if (at < count)
        v.x = x[at];
    if (at + 1 < count)
        v.y = x[at + 1];
    if (at + 2 < count)
        v.z = x[at + 2];
    return v;
}

/* The largest of a row's logits into *most, and of this thread's the sum of e^(logit - *most), in one pass. */
DEVICE float sum_of_row(float *most, const float *x, int count)
{
    float largest = NEG_INF, sum = 0.0f;
    for (int from = 4 * tid(); from < count; from += ${4 * u * threads}) {
        struct f4 v[${u}];
        float before = largest;
        UNROLL
        for (int i = 0; i < ${u}; i++) {
            v[i] = piece(x, from + i * ${4 * threads}, count);
            largest = max_f(largest, max_f(max_f(v[i].x, v[i].y), max_f(v[i].z, v[i].w)));
        }
        sum *= exp_from(before, largest);
        UNROLL
        for (int i = 0; i < ${u}; i++)
            sum += exp_from(v[i].x, largest) + exp_from(v[i].y, largest) + exp_from(v[i].z, largest) + exp_from(v[i].w, largest);
    }
    *most = block_max(largest, (float *)smem());
    return sum * exp_from(largest, *most);
}

/* -log softmax(logits)[target] of rows, in nats, a row a block and a piece of the vocabulary a launch: what is known of a row so far
 * (its largest logit, the sum of e^(logit - largest), the target's logit) waits in `state` for the next one.
 *   grid    (rows)
 *   nll     [rows] fp32, written by the launch that ends the vocabulary
 *   state   [rows][4] fp32, begun anew by the launch with first = 0
 *   logits  [rows][row] fp32, tokens first .. first + count - 1 of vocab; row is a multiple of 4 where there are several rows
 *   target  [rows], tokens of the vocabulary
 * Sums are fp32 in an order of their own, the same at every launch. A row that holds a NaN gets a NaN. */
KERNEL(${name}, ${threads}, ${min_blocks})
(float *nll, struct f4 *state, const float *logits, const int *target, int first, int count, int row, int vocab)
{
    grid_launch_next();
    grid_wait();
    const float *x = logits + (i64)bid_x() * row;
    float most;
    float sum = sum_of_row(&most, x, count);
    sum = block_sum(sum, (float *)smem() + ${wp});
    if (tid() != 0)
        return;
    struct f4 all = {most, sum, 0.0f, 0.0f};
    if (first > 0) {
        const struct f4 held = state[bid_x()];
        all.x = max_f(held.x, most);
        all.y = held.y * exp_from(held.x, all.x) + sum * exp_from(most, all.x);
        all.z = held.z;
    }
    const int at = target[bid_x()] - first;
    if (at >= 0 && at < count)
        all.z = x[at];
    if (first + count < vocab)
        state[bid_x()] = all;
    else
        nll[bid_x()] = (all.x - all.z) + log2_f(all.y) * ${math.log(2)}f;
}
