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

% local each = (span + threads - 1) // threads -- logits of a span that a thread takes, all asked for before the first is used

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
        float x[${each}];
        UNROLL
        for (int j = 0; j < ${each}; j++) {
            const int i = tid() + j * ${threads};
            x[j] = i < ${span} && from + i < vocab ? logits[from + i] : NEG_INF;
        }
        UNROLL
        for (int j = 0; j < ${each}; j++) {
            const int i = tid() + j * ${threads};
            struct candidate c = {x[j], from + i};
            if (i >= ${span} || c.id >= vocab)
                continue;
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

/* The first of the block's candidates, in every thread. `room` is for ${wp} candidates. */
DEVICE struct candidate first_of_block(struct candidate c, struct candidate *room)
{
    c = first_of_warp(c);
    if (lane() == 0)
        room[warp()] = c;
    sync_block();
    c = room[lane() % ${wp}];
    sync_block();
    return first_of_warp(c);
}

/* The sum of v over the block, in every thread, in a fixed order. `room` is for ${threads} numbers. */
DEVICE double sum_of_block(double v, double *room)
{
    room[tid()] = v;
    sync_block();
    for (int half = ${threads // 2}; half > 0; half /= 2) {
        if (tid() < half)
            room[tid()] += room[tid() + half];
        sync_block();
    }
    v = room[0];
    sync_block();
    return v;
}

/* Sorts list[0..n), n up to ${list}: the first candidate first. Pairs of up to 32 apart stay with their warp. */
DEVICE void sort_list(struct candidate *list, int n)
{
    int size = 2;
    while (size < n)
        size *= 2;
    const struct candidate none = {NEG_INF, 0x7fffffff};
    for (int i = n + tid(); i < size; i += ${threads})
        list[i] = none;
    sync_block();
    for (int run = 2; run <= size; run *= 2)
        for (int step = run / 2; step > 0; step /= 2) {
            for (int i = tid(); i < size / 2; i += ${threads}) {
                const int at = 2 * i - (i & (step - 1)), other = at + step;
                const struct candidate x = list[at], y = list[other];
                if ((at & run) == 0 ? before(y, x) : before(x, y)) {
                    list[at] = y;
                    list[other] = x;
                }
            }
            if (step > 32 || (step == 1 && run > 32))
                sync_block();
            else
                sync_warp();
        }
    sync_block();
}

/* Collects the candidates with logits of at least `least`, looking only where a warp of the grid found such a first one. Returns how many
 * there are: more than ${list} if they do not fit, or if that many equal it. */
DEVICE int collect(struct candidate *list, unsigned *counter, const float *work, const struct candidate *firsts, int nfirsts,
                   double least, int vocab)
{
    sync_block();
    if (tid() == 0)
        *counter = 0;
    sync_block();
    for (int base = warp() * 32; base < nfirsts; base += ${threads}) {
        const unsigned found = ballot(base + lane() < nfirsts && (double)firsts[base + lane()].logit >= least);
        for (int bit = 0; bit < 32; bit++) {
            if (!(found >> bit & 1))
                continue;
            const int block = (base + bit) / ${wp}, first = (base + bit) % ${wp} * 32 + lane();
            for (int from = block * ${span}; from < vocab; from += nbid_x() * ${span}) {
                float x[${each}];
                UNROLL
                for (int j = 0; j < ${each}; j++) {
                    const int i = first + j * ${threads};
                    x[j] = i < ${span} && from + i < vocab ? ld_l2_f(&work[from + i]) : NEG_INF;
                }
                UNROLL
                for (int j = 0; j < ${each}; j++) {
                    const int i = first + j * ${threads};
                    if (i >= ${span} || from + i >= vocab || (double)x[j] < least)
                        continue;
                    const struct candidate c = {x[j], from + i};
                    const unsigned at = atomic_add_u(counter, 1);
                    if (at < ${list})
                        list[at] = c;
                }
            }
        }
    }
    sync_block();
    return (int)*counter;
}

/* The top_k'th of the firsts, or of the firsts of groups of them, which sort faster: nothing behind it is wanted. list: room. */
DEVICE double least_of_top(struct candidate *list, const struct candidate *firsts, int nfirsts, int top_k)
{
    const int n = top_k <= ${groups // 4} ? min_i(nfirsts, ${groups}) : nfirsts;
    if (top_k > n)
        return (double)NEG_INF;
    for (int i = tid(); i < n; i += ${threads}) {
        struct candidate best = firsts[i];
        for (int j = i + n; j < nfirsts; j += n)
            if (before(firsts[j], best))
                best = firsts[j];
        list[i] = best;
    }
    sort_list(list, n);
    return (double)list[top_k - 1].logit;
}

/* Uniform in [0, 1): splitmix64, as runtime/sampler.c has it. */
DEVICE double draw(u64 x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (double)((x ^ x >> 31) >> 11) * 1.1102230246251565e-16;
}

/* What comes after top-k, with the n candidates in order in `list`: top-p (`all`: the sum over those that it counts, negative: those of
 * the list), min-p, the draw. Sums run in the order of sampler.c, by one thread. weight [n] is room, ends [2] too. */
DEVICE int pick_of_list(const struct candidate *list, int n, double all, struct sample_state *state, double *weight, int *ends)
{
    const double best = (double)list[0].logit, least = best + state->log_min_p, top_p = state->top_p,
                 temperature = state->temperature;
    for (int i = tid(); i < n; i += ${threads})
        weight[i] = exp_d((double)list[i].logit - best);
    sync_block();
    if (tid() == 0) {
        double sum = 0.0;
        for (int i = 0; i < n; i++) {
            sum += weight[i];
            weight[i] = sum;
        }
        ends[0] = ends[1] = n;
    }
    sync_block();
    if (all < 0.0)
        all = weight[n - 1];
    for (int i = 1 + tid(); i < n; i += ${threads}) { /* behind the last that min-p leaves, behind the one that top-p ends with */
        if ((double)list[i].logit < least && (double)list[i - 1].logit >= least)
            ends[0] = i;
        if (top_p < 1.0 && weight[i - 1] >= top_p * all && (i == 1 || weight[i - 2] < top_p * all))
            ends[1] = i;
    }
    sync_block();
    n = min_i(ends[0], ends[1]);
    for (int i = tid(); i < n; i += ${threads})
        weight[i] = exp_d(((double)list[i].logit - best) / temperature);
    sync_block();
    int id = list[0].id; /* where rounding takes the draw past the last one */
    if (tid() == 0) {
        double sum = 0.0;
        for (int i = 0; i < n; i++)
            sum += weight[i];
        state->random += 0x9e3779b97f4a7c15ull;
        double left = draw(state->random) * sum;
        for (int i = 0; i < n; i++) {
            left -= weight[i];
            if (left < 0.0) {
                id = list[i].id;
                break;
            }
        }
    }
    return id;
}

/* Where more candidates are left than the list holds. A candidate's rank is a whole number, larger for an earlier one. */
DEVICE u64 rank_of(float logit, int id)
{
    const unsigned bits = float_bits(logit == 0.0f ? 0.0f : logit); /* both zeros are equal */
    const unsigned order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (u64)order << 32 | (unsigned)~id;
}

/* Of the candidates with a rank of at least `from` and a logit of at least `least`: the sum of exp((logit - best) / temperature), or
 * with temperature 0 their number. */
DEVICE double weigh(const float *work, int vocab, u64 from, double least, double best, double temperature, double *room)
{
    double sum = 0.0;
    for (int i = tid(); i < vocab; i += ${threads}) {
        const float logit = ld_l2_f(&work[i]);
        if (rank_of(logit, i) >= from && (double)logit >= least)
            sum += temperature == 0.0 ? 1.0 : exp_d(((double)logit - best) / temperature);
    }
    return sum_of_block(sum, room);
}

/* The highest rank such that those from it on weigh at least `wanted` (more than it, with `more`). */
DEVICE u64 find_rank(const float *work, int vocab, u64 lowest, double least, double best, double temperature, double wanted, bool more,
                     double *room)
{
    u64 rank = 0;
    for (int bit = 63; bit >= 0; bit--) {
        const u64 higher = rank | (u64)1 << bit;
        const double weight = weigh(work, vocab, higher > lowest ? higher : lowest, least, best, temperature, room);
        if (more ? weight > wanted : weight >= wanted)
            rank = higher;
    }
    return rank > lowest ? rank : lowest;
}

/* The same steps by bisection over ranks, for distributions as wide as the vocabulary. */
DEVICE int pick_of_all(const float *work, int vocab, double best, struct sample_state *state, double *room)
{
    const double least = best + state->log_min_p, top_p = state->top_p;
    const int top_k = state->top_k;
    u64 lowest = 0;
    if (top_k > 0 && top_k < vocab)
        lowest = find_rank(work, vocab, 0, (double)NEG_INF, best, 0.0, (double)top_k, false, room);
    if (top_p < 1.0) {
        const double all = weigh(work, vocab, lowest, (double)NEG_INF, best, 1.0, room);
        if (weigh(work, vocab, lowest, least, best, 1.0, room) >= top_p * all)
            lowest = find_rank(work, vocab, lowest, least, best, 1.0, top_p * all, false, room);
    }
    const double sum = weigh(work, vocab, lowest, least, best, state->temperature, room);
    const u64 random = state->random + 0x9e3779b97f4a7c15ull;
    sync_block();
    if (tid() == 0)
        state->random = random;
    const u64 rank = find_rank(work, vocab, lowest, least, best, state->temperature, draw(random) * sum, true, room);
    return (int)~(unsigned)rank;
}

/* Picks the next token, and enters it among the recent ones.
 *   token   written       logits [vocab] fp32       state, recent [state->repeat_last]: of the stream, kept up to date
 *   work    fp32 [2 * vocab + 8192], scratch
 * NaN counts as minus infinity, of equal logits the lowest id comes first. Any grid of at most ${list // wp} blocks; the last one to
 * arrive does what needs all logits. */
KERNEL(${name}, ${threads}, ${min_blocks})
(int *token, const float *logits, struct sample_state *state, int *recent, float *work, int vocab)
{
    int *count = (int *)smem();                                  /* [${span}], then */
    struct candidate *list = (struct candidate *)smem();         /* [${list}] */
    double *weight = (double *)(smem() + ${8 * list});            /* [${list}], and two integers */
    unsigned *counter = (unsigned *)(smem() + ${16 * list + 8});
    struct candidate *left = (struct candidate *)(work + vocab + (vocab & 1)); /* [blocks][${wp}], by all blocks */
    struct candidate *firsts = (struct candidate *)weight;       /* the same, [nfirsts], where all are read */
    const int nfirsts = nbid_x() * ${wp};
    grid_launch_next();
    grid_wait();
    penalise(work, left, logits, state, recent, count, vocab);
    fence_device();
    sync_block();
    if (tid() == 0)
        *counter = atomic_add_u(&state->arrived, 1) == (unsigned)nbid_x() - 1;
    sync_block();
    if (!*counter)
        return;
    fence_device();
    struct candidate best = {NEG_INF, 0x7fffffff};
    for (int i = tid(); i < nfirsts; i += ${threads}) {
        const struct candidate c = {ld_l2_f(&left[i].logit), (int)float_bits(ld_l2_f((const float *)&left[i].id))};
        firsts[i] = c;
        if (before(c, best))
            best = c;
    }
    best = first_of_block(best, list);

    int id = best.id;
    const int top_k = state->top_k;
    if (state->temperature != 0.0 && top_k != 1 && best.logit != NEG_INF && best.logit != -NEG_INF) {
        const bool some = top_k > 0 && top_k < vocab;
        const double least =
            some ? least_of_top(list, firsts, nfirsts, top_k) : (double)best.logit + state->log_min_p;
        const int n = collect(list, counter, work, firsts, nfirsts, least, vocab);
        if (n > ${list}) {
            id = pick_of_all(work, vocab, (double)best.logit, state, weight);
        } else {
            double all = -1.0; /* those of the list */
            if (!some && state->top_p < 1.0)
                all = weigh(work, vocab, 0, (double)NEG_INF, (double)best.logit, 1.0, weight);
            sort_list(list, n);
            id = pick_of_list(list, some ? top_k : n, all, state, weight, (int *)&weight[${list}]);
        }
    }
    if (tid() == 0) {
        *token = id;
        state->arrived = 0;
        if (state->repeat_last > 0) {
            recent[state->next] = id;
            state->next = state->next + 1 == state->repeat_last ? 0 : state->next + 1;
            state->nrecent = min_i(state->nrecent + 1, state->repeat_last);
        }
    }
}
