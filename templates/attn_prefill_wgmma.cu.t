% include "attn_common.cu.t"
% local kd, nd, nb = d // 16, d // 8, bn // 8 -- k-steps of Q.K^T; 8-wide columns of O and of S
% local chunks = d // 8                       -- pieces of 16 bytes in a row
% local panels = d // 64
% local pass = 128 // chunks                  -- rows that the copying warps copy at once
% local lag = st - 2                          -- stages whose copies may be under way behind the one that is waited for
% local tile_bytes, q_bytes = bn * row_bytes, bm * row_bytes
% local stages_at = 2 * q_bytes
% local scale = 1.4426950408889634 / math.sqrt(d)

/* One query tile (${bm} rows of the chunk) of one query head against the held keys, run by run, and the chunk's keys up to the
 * diagonal: attn_prefill by products of warpgroups. ${wg} warpgroup${wg > 1 and "s" or ""}, each with 64 query rows, and behind ${wg > 1 and "them" or "it"} one that copies, to ${st}
 * stages in shared memory, each with a tile (${bn} keys) of K and the one before it of V:
 * the scores of a tile are under way while the values of the last one are:
 *
 *     (Q ${wg} x [${panels}][64][64]) x 2   (K [${panels}][${bn}][64]   V [${panels}][${bn}][64]) x ${st}      panels as of wgmma_operand
 *
 * Queries are turned anew for each run: into the other Q, while the last tile of the run before is under way. */
enum { STAGES_AT = ${stages_at}, STAGE = ${2 * tile_bytes}, V_AT = ${tile_bytes}, Q_BYTES = ${q_bytes}, Q_PANEL = ${64 * 128}, PANEL = ${bn * 128} };
#define SCALE ${("%.9ff"):format(scale)} /* log2(e) / sqrt(${d}): everything is in the log2 domain */
#define SLACK 8.0f                        /* a row's reference may lag behind its maximum by so much before O is rescaled */

struct feed { /* the tile of K or of V that is copied next: a part of a run or of the chunk */
    const half_t *at; /* what this thread copies of it: row me / ${chunks}, piece me % ${chunks}, and rows further on */
    int ahead, left;  /* runs from its own on, 0: it is of the chunk, -1: there is none; rows of the segment from the tile on */
};

struct source { /* the kernel's arguments, and what the block takes of them */
    const half_t *kc, *vc, *k, *v, *q; /* q: of the head */
    const struct f2 *rot;
    const struct attn_step *step;
    int k_stride, v_stride, q_stride;
    unsigned key_head;
    int query_end; /* the block's queries, and the chunk's keys that they see, are below it */
};

/* The run that has `ahead` runs from its own on, 1 or more. Steps are read anew where they are needed. */
DEVICE const struct attn_run *run_of(const struct source *w, int ahead) { return &w->step->run[w->step->nruns - ahead]; }
DEVICE int segment_length(const struct source *w, int ahead) { return ahead > 0 ? run_of(w, ahead)->len : w->query_end; }

/* ahead: as in the feed; -1: the end. Runs are never empty, so each segment has a tile. held and own: the cache and the chunk's. */
DEVICE void enter_segment(struct feed *f, const struct source *w, int ahead, const half_t *held, const half_t *own, int stride)
{
    int me = tid() % 128, row = me / ${chunks}, piece = me % ${chunks};
    f->ahead = ahead;
    f->left = ahead < 0 ? 0 : segment_length(w, ahead);
    if (ahead > 0)
        f->at = held + ((i64)w->key_head * (unsigned)w->step->rows + (unsigned)(run_of(w, ahead)->row + row)) * ${d} + piece * 8;
    else
        f->at = own + w->key_head * ${d} + (i64)row * stride + piece * 8;
}

/* Starts the copy of the tile, ${bn} rows; those that the segment has not become zeros. */
DEVICE void copy_tile(const struct feed *f, unsigned to, int stride)
{
    int me = tid() % 128, row = me / ${chunks}, piece = me % ${chunks}, left = f->left - row, step = f->ahead > 0 ? ${d} : stride;
    to += piece / 8 * PANEL + row * 128 + ((piece ^ row) % 8 << 4);
    const half_t *from = f->at;
% for i = 0, (bn + pass - 1) // pass - 1 do
%   local guard = (i + 1) * pass > bn and ("if (row < %d) "):format(bn - i * pass) or ""
    ${guard}cp_async16_zfill(smem() + to + ${i * pass * 128}, from, left > ${i * pass});
    from += ${pass} * step;
% end
}

/* A tile on. */
DEVICE void advance(struct feed *f, const struct source *w, const half_t *held, const half_t *own, int stride)
{
    f->at += ${bn} * (f->ahead > 0 ? ${d} : stride);
    f->left -= ${bn};
    if (f->left <= 0 && f->ahead >= 0)
        enter_segment(f, w, f->ahead - 1, held, own, stride);
}

/* Barriers: where a warpgroup waits for a stage to be full, and its warps for each other: behind it queries are there that they wrote
 * before, and Q is free that they read before; where the copying warps wait for a stage to be free. */
DEVICE int full_barrier(int stage, int group) { return 1 + stage * ${wg} + group; }
DEVICE int free_barrier(int stage) { return ${1 + st * wg} + stage; }
enum { FULL_THREADS = 256, FREE_THREADS = ${128 * wg + 128} };

/* The stage is full: what it holds is published. */
DEVICE void say_full(int *stage)
{
    fence_async();
    for (int g = 0; g < ${wg}; g++)
        arrive_named(full_barrier(*stage, g), FULL_THREADS);
    *stage = *stage == ${st - 1} ? 0 : *stage + 1;
}

/* The copying warps: fill one stage after another, when it is free, and say so when the copies have arrived${lag > 0 and (", %d stage%s later"):format(lag, lag > 1 and "s" or "") or ""}. */
DEVICE void copy_tiles(const struct source *w)
{
    struct feed k, v;
    int stage = 0, full = 0, n = 0;
    enter_segment(&k, w, w->step->nruns, w->kc, w->k, w->k_stride);
    enter_segment(&v, w, w->step->nruns, w->vc, w->v, w->v_stride);
    for (; v.ahead >= 0; n++) {
        if (n >= ${st})
            sync_named(free_barrier(stage), FREE_THREADS);
        if (k.ahead >= 0)
            copy_tile(&k, STAGES_AT + stage * STAGE, w->k_stride);
        advance(&k, w, w->kc, w->k, w->k_stride);
        if (n > 0) {
            copy_tile(&v, STAGES_AT + stage * STAGE + V_AT, w->v_stride);
            advance(&v, w, w->vc, w->v, w->v_stride);
        }
        cp_async_commit();
        stage = stage == ${st - 1} ? 0 : stage + 1;
        cp_async_wait(${lag});
        if (n >= ${lag})
            say_full(&full);
    }
    cp_async_wait(0);
    for (n = n < ${lag} ? n : ${lag}; n > 0; n--)
        say_full(&full);
}

/* The block's first query row, the warpgroup's part of Q, the warp's first row. */
DEVICE int block_row(void) { return (nbid_y() - 1 - opaque(bid_y())) * ${bm}; }
DEVICE int group(void) { return shfl_u((unsigned)warp(), 0) / 4; } /* by a shuffle: the compiler knows it for the same in all lanes */
DEVICE int warp_row(void) { return block_row() + opaque(warp()) * 16; }
DEVICE unsigned char *query_row(int r) { return smem() + warp() / 4 * ${64 * row_bytes} + (warp() % 4 * 16 + r) * 128; } /* of the warp */
DEVICE unsigned query_piece(int r, int c) { return c / 8 * Q_PANEL + ((c ^ r) % 8 << 4); }

/* The warp's query rows to the Q at byte `to`, turned in fp32 for the segment; `rot` NULL: as they are. Rows from query_end on repeat
 * the last one; nobody looks at what becomes of them. */
% local units = chunks // 2                  -- pieces of 16 bytes that a lane stages
% local batch = units                        -- that are under way together: as many as registers leave room for
% while batch > 4 or batch > 2 and 12 * batch + 46 > regs - state do batch = batch // 2 end
DEVICE void stage_queries(const struct source *w, unsigned to, int ahead)
{
    int me = opaque(lane()), row0 = warp_row(), angle = ahead > 0 ? w->step->held - run_of(w, ahead)->shift : 0;
    NO_UNROLL
    for (int i = me; i < ${32 * units}; i += ${32 * batch}) {
        struct u4 x[${batch}];
        struct f4 turn[${batch}][2];
        UNROLL
        for (int b = 0; b < ${batch}; b++) {
            int m = min_i(row0 + (i + 32 * b) / ${chunks}, w->query_end - 1), c = (i + 32 * b) % ${chunks};
            x[b] = ld16(w->q + (i64)m * w->q_stride + c * 8);
            if (w->rot)
                read_turn(turn[b], w->rot + (i64)(angle + m) * ${d // 2} + c * 4);
        }
        UNROLL
        for (int b = 0; b < ${batch}; b++) {
            int r = (i + 32 * b) / ${chunks}, c = (i + 32 * b) % ${chunks};
            sts16(query_row(r) + to + query_piece(r, c), w->rot ? turn_pairs(x[b], turn[b], 1.0f) : x[b]);
        }
    }
    fence_async();
}

struct rows { /* a warp's 16 query rows; a lane holds rows lane/4 and lane/4 + 8 */
    float o[${nd}][4];
    float m[2]; /* reference of the exponent, log2 domain: the row's maximum so far, or up to SLACK below it */
    float l[2]; /* this lane's part of the row's sum */
};

/* Starts S = Q.K^T of the warpgroup's rows and one tile. */
DEVICE void start_scores(float s[${nb}][4], u64 queries, int stage)
{
    u64 keys = wgmma_operand(smem() + STAGES_AT + stage * STAGE, 0);
    UNROLL
    for (int k = 0; k < ${kd}; k++) /* columns 16 * k of Q and K */
        wgmma_shared(s, wgmma_further(queries, k / 4 * Q_PANEL + k % 4 * 32), wgmma_further(keys, k / 4 * PANEL + k % 4 * 32), k > 0);
    wgmma_commit();
}

/* Starts O += P.V. */
DEVICE void start_values(struct rows *a, unsigned p[${bn // 16}][4], int stage)
{
    u64 values = wgmma_operand(smem() + STAGES_AT + stage * STAGE + V_AT, ${panels > 1 and "PANEL" or "0"});
    UNROLL
    for (int k = 0; k < ${bn // 16}; k++) /* keys 16 * k */
        wgmma_registers(a->o, p[k], wgmma_further(values, k * 16 * 128));
    wgmma_commit();
}

/* Moves the reference up where a row's new maximum is more than SLACK above it: rare after the first tiles, so that O is
 * seldom rescaled. Exact all the same, O and l are divided at the end. Returns whether rows of the warp are to be multiplied by f. */
DEVICE bool raise_reference(struct rows *a, float s[${nb}][4], float f[2])
{
    float top[2];
    bool raise = false;
    UNROLL
    for (int h = 0; h < 2; h++) {
        top[h] = max_f(s[0][2 * h], s[0][2 * h + 1]);
        UNROLL
        for (int n = 1; n < ${nb}; n++)
            top[h] = max_f(top[h], max_f(s[n][2 * h], s[n][2 * h + 1]));
        raise = raise || fma_f(top[h], SCALE, -a->m[h]) > SLACK;
    }
    raise = any_warp(raise);
    if (!raise)
        return false;
    UNROLL
    for (int h = 0; h < 2; h++) {
        float t = max_f(top[h], shfl_xor_f(top[h], 1));
        t = max_f(t, shfl_xor_f(t, 2));
        /* Each row for itself, whatever the other rows of the warp hold. */
        t = fma_f(t, SCALE, -a->m[h]) > SLACK ? t * SCALE : a->m[h];
        f[h] = exp2_f(a->m[h] - t);
        a->m[h] = t;
        a->l[h] *= f[h];
    }
    return true;
}

DEVICE void rescale(struct rows *a, const float f[2])
{
    UNROLL
    for (int n = 0; n < ${nd}; n++) {
        a->o[n][0] *= f[0];
        a->o[n][1] *= f[0];
        a->o[n][2] *= f[1];
        a->o[n][3] *= f[1];
    }
}

/* The A operand: piece h holds rows + 8 * (h % 2), keys + 8 * (h / 2). */
DEVICE void pack_probabilities(unsigned p[${bn // 16}][4], float s[${nb}][4])
{
    UNROLL
    for (int k = 0; k < ${bn // 16}; k++)
        UNROLL
        for (int h = 0; h < 4; h++)
            p[k][h] = pack2(s[2 * k + h / 2][2 * (h % 2)], s[2 * k + h / 2][2 * (h % 2) + 1]);
}

/* Minus infinity for the keys that a row must not see: at and beyond `valid`, and in the chunk those after the row; `diagonal` is
 * the warp's first row less the tile's first key, or large outside the chunk. */
DEVICE void mask_tile(float s[${nb}][4], int valid, int diagonal)
{
    int r = lane() / 4, c = 2 * (lane() % 4);
    UNROLL
    for (int h = 0; h < 2; h++) {
        int end = min_i(valid, diagonal + 8 * h + r + 1) - c; /* the row sees the keys before it */
        UNROLL
        for (int n = 0; n < ${nb}; n++) {
            if (8 * n >= end)
                s[n][2 * h] = NEG_INF;
            if (8 * n + 1 >= end)
                s[n][2 * h + 1] = NEG_INF;
        }
    }
}

/* S, of a tile of the segment with `left` keys from the tile on, becomes exp2(S - m); l += the sums of it. Returns whether O is to be
 * multiplied by f. */
DEVICE bool probabilities(struct rows *a, const struct source *w, float s[${nb}][4], float f[2], int ahead, int left)
{
    int first = w->query_end - left; /* of the tile, in the chunk */
    if (left < ${bn} || (ahead == 0 && first + ${bn - 1} > block_row())) /* it ends in the tile, or a row of the block does not see all */
        mask_tile(s, left, ahead == 0 ? warp_row() - first : ${bn});
    bool raised = raise_reference(a, s, f);
    UNROLL
    for (int n = 0; n < ${nb}; n++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            s[n][2 * h] = exp2_f(fma_f(s[n][2 * h], SCALE, -a->m[h]));
            s[n][2 * h + 1] = exp2_f(fma_f(s[n][2 * h + 1], SCALE, -a->m[h]));
            a->l[h] += s[n][2 * h] + s[n][2 * h + 1];
        }
    return raised;
}

/* O = softmax(Q.K^T / sqrt(d)).V and lse = log2 of the softmax's denominator, in the log2 domain.
 *   o [T][heads][${d}]   lse [heads][T]   q [T][heads][${d}], rows q_stride elements apart, unrotated
 *   kc, vc [heads / per_key][rows][${d}]   k (rotated by index in the chunk), v [T][heads / per_key][${d}], rows k_stride, v_stride apart
 *   rot [positions][${d // 2}] cos, sin; NULL: nothing is turned
 * Grid: heads x query tiles; the tiles that see most keys come first. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *RESTRICT o, float *RESTRICT lse, const half_t *RESTRICT q, const half_t *RESTRICT kc, const half_t *RESTRICT vc,
 const half_t *RESTRICT k, const half_t *RESTRICT v, const struct f2 *RESTRICT rot, const struct attn_step *step, int per_key,
 int q_stride, int k_stride, int v_stride)
{
    unsigned head = (unsigned)bid_x();
    if (block_row() >= step->T)
        return;
    struct source w = {kc, vc, k, v, q + head * ${d}, rot, step, k_stride, v_stride, q_stride, head / (unsigned)per_key, min_i(step->T, block_row() + ${bm})};
    if (warp() >= ${4 * wg}) {
        registers_give(${spare});
        copy_tiles(&w);
        return;
    }
    registers_take(${regs});
    struct rows a;
    float s[${nb}][4], f[2];
    unsigned p[${bn // 16}][4], here = 0; /* here: the Q */
    int stage = 0;
    a.m[0] = a.m[1] = -1e30f;
    a.l[0] = a.l[1] = 0.0f;
    UNROLL
    for (int n = 0; n < ${nd}; n++)
        a.o[n][0] = a.o[n][1] = a.o[n][2] = a.o[n][3] = 0.0f;

    u64 queries = wgmma_operand(smem() + group() * ${64 * row_bytes}, 0);
    int ahead = step->nruns, left = segment_length(&w, ahead); /* of the segment whose scores are made: as in a feed */
    stage_queries(&w, 0, ahead);
    sync_named(full_barrier(0, group()), FULL_THREADS);
    wgmma_begin();
    start_scores(s, queries, 0);
    if (left <= ${bn} && ahead > 0)
        stage_queries(&w, Q_BYTES, ahead - 1);
    wgmma_wait(0);
    wgmma_arrived(s, ${4 * nb});
    arrive_named(free_barrier(0), FREE_THREADS);
    probabilities(&a, &w, s, f, ahead, left); /* O is zero: nothing to rescale */
    pack_probabilities(p, s);
    stage++;
    NO_UNROLL
    for (;;) {
        left -= ${bn};
        if (left <= 0) {
            if (--ahead < 0)
                break;
            left = segment_length(&w, ahead);
            here = Q_BYTES - here;
        }
        sync_named(full_barrier(stage, group()), FULL_THREADS);
        wgmma_begin();
        start_scores(s, wgmma_further(queries, here), stage);
        start_values(&a, p, stage);
        if (left <= ${bn} && ahead > 0) /* in the shadow of the products */
            stage_queries(&w, Q_BYTES - here, ahead - 1);
        wgmma_wait(1);
        wgmma_arrived(s, ${4 * nb});
        bool raised = probabilities(&a, &w, s, f, ahead, left);
        settle(a.l[0] + a.l[1]); /* the exponentials are made before the wait, not behind it */
        wgmma_wait(0);
        wgmma_arrived(a.o, ${4 * nd});
        arrive_named(free_barrier(stage), FREE_THREADS);
        if (raised)
            rescale(&a, f);
        pack_probabilities(p, s);
        stage = stage == ${st - 1} ? 0 : stage + 1;
    }
    sync_named(full_barrier(stage, group()), FULL_THREADS);
    wgmma_begin();
    start_values(&a, p, stage);
    wgmma_wait(0);
    wgmma_arrived(a.o, ${4 * nd});

    /* O / l, through this warp's part of Q's place, so that whole rows are written. */
    int me = opaque(lane()), row0 = warp_row();
    lse += (i64)head * step->T;
    UNROLL
    for (int h = 0; h < 2; h++) {
        float l = a.l[h];
        l += shfl_xor_f(l, 1);
        l += shfl_xor_f(l, 2);
        float inverse = rcp_f(l);
        int r = 8 * h + me / 4;
        if (me % 4 == 0 && row0 + r < w.query_end)
            lse[row0 + r] = a.m[h] + log2_f(l);
        UNROLL
        for (int n = 0; n < ${nd}; n++)
            *(unsigned *)(query_row(r) + query_piece(r, n) + me % 4 * 4) = pack2(a.o[n][2 * h] * inverse, a.o[n][2 * h + 1] * inverse);
    }
    sync_warp();
    NO_UNROLL
    for (int u = me; u < ${16 * chunks}; u += 32) {
        int r = u / ${chunks}, c = u % ${chunks};
        if (row0 + r < w.query_end)
            st16(o + ((i64)(row0 + r) * nbid_x() + (int)head) * ${d} + c * 8, lds16(query_row(r) + query_piece(r, c)));
    }
}
