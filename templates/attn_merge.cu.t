% local in_registers = r <= 16       -- the probabilities of a row, else they are taken 8 at a time
% local share = r >= 4 * wp and 8 or 32 -- lanes that share the splits of a head in step 2
% local split_lanes = threads // 8   -- threads that share the splits of one output
% include "attn_step.cu.t"

/* 2^(x - high), and 1 where both are equal: two minus infinities (a split without keys) too. */
DEVICE float weight(float x, float high)
{
    return x == high ? 1.0f : exp2_f(x - high);
}

DEVICE void add_to(struct f4 *sum, float by, struct f4 x)
{
    sum->x += by * x.x;
    sum->y += by * x.y;
    sum->z += by * x.z;
    sum->w += by * x.w;
}

/* What two splits of each thread give to 4 neighbouring outputs. */
struct parts {
    struct f2 ml[2];
    struct f4 x[2];
};

DEVICE void load_parts(struct parts *p, const float *part_o, const struct f2 *part_ml, i64 head, int at, int splits, bool valid)
{
    UNROLL
    for (int i = 0; i < 2; i++) {
        int split = tid() / 8 + i * ${split_lanes};
        if (valid && split < splits) {
            p->ml[i] = part_ml[head + split];
            p->x[i] = *(const struct f4 *)&part_o[(head + split) * ${d} + at];
        }
    }
}

/* The rows that this thread takes next, -1 for none, and what their scores were. */
DEVICE void find_rows(int row[${u}], float old[${u}], int pos, int last, const int *end_s, const int *row_s, const float *score,
                      int rows)
{
    int run = 0;
    UNROLL
    for (int i = 0; i < ${u}; i++, pos += ${threads}) {
        row[i] = -1;
        old[i] = 0.0f;
        if (pos < last) {
            while (pos >= end_s[run])
                run++;
            row[i] = pos + row_s[run];
            if (row[i] < rows)
                old[i] = score[row[i]];
        }
    }
}

% if in_registers then
DEVICE void load_logits(float x[${u}][${r}], const int row[${u}], const float *logits, int logit_stride)
{
    UNROLL
    for (int i = 0; i < ${u}; i++) {
        UNROLL
        for (int h = 0; h < ${r}; h++)
            if (row[i] >= 0)
                x[i][h] = logits[(i64)h * logit_stride + row[i]];
    }
}

% end
/* Ends the attention of one query token: the splits' parts become outputs and log-sum-exps, the logits become scores.
 *
 *   grid  (slices, cascades): block (i, p) takes the i-th part of the outputs of the ${r} heads of cascade p, and of its rows
 *   part_o  [heads][splits][${d}]   part_ml  [heads][splits] m, l   logits  [heads][logit_stride], all from attn_decode
 *   score   [cascades][rows]: gamma * score + ${reduce} of the heads' probabilities, for held rows
 *   o       [heads][${d}]     lse  [heads] m + log2(l)     chunk_score  [cascades], the token's own
 *
 * Its time is the latency of its loads, so all that can be is under way before the first is used; scores are read before
 * attn_decode has ended. */
KERNEL(${name}, ${threads}, ${min_blocks})
(const float *part_o, const struct f2 *part_ml, int splits, const float *logits, int logit_stride,
 const struct attn_step *step, float *score, half_t *o, float *lse, float *chunk_score, float gamma, int rows)
{
    const int slice = bid_x(), slices = nbid_x(), p = bid_y();
    const int w = warp(), held = step->held, nruns = step->nruns;
    float *high_s = (float *)smem(), *lse_s = high_s + ${r}, *sum_s = lse_s + ${r}; /* [${r}] each */
    struct f4 *part_s = (struct f4 *)(smem() + ${parts_at});                        /* [${wp}][8] */
    int *end_s = (int *)(smem() + ${runs_at}), *row_s = end_s + 36; /* position after each run; row less position in it */
% if reduce == "median" and not in_registers then
    float *column = (float *)(smem() + ${columns_at}) + tid(); /* this thread's [${r}], ${threads} apart */
% end
    grid_launch_next();
    part_o += (i64)p * ${r} * splits * ${d};
    part_ml += (i64)p * ${r} * splits;
    logits += (i64)p * ${r} * logit_stride;
    score += (i64)p * rows;

    /* 1. Everything is asked for. */
    if (tid() <= nruns) {
        struct attn_run run = {rows, 1, 0, held}; /* behind the last run: the token's own key */
        if (tid() < nruns)
            run = step->run[tid()];
        end_s[tid()] = run.pos + run.len;
        row_s[tid()] = run.row - run.pos;
    }
    sync_block();
    const int rows_share = (held + slices) / slices;
    const int last = min_i((slice + 1) * rows_share, held + 1);
    int pos = slice * rows_share + tid();
    int row[${u}];
    float old[${u}];
    find_rows(row, old, pos, last, end_s, row_s, score, rows);
    grid_wait();
% if in_registers then
    float x[${u}][${r}];
    load_logits(x, row, logits, logit_stride);
% end
    /* Outputs by fours: 8 neighbours, and ${split_lanes} threads for the splits of each. */
    const int quads = (${r * d // 4} + slices - 1) / slices;
    const int begin = slice * quads, end = min_i(begin + quads, ${r * d // 4});
    struct parts parts;
    int quad = begin + tid() % 8;
    load_parts(&parts, part_o, part_ml, (i64)(quad / ${d // 4}) * splits, quad % ${d // 4} * 4, splits, quad < end);

    /* 2. m and l of all splits. Every block needs them, and works them out for itself: ${share} lanes a head. */
    for (int first = w * ${32 // share}; first < ${r}; first += ${wp * 32 // share}) {
        const int h = min_i(first + lane() / ${share}, ${r - 1});
        const struct f2 *ml = part_ml + (i64)h * splits;
        float high = NEG_INF, sum = 0.0f;
        for (int i = lane() % ${share}; i < splits; i += ${share})
            high = max_f(high, ml[i].x);
        UNROLL
        for (int k = ${share // 2}; k > 0; k /= 2)
            high = max_f(high, shfl_xor_f(high, k));
        for (int i = lane() % ${share}; i < splits; i += ${share})
            sum += weight(ml[i].x, high) * ml[i].y;
        UNROLL
        for (int k = ${share // 2}; k > 0; k /= 2)
            sum += shfl_xor_f(sum, k);
        if (lane() % ${share} == 0 && first + lane() / ${share} < ${r}) {
            high_s[h] = high;
            sum_s[h] = sum;
            lse_s[h] = high + log2_f(sum);
            if (slice == 0)
                lse[p * ${r} + h] = lse_s[h];
        }
    }
    sync_block();

    /* 3. Outputs. */
    for (int base = begin; base < end; base += 8) {
        const int h = quad / ${d // 4}, at = quad % ${d // 4} * 4;
        struct f4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
        if (quad < end) {
            const i64 head = (i64)h * splits;
            UNROLL
            for (int i = 0; i < 2; i++)
                if (tid() / 8 + i * ${split_lanes} < splits)
                    add_to(&sum, weight(parts.ml[i].x, high_s[h]), parts.x[i]);
            for (int i = tid() / 8 + ${2 * split_lanes}; i < splits; i += ${split_lanes})
                add_to(&sum, weight(part_ml[head + i].x, high_s[h]), *(const struct f4 *)&part_o[(head + i) * ${d} + at]);
        }
        UNROLL
        for (int k = 8; k < 32; k *= 2) {
            struct f4 other = {shfl_xor_f(sum.x, k), shfl_xor_f(sum.y, k), shfl_xor_f(sum.z, k), shfl_xor_f(sum.w, k)};
            add_to(&sum, 1.0f, other);
        }
        if (lane() < 8)
            part_s[w * 8 + lane()] = sum;
        sync_block();
        if (tid() < 8 && quad < end) {
            for (int i = 1; i < ${wp}; i++)
                add_to(&sum, 1.0f, part_s[i * 8 + tid()]);
            const float l = sum_s[h];
            struct u2 out = {pack2(sum.x / l, sum.y / l), pack2(sum.z / l, sum.w / l)};
            *(struct u2 *)&o[(i64)(p * ${r * d}) + quad * 4] = out;
        }
        quad += 8;
        load_parts(&parts, part_o, part_ml, (i64)(quad / ${d // 4}) * splits, quad % ${d // 4} * 4, splits, quad < end);
        sync_block();
    }

    /* 4. Scores. */
    while (pos < last) {
        UNROLL
        for (int i = 0; i < ${u}; i++) {
            if (row[i] < 0)
                continue;
% if in_registers then
            UNROLL
            for (int h = 0; h < ${r}; h++)
                x[i][h] = exp2_f(x[i][h] - lse_s[h]);
% end
% local each = in_registers and "UNROLL" or "NO_UNROLL"
% local probability = in_registers and "x[i][h]" or "column[h * " .. threads .. "]"
% if reduce ~= "median" then
            float value = 0.0f;
%   if in_registers then
            UNROLL
            for (int h = 0; h < ${r}; h++)
                value = ${reduce == "mean" and "value + x[i][h]" or "max_f(value, x[i][h])"};
%   else
            for (int first = 0; first < ${r}; first += 8) {
                float x[8];
                UNROLL
                for (int h = 0; h < 8; h++)
                    x[h] = first + h < ${r} ? logits[(i64)(first + h) * logit_stride + row[i]] : NEG_INF;
                UNROLL
                for (int h = 0; h < 8; h++) {
                    float y = first + h < ${r} ? exp2_f(x[h] - lse_s[first + h]) : 0.0f;
                    value = ${reduce == "mean" and "value + y" or "max_f(value, y)"};
                }
            }
%   end
%   if reduce == "mean" then
            value *= 1.0f / ${r};
%   end
% else
%   if not in_registers then
            for (int first = 0; first < ${r}; first += 8) {
                float x[8];
                UNROLL
                for (int h = 0; h < 8; h++)
                    x[h] = first + h < ${r} ? logits[(i64)(first + h) * logit_stride + row[i]] : 0.0f;
                UNROLL
                for (int h = 0; h < 8; h++)
                    if (first + h < ${r})
                        column[(first + h) * ${threads}] = exp2_f(x[h] - lse_s[first + h]);
            }
%   end
            /* The lower middle one, bit by bit: none is negative, so their bits are in their order. */
            unsigned middle = 0;
            for (int bit = 30; bit >= 0; bit--) {
                unsigned probe = middle | 1u << bit;
                int below = 0;
                ${each}
                for (int h = 0; h < ${r}; h++)
                    below += (float_bits(${probability}) & 0x7fffffffu) < probe;
                if (below <= ${(r - 1) // 2})
                    middle = probe;
            }
            float value = bits_float(middle);
% end
            if (row[i] == rows)
                chunk_score[p] = value;
            else
                score[row[i]] = gamma * old[i] + value;
        }
        pos += ${u * threads};
        find_rows(row, old, pos, last, end_s, row_s, score, rows);
% if in_registers then
        load_logits(x, row, logits, logit_stride);
% end
    }
}
