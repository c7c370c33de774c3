#include <stdlib.h>
#include <string.h>

#include "stamp.h"

/* What orders accesses of blocks of one launch: in the writer's block a fence behind the write and an atomic behind the fence, in the
 * reader's an atomic, and behind it a fence before the read. "Behind" is the same thread's order, or barriers of the block. Which
 * counter it is that blocks meet at is not looked at: blocks run one after another, so a later one has seen all that were published. Of
 * blocks that read the same bytes only the last is remembered, so a fence that one of the others lacks is not missed. */

struct known {                 /* accesses of a block that a fence covers */
    uint32_t clock[MAX_WARPS]; /* those of warp v in epochs before clock[v], */
    uint32_t own[MAX_THREADS]; /* and those of thread t in epochs before own[t] */
};

struct published {
    uint32_t serial; /* of the block */
    struct known known;
};

static struct {
    struct published *at; /* [count] of the running launch, by serial; kept for the next one */
    size_t count, cap;
    /* of the running block */
    bool fenced[MAX_THREADS];
    stamp fence[MAX_THREADS];               /* a thread's last fence, */
    uint32_t clock[MAX_THREADS][MAX_WARPS]; /* and its warp's clock then */
    stamp met;                              /* the last atomic, 0 none */
    uint32_t seen[MAX_THREADS];             /* 1 + epoch of a thread's first fence behind it, 0 none */
    stamp acquired;                         /* the first of these */
} o;

void order_begin_launch(void)
{
    o.count = 0;
}

void order_begin_block(void)
{
    memset(o.fenced, 0, sizeof o.fenced);
    memset(o.seen, 0, sizeof o.seen);
    o.met = o.acquired = 0;
}

void order_fence(struct run *r, int t)
{
    o.fenced[t] = true;
    o.fence[t] = make_stamp(r, t);
    memcpy(o.clock[t], r->warp[t / WARP].clock, sizeof o.clock[t]);
    if (!o.met || unordered(r, t, o.met))
        return;
    if (!o.seen[t])
        o.seen[t] = 1 + (o.fence[t] >> EPOCH_SHIFT);
    if (!o.acquired)
        o.acquired = o.fence[t];
}

static struct known *known_of(uint32_t serial)
{
    for (size_t lo = 0, hi = o.count; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        if (o.at[mid].serial == serial)
            return &o.at[mid].known;
        if (o.at[mid].serial < serial)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

int order_atomic(struct run *r, int t)
{
    struct known *k = known_of(r->serial);
    o.met = make_stamp(r, t);
    if (!k) {
        if (o.count == o.cap) {
            size_t cap = o.cap ? 2 * o.cap : 64;
            struct published *grown = realloc(o.at, cap * sizeof *grown);
            if (!grown)
                return -1;
            o.at = grown;
            o.cap = cap;
        }
        o.at[o.count] = (struct published){.serial = r->serial};
        k = &o.at[o.count++].known;
    }
    for (int s = 0; s < (int)r->threads; s++) {
        if (!o.fenced[s] || unordered(r, t, o.fence[s]))
            continue;
        uint32_t own = 1 + (o.fence[s] >> EPOCH_SHIFT);
        k->own[s] = own > k->own[s] ? own : k->own[s];
        for (int w = 0; w < r->nwarps; w++)
            k->clock[w] = o.clock[s][w] > k->clock[w] ? o.clock[s][w] : k->clock[w];
    }
    return 0;
}

bool order_acquired(const struct run *r, int t)
{
    return o.seen[t] || (o.acquired && !unordered(r, t, o.acquired));
}

bool order_sees(const struct run *r, int t, uint32_t serial, stamp s)
{
    int thread = stamp_thread(s);
    uint32_t epoch = s >> EPOCH_SHIFT;
    const struct known *k = known_of(serial);
    return order_acquired(r, t) && k &&
           (epoch < k->clock[thread / WARP] || (!(s & MULTI_BIT) && epoch < k->own[thread]));
}
