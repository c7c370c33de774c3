% include "weights.cu.t"

/* Rows of the embedding table: x[i] = table[tokens[i]].
 *   grid  (T)       x [T][${n}] fp32, written       table [..][${n}] of ${w}       tokens [T] */
KERNEL(${name}, ${threads}, ${min_blocks})
(float *RESTRICT x, const unsigned char *RESTRICT table, const int *tokens, int T)
{
    grid_launch_next();
    grid_wait();
    float *to = x + (i64)bid_x() * ${n};
    const unsigned char *row = table + (i64)tokens[bid_x()] * ${row_bytes};
    for (int unit = tid(); unit < ${n // 8}; unit += ${threads}) {
        float v[8];
        unit_values(v, row, unit);
        struct f4 first = {v[0], v[1], v[2], v[3]}, second = {v[4], v[5], v[6], v[7]};
        *(struct f4 *)(to + unit_first(unit)) = first;
        *(struct f4 *)(to + unit_second(unit)) = second;
    }
}
