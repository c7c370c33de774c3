% include "attn_step.cu.t"

/* One thread a key and cascade: r = the ${reduce} of the column sums of the cascade's heads, taken in order of the heads; then
 *   score [cascades][rows] = decay * score + r for a held key, chunk_score [cascades][T] = r for one of the chunk.
 *   sums [cascades * group][rows + T], from attn_scores    decay: gamma^T
 * Grid: blocks of keys x cascades. */
KERNEL(${name}, ${threads}, ${min_blocks})
(float *RESTRICT score, float *RESTRICT chunk_score, const float *RESTRICT sums, const struct attn_step *RESTRICT step, int group, float decay)
{
    int T = step->T, held = step->held, rows = step->rows, cascade = bid_y(), at = bid_x() * ${threads} + tid(), row = -1;
    if (at >= held + T)
        return;
    if (at >= held)
        row = rows + at - held;
    for (int r = 0; at < held && r < step->nruns; r++)
        if (at >= step->run[r].pos && at - step->run[r].pos < step->run[r].len)
            row = step->run[r].row + at - step->run[r].pos;
    if (row < 0)
        return;
    const float *x = sums + (i64)cascade * group * (rows + T) + row;
    i64 next = rows + T;
% if reduce == "median" then
    /* The lower of the middle two of an even count: the value with (group - 1) / 2 before it; equal values in order of the
     * heads, NaN before all numbers. */
    float r = x[0];
    for (int i = 0; i < group; i++) {
        float v = x[i * next];
        int before = 0;
        for (int j = 0; j < group; j++) {
            float u = x[j * next];
            bool equal = u == v || (u != u && v != v);
            before += equal ? j < i : u < v || u != u;
        }
        if (before == (group - 1) / 2)
            r = v;
    }
% elseif reduce == "max" then
    float r = x[0];
    for (int i = 1; i < group; i++)
        r = max_f(r, x[i * next]);
% else
    float r = 0.0f;
    for (int i = 0; i < group; i++)
        r += x[i * next];
    r /= (float)group;
% end
    if (at < held)
        score[(i64)cascade * rows + row] = decay * score[(i64)cascade * rows + row] + r;
    else
        chunk_score[(i64)cascade * T + at - held] = r;
}
