% local halves = used // 8          -- a tile of scores has 16 rows; with up to 8 heads only its upper half is in use
% local pad = d + 8                 -- elements from key to key in shared memory: an odd number of 16-byte pieces, so the eight
%                                   -- rows that ldmatrix reads at a time lie in different banks
% local qa = qr == 1 and "qa[i]" or "q4"
% local pairs_each = (g * d // 2 + threads - 1) // threads -- neighbouring outputs, two by two, of a thread of the last block
% include "attn_step.cu.t"

/* The part of a run that lies in this block's split, in tiles of ${bn} keys. */
struct segment {
    int row, len;   /* rows [row, row + len) of the cache */
    int turn;       /* the query is rotated by this for all of them */
    int first_tile; /* number of its first tile in the split */
};

% local function copy(what, at)
        cp_async16_once(stage + ${at}key * ${pad} + at, ${what} + from, key < n);
% end
/* Asks for one tile: n keys and their values from row `k`, `v` on; rows past n become zeros. */
DEVICE void load_tile(half_t *stage, const half_t *k, const half_t *v, int n)
{
% for group = 1, cg do
    UNROLL
    for (int i = 0; i < ${bn * d // 8 // 32}; i++) {
        int piece = i * 32 + lane(), key = piece / ${d // 8}, at = piece % ${d // 8} * 8;
        int from = key < n ? key * ${d} + at : 0;
%   if group == 1 then copy("k", "") end
%   if group == cg then copy("v", bn * pad .. " + ") end
    }
%   if group < cg then
    cp_async_commit();
%   end
% end
}

DEVICE unsigned turn_pair(unsigned pair, struct f2 by)
{
    struct f2 x = unpack2(pair);
    return pack2(x.x * by.x - x.y * by.y, x.x * by.y + x.y * by.x);
}

% if qr == 1 then
/* The queries as the left operand of mma, all rotated by one row of the table. */
DEVICE void turn_query(unsigned qa[${d // 16}][4], const unsigned *q, const struct f2 *rot)
{
    UNROLL
    for (int i = 0; i < ${d // 8}; i++) {
        int pair = i * 4 + lane() % 4;
        struct f2 by = rot[pair];
        qa[i / 2][i % 2 * 2] = turn_pair(q[lane() / 4 * ${d // 2} + pair], by);
%   if halves == 2 then
        qa[i / 2][i % 2 * 2 + 1] = turn_pair(q[(lane() / 4 + 8) * ${d // 2} + pair], by);
%   else
        qa[i / 2][i % 2 * 2 + 1] = 0;
%   end
    }
}
% else
/* The queries rotated by one row of the table, for this warp: [${used}][${pad // 2}] pairs. */
DEVICE void turn_query(unsigned *turned, const unsigned *q, const struct f2 *rot)
{
    for (int i = lane(); i < ${d // 2}; i += 32) {
        struct f2 by = rot[i];
        for (int h = 0; h < ${used}; h++)
            turned[h * ${pad // 2} + i] = turn_pair(q[h * ${d // 2} + i], by);
    }
    sync_warp();
}
% end

/* 2^(x - high), and 1 where both are equal, also two minus infinities: what has no keys adds its zeros, a NaN stays one. */
DEVICE float weight(float x, float high)
{
    return x == high ? 1.0f : exp2_f(x - high);
}

/* m, l of two parts of a head's keys become that of both. */
DEVICE struct f2 join(struct f2 a, struct f2 b)
{
    struct f2 both = {max_f(a.x, b.x), 0.0f};
    both.y = a.y * weight(a.x, both.x) + b.y * weight(b.x, both.x);
    return both;
}

/* m, l that a split, if there is one of this number, has of a head. */
DEVICE struct f2 load_ml(const struct f2 *part_ml, int split, int splits, int head)
{
    struct f2 ml = {NEG_INF, 0.0f};
    if (split < splits) {
        ml.x = ld_l2_f(&part_ml[split * ${g} + head].x);
        ml.y = ld_l2_f(&part_ml[split * ${g} + head].y);
    }
    return ml;
}

/* One query token of ${g} heads against the held keys of one key head and the token's own key.
 *
 *   grid  (splits, key heads): block (s, h) takes the s-th part of the held keys; the first one the token's own key too
 *   q          [heads][${d}], not rotated        k_cache, v_cache  [key heads][rows][${d}]
 *   k_new, v_new  [key heads][${d}], k not rotated     rot  [positions][${d // 2}] cos, sin
 *   logits     [heads][logit_stride]: (q.k) log2(e) / sqrt(${d}) by row; [rows] is the token's own
 *   o          [heads][${d}]     lse  [heads] log2 of the sum of 2^logit     arrived  [key heads], zero; left so
 *   part_o     [key heads][splits][${g}][${d}] sum of 2^(logit - m) v, part_ml [key heads][splits][${g}] m, l = sum of 2^(logit - m):
 *              working space
 *
 * Each warp has tiles of its own and asks for them ${st - 1} ahead, so no warp waits for another before the end. The block of a
 * key head that ends last makes the splits' parts into outputs, in the order of the splits whichever it is. With overlapping
 * launches the first tiles are asked for before the kernels ahead have ended, so none of these may write this layer's caches,
 * the step or the table: the first launch of a step does not overlap. */
KERNEL(${name}, ${threads}, ${min_blocks})
(const half_t *q, const half_t *k_cache, const half_t *v_cache, const half_t *k_new, const half_t *v_new,
 const struct attn_step *step, const struct f2 *RESTRICT rot, float *logits, half_t *out, float *lse, float *part_o,
 struct f2 *part_ml, unsigned *arrived, int rows, int logit_stride)
{
    const int split = bid_x(), splits = nbid_x(), kv = bid_y();
    const int w = warp(), r = lane() / 4, c = lane() % 4;
    half_t *stages = (half_t *)smem() + w * ${st * 2 * bn * pad};
    unsigned *q_s = (unsigned *)(smem() + ${q_at}); /* [${used}][${d // 2}] pairs, zeros past head ${g - 1} */
    struct segment *segment = (struct segment *)(smem() + ${segments_at});

    grid_launch_next();

    /* 1. What of each run lies in this split. */
    const int nruns = step->nruns, held = step->held;
    const int share = ((held + splits - 1) / splits + ${bn - 1}) / ${bn} * ${bn};
    const int begin = split * share, end = min_i(begin + share, held);
    if (tid() <= nruns) {
        struct segment mine = {0, 0, 0, 0};
        if (tid() < nruns) {
            struct attn_run run = step->run[tid()];
            int from = max_i(run.pos, begin), to = min_i(run.pos + run.len, end);
            mine.row = run.row + from - run.pos;
            mine.len = max_i(to - from, 0);
            mine.turn = held - run.shift;
        }
        segment[tid()] = mine;
    }
    sync_block();
    if (tid() <= nruns) {
        int first = 0;
        for (int i = 0; i < tid(); i++)
            first += (segment[i].len + ${bn - 1}) / ${bn};
        segment[tid()].first_tile = first;
    }
    sync_block();
    const int tiles = segment[nruns].first_tile;

    /* 2. The first tiles of this warp. */
    const half_t *k_head = k_cache + (i64)kv * rows * ${d}, *v_head = v_cache + (i64)kv * rows * ${d};
    int ahead = w, ahead_in = 0, ahead_stage = 0;
% local function ask(indent)
${indent}if (ahead < tiles) {
${indent}    while (ahead >= segment[ahead_in + 1].first_tile)
${indent}        ahead_in++;
${indent}    int from = (ahead - segment[ahead_in].first_tile) * ${bn};
${indent}    i64 at = (i64)(segment[ahead_in].row + from) * ${d};
${indent}    load_tile(stages + ahead_stage * ${2 * bn * pad}, k_head + at, v_head + at, segment[ahead_in].len - from);
${indent}}${cg == 2 and " else {" or ""}
% if cg == 2 then
${indent}    cp_async_commit();
${indent}}
% end
${indent}cp_async_commit();
${indent}ahead += ${wp};
${indent}ahead_stage = ahead_stage == ${st - 1} ? 0 : ahead_stage + 1;
% end
    for (int i = 0; i < ${st - 1}; i++) {
%   ask("        ")
    }

    /* 3. The queries. */
    grid_wait();
    for (int i = tid(); i < ${used * d // 2}; i += ${threads})
        q_s[i] = i < ${g * d // 2} ? ((const unsigned *)(q + (i64)kv * ${g * d}))[i] : 0;
    sync_block();

    float o[${d // 8}][4], m[${halves}], l[${halves}]; /* rows r and r + 8; l is this lane's share of the sum */
    UNROLL
    for (int i = 0; i < ${d // 8}; i++)
        o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.0f;
    UNROLL
    for (int h = 0; h < ${halves}; h++) {
        m[h] = NEG_INF;
        l[h] = 0.0f;
    }

    /* 4. The token's own key: the distance is 0, so nothing is rotated. */
    if (split == 0 && w == 0) {
        const unsigned *k = (const unsigned *)(k_new + kv * ${d}), *v = (const unsigned *)(v_new + kv * ${d});
        UNROLL
        for (int h = 0; h < ${halves}; h++) {
            float sum = 0.0f;
            UNROLL
            for (int i = 0; i < ${d // 8}; i++) {
                struct f2 x = unpack2(q_s[(r + 8 * h) * ${d // 2} + i * 4 + c]), y = unpack2(k[i * 4 + c]);
                sum += x.x * y.x + x.y * y.y;
            }
            sum += shfl_xor_f(sum, 1);
            sum += shfl_xor_f(sum, 2);
            m[h] = sum * ${scale}f;
            l[h] = c == 0 ? 1.0f : 0.0f;
            if (c == 0 && r + 8 * h < ${g})
                logits[(i64)(kv * ${g} + r + 8 * h) * logit_stride + rows] = m[h];
            UNROLL
            for (int i = 0; i < ${d // 8}; i++) {
                struct f2 y = unpack2(v[i * 4 + c]);
                o[i][2 * h] = y.x;
                o[i][2 * h + 1] = y.y;
            }
        }
    }

    /* 5. The tiles. */
% if qr == 1 then
    unsigned qa[${d // 16}][4];
% else
    unsigned *turned = (unsigned *)(smem() + ${turned_at}) + w * ${used * pad // 2};
% end
    int in = 0, turned_for = -1, stage = 0;
    for (int tile = w; tile < tiles; tile += ${wp}) {
        cp_async_wait(${cg * (st - 1) - 1});
        sync_warp();
%   ask("        ")
        while (tile >= segment[in + 1].first_tile)
            in++;
        if (turned_for != in) {
            turned_for = in;
            turn_query(${qr == 1 and "qa" or "turned"}, q_s, rot + (i64)segment[in].turn * ${d // 2});
        }
        const int from = (tile - segment[in].first_tile) * ${bn}, n = segment[in].len - from;
        const half_t *k_s = stages + stage * ${2 * bn * pad}, *v_s = k_s + ${bn * pad};
        stage = stage == ${st - 1} ? 0 : stage + 1;

        float s[${bn // 8}][4]; /* [8 keys each]: row r keys 2c, 2c + 1, then row r + 8 */
        UNROLL
        for (int i = 0; i < ${bn // 8}; i++)
            s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0.0f;
        UNROLL
        for (int i = 0; i < ${d // 16}; i++) {
% if qr == 0 and halves == 2 then
            unsigned q4[4];
            ldmatrix_x4(q4, (half_t *)turned + lane() % 16 * ${pad} + i * 16 + lane() / 16 * 8);
% elseif qr == 0 then
            unsigned q2[2];
            ldmatrix_x2(q2, (half_t *)turned + lane() % 8 * ${pad} + i * 16 + lane() / 8 % 2 * 8);
            const unsigned q4[4] = {q2[0], 0, q2[1], 0};
% end
            UNROLL
            for (int j = 0; j < ${bn // 16}; j++) {
                unsigned kb[4]; /* keys 0..7 and 8..15 of 16, each in two halves of 8 elements */
                ldmatrix_x4(kb, k_s + (j * 16 + lane() / 16 * 8 + lane() % 8) * ${pad} + i * 16 + lane() / 8 % 2 * 8);
                mma_m16n8k16(s[2 * j], ${qa}, kb);
                mma_m16n8k16(s[2 * j + 1], ${qa}, kb + 2);
            }
        }
        float top[${halves}], old[${halves}];
        UNROLL
        for (int h = 0; h < ${halves}; h++) {
            float *row = logits + (i64)(kv * ${g} + r + 8 * h) * logit_stride + segment[in].row + from;
            top[h] = m[h];
            UNROLL
            for (int i = 0; i < ${bn // 4}; i++) {
                int key = i / 2 * 8 + 2 * c + i % 2;
                float *x = &s[i / 2][2 * h + i % 2];
                *x = key < n ? *x * ${scale}f : NEG_INF;
                if (key < n && r + 8 * h < ${g})
                    row[key] = *x;
                top[h] = max_f(top[h], *x);
            }
            top[h] = max_f(top[h], shfl_xor_f(top[h], 1));
            top[h] = max_f(top[h], shfl_xor_f(top[h], 2));
            old[h] = m[h] == top[h] ? 1.0f : exp2_f(m[h] - top[h]);
            m[h] = top[h];
            l[h] *= old[h];
        }
        if (any_warp(old[0] != 1.0f${halves == 2 and " || old[1] != 1.0f" or ""})) {
            UNROLL
            for (int i = 0; i < ${d // 8}; i++) {
                o[i][0] *= old[0];
                o[i][1] *= old[0];
% if halves == 2 then
                o[i][2] *= old[1];
                o[i][3] *= old[1];
% end
            }
        }
% if cg == 2 then
        cp_async_wait(${2 * (st - 1)}); /* the values of this tile, too */
        sync_warp();
% end
        unsigned pa[${bn // 16}][4];
        UNROLL
        for (int i = 0; i < ${bn // 8}; i++) {
            UNROLL
            for (int h = 0; h < ${halves}; h++) {
                float x = exp2_f(s[i][2 * h] - m[h]), y = exp2_f(s[i][2 * h + 1] - m[h]);
                l[h] += x + y;
                pa[i / 2][i % 2 * 2 + h] = pack2(x, y);
            }
% if halves == 1 then
            pa[i / 2][i % 2 * 2 + 1] = 0;
% end
        }
        UNROLL
        for (int i = 0; i < ${d // 16}; i++) {
            UNROLL
            for (int j = 0; j < ${bn // 16}; j++) {
                unsigned vb[4]; /* keys 0..7 and 8..15 of 16 for 8 elements, then for the next 8 */
                ldmatrix_x4_trans(vb, v_s + (j * 16 + lane() % 16) * ${pad} + i * 16 + lane() / 16 * 8);
                mma_m16n8k16(o[2 * i], pa[j], vb);
                mma_m16n8k16(o[2 * i + 1], pa[j], vb + 2);
            }
        }
    }

    /* 6. The warps' parts become one. */
    cp_async_wait(0);
    sync_block();
    float *o_s = (float *)smem();                                 /* [${wp}][${g}][${d}] */
    struct f2 *ml_s = (struct f2 *)(smem() + ${4 * wp * g * d}); /* [${wp}][${g}] */
    UNROLL
    for (int h = 0; h < ${halves}; h++) {
        l[h] += shfl_xor_f(l[h], 1);
        l[h] += shfl_xor_f(l[h], 2);
        if (r + 8 * h < ${g}) {
            struct f2 ml = {m[h], l[h]};
            if (c == 0)
                ml_s[w * ${g} + r + 8 * h] = ml;
            UNROLL
            for (int i = 0; i < ${d // 8}; i++) {
                struct f2 x = {o[i][2 * h], o[i][2 * h + 1]};
                *(struct f2 *)&o_s[(w * ${g} + r + 8 * h) * ${d} + i * 8 + 2 * c] = x;
            }
        }
    }
    sync_block();
    part_o += (i64)kv * splits * ${g * d};
    part_ml += (i64)kv * splits * ${g};
    for (int i = tid(); i < ${g * d // 2}; i += ${threads}) {
        const int h = i / ${d // 2}, at = i % ${d // 2} * 2;
        struct f2 sum = {0.0f, 0.0f};
        float high = NEG_INF, total = 0.0f;
        UNROLL
        for (int j = 0; j < ${wp}; j++)
            high = max_f(high, ml_s[j * ${g} + h].x);
        UNROLL
        for (int j = 0; j < ${wp}; j++) {
            struct f2 ml = ml_s[j * ${g} + h], x = *(const struct f2 *)&o_s[(j * ${g} + h) * ${d} + at];
            float by = weight(ml.x, high);
            total += by * ml.y;
            sum.x += by * x.x;
            sum.y += by * x.y;
        }
        *(struct f2 *)&part_o[split * ${g * d} + 2 * i] = sum;
        if (at == 0) {
            struct f2 ml = {high, total};
            part_ml[split * ${g} + h] = ml;
        }
    }

    /* 7. Whoever comes last has all parts of the key head before it. */
    int *last_s = (int *)segment;
    sync_block();
    if (tid() == 0) {
        *last_s = atomic_meet_u(&arrived[kv], 1u) == (unsigned)splits - 1;
        if (*last_s)
            arrived[kv] = 0;
    }
    sync_block();
    if (!*last_s)
        return;

    /* 8. Outputs: the parts of ${room} splits at a time in shared memory, all asked for at once. */
    float *part_s = (float *)smem();                         /* [${room}][${g}][${d}] */
    float *by_s = (float *)(smem() + ${4 * room * g * d}); /* [${room}][${g}] what a part counts */
    float *high_s = (float *)segment + 4, *over_s = high_s + ${g}; /* [${g}] m of a head, 1 / l */
    struct f2 sum[${pairs_each}];
    UNROLL
    for (int j = 0; j < ${pairs_each}; j++)
        sum[j].x = sum[j].y = 0.0f;
    for (int first = 0; first < splits; first += ${room}) {
        const int n = min_i(splits - first, ${room});
        if (first > 0)
            sync_block();
        NO_UNROLL
        for (int i = tid(); i < n * ${g * d // 4}; i += ${threads})
            cp_async16(part_s + 4 * i, part_o + first * ${g * d} + 4 * i);
        cp_async_commit();
        NO_UNROLL
        for (int h = w; h < ${g}; h += ${wp}) {
            struct f2 ml[2]; /* of the first 64 of these splits, a lane two */
            float high;
            UNROLL
            for (int k = 0; k < 2; k++)
                ml[k] = load_ml(part_ml, first + k * 32 + lane(), splits, h);
            if (first == 0) {
                struct f2 all = join(ml[0], ml[1]);
                NO_UNROLL
                for (int i = 64 + lane(); i < splits; i += 32)
                    all = join(all, load_ml(part_ml, i, splits, h));
                high = all.x;
                UNROLL
                for (int k = 1; k < 32; k *= 2)
                    high = max_f(high, shfl_xor_f(high, k));
                all.y *= weight(all.x, high);
                UNROLL
                for (int k = 1; k < 32; k *= 2)
                    all.y += shfl_xor_f(all.y, k);
                if (lane() == 0) {
                    high_s[h] = high;
                    over_s[h] = 1.0f / all.y;
                    lse[kv * ${g} + h] = high + log2_f(all.y);
                }
            } else {
                high = high_s[h];
            }
            UNROLL
            for (int k = 0; k < 2; k++)
                if (k * 32 + lane() < n)
                    by_s[(k * 32 + lane()) * ${g} + h] = weight(ml[k].x, high);
            NO_UNROLL
            for (int i = 64 + lane(); i < n; i += 32)
                by_s[i * ${g} + h] = weight(load_ml(part_ml, first + i, splits, h).x, high);
        }
        cp_async_wait(0);
        sync_block();
        for (int i = 0; i < n; i++) {
            UNROLL
            for (int j = 0; j < ${pairs_each}; j++) {
                const int pair = min_i(j * ${threads} + tid(), ${g * d // 2 - 1});
                const struct f2 x = *(const struct f2 *)&part_s[i * ${g * d} + 2 * pair];
                const float by = by_s[i * ${g} + pair / ${d // 2}];
                sum[j].x += by * x.x;
                sum[j].y += by * x.y;
            }
        }
    }
    UNROLL
    for (int j = 0; j < ${pairs_each}; j++) {
        const int pair = j * ${threads} + tid();
        if (pair < ${g * d // 2})
            ((unsigned *)out)[kv * ${g * d // 2} + pair] =
                pack2(sum[j].x * over_s[pair / ${d // 2}], sum[j].y * over_s[pair / ${d // 2}]);
    }
}
