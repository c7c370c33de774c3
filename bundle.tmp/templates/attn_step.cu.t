/* Where the keys lie: the held rows as runs in order of position, then the chunk. In device memory, written once a step. */
struct attn_run {
    int row, len; /* rows [row, row + len) of each head's cache */
    int shift;    /* queries are turned by position - shift for this run */
    int pos;      /* position of the first key */
};
struct attn_step {
    int T, held, nruns, rows; /* tokens of the chunk; keys held before it; rows of one head's cache */
    struct attn_run run[34];
};
