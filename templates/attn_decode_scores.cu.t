% local in_registers = r <= 16       -- the probabilities of a row, else they are taken 8 at a time
% include "attn_step.cu.t"

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
/* The scores of one query token, of all layers whose logits are there: gamma * score + ${reduce} of the heads' probabilities.
 *
 *   grid  (slices, cascades, layers): block (i, p, n) takes the i-th part of the rows of cascade p of layer n
 *   logits  [layers][heads][logit_stride], lse  [layers][heads], both from attn_decode; the ${r} heads of a cascade follow each other
 *   score   [layers][cascades][rows], held rows are written     chunk_score  [layers][cascades], the token's own
 *
 * Its time is the latency of its loads, so all that can be is under way before the first is used; scores are read before the
 * kernels ahead have ended. */
KERNEL(${name}, ${threads}, ${min_blocks})
(const float *logits, int logit_stride, const float *lse, const struct attn_step *step, float *score, float *chunk_score,
 float gamma, int rows)
{
    const int slice = bid_x(), slices = nbid_x(), held = step->held, nruns = step->nruns;
    const i64 p = (i64)bid_z() * nbid_y() + bid_y(); /* of all cascades of all layers */
    int *end_s = (int *)smem(), *row_s = end_s + 36; /* position after each run; row less position in it */
% if reduce == "median" and not in_registers then
    float *column = (float *)(smem() + ${columns_at}) + tid(); /* this thread's [${r}], ${threads} apart */
% end
    grid_launch_next();
    logits += p * ${r} * logit_stride;
    lse += p * ${r};
    score += p * rows;

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
    float x[${u}][${r}], lse_of[${r}];
    load_logits(x, row, logits, logit_stride);
    UNROLL
    for (int h = 0; h < ${r}; h++)
        lse_of[h] = lse[h];
% end

    /* 2. Scores. */
    while (pos < last) {
        UNROLL
        for (int i = 0; i < ${u}; i++) {
            if (row[i] < 0)
                continue;
% if in_registers then
            UNROLL
            for (int h = 0; h < ${r}; h++)
                x[i][h] = exp2_f(x[i][h] - lse_of[h]);
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
                    float y = first + h < ${r} ? exp2_f(x[h] - lse[first + h]) : 0.0f;
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
                        column[(first + h) * ${threads}] = exp2_f(x[h] - lse[first + h]);
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
