% include "attn_common.cu.t"
% local kd, chunks = d // 16, d // 8          -- k-steps; pieces of 16 bytes in a row
% local low = 1; while chunks % (2 * low) == 0 and low < 8 do low = 2 * low end
% local span = math.min(threads // 8, chunks & -chunks) -- pieces of a row that neighbouring threads copy
% local pass = threads // span                -- rows that all threads copy at once
% local warp_keys = 16 * mk
% local batch = chunks % 8 == 0 and 4 or chunks // 2 -- loads of keys that are under way together
% local scale = 1.4426950408889634 / math.sqrt(d)

/* Column sums of P for ${bk} keys and one query head: S^T = K.Q^T, with the keys kept in registers (${warp_keys} a warp) as the A
 * operand for the block's whole life, and tiles of ${bq} queries passing through ${st} stages in shared memory:
 *
 *     (Q [${bq}][${d}], swizzled) x ${st}   (C [${bq}] fp32) x ${st}   place of each key [${bk}]
 *
 * With the log-sum-exp known, P needs no maximum and no second look: p = exp2(s * SCALE + C[m]), where
 * C[m] = (T - 1 - m) * log2(gamma) - lse[m] holds the weight too. */
enum { STAGE = ${bq * 2 * d}, C_AT = ${st} * STAGE, PLACE_AT = C_AT + ${st * bq * 4} };
#define SCALE ${("%.9ff"):format(scale)} /* log2(e) / sqrt(${d}) */

struct place { /* of a key of the block */
    int row;   /* of the cache; rows + index for one of the chunk; -1: none */
    int angle; /* by which its queries are turned beyond their index in the chunk; 0 for one of the chunk */
};

/* Starts the copy of ${bq} query rows; those that are not left become zeros. */
DEVICE void copy_queries(const half_t *from, int stride, int left, unsigned char *to)
{
    int row = tid() / ${span};
    to += swizzle(row, tid() % ${span});
    left -= row;
% for i = 0, (bq + pass - 1) // pass - 1 do
%   local guard = (i + 1) * pass > bq and ("if (row < %d) "):format(bq - i * pass) or ""
%   for j = 0, chunks // span - 1 do
    ${guard}cp_async16_zfill(to + ${i * pass * 2 * d + j * span * 16}, from + ${j * span * 8}, left > ${i * pass});
%   end
    from += ${pass} * stride;
% end
}

/* C of the query with so many rows of the chunk behind it. The last row's weight is 1 whatever gamma is, also 0. */
DEVICE float query_constant(int behind, float log2_gamma, float lse)
{
    return behind < 0 ? NEG_INF : (behind > 0 ? (float)behind * log2_gamma : 0.0f) - lse;
}

struct strip { /* S^T of the warp's keys and 16 queries, and the queries' constants */
    float s[${mk}][2][4];
    struct f2 c[2];
};

/* Takes P = exp2(S * SCALE + C) of one strip into the sums and makes S of the next one, 16 queries at qa with constants c. One
 * needs the special function units, the other the tensor cores, so they are interleaved. */
DEVICE void advance(float sum[${mk}][2], struct strip *next, const struct strip *old, const unsigned key[${mk}][${kd}][4], unsigned qa,
                    const float *c)
{
    unsigned q[${pd + 1}][4];
    UNROLL
    for (int k = 0; k < ${pd}; k++)
        ldmatrix_x4(q[k], smem() + columns16(qa, k));
    next->c[0] = *(const struct f2 *)(c + 2 * (lane() % 4));
    next->c[1] = *(const struct f2 *)(c + 2 * (lane() % 4) + 8);
    UNROLL
    for (int i = 0; i < ${mk}; i++)
        UNROLL
        for (int h = 0; h < 4; h++)
            next->s[i][0][h] = next->s[i][1][h] = 0.0f;
    UNROLL
    for (int k = 0; k < ${kd}; k++) {
        if (k + ${pd} < ${kd})
            ldmatrix_x4(q[(k + ${pd}) % ${pd + 1}], smem() + columns16(qa, k + ${pd}));
        UNROLL
        for (int i = 0; i < ${mk}; i++) {
            mma_m16n8k16(next->s[i][0], key[i][k], q[k % ${pd + 1}]);
            mma_m16n8k16(next->s[i][1], key[i][k], q[k % ${pd + 1}] + 2);
        }
        UNROLL
        for (int e = ${mk * 4} * k / ${kd}; e < ${mk * 4} * (k + 1) / ${kd}; e++) {
            int i = e / 4, b = e / 2 % 2, h = e % 2;
            sum[i][h] += exp2_f(fma_f(old->s[i][b][2 * h], SCALE, old->c[b].x)) + exp2_f(fma_f(old->s[i][b][2 * h + 1], SCALE, old->c[b].y));
        }
    }
}

/* Minus infinity for queries that do not see a key: key i of the warp is seen from `first` + i on, counted in the strip's queries. */
DEVICE void mask_strip(struct strip *x, int first)
{
    int m = 2 * (lane() % 4), seen = first + lane() / 4;
    UNROLL
    for (int i = 0; i < ${mk}; i++)
        UNROLL
        for (int h = 0; h < 8; h++)
            if (m + 8 * (h / 4) + h % 2 < seen + 16 * i + h / 2 % 2 * 8)
                x->s[i][h / 4][h % 4] = NEG_INF;
}

/* The strips of one tile of queries, from `first` of the warp's keys on. odd is made and not yet taken, before and after. */
DEVICE void take_tile(float sum[${mk}][2], struct strip *odd, const unsigned key[${mk}][${kd}][4], unsigned qa, const float *c, bool masked,
                      int first)
{
    NO_UNROLL
    for (int n = 0; n < ${bq}; n += 32) {
        struct strip even;
        advance(sum, &even, odd, key, qa + n * ${2 * d}, c + n);
        if (masked)
            mask_strip(&even, first - n);
        advance(sum, odd, &even, key, qa + (n + 16) * ${2 * d}, c + n + 16);
        if (masked)
            mask_strip(odd, first - n - 16);
    }
}

/* sums [heads][rows + T]: for each key the sum over the queries m that see it of gamma^(T-1-m) * P[m, key], held keys by row of
 * the cache, chunk keys at rows + index. Rows that hold nothing are left alone.
 *   qr [T][heads][${d}], rows q_stride elements apart, turned by index in the chunk    lse [heads][T], log2 domain
 *   kc [heads / group][rows][${d}]   kr [T][heads / group][${d}], rows k_stride apart, turned by index in the chunk
 *   rot [positions][${d // 2}] cos, sin; NULL: nothing is turned    log2_gamma: log2 of the decay, -inf for 0
 * The query of a run is turned by held + m - shift. Its part held - shift is the same for all queries, so it is taken off the
 * keys instead, once, on their way into registers.
 * Grid: heads x key blocks, in order of position: those that most queries see come first. */
KERNEL(${name}, ${threads}, ${min_blocks})
(float *RESTRICT sums, const half_t *RESTRICT qr, const float *RESTRICT lse, const half_t *RESTRICT kc, const half_t *RESTRICT kr,
 const struct f2 *RESTRICT rot, const struct attn_step *RESTRICT step, int group, int q_stride, int k_stride, float log2_gamma)
{
    int T = step->T, held = step->held, nruns = step->nruns, rows = step->rows;
    int head = bid_x(), key_head = head / group, key0 = bid_y() * ${bk};
    if (key0 >= held + T)
        return;
    struct place *place = (struct place *)(smem() + PLACE_AT);
    for (int i = tid(); i < ${bk}; i += ${threads}) {
        int at = key0 + i;
        struct place p = {at < held + T ? rows + at - held : -1, 0};
        for (int r = 0; at < held && r < nruns; r++) {
            int into = at - step->run[r].pos;
            if (into >= 0 && into < step->run[r].len) {
                p.row = step->run[r].row + into;
                p.angle = held - step->run[r].shift;
            }
        }
        place[i] = p;
    }
    sync_block();

    /* The warp's keys, 16 at a time through the place of the first query tile. */
    unsigned key[${mk}][${kd}][4];
    place += warp() * ${warp_keys};
    {
        unsigned char *mine = smem() + warp() * ${16 * 2 * d};
        unsigned ka = warp() * ${16 * 2 * d} + swizzle(lane() % 16, lane() / 16);
        UNROLL
        for (int i = 0; i < ${mk}; i++) {
            NO_UNROLL
            for (int u = lane(); u < ${16 * chunks}; u += ${32 * batch}) {
                struct u4 x[${batch}];
                struct f4 turn[${batch}][2];
                UNROLL
                for (int b = 0; b < ${batch}; b++) {
                    int c = (u + 32 * b) % ${chunks};
                    struct place p = place[16 * i + (u + 32 * b) / ${chunks}];
                    const half_t *from = kr + (i64)max_i(p.row - rows, 0) * k_stride + key_head * ${d};
                    if (p.row >= 0 && p.row < rows)
                        from = kc + ((i64)key_head * rows + p.row) * ${d};
                    x[b] = ld16(from + c * 8);
                    if (rot)
                        read_turn(turn[b], rot + (i64)p.angle * ${d // 2} + c * 4);
                }
                UNROLL
                for (int b = 0; b < ${batch}; b++)
                    sts16(mine + swizzle((u + 32 * b) / ${chunks}, (u + 32 * b) % ${chunks}), rot ? turn_pairs(x[b], turn[b], -1.0f) : x[b]);
            }
            sync_warp();
            UNROLL
            for (int k = 0; k < ${kd}; k++)
                ldmatrix_x4(key[i][k], smem() + columns16(ka, k));
            sync_warp();
        }
    }
    sync_block();

    /* Chunk key i is seen by queries from i on. In terms of queries, the warp's keys begin at warp_first (negative: held keys). */
    int warp_first = key0 - held + warp() * ${warp_keys};
    int first = max_i(0, key0 - held) / ${bq} * ${bq}, ahead = first;
    const half_t *from = qr + head * ${d} + (i64)(first + tid() / ${span}) * q_stride + tid() % ${span} * 8;
    float *c_all = (float *)(smem() + C_AT);
    lse += (i64)head * T;
    for (int i = 0; i < ${st - 1}; i++) {
        int m = ahead + tid() % ${bq};
        copy_queries(from, q_stride, T - ahead, smem() + i * STAGE);
        if (tid() < ${bq})
            c_all[i * ${bq} + tid()] = query_constant(T - 1 - m, log2_gamma, lse[min_i(m, T - 1)]);
        cp_async_commit();
        from += ${bq} * q_stride;
        ahead += ${bq};
    }
    /* The log-sum-exps of the tile that is copied next are read one tile early, so that nothing waits for them. */
    float lse_next = lse[min_i(ahead + tid() % ${bq}, T - 1)];

    float sum[${mk}][2];
    UNROLL
    for (int i = 0; i < ${mk}; i++)
        sum[i][0] = sum[i][1] = 0.0f;
    struct strip odd; /* made, but not yet taken into the sums */
    odd.c[0].x = odd.c[0].y = odd.c[1].x = odd.c[1].y = NEG_INF;
    UNROLL
    for (int i = 0; i < ${mk}; i++)
        UNROLL
        for (int h = 0; h < 4; h++)
            odd.s[i][0][h] = odd.s[i][1][h] = 0.0f;
    unsigned qlane = swizzle(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2);
    int stage = 0;
    NO_UNROLL
    for (int at = first; at < T; at += ${bq}) {
        cp_async_wait(${st - 2});
        sync_block(); /* the tile is there, and the stage before it is free */
        int to = stage == 0 ? ${st - 1} : stage - 1;
        if (tid() < ${bq})
            c_all[to * ${bq} + tid()] = query_constant(T - 1 - ahead - tid(), log2_gamma, lse_next);
        copy_queries(from, q_stride, T - ahead, smem() + to * STAGE);
        cp_async_commit();
        from += ${bq} * q_stride;
        ahead += ${bq};
        lse_next = lse[min_i(ahead + tid() % ${bq}, T - 1)];
        unsigned qa = stage * STAGE + qlane;
        const float *c = c_all + stage * ${bq};
        stage = stage == ${st - 1} ? 0 : stage + 1;
        if (at + ${bq - 1} < warp_first)
            continue; /* all of the warp's keys come after these queries */
        if (at < warp_first + ${warp_keys - 1})
            take_tile(sum, &odd, key, qa, c, true, warp_first - at);
        else
            take_tile(sum, &odd, key, qa, c, false, 0);
    }
    UNROLL
    for (int i = 0; i < ${mk}; i++)
        UNROLL
        for (int b = 0; b < 2; b++)
            UNROLL
            for (int h = 0; h < 2; h++)
                sum[i][h] += exp2_f(fma_f(odd.s[i][b][2 * h], SCALE, odd.c[b].x)) + exp2_f(fma_f(odd.s[i][b][2 * h + 1], SCALE, odd.c[b].y));

    UNROLL
    for (int i = 0; i < ${mk}; i++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            float total = sum[i][h] + shfl_xor_f(sum[i][h], 1);
            total += shfl_xor_f(total, 2);
            int row = place[16 * i + 8 * h + lane() / 4].row;
            if (lane() % 4 == 0 && row >= 0)
                sums[(i64)head * (rows + T) + row] = total;
        }
}
