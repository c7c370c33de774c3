% include "attn_common.cu.t"
% local mt = bm // (16 * wp)                  -- 16-row tiles of queries that a warp holds
% local kd, nd, nb = d // 16, d // 8, bn // 8 -- k-steps of Q.K^T; 8-wide columns of O and of S
% local chunks = d // 8
% local low = 1; while chunks % (2 * low) == 0 and low < 8 do low = 2 * low end
% local span = math.min(threads // 8, chunks & -chunks) -- 16-byte pieces of a row that neighbouring threads copy
% local pass = threads // span                -- rows that all threads copy at once
% local tile_bytes = bn * d * 2
% local q_bytes = bm * d * 2
% local scale = 1.4426950408889634 / math.sqrt(d)

/* One query tile (${bm} rows of the chunk) of one query head against the held keys, run by run, and the chunk's keys up to the
 * diagonal. ${wp} warps, each with ${16 * mt} query rows; ${st} ${st == 1 and "buffer each of K and V" or "stages of K and V tiles"} (${bn} keys) in shared memory:
 *
 *     Q [${bm}][${d}]${st == 1 and "   K [" .. bn .. "][" .. d .. "]   V [" .. bn .. "][" .. d .. "]" or "   (K [" .. bn .. "][" .. d .. "]   V [" .. bn .. "][" .. d .. "]) x " .. st}      all swizzled */
enum { Q_AT = 0, STAGE_AT = ${q_bytes}, STAGE = ${2 * tile_bytes}, V_AT = ${tile_bytes} };
#define SCALE ${("%.9ff"):format(scale)} /* log2(e) / sqrt(${d}): everything is in the log2 domain */
#define SLACK 8.0f                        /* a row's reference may lag behind its maximum by so much before O is rescaled */

struct feed { /* the tile that is copied next: a part of a run or of the chunk */
    const half_t *k, *v; /* what this thread copies of it: row tid / ${span}, piece tid % ${span}, and rows further on */
    int ahead, left;     /* runs from its own on, 0: it is of the chunk; rows of the segment from the tile on, 0 or less: none */
};

struct source { /* the kernel's arguments, and what the block takes of them */
    const half_t *kc, *vc, *k, *v;
    const struct attn_step *step;
    int k_stride, v_stride;
    unsigned key_head;
    int query_end; /* the block's queries, and the chunk's keys that they see, are below it */
};

/* The run that has `ahead` runs from its own on, 1 or more. Steps are read anew where they are needed. */
DEVICE const struct attn_run *run_of(const struct source *w, int ahead) { return &w->step->run[w->step->nruns - ahead]; }
DEVICE int segment_length(const struct source *w, int ahead) { return ahead > 0 ? run_of(w, ahead)->len : w->query_end; }

/* Elements from row to row. */
DEVICE int k_step(const struct feed *f, const struct source *w) { return f->ahead > 0 ? ${d} : w->k_stride; }
DEVICE int v_step(const struct feed *f, const struct source *w) { return f->ahead > 0 ? ${d} : w->v_stride; }

/* ahead: as in the feed; -1: the end. Runs are never empty, so each segment has a tile. */
DEVICE void enter_segment(struct feed *f, const struct source *w, int ahead)
{
    int me = opaque(tid()), row = me / ${span}, piece = me % ${span};
    f->ahead = ahead;
    f->left = ahead < 0 ? 0 : segment_length(w, ahead);
    if (ahead > 0) {
        i64 at = ((i64)w->key_head * (unsigned)w->step->rows + (unsigned)(run_of(w, ahead)->row + row)) * ${d} + piece * 8;
        f->k = w->kc + at;
        f->v = w->vc + at;
    } else {
        f->k = w->k + w->key_head * ${d} + (i64)row * w->k_stride + piece * 8;
        f->v = w->v + w->key_head * ${d} + (i64)row * w->v_stride + piece * 8;
    }
}

DEVICE void next_tile(struct feed *f, const struct source *w)
{
    f->k += ${bn} * k_step(f, w);
    f->v += ${bn} * v_step(f, w);
    f->left -= ${bn};
    if (f->left <= 0)
        enter_segment(f, w, f->ahead - 1);
}

/* Starts the copy of ${bn} rows; those that the segment has not become zeros. No branch, so that the copies run in the shadow of
 * the products. */
DEVICE void copy_tile(const half_t *from, int step, int left, unsigned char *to)
{
    int row = tid() / ${span};
    to += swizzle(row, tid() % ${span});
    left -= row;
% for i = 0, (bn + pass - 1) // pass - 1 do
%   local guard = (i + 1) * pass > bn and ("if (row < %d) "):format(bn - i * pass) or ""
%   for j = 0, chunks // span - 1 do
    ${guard}cp_async16_zfill(to + ${i * pass * 2 * d + j * span * 16}, from + ${j * span * 8}, left > ${i * pass});
%   end
    from += ${pass} * step;
% end
}

/* This warp's query rows to shared memory, turned in fp32 by `angle` + row; `rot` NULL: as they are. Rows from `end` on repeat
 * the last one; nobody looks at what becomes of them. */
% local units = mt * chunks // 2            -- pieces of 16 bytes that a lane stages
% local batch = units % 4 == 0 and 4 or units % 5 == 0 and 5 or units % 3 == 0 and 3 or 2 -- loads that are under way together
DEVICE void stage_queries(unsigned char *to, const half_t *q, i64 q_stride, const struct f2 *rot, int angle, int row0, int end)
{
    int me = opaque(lane());
    sync_warp();
    if (rot) {
        NO_UNROLL
        for (int i = me; i < ${32 * units}; i += ${32 * batch}) {
            struct u4 x[${batch}];
            struct f4 turn[${batch}][2];
            UNROLL
            for (int b = 0; b < ${batch}; b++) {
                int m = min_i(row0 + (i + 32 * b) / ${chunks}, end - 1), c = (i + 32 * b) % ${chunks};
                x[b] = ld16(q + m * q_stride + c * 8);
                read_turn(turn[b], rot + (i64)(angle + m) * ${d // 2} + c * 4);
            }
            UNROLL
            for (int b = 0; b < ${batch}; b++)
                sts16(to + swizzle((i + 32 * b) / ${chunks}, (i + 32 * b) % ${chunks}), turn_pairs(x[b], turn[b], 1.0f));
        }
    } else {
        NO_UNROLL
        for (int i = me; i < ${32 * units}; i += 32)
            sts16(to + swizzle(i / ${chunks}, i % ${chunks}), ld16(q + min_i(row0 + i / ${chunks}, end - 1) * q_stride + i % ${chunks} * 8));
    }
    sync_warp();
}

struct rows { /* a warp's ${16 * mt} query rows; a lane holds rows lane/4 and lane/4 + 8 of each tile of 16 */
    float o[${mt}][${nd}][4];
    float m[${mt}][2]; /* reference of the exponent, log2 domain: the row's maximum so far, or up to SLACK below it */
    float l[${mt}][2]; /* this lane's part of the row's sum */
% if qr == 1 then
    unsigned q[${mt}][${kd}][4];
% end
};

% if qr == 0 then
% -- Q's first pieces come before the barrier that the keys need.
/* Asks for the first pieces of Q. */
DEVICE void first_queries(unsigned q[2][${mt}][4], unsigned qa)
{
    UNROLL
    for (int i = 0; i < ${mt}; i++)
        ldmatrix_x4(q[0][i], smem() + qa + i * ${16 * 2 * d});
}

% end
/* S = Q.K^T of this warp's rows and one tile. What a step reads from shared memory is asked for ${pd} step${pd > 1 and "s" or ""} before it is used. */
DEVICE void scores_of_tile(struct rows *a, float s[${mt}][${nb}][4], ${qr == 0 and "unsigned q[2][" .. mt .. "][4], unsigned qa, " or ""}unsigned ka)
{
    unsigned key[${pd + 1}][4];
    UNROLL
    for (int t = 0; t < ${pd}; t++)
        ldmatrix_x4(key[t], smem() + columns16(ka, t / ${nb // 2}) + t % ${nb // 2} * ${16 * 2 * d});
    UNROLL
    for (int i = 0; i < ${mt}; i++)
        UNROLL
        for (int n = 0; n < ${nb}; n++)
            s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0.0f;
    UNROLL
    for (int k = 0; k < ${kd}; k++)
        UNROLL
        for (int n = 0; n < ${nb}; n += 2) { /* columns 16 * k of Q and K, keys 8 * n */
            int t = k * ${nb // 2} + n / 2, later = t + ${pd};
            if (later < ${kd * nb // 2})
                ldmatrix_x4(key[later % ${pd + 1}], smem() + columns16(ka, later / ${nb // 2}) + later % ${nb // 2} * ${16 * 2 * d});
% if qr == 0 then
            if (n == ${math.max(nb // 2 - pd, 0) // 2 * 2} && k + 1 < ${kd})
                UNROLL
                for (int i = 0; i < ${mt}; i++)
                    ldmatrix_x4(q[(k + 1) % 2][i], smem() + columns16(qa, k + 1) + i * ${16 * 2 * d});
% end
            UNROLL
            for (int i = 0; i < ${mt}; i++) {
                mma_m16n8k16(s[i][n], ${qr == 1 and "a->q[i][k]" or "q[k % 2][i]"}, key[t % ${pd + 1}]);
                mma_m16n8k16(s[i][n + 1], ${qr == 1 and "a->q[i][k]" or "q[k % 2][i]"}, key[t % ${pd + 1}] + 2);
            }
        }
}

/* Moves the reference up where a row's new maximum is more than SLACK above it: rare after the first tiles, so that O is
 * seldom rescaled. Exact all the same, O and l are divided at the end. */
DEVICE void raise_reference(struct rows *a, float s[${mt}][${nb}][4])
{
    float top[${mt}][2];
    bool raise = false;
    UNROLL
    for (int i = 0; i < ${mt}; i++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            top[i][h] = max_f(s[i][0][2 * h], s[i][0][2 * h + 1]);
            UNROLL
            for (int n = 1; n < ${nb}; n++)
                top[i][h] = max_f(top[i][h], max_f(s[i][n][2 * h], s[i][n][2 * h + 1]));
            raise = raise || fma_f(top[i][h], SCALE, -a->m[i][h]) > SLACK;
        }
    if (!any_warp(raise))
        return;
    UNROLL
    for (int i = 0; i < ${mt}; i++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            float t = max_f(top[i][h], shfl_xor_f(top[i][h], 1));
            t = max_f(t, shfl_xor_f(t, 2));
            /* Each row for itself, whatever the other rows of the warp hold. */
            t = fma_f(t, SCALE, -a->m[i][h]) > SLACK ? t * SCALE : a->m[i][h];
            float f = exp2_f(a->m[i][h] - t);
            a->m[i][h] = t;
            a->l[i][h] *= f;
            UNROLL
            for (int n = 0; n < ${nd}; n++) {
                a->o[i][n][2 * h] *= f;
                a->o[i][n][2 * h + 1] *= f;
            }
        }
}

/* Asks for the first pieces of V, before they are needed. */
DEVICE void first_values(unsigned v[${pd + 1}][4], unsigned va)
{
    UNROLL
    for (int t = 0; t < ${pd}; t++)
        ldmatrix_x4_trans(v[t], smem() + columns16(va, t));
}

/* O += P.V with P = exp2(S - m); l += the sums of P. v: the first ${pd} pieces of V. */
DEVICE void values_of_tile(struct rows *a, float s[${mt}][${nb}][4], unsigned v[${pd + 1}][4], unsigned va)
{
    UNROLL
    for (int k = 0; k < ${bn // 16}; k++) {
        unsigned p[${mt}][4];
        UNROLL
        for (int i = 0; i < ${mt}; i++)
            UNROLL
            for (int h = 0; h < 4; h++) { /* piece h of the A operand: rows + 8 * (h % 2), keys + 8 * (h / 2) */
                float *x = s[i][2 * k + h / 2] + 2 * (h % 2);
                float p0 = exp2_f(fma_f(x[0], SCALE, -a->m[i][h % 2])), p1 = exp2_f(fma_f(x[1], SCALE, -a->m[i][h % 2]));
                a->l[i][h % 2] += p0 + p1;
                p[i][h] = pack2(p0, p1);
            }
        UNROLL
        for (int n = 0; n < ${nd}; n += 2) {
            int t = k * ${nd // 2} + n / 2, later = t + ${pd};
            if (later < ${bn // 16 * nd // 2})
                ldmatrix_x4_trans(v[later % ${pd + 1}], smem() + columns16(va, later % ${nd // 2}) + later / ${nd // 2} * ${16 * 2 * d});
            UNROLL
            for (int i = 0; i < ${mt}; i++) {
                mma_m16n8k16(a->o[i][n], p[i], v[t % ${pd + 1}]);
                mma_m16n8k16(a->o[i][n + 1], p[i], v[t % ${pd + 1}] + 2);
            }
        }
    }
}

/* Minus infinity for the keys that a row must not see: at and beyond `valid`, and in the chunk those after the row; `diagonal` is
 * the warp's first row less the tile's first key, or large outside the chunk. */
DEVICE void mask_tile(float s[${mt}][${nb}][4], int valid, int diagonal)
{
    int r = lane() / 4, c = 2 * (lane() % 4);
    UNROLL
    for (int i = 0; i < ${mt}; i++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            int end = min_i(valid, diagonal + 16 * i + 8 * h + r + 1) - c; /* the row sees the keys before it */
            UNROLL
            for (int n = 0; n < ${nb}; n++) {
                if (8 * n >= end)
                    s[i][n][2 * h] = NEG_INF;
                if (8 * n + 1 >= end)
                    s[i][n][2 * h + 1] = NEG_INF;
            }
        }
}

/* The block's first query row, and the warp's. What is seldom needed is worked out where it is: registers are short. */
DEVICE int block_row(void) { return (nbid_y() - 1 - opaque(bid_y())) * ${bm}; }
DEVICE int warp_row(void) { return block_row() + opaque(warp()) * ${16 * mt}; }

/* The next tile, of a segment with `left` keys from the tile on: waits for it, starts the copy of a later one, and takes it into
 * the warp's rows. Returns how many are left then. All tiles pass through this one body, whether they need a mask or not. */
DEVICE int take_tile(struct rows *a, struct feed *f, const struct source *w, unsigned *stage, bool chunk, int left, unsigned qa,
                     unsigned klane, unsigned vlane)
{
    float s[${mt}][${nb}][4];
    unsigned v[${pd + 1}][4];
% local queries = qr == 0 and "q, qa, " or ""
% if qr == 0 then
    unsigned q[2][${mt}][4];
    first_queries(q, qa);
% end
% local function mask()
    if (left < ${bn} || (chunk && w->query_end - left + ${bn - 1} > block_row())) /* it ends in the tile, or a row of the block does not see all */
        mask_tile(s, left, chunk ? warp_row() - (w->query_end - left) : ${bn});
    raise_reference(a, s);
% end
% if st == 1 then
    left = f->left; /* as it was, but out of a register that is there anyway */
    cp_async_wait(0);
    sync_block(); /* K is there, and V is free */
    copy_tile(f->v, v_step(f, w), f->left, smem() + STAGE_AT + V_AT);
    cp_async_commit();
    scores_of_tile(a, s, ${queries}STAGE_AT + klane);
    next_tile(f, w);
%   mask()
    cp_async_wait(0);
    sync_block(); /* V is there, and K is free */
    copy_tile(f->k, k_step(f, w), f->left, smem() + STAGE_AT);
    cp_async_commit();
    first_values(v, STAGE_AT + V_AT + vlane);
    values_of_tile(a, s, v, STAGE_AT + V_AT + vlane);
% else
    unsigned here = *stage, free = here == STAGE_AT ? STAGE_AT + ${st - 1} * STAGE : here - STAGE;
    *stage = here == STAGE_AT + ${st - 1} * STAGE ? STAGE_AT : here + STAGE;
    cp_async_wait(${st - 2});
    sync_block(); /* the tile is there, and the stage before it is free */
    copy_tile(f->k, k_step(f, w), f->left, smem() + free);
    copy_tile(f->v, v_step(f, w), f->left, smem() + free + V_AT);
    cp_async_commit();
    scores_of_tile(a, s, ${queries}here + klane);
    first_values(v, here + V_AT + vlane);
    next_tile(f, w);
%   mask()
    values_of_tile(a, s, v, here + V_AT + vlane);
% end
    return left - ${bn};
}

/* O = softmax(Q.K^T / sqrt(d)).V and lse = log2 of the softmax's denominator, in the log2 domain.
 *   o [T][heads][${d}]   lse [heads][T]   q [T][heads][${d}], rows q_stride elements apart, unrotated
 *   kc, vc [heads / group][rows][${d}]   k (rotated by index in the chunk), v [T][heads / group][${d}], rows k_stride, v_stride apart
 *   rot [positions][${d // 2}] cos, sin; NULL: nothing is turned
 * Grid: heads x query tiles; the tiles that see most keys come first. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *RESTRICT o, float *RESTRICT lse, const half_t *RESTRICT q, const half_t *RESTRICT kc, const half_t *RESTRICT vc,
 const half_t *RESTRICT k, const half_t *RESTRICT v, const struct f2 *RESTRICT rot, const struct attn_step *step, int group,
 int q_stride, int k_stride, int v_stride)
{
    unsigned head = (unsigned)bid_x();
    if (block_row() >= step->T)
        return;
    struct source w = {kc, vc, k, v, step, k_stride, v_stride, head / (unsigned)group, min_i(step->T, block_row() + ${bm})};
    struct feed f;
    enter_segment(&f, &w, step->nruns);
    unsigned stage = STAGE_AT;
% if st == 1 then
    copy_tile(f.k, k_step(&f, &w), f.left, smem() + STAGE_AT);
    cp_async_commit();
% else
    for (int i = 0; i < ${st - 1}; i++) {
        copy_tile(f.k, k_step(&f, &w), f.left, smem() + STAGE_AT + i * STAGE);
        copy_tile(f.v, v_step(&f, &w), f.left, smem() + STAGE_AT + i * STAGE + V_AT);
        cp_async_commit();
        next_tile(&f, &w);
    }
% end

    struct rows a;
    UNROLL
    for (int i = 0; i < ${mt}; i++) {
        a.m[i][0] = a.m[i][1] = -1e30f;
        a.l[i][0] = a.l[i][1] = 0.0f;
        UNROLL
        for (int n = 0; n < ${nd}; n++)
            a.o[i][n][0] = a.o[i][n][1] = a.o[i][n][2] = a.o[i][n][3] = 0.0f;
    }

    /* What a lane reads: of Q and V rows lane % 16 and piece lane / 16; of K rows lane % 8 + 8 * (lane / 16), piece lane / 8 % 2. */
    unsigned vlane = swizzle(lane() % 16, lane() / 16), klane = swizzle(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2);
    unsigned qa = Q_AT + warp() * ${16 * mt * 2 * d} + vlane;

    for (int ahead = step->nruns; ahead >= 0; ahead--) {
        stage_queries(smem() + Q_AT + opaque(warp()) * ${16 * mt * 2 * d}, q + head * ${d}, q_stride, rot, ahead > 0 ? step->held - run_of(&w, ahead)->shift : 0,
                      warp_row(), w.query_end);
% if qr == 1 then
        UNROLL
        for (int i = 0; i < ${mt}; i++)
            UNROLL
            for (int k = 0; k < ${kd}; k++)
                ldmatrix_x4(a.q[i][k], smem() + columns16(qa, k) + i * ${16 * 2 * d});
% end
        NO_UNROLL
        for (int left = segment_length(&w, ahead); left > 0;)
            left = take_tile(&a, &f, &w, &stage, ahead == 0, left, qa, klane, vlane);
    }

    /* O / l, through this warp's part of Q's place, so that whole rows are written. */
    unsigned char *mine = smem() + Q_AT + opaque(warp()) * ${16 * mt * 2 * d};
    int me = opaque(lane()), row0 = warp_row();
    lse += (i64)head * step->T;
    sync_warp();
    UNROLL
    for (int i = 0; i < ${mt}; i++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            float l = a.l[i][h];
            l += shfl_xor_f(l, 1);
            l += shfl_xor_f(l, 2);
            float inverse = rcp_f(l);
            int r = 16 * i + 8 * h + me / 4;
            if (me % 4 == 0 && row0 + r < w.query_end)
                lse[row0 + r] = a.m[i][h] + log2_f(l);
            UNROLL
            for (int n = 0; n < ${nd}; n++)
                *(unsigned *)(mine + swizzle(r, n) + me % 4 * 4) = pack2(a.o[i][n][2 * h] * inverse, a.o[i][n][2 * h + 1] * inverse);
        }
    sync_warp();
    NO_UNROLL
    for (int u = me; u < ${16 * mt * chunks}; u += 32) {
        int r = u / ${chunks}, c = u % ${chunks};
        if (row0 + r < w.query_end)
            st16(o + ((i64)(row0 + r) * nbid_x() + (int)head) * ${d} + c * 8, lds16(mine + swizzle(r, c)));
    }
}
