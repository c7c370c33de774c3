% local pieces = b * d // 8          -- 16-byte pieces of a span's keys; its values have as many
% local columns = 2 * pieces // sl   -- of both, those of one slice
% local numbers = 4                      -- scores and origins in flight a thread
% local batch = math.min(b, 16)       -- scores in flight a thread
% include "move_plan.cu.t"

/* What a node comes to for one head, in 16 bytes. */
struct __attribute__((aligned(16))) move {
    int from;  /* first row of the span that moves; or the token that belongs to row `to` */
    int to;    /* first row of the slot, -1: what is there stays */
    int turn;
    int range; /* 0: a whole span; else rows range % 65536 .. range / 65536 - 1 of the slot are the chunk's tokens */
};

DEVICE struct move load_move(const struct move *p)
{
    struct u4 x = ld16(p);
    struct move m = {(int)x.x, (int)x.y, (int)x.z, (int)x.w};
    return m;
}

/* The row of the cache that gets row `at` of a move, or -1. */
DEVICE int target(struct move m, int at)
{
    bool mine = m.range == 0 || (at >= (m.range & 65535) && at < m.range >> 16);
    return m.to >= 0 && mine ? m.to + at : -1;
}

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
    for (int first = 0; first < ${b}; first += ${batch}) {
        float s[${batch}];
        UNROLL
        for (int i = 0; i < ${batch}; i++)
            s[i] = first + i < ${b} ? score[row + first + i] : NEG_INF;
        UNROLL
        for (int i = 0; i < ${batch}; i++) {
            s[i] = s[i] == s[i] ? s[i] : NEG_INF;
            top = max_f(top, s[i]);
            if (mean && first + i < ${b})
                sum += (double)s[i];
        }
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
DEVICE struct u4 turn_piece(struct u4 x, struct f4 ab, struct f4 cd, float sign)
{
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
 *   cascades: 1 where all key heads keep the same tokens, else one for each      seed: of layer 0, cascade 0; then one more for each
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
            int at = winner_of(n, candidate, score, origin, select, mean, seed + (u64)(layer * cascades + cascade));
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
        const int first = tree[mine], last = tree[mine + 1];
        for (int base = first; base < last; base += ${u}) {
            struct move m[${u}];
            struct u4 x[${u}];
            struct f4 ab[${u}], cd[${u}];
            const half_t *from[${u}];
            int to[${u}], turn[${u}];
            UNROLL
            for (int i = 0; i < ${u}; i++)
                m[i] = load_move(move + min_i(base + i, last - 1));
            UNROLL
            for (int i = 0; i < ${u}; i++) {
                const bool token = m[i].range != 0;
                to[i] = base + i < last ? target(m[i], at) : -1;
                turn[i] = to[i] >= 0 && key && turning ? m[i].turn + (token ? at : 0) : 0;
                from[i] = (token ? chunk : cache) + (i64)(m[i].from + at) * (token ? chunk_stride : ${d});
                if (to[i] < 0)
                    from[i] = (const half_t *)(move + first); /* any memory will do: loads without conditions stay together */
            }
            UNROLL
            for (int i = 0; i < ${u}; i++)
                x[i] = ld16(from[i]);
            UNROLL
            for (int i = 0; i < ${u}; i++) {
                const struct f4 *by = (const struct f4 *)(rot + (i64)(turn[i] < 0 ? -turn[i] : turn[i]) * ${d // 2} + piece * 4);
                ab[i] = by[0];
                cd[i] = by[1];
            }
            UNROLL
            for (int i = 0; i < ${u}; i++) {
                const struct u4 turned = turn_piece(x[i], ab[i], cd[i], turn[i] < 0 ? -1.0f : 1.0f);
                if (to[i] >= 0)
                    st16(cache + (i64)to[i] * ${d}, turn[i] ? turned : x[i]);
            }
        }
    }

    /* 3. Scores and origins, a row of a slot a thread; all are read before the first of them is written. */
    sync_block();
    if (!*mover_s)
        return;
    fence_device();
    const int items = (last_node - first_node) * ${b};
    for (int base = 0; base < items; base += ${numbers * threads}) {
        struct move m[${numbers}];
        float s[${numbers}];
        i64 number[${numbers}];
        int to[${numbers}];
        UNROLL
        for (int i = 0; i < ${numbers}; i++)
            m[i] = load_move(move + first_node + min_i(base + i * ${threads} + tid(), items - 1) / ${b});
        UNROLL
        for (int i = 0; i < ${numbers}; i++) {
            const int item = base + i * ${threads} + tid(), at = item % ${b};
            const bool token = m[i].range != 0;
            const float *from = (token ? chunk_score : score) + m[i].from + at;
            to[i] = item < items ? target(m[i], at) : -1;
            number[i] = first_token + m[i].from + at;
            if (to[i] >= 0)
                s[i] = *from;
            if (to[i] >= 0 && !token)
                number[i] = origin[m[i].from + at];
        }
        sync_block();
        UNROLL
        for (int i = 0; i < ${numbers}; i++)
            if (to[i] >= 0) {
                score[to[i]] = s[i];
                origin[to[i]] = number[i];
            }
    }
}
