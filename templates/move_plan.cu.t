/* What one part of a chunk moves where (design 3.2), the same for all layers and heads. A node is a span slot that is written: by
 * one of the spans that compete for it, or by tokens of the chunk. What a node reads is overwritten, if at all, by a node of the
 * same tree behind it, or by a later launch: so whoever carries a tree out in order reads everything before it is overwritten,
 * and trees need not know of each other. In device memory: the head, then tree[trees + 1], node[nodes], candidate[candidates]. */
struct move_plan {
    i64 first_token; /* number in the text of the chunk's token 0 */
    int trees, nodes, candidates;
    int tree_at, node_at, candidate_at; /* bytes from the head on; tree[i] is the first node of tree i */
};
struct move_node {
    int row;      /* first row of the slot */
    int count;    /* candidates, in order of arrival; 0: tokens of the chunk are placed */
    int first;    /* its first candidate; or the token that belongs to `row`, which may be before the chunk */
    int holder;   /* 1: what is in the slot competes too, and comes before all candidates */
    int angle;    /* tokens: what the key of `row` is rotated by, and one more for each further row */
    int from, to; /* tokens: they fill rows [row + from, row + to) */
    int unused;
};
struct move_candidate {
    int row;  /* first row of the span */
    int turn; /* what its keys are rotated by when they move */
};
