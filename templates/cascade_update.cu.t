% local pieces = b * d // 8          -- 16-byte pieces of a span's keys; its values have as many
% local columns = 2 * pieces // sl   -- of both, those of one slice
% include "move_plan.cu.t"

/* What a node comes to for one head. */
struct move {
    int from;  /* first row of the span that moves; or the token that belongs to row `to` */
    int to;    /* first row of the slot, -1: what is there stays */
    int turn;
    int range; /* 0: a whole span; else rows range % 65536 .. range / 65536 - 1 of the slot are the chunk's tokens */
};

/* A number whose order is that of 64 bits from *origin* and seed. Its upper 53 bits count. */
DEVICE double mixed(i64 origin, u64 seed)
{
    u64 z = (u64)origin + seed * 0x9e3779b97f4a7c15u + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11);
}

/* What is compared: the largest stays, the last of equals. select: 0 score, 1 newest, 2 oldest, 3 random. */
DEVICE double span_merit(const float *score, const i64 *origin, int row, int select, int mean, u64 seed)
{
    if (select == 1)
        return (double)origin[row];
    if (select == 2)
        return -(double)origin[row];
    if (select == 3)
        return mixed(origin[row], seed);
    double sum = 0.0;
    float top = NEG_INF;
    for (int i = 0; i < ${b}; i++) {
        float s = score[row + i];
        s = s == s ? s : NEG_INF;
        top = max_f(top, s);
        sum += (double)s;
    }
    if (!mean)
        return (double)top;
    return sum == sum ? sum : (double)NEG_INF;
}

DEVICE double shfl_xor_d(double v, int mask)
{
    union { double d; unsigned u[2]; } x;
    x.d = v;
    x.u[0] = shfl_xor_u(x.u[0], mask);
    x.u[1] = shfl_xor_u(x.u[1], mask);
    return x.d;
}

/* The candidate that a slot goes to, or -1 where its holder stays. The whole warp decides. */
DEVICE int winner_of(struct move_node node, const struct move_candidate *candidate, const float *score, const i64 *origin,
                     int select, int mean, u64 seed)
{
    double best = (double)NEG_INF;
    int at = -1;
    for (int i = lane(); i < node.count; i += 32) {
        double merit = span_merit(score, origin, candidate[node.first + i].row, select, mean, seed);
        if (merit >= best) {
            best = merit;
            at = node.first + i;
        }
    }
    for (int k = 16; k > 0; k /= 2) {
        double merit = shfl_xor_d(best, k);
        int other = (int)shfl_xor_u((unsigned)at, k);
        if (merit > best || (merit == best && other > at)) {
            best = merit;
            at = other;
        }
    }
    if (node.holder && span_merit(score, origin, node.row, select, mean, seed) > best)
        return -1;
    return at;
}

/* 8 elements as 4 pairs, each rotated. Turning backwards is turning by the other sign's sine. */
DEVICE struct u4 turn_piece(struct u4 x, const struct f2 *rot, int turn, int piece)
{
    const struct f4 *by = (const struct f4 *)(rot + (i64)(turn < 0 ? -turn : turn) * ${d // 2} + piece * 4);
    const struct f4 ab = by[0], cd = by[1];
    const float sign = turn < 0 ? -1.0f : 1.0f;
    struct f2 a = unpack2(x.x), b = unpack2(x.y), c = unpack2(x.z), e = unpack2(x.w);
    struct u4 r;
    r.x = pack2(a.x * ab.x - a.y * (sign * ab.y), a.x * (sign * ab.y) + a.y * ab.x);
    r.y = pack2(b.x * ab.z - b.y * (sign * ab.w), b.x * (sign * ab.w) + b.y * ab.z);
    r.z = pack2(c.x * cd.x - c.y * (sign * cd.y), c.x * (sign * cd.y) + c.y * cd.x);
    r.w = pack2(e.x * cd.z - e.y * (sign * cd.w), e.x * (sign * cd.w) + e.y * cd.z);
    return r;
}

/* Carries a move plan out: who wins each slot, by the scores; then keys, values, scores and origins move.
 *
 *   grid  (ceil(trees / ${tpb}) * ${sl}, key heads, layers): a block has ${tpb} of the plan's trees and one of ${sl} slices of their pieces
 *   k_cache, v_cache  [layers][key heads][rows][${d}]      score, origin  [layers][cascades][rows]
 *   k_chunk, v_chunk  [tokens][key heads][${d}], chunk_stride elements from token to token, chunk_layer from layer to layer; k not
 *                     rotated, or as it is stored where turning is 0         chunk_score  [layers][cascades][tokens]
 *   moves    [layers][key heads][${sl}][nodes], working space       arrived  [layers][cascades][blocks / ${sl}], zero; left so
 *   cascades: 1 where all key heads keep the same tokens, else one for each
 *
 * A thread owns one piece of every slot of a tree and walks the tree in order: what it reads it has not yet overwritten, and
 * nobody else touches it. Scores and origins are read by all blocks of a tree and written by the last one to have read them. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *k_cache, half_t *v_cache, float *score, i64 *origin, const half_t *k_chunk, const half_t *v_chunk, int chunk_stride,
 i64 chunk_layer, const float *chunk_score, int tokens, const struct move_plan *plan, const struct f2 *RESTRICT rot,
 struct move *moves, unsigned *arrived, int rows, int cascades, int turning, int select, int mean, u64 seed)
{
    const int slice = bid_x() % ${sl}, group = bid_x() / ${sl}, kv = bid_y(), heads = nbid_y(), layer = bid_z();
    const int cascade = kv / (heads / cascades);
    const int trees = plan->trees, first_tree = group * ${tpb}, last_tree = min_i(first_tree + ${tpb}, trees);
    if (first_tree >= trees)
        return;
    const int *tree = (const int *)((const char *)plan + plan->tree_at);
    const struct move_node *node = (const struct move_node *)((const char *)plan + plan->node_at);
    const struct move_candidate *candidate = (const struct move_candidate *)((const char *)plan + plan->candidate_at);
    const int first_node = tree[first_tree], last_node = tree[last_tree];
    const i64 first_token = plan->first_token;
    struct move *move = moves + (((i64)layer * heads + kv) * ${sl} + slice) * plan->nodes;
    int *mover_s = (int *)smem();

    k_cache += ((i64)layer * heads + kv) * rows * ${d};
    v_cache += ((i64)layer * heads + kv) * rows * ${d};
    k_chunk += layer * chunk_layer + kv * ${d};
    v_chunk += layer * chunk_layer + kv * ${d};
    score += ((i64)layer * cascades + cascade) * rows;
    origin += ((i64)layer * cascades + cascade) * rows;
    chunk_score += ((i64)layer * cascades + cascade) * tokens;
    grid_wait();
    grid_launch_next();

    /* 1. Who goes where. */
    for (int i = first_node + warp(); i < last_node; i += ${wp}) {
        struct move_node n = node[i];
        struct move to = {n.first, n.row, n.angle, n.to << 16 | n.from};
        if (n.count > 0) {
            int at = winner_of(n, candidate, score, origin, select, mean, seed);
            to.range = 0;
            if (at < 0) {
                to.to = -1;
            } else {
                to.from = candidate[at].row;
                to.turn = candidate[at].turn;
            }
        }
        if (lane() == 0)
            move[i] = to;
    }
    sync_block();
    const int readers = heads / cascades * ${sl};
    if (tid() == 0) {
        int mover = 1;
        if (readers > 1) {
            unsigned *counter = &arrived[((i64)layer * cascades + cascade) * (nbid_x() / ${sl}) + group];
            fence_device();
            mover = atomic_add_u(counter, 1u) == (unsigned)readers - 1;
            if (mover)
                *counter = 0;
        }
        *mover_s = mover;
    }

    /* 2. Keys and values, ${u} slots at a time. */
    for (int item = tid(); item < (last_tree - first_tree) * ${columns}; item += ${threads}) {
        const int mine = first_tree + item / ${columns}, column = item % ${columns} + slice * ${columns};
        const bool key = column < ${pieces};
        const int at = column % ${pieces} / ${d // 8}, piece = column % ${d // 8};
        half_t *cache = (key ? k_cache : v_cache) + piece * 8;
        const half_t *chunk = (key ? k_chunk : v_chunk) + piece * 8;
        for (int base = tree[mine]; base < tree[mine + 1]; base += ${u}) {
            const int count = min_i(tree[mine + 1] - base, ${u});
            struct u4 x[${u}];
            int to[${u}], turn[${u}];
            UNROLL
            for (int i = 0; i < ${u}; i++) {
                to[i] = -1;
                turn[i] = 0;
                if (i < count) {
                    const struct move m = move[base + i];
                    const bool token = m.range != 0;
                    if (m.to >= 0 && (!token || (at >= (m.range & 65535) && at < m.range >> 16))) {
                        to[i] = m.to + at;
                        turn[i] = key && turning ? m.turn + (token ? at : 0) : 0;
                        x[i] = ld16(token ? chunk + (i64)(m.from + at) * chunk_stride : cache + (i64)(m.from + at) * ${d});
                    }
                }
            }
            UNROLL
            for (int i = 0; i < ${u}; i++)
                if (to[i] >= 0)
                    st16(cache + (i64)to[i] * ${d}, turn[i] ? turn_piece(x[i], rot, turn[i], piece) : x[i]);
        }
    }

    /* 3. Scores and origins. */
    sync_block();
    if (!*mover_s)
        return;
    fence_device();
    for (int item = tid(); item < (last_tree - first_tree) * ${b}; item += ${threads}) {
        const int mine = first_tree + item / ${b}, at = item % ${b};
        for (int i = tree[mine]; i < tree[mine + 1]; i++) {
            const struct move m = move[i];
            if (m.to < 0)
                continue;
            if (m.range == 0) {
                score[m.to + at] = score[m.from + at];
                origin[m.to + at] = origin[m.from + at];
            } else if (at >= (m.range & 65535) && at < m.range >> 16) {
                score[m.to + at] = chunk_score[m.from + at];
                origin[m.to + at] = first_token + m.from + at;
            }
        }
    }
}
