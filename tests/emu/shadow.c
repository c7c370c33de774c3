#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "stamp.h"

/* The history of memory, two bytes at a time. An access is ordered after an earlier one when the barriers between them say so
 * (vector clocks, one entry a warp; lanes of one warp are ordered by sync_warp and by barriers only: shuffles, votes and mma
 * order no memory). Every kernel access comes through here, so this is the emulator's hottest code. */

enum { BYTES_WRITTEN = 3, COPY_UNDER_WAY = 4 };
static const uint64_t FLAG = (uint64_t)1 << 63;

static char problem[320]; /* what check() found */

static bool found(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool found(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(problem, sizeof problem, fmt, ap);
    va_end(ap);
    return false;
}

void shadow_join(struct run *r, uint32_t warps)
{
    uint32_t joined[MAX_WARPS] = {0};
    for (int w = 0; w < r->nwarps; w++)
        if (warps >> w & 1) {
            r->warp[w].clock[w]++;
            for (int v = 0; v < r->nwarps; v++)
                joined[v] = r->warp[w].clock[v] > joined[v] ? r->warp[w].clock[v] : joined[v];
        }
    for (int w = 0; w < r->nwarps; w++)
        if (warps >> w & 1)
            memcpy(r->warp[w].clock, joined, sizeof joined);
}

void shadow_begin_block(struct run *r)
{
    size_t cells = (r->smem_bytes + 1) / 2;
    memset(r->smem, 0xff, r->smem_bytes);
    memset(r->smem_state, 0, cells);
    memset(r->smem_cell, 0, cells * sizeof *r->smem_cell);
}

static const char *verb(enum access kind)
{
    return kind == READ ? "reads" : kind == WRITE ? "writes" : "adds to";
}

static bool check_shared_cell(struct run *r, int t, size_t i, enum access kind)
{
    struct shared_cell *c = &r->smem_cell[i];
    int w = t / WARP;
    stamp now = make_stamp(r, t);
    bool both_atomic =
        kind == ATOMIC && (c->write & MULTI_BIT); /* in a write's stamp the bit says that it was an atomic's */
    if (c->write && !both_atomic && unordered(r, t, c->write & ~(stamp)MULTI_BIT))
        return found("race: %s byte %zu of shared memory, which thread %d writes with no barrier between them",
                     verb(kind), 2 * i, stamp_thread(c->write));
    stamp *reads = &r->reads[i * (size_t)r->nwarps];
    if (kind == READ) {
        stamp old = c->readers >> w & 1 ? reads[w] : 0;
        bool same_epoch = old >> EPOCH_SHIFT == now >> EPOCH_SHIFT;
        if (same_epoch && ((old & MULTI_BIT) || stamp_thread(old) != t))
            now |= MULTI_BIT;
        reads[w] = now;
        c->readers |= 1u << w;
        return true;
    }
    for (uint32_t left = c->readers; left; left &= left - 1) {
        stamp s = reads[__builtin_ctz(left)];
        if (unordered(r, t, s))
            return found("race: %s byte %zu of shared memory, which thread %d reads with no barrier between them",
                         verb(kind), 2 * i, stamp_thread(s));
    }
    c->write = kind == ATOMIC ? now | MULTI_BIT : now;
    c->readers = 0;
    r->smem_order[i] = r->fences;
    return true;
}

static bool check_shared(struct run *r, int t, size_t offset, size_t bytes, enum access kind)
{
    if (offset > r->smem_bytes || bytes > r->smem_bytes - offset)
        return found("%s %zu bytes at byte %td of shared memory, which has %u", verb(kind), bytes, (ptrdiff_t)offset,
                     r->smem_bytes);
    for (size_t i = offset / 2; 2 * i < offset + bytes; i++) {
        unsigned touched = bytes > 1 ? BYTES_WRITTEN : 1u << offset % 2;
        unsigned char *state = &r->smem_state[i];
        if (*state & COPY_UNDER_WAY)
            return found(
                "%s byte %zu of shared memory while a cp.async to it is under way that its thread has not waited for",
                verb(kind), 2 * i);
        if (!r->races)
            continue;
        if (kind == WRITE)
            *state |= (unsigned char)touched;
        else if ((*state & touched) != touched)
            return found("%s byte %zu of shared memory, which nobody has written", verb(kind), 2 * i);
        if (bytes > 1 && !check_shared_cell(r, t, i, kind))
            return false;
    }
    return true;
}

/* Two accesses of blocks of one launch may follow each other only over fences and an atomic; within a block, over a barrier. */
static bool check_global_cell(struct run *r, int t, struct allocation *a, size_t i, enum access kind)
{
    struct global_cell *c = &a->cell[i];
    uint32_t wrote = (uint32_t)(c->write >> 32) & 0x7fffffff, read = (uint32_t)(c->read >> 32) & 0x7fffffff;
    bool both_atomic = kind == ATOMIC && (c->write & FLAG);
    if (wrote >= r->launch_first && !both_atomic) {
        if (wrote != r->serial && !order_sees(r, t, wrote, (stamp)c->write))
            return found(
                "race: %s byte %zu of device memory (%zu bytes), which another block of this launch writes; no "
                "fences and atomic are between them",
                verb(kind), 2 * i, a->bytes);
        if (wrote == r->serial && unordered(r, t, (stamp)c->write))
            return found(
                "race: %s byte %zu of device memory (%zu bytes), which thread %d writes with no barrier between them",
                verb(kind), 2 * i, a->bytes, stamp_thread((stamp)c->write));
    }
    uint64_t now = (uint64_t)r->serial << 32 | make_stamp(r, t);
    if (kind == READ) {
        if (read == r->serial && (stamp)(c->read) >> EPOCH_SHIFT == (stamp)now >> EPOCH_SHIFT &&
            ((c->read & MULTI_BIT) || stamp_thread((stamp)c->read) != t) &&
            stamp_thread((stamp)c->read) / WARP == t / WARP)
            now |= MULTI_BIT;
        if (read >= r->launch_first && (read != r->serial || (c->read & FLAG)))
            now |= FLAG;
        c->read = now;
        return true;
    }
    if (read >= r->launch_first) {
        if (read != r->serial && !order_sees(r, t, read, (stamp)c->read))
            return found("race: %s byte %zu of device memory (%zu bytes), which another block of this launch reads; no "
                         "fences and atomic are between them",
                         verb(kind), 2 * i, a->bytes);
        if (read == r->serial && (c->read & FLAG) && !order_acquired(r, t))
            return found("race: %s byte %zu of device memory (%zu bytes), which another block of this launch reads",
                         verb(kind), 2 * i, a->bytes);
        if (read == r->serial && unordered(r, t, (stamp)c->read))
            return found(
                "race: %s byte %zu of device memory (%zu bytes), which thread %d reads with no barrier between them",
                verb(kind), 2 * i, a->bytes, stamp_thread((stamp)c->read));
    }
    c->write = now | (kind == ATOMIC ? FLAG : 0);
    c->read = 0;
    return true;
}

static bool check_global(struct run *r, int t, const unsigned char *p, size_t bytes, enum access kind)
{
    struct allocation *a = memory_find(r->memory, p);
    size_t offset = a ? (size_t)(p - a->base) : 0;
    if (!a)
        return found("%s %zu bytes at %p, where no device memory is", verb(kind), bytes, (const void *)p);
    if (!a->live)
        return found("%s %zu bytes at byte %zu of device memory that has been released (%zu bytes)", verb(kind), bytes,
                     offset, a->bytes);
    if (offset > a->bytes || bytes > a->bytes - offset)
        return found("%s %zu bytes at byte %zu of device memory, an allocation of %zu", verb(kind), bytes, offset,
                     a->bytes);
    if (!r->races)
        return true;
    /* Accesses are aligned to their size, so their bits lie in one byte, or are all of two. */
    unsigned char bits = bytes < 8 ? (unsigned char)(((1u << bytes) - 1) << offset % 8) : 0xff;
    for (unsigned char *w = &a->written[offset / 8]; w <= &a->written[(offset + bytes - 1) / 8]; w++) {
        if (kind == WRITE)
            *w |= bits;
        else if ((*w & bits) != bits)
            return found("%s byte %zu of device memory (%zu bytes), which nobody has written", verb(kind),
                         (size_t)(w - a->written) * 8 + (size_t)__builtin_ctz((unsigned)~*w & bits), a->bytes);
    }
    if (bytes > 1)
        for (size_t i = offset / 2; 2 * i < offset + bytes; i++)
            if (!check_global_cell(r, t, a, i, kind))
                return false;
    return true;
}

static inline bool near_shared(const struct run *r, const void *p)
{
    return (uintptr_t)p - (uintptr_t)r->smem + SMEM_GUARD < SMEM_MAX + 2 * (size_t)SMEM_GUARD;
}

static bool check(struct run *r, int t, const void *p, size_t bytes, enum access kind)
{
    bool shared = near_shared(r, p);
    if (!shared && !memory_owns(r->memory, p)) {
        if ((uintptr_t)p - (uintptr_t)r->stacks < r->stack_bytes ||
            (kind == READ && (uintptr_t)p - (uintptr_t)r->code < r->code_bytes))
            return true;
        return found("%s %zu bytes at %p, which is no address of the device", verb(kind), bytes, p);
    }
    if ((uintptr_t)p & (bytes - 1))
        return found("%s %zu bytes at %p, which is not a multiple of %zu", verb(kind), bytes, p, bytes);
    return shared ? check_shared(r, t, (size_t)((const unsigned char *)p - r->smem), bytes, kind)
                  : check_global(r, t, p, bytes, kind);
}

void shadow_access(const void *p, size_t bytes, enum access kind, struct place where)
{
    struct run *r = emu_run;
    if (r->expired)
        run_fail(where.at, where.pc, "the launch does not end within %g s", r->seconds);
    if (!check(r, r->current, p, bytes, kind))
        run_fail(where.at, where.pc, "%s", problem);
    if (kind == ATOMIC && r->races && !near_shared(r, p) && order_atomic(r, r->current) != 0)
        run_fail(where.at, where.pc, "the emulator is out of memory (atomics between blocks)");
}

int shadow_read_row(struct run *r, int t, const void *p, size_t bytes, const char *at)
{
    if (!near_shared(r, p))
        run_report(r, t, at, "reads a row at %p, which is not in shared memory", p);
    else if (!check(r, t, p, bytes, READ))
        run_report(r, t, at, "%s", problem);
    return r->failed ? -1 : 0;
}

int shadow_read_async(struct run *r, int t, const void *p, const char *at)
{
    if (shadow_read_row(r, t, p, 16, at) != 0)
        return -1;
    size_t first = (size_t)((const unsigned char *)p - r->smem) / 2;
    for (size_t i = first; r->races && i < first + 8; i++) {
        int writer = stamp_thread(r->smem_cell[i].write & ~(stamp)MULTI_BIT);
        if (r->fence_at[writer] <= r->smem_order[i]) {
            run_report(r, t, at,
                       "a product reads byte %zu of shared memory, which thread %d wrote with no fence_async behind it",
                       2 * i, writer);
            return -1;
        }
    }
    return 0;
}

void shadow_copy_begin(void *p, struct place where)
{
    struct run *r = emu_run;
    if (!near_shared(r, p))
        run_fail(where.at, where.pc, "copies to %p, which is not in shared memory", p);
    shadow_access(p, 16, WRITE, where);
    memset(&r->smem_state[((unsigned char *)p - r->smem) / 2], COPY_UNDER_WAY, 8);
    memset(p, 0xff, 16);
}

void shadow_copy_end(void *p)
{
    struct run *r = emu_run;
    size_t i = (size_t)((unsigned char *)p - r->smem) / 2;
    memset(&r->smem_state[i], BYTES_WRITTEN, 8);
    for (int k = 0; k < 8; k++) {
        r->smem_cell[i + (size_t)k].write = make_stamp(r, r->current);
        r->smem_cell[i + (size_t)k].readers = 0;
        r->smem_order[i + (size_t)k] = r->fences;
    }
}
