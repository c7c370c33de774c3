#ifndef WEIR_EMU_STAMP_H
#define WEIR_EMU_STAMP_H

/* When an access was: which thread of a block, in which epoch of its warp. */

#include "run.h"

enum { EPOCH_SHIFT = 11, MULTI_BIT = 1 << 10 }; /* stamp: epoch, "more lanes than this one", warp, lane */

static inline int stamp_thread(stamp s)
{
    return (int)(s & 0x3ff);
}

static inline stamp make_stamp(const struct run *r, int t)
{
    int w = t / WARP;
    return r->warp[w].clock[w] << EPOCH_SHIFT | (stamp)t;
}

/* Whether nothing orders thread t's access now after the access s of the same block. */
static inline bool unordered(const struct run *r, int t, stamp s)
{
    int w = t / WARP, v = stamp_thread(s) / WARP;
    uint32_t epoch = s >> EPOCH_SHIFT;
    if (v != w)
        return r->warp[w].clock[v] <= epoch;
    return epoch == r->warp[w].clock[w] && ((s & MULTI_BIT) || stamp_thread(s) != t);
}

#endif
