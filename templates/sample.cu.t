/* As the host has it (runtime/sample_state.h). */
struct sample_state {
    double temperature, top_p, log_min_p;
    u64 random;
    float penalty;
    int top_k, repeat_last, nrecent, next;
    unsigned arrived;
};

/* A logit and whose it is. */
struct candidate {
    float logit;
    int id;
};

/* Whether a comes before b: larger logits first, of equal ones the lower id. */
DEVICE bool before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* The first of the warp's candidates, in every lane. */
DEVICE struct candidate first_of_warp(struct candidate c)
{
    UNROLL
    for (int mask = 16; mask > 0; mask /= 2) {
        struct candidate other = {shfl_xor_f(c.logit, mask), (int)shfl_xor_u((unsigned)c.id, mask)};
        if (before(other, c))
            c = other;
    }
    return c;
}

/* The first candidate of each warp of the grid, and the logits as the penalty leaves them. `count` is room for ${span} integers
 * in shared memory. */
DEVICE void penalise(float *work, struct candidate *firsts, const float *logits, const struct sample_state *state, const int *recent,
                     int *count, int vocab)
{
    const float penalty = state->penalty;
    const int recents = penalty == 1.0f ? 0 : state->nrecent;
    struct candidate best = {NEG_INF, 0x7fffffff};
    for (int from = bid_x() * ${span}; from < vocab; from += nbid_x() * ${span}) {
        if (recents > 0) {
            sync_block();
            for (int i = tid(); i < ${span}; i += ${threads})
                count[i] = 0;
            sync_block();
            for (int i = tid(); i < recents; i += ${threads})
                if (recent[i] >= from && recent[i] < from + ${span})
                    atomic_add_u((unsigned *)&count[recent[i] - from], 1);
            sync_block();
        }
        for (int i = tid(); i < ${span} && from + i < vocab; i += ${threads}) {
            struct candidate c = {logits[from + i], from + i};
            if (c.logit != c.logit)
                c.logit = NEG_INF;
            if (recents > 0 && count[i] > 0)
                c.logit = c.logit > 0.0f ? c.logit / penalty : c.logit * penalty;
            work[c.id] = c.logit;
            if (before(c, best))
                best = c;
        }
    }
    best = first_of_warp(best);
    if (lane() == 0)
        firsts[bid_x() * ${wp} + warp()] = best;
}

/* Picks the next token, and enters it among the recent ones.
 *   token   written       logits [vocab] fp32       state, recent [state->repeat_last]: of the stream, kept up to date
 *   work    fp32 [2 * vocab + 8192], scratch
 * NaN counts as minus infinity, of equal logits the lowest id comes first. Any grid of at most ${4096 // wp} blocks; the last one to
 * arrive does what needs all logits. */
KERNEL(${name}, ${threads}, ${min_blocks})
(int *token, const float *logits, struct sample_state *state, int *recent, float *work, int vocab)
{
    int *count = (int *)smem();                     /* [${span}] */
    int *last = (int *)(smem() + ${4 * span});
    struct candidate *firsts = (struct candidate *)(work + vocab + (vocab & 1)); /* [blocks][${wp}] */
    grid_launch_next();
    grid_wait();
    penalise(work, firsts, logits, state, recent, count, vocab);
    fence_device();
    sync_block();
    if (tid() == 0)
        *last = atomic_add_u(&state->arrived, 1) == (unsigned)nbid_x() - 1;
    sync_block();
    if (!*last)
        return;
    fence_device();
    if (warp() != 0)
        return;
    struct candidate best = {NEG_INF, 0x7fffffff};
    for (int i = lane(); i < nbid_x() * ${wp}; i += 32) {
        struct candidate c = {ld_l2_f(&firsts[i].logit), (int)float_bits(ld_l2_f((const float *)&firsts[i].id))};
        if (before(c, best))
            best = c;
    }
    best = first_of_warp(best);
    if (lane() == 0) {
        *token = best.id;
        state->arrived = 0;
        if (state->repeat_last > 0) {
            recent[state->next] = best.id;
            state->next = state->next + 1 == state->repeat_last ? 0 : state->next + 1;
            state->nrecent = min_i(state->nrecent + 1, state->repeat_last);
        }
    }
}
