#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "memory.h"
#include "run.h"

const unsigned char *emu_stack_lo;
unsigned long emu_stack_bytes;

int emu_tid(void)
{
    return emu_run->current;
}

int emu_bid(int axis)
{
    return (int)emu_run->bid[axis];
}

int emu_nbid(int axis)
{
    return (int)emu_run->grid[axis];
}

unsigned char *emu_smem(void)
{
    return emu_run->smem;
}

void emu_sync_block(const char *at)
{
    run_wait(run_thread(), WAIT_SYNC_BLOCK, at);
}

void emu_sync_warp(const char *at)
{
    run_wait(run_thread(), WAIT_SYNC_WARP, at);
}

static void meet(enum wait wait, int id, int threads, const char *at)
{
    struct thread *t = run_thread();
    if (id < 1 || id >= MAX_BARRIERS || threads <= 0 || threads % WARP != 0)
        run_fail(at, NULL, "%s(%d, %d): the barrier must be 1 to %d, its threads whole warps", wait_name(wait), id,
                 threads, MAX_BARRIERS - 1);
    t->arg = id;
    t->arg2 = threads;
    run_wait(t, wait, at);
}

void emu_sync_named(int id, int threads, const char *at)
{
    meet(WAIT_SYNC_NAMED, id, threads, at);
}

void emu_arrive_named(int id, int threads, const char *at)
{
    meet(WAIT_ARRIVE_NAMED, id, threads, at);
}

void emu_fence_async(void)
{
    struct run *r = emu_run;
    r->fence_at[r->current] = ++r->fences;
}

static unsigned exchange(enum wait wait, unsigned v, int arg, const char *at)
{
    struct thread *t = run_thread();
    t->value = v;
    t->arg = arg;
    run_wait(t, wait, at);
    return t->result;
}

unsigned emu_shfl(unsigned v, int from, const char *at)
{
    return exchange(WAIT_SHFL, v, from, at);
}

unsigned emu_shfl_xor(unsigned v, int mask, const char *at)
{
    return exchange(WAIT_SHFL_XOR, v, mask, at);
}

unsigned emu_shfl_up(unsigned v, int by, const char *at)
{
    return exchange(WAIT_SHFL_UP, v, by, at);
}

unsigned emu_shfl_down(unsigned v, int by, const char *at)
{
    return exchange(WAIT_SHFL_DOWN, v, by, at);
}

bool emu_any(bool p, const char *at)
{
    return exchange(WAIT_ANY, p, 0, at) != 0;
}

bool emu_all(bool p, const char *at)
{
    return exchange(WAIT_ALL, p, 0, at) != 0;
}

unsigned emu_ballot(bool p, const char *at)
{
    return exchange(WAIT_BALLOT, p, 0, at);
}

static void check_space(const void *p, int space, const char *at)
{
    struct run *r = emu_run;
    bool global = memory_owns(r->memory, p);
    if (space == EMU_GLOBAL && !global)
        run_fail(at, NULL, "uses %p as device memory, which it is not", p);
    if (space == EMU_SHARED && (uintptr_t)p - (uintptr_t)r->smem >= SMEM_MAX)
        run_fail(at, NULL, "uses %p as shared memory, which it is not (it begins at %p)", p, (void *)r->smem);
}

static void checked_access(const void *p, size_t bytes, enum access kind, int space, const char *at)
{
    check_space(p, space, at);
    shadow_access(p, bytes, kind, (struct place){.at = at});
}

struct emu_u4 emu_ld16(const void *p, int space, const char *at)
{
    struct emu_u4 v;
    checked_access(p, sizeof v, READ, space, at);
    memcpy(&v, p, sizeof v);
    return v;
}

void emu_st16(void *p, struct emu_u4 v, int space, const char *at)
{
    checked_access(p, sizeof v, WRITE, space, at);
    memcpy(p, &v, sizeof v);
}

float emu_ld_f(const float *p, int space, const char *at)
{
    checked_access(p, sizeof *p, READ, space, at);
    return *p;
}

/* The bytes are fetched now and put down when their group is waited for; until then the place is poisoned, and touching it is
 * an error. */
void emu_cp_async16(void *shared, const void *global, int bytes, const char *at)
{
    struct thread *t = run_thread();
    if (bytes < 0 || bytes > 16)
        run_fail(at, NULL, "copies %d bytes of 16", bytes);
    if (t->ncopies == t->copies_cap) {
        int cap = t->copies_cap ? 2 * t->copies_cap : 16;
        struct copy *copies = realloc(t->copies, (size_t)cap * sizeof *copies);
        if (!copies)
            run_fail(at, NULL, "the emulator is out of memory (%d copies under way)", cap);
        t->copies = copies;
        t->copies_cap = cap;
    }
    struct copy *c = &t->copies[t->ncopies];
    c->dst = shared;
    c->group = t->group;
    memset(c->data, 0, sizeof c->data);
    if (bytes > 0) {
        if ((uintptr_t)global % 16 != 0)
            run_fail(at, NULL, "copies from %p, which is not aligned to 16 bytes", global);
        /* Accesses that are checked have sizes that are powers of two. */
        if (bytes == 16)
            checked_access(global, 16, READ, EMU_GLOBAL, at);
        else
            for (int i = 0; i < bytes; i++)
                checked_access((const unsigned char *)global + i, 1, READ, EMU_GLOBAL, at);
        memcpy(c->data, global, (size_t)bytes);
    }
    shadow_copy_begin(shared, (struct place){.at = at});
    t->ncopies++;
}

void emu_cp_async_commit(void)
{
    run_thread()->group++;
}

void emu_cp_async_wait(int n, const char *at)
{
    struct thread *t = run_thread();
    int done = 0;
    if (n < 0)
        run_fail(at, NULL, "cp_async_wait(%d)", n);
    while (done < t->ncopies && t->copies[done].group + (unsigned)n < t->group) {
        memcpy(t->copies[done].dst, t->copies[done].data, sizeof t->copies[done].data);
        shadow_copy_end(t->copies[done].dst);
        done++;
    }
    if (done == 0) /* a thread that has copied nothing has no array */
        return;
    t->ncopies -= done;
    memmove(t->copies, t->copies + done, (size_t)t->ncopies * sizeof *t->copies);
}

void emu_ldmatrix(unsigned *r, const void *row, int matrices, int trans, const char *at)
{
    struct thread *t = run_thread();
    t->out = r;
    t->in = row;
    t->arg = matrices;
    t->arg2 = trans;
    run_wait(t, WAIT_LDMATRIX, at);
}

void emu_mma(float *c, const unsigned *a, const unsigned *b, int bf16, const char *at)
{
    struct thread *t = run_thread();
    t->out = c;
    t->in = a;
    t->in2 = b;
    t->arg2 = bf16;
    run_wait(t, WAIT_MMA, at);
}

unsigned emu_atomic_add_u(unsigned *p, unsigned v, const char *at)
{
    checked_access(p, sizeof *p, ATOMIC, EMU_ANY, at);
    unsigned old = *p;
    *p = old + v;
    return old;
}

void emu_fence_device(void)
{
    order_fence(emu_run, emu_run->current);
}

unsigned emu_atomic_meet_u(unsigned *p, unsigned v, const char *at)
{
    emu_fence_device();
    unsigned old = emu_atomic_add_u(p, v, at);
    emu_fence_device();
    return old;
}

float emu_fp16_to_float(unsigned short h)
{
    return fp16_to_float(h);
}

unsigned short emu_float_to_fp16(float v)
{
    return float_to_fp16(v);
}

float emu_bf16_to_float(unsigned short h)
{
    return bf16_to_float(h);
}

unsigned short emu_float_to_bf16(float v)
{
    return float_to_bf16(v);
}

void emu_read(const void *p, unsigned long bytes, const void *pc)
{
    shadow_access(p, bytes, READ, (struct place){.pc = pc});
}

void emu_write(const void *p, unsigned long bytes, const void *pc)
{
    shadow_access(p, bytes, WRITE, (struct place){.pc = pc});
}

void emu_fault(const char *what, unsigned line)
{
    static char at[32];
    snprintf(at, sizeof at, "line %u", line);
    run_fail(at, NULL, "%s", what);
}
