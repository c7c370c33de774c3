#ifndef WEIR_EMU_RUN_H
#define WEIR_EMU_RUN_H

/* Inside of the emulator: the launch that is running, its block, its warps and its threads. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emu.h"
#include "fiber.h"

enum { WARP = 32, MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP, MAX_BARRIERS = 16 };
enum { SMEM_MAX = 256 * 1024 }; /* bytes of shared memory that any GPU here has, rounded up */
enum { SMEM_GUARD = 1 << 20 };  /* on each side: addresses that can only be meant as shared memory */

/* What a thread waits for, with its operands; its warp's scheduler does the work when all lanes have arrived. */
enum wait {
    WAIT_NONE, /* runs, or can run */
    WAIT_EXIT, /* has ended */
    WAIT_SHFL,
    WAIT_SHFL_XOR,
    WAIT_SHFL_UP,
    WAIT_SHFL_DOWN,
    WAIT_ANY,
    WAIT_ALL,
    WAIT_BALLOT,
    WAIT_LDMATRIX,
    WAIT_MMA,
    WAIT_SYNC_WARP,
    WAIT_SYNC_BLOCK,
    WAIT_SYNC_NAMED,
    WAIT_ARRIVE_NAMED,
    WAIT_WGMMA,
    WAIT_WGMMA_WAIT,
};

struct copy { /* one cp.async under way */
    unsigned char *dst;
    unsigned char data[16];
    unsigned group;
};

struct thread {
    enum wait wait;
    const char *at;         /* "line 57" of the collective it waits in */
    unsigned value, result; /* shuffles and votes */
    int arg;                /* source lane, mask or distance; barrier number; number of 8x8 matrices */
    int arg2;               /* threads of a named barrier; 1: transposed; 1: bf16 */
    void *out;              /* c of mma and wgmma, r of ldmatrix: on the thread's own stack */
    const void *in, *in2;   /* a and b of mma, a of wgmma or NULL, row address of ldmatrix */
    uint64_t a_at, b_at;    /* wgmma: the descriptors of what is in shared memory */
    bool add;               /* wgmma: c += */
    struct copy *copies;    /* [ncopies], oldest group first */
    int ncopies, copies_cap;
    unsigned group; /* number of the group that the next cp.async joins */
};

struct warp {
    int lanes;  /* of a full warp: 32 */
    bool waits; /* at a barrier of the block */
    bool ended;
    /* Vector clock [MAX_WARPS]: clock[v] = first epoch of warp v that is not known to be over. clock[own] is the warp's current
     * epoch; it advances at sync_warp and at barriers. */
    uint32_t clock[MAX_WARPS];
};

struct barrier { /* a named one: who counted in without waiting */
    int threads;
    uint32_t clock[MAX_WARPS]; /* what they know, and have done */
};

/* Address and time of an access, for the race detector: epoch 22 bits, warp 5, lane 5. 0 is no access. */
typedef uint32_t stamp;

struct shared_cell {  /* two bytes of shared memory */
    stamp write;      /* last write */
    uint32_t readers; /* warps that read since; their stamps are in run.reads */
};

struct run {
    /* launch */
    const char *kernel;
    unsigned grid[3], threads, smem_bytes;
    int nwarps;
    enum emu_schedule schedule;
    uint64_t random;
    double seconds;        /* CPU time that a launch may take */
    volatile bool expired; /* it is over */
    void (*entry)(void **args);
    void **args;
    const unsigned char *code; /* loaded object: its constants may be read */
    size_t code_bytes;
    /* block */
    unsigned bid[3];
    uint32_t serial, launch_first; /* number of the block among all that ever ran; of the launch's first */
    struct warp warp[MAX_WARPS];
    struct thread thread[MAX_THREADS];
    int current; /* thread that runs, or -1 */
    bool opened; /* a barrier has just let its warps go on */
    struct barrier barrier[MAX_BARRIERS];
    uint32_t fences, fence_at[MAX_THREADS]; /* fence_async: how many there were; a thread's last one, 0 none */
    /* machine */
    struct fibers *fibers;
    const unsigned char *stacks;
    size_t stack_bytes;
    struct memory *memory;
    unsigned char *smem;           /* [SMEM_MAX] */
    unsigned char *smem_state;     /* [SMEM_MAX / 2] bits: 1, 2 byte written; 4 cp.async under way */
    struct shared_cell *smem_cell; /* [SMEM_MAX / 2] */
    uint32_t *smem_order;          /* [SMEM_MAX / 2] `fences` at the last write */
    stamp *reads;                  /* [SMEM_MAX / 2][nwarps] */
    size_t reads_cap;
    bool races; /* look for races and unwritten memory */
    /* result */
    bool failed;
    char message[480];
    const char *at; /* where in the kernel's text, or NULL and */
    const void *pc; /* where in its code, or NULL */
    struct emu_stats stats;
};

extern struct run *emu_run; /* the launch that is running, NULL between launches */

/* Runs all blocks. 0, or -1 with run->message. */
int run_grid(struct run *r);

/* Reports an error of the running thread and never returns to it. at: "line 57", or NULL and the code address pc. */
_Noreturn void run_fail(const char *at, const void *pc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same from the scheduler, for thread t (-1: none); it returns. */
void run_report(struct run *r, int t, const char *at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The running thread waits (its operands are in place) until its warp or block has arrived too. */
void run_wait(struct thread *t, enum wait wait, const char *at);
struct thread *run_thread(void);

/* warp.c: does the collective that all lanes of warp w wait in. -1 after run_report. */
int warp_perform(struct run *r, int w);
const char *wait_name(enum wait w);

/* wgmma.c: products of warpgroups. All four warps of warp w's group wait in one: -1 after run_report. */
void wgmma_begin_block(struct run *r);
int wgmma_perform(struct run *r, int w);
/* All lanes of warp w wait for groups of products; the warp's products that are over then are in their registers. */
int wgmma_wait(struct run *r, int w);
/* Whether warp w has products under way. */
bool wgmma_under_way(int w);

/* shadow.c: what each byte of shared and device memory has been through. */
enum access { READ = 0, WRITE = 1, ATOMIC = 2 };
struct place { /* where the access stands in the code */
    const char *at;
    const void *pc;
};
void shadow_begin_block(struct run *r);
/* Checks an access of the running thread (thread t for shadow_shared) and records it; fails the run if it is wrong. */
void shadow_access(const void *p, size_t bytes, enum access kind, struct place where);
/* The same for the row that lane t of a warp collective reads; -1 after run_report. */
int shadow_read_row(struct run *r, int t, const void *p, size_t bytes, const char *at);
/* The same for 16 bytes that a product of a warpgroup reads: those who wrote them have fenced. */
int shadow_read_async(struct run *r, int t, const void *p, const char *at);
/* A cp.async to 16 bytes of shared memory begins, or has been waited for. */
void shadow_copy_begin(void *p, struct place where);
void shadow_copy_end(void *p);
/* Clocks of the warps in the set (bit w) have met at a barrier. */
void shadow_join(struct run *r, uint32_t warps);

/* order.c: which accesses of other blocks of the launch a thread may follow. */
void order_begin_launch(void);
void order_begin_block(void);
/* Thread t of the running block fences, or does an atomic in device memory; -1 when memory is out. */
void order_fence(struct run *r, int t);
int order_atomic(struct run *r, int t);
/* Whether thread t sees what other blocks have published; and so that access s of the block with this number. */
bool order_acquired(const struct run *r, int t);
bool order_sees(const struct run *r, int t, uint32_t serial, stamp s);

#endif
