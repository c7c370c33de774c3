#ifndef WEIR_EMU_H
#define WEIR_EMU_H

/* The emulator: a struct device that runs the generated source on the CPU, one fiber per CUDA thread (design 8.2).
 *
 * The text (only its prelude block exchanged for the host's, gen_host_text) is compiled by the system's C compiler with every
 * memory access instrumented, so that plain C pointers are seen like the prelude's own loads and stores. What it reports, as
 * the error of launch(), naming kernel, block, thread and source line:
 *   - shared or device memory accessed out of bounds, misaligned, after release, or read before anything was written to it;
 *   - two accesses to the same bytes, one of them a write, with no barrier that orders them (shared memory: exact; device
 *     memory: within a block, and between blocks of one launch that no fences and atomic order);
 *   - shared memory touched while a cp.async that nobody waited for is under way to it;
 *   - lanes of a warp at different collectives, barriers that some threads never reach, threads that have exited;
 *   - wild pointers, divisions by zero, array indices and shifts out of range, kernels that never end.
 * Fresh device memory and shared memory hold 0xff bytes (NaN in every float type, -1 as an integer). */

#include <stdbool.h>
#include <stdint.h>

#include "../../runtime/device.h"

/* In which order blocks and, between two barriers, warps and lanes run. */
enum emu_schedule { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };

struct emu_options {
    enum emu_schedule schedule;
    uint64_t seed;           /* of EMU_RANDOM */
    const char *cache;       /* folder of compiled objects; NULL: $WEIR_EMU_CACHE, else build/emu-cache */
    const char *cc;          /* C compiler; NULL: $CC, else cc */
    int sm;                  /* reported compute capability; 0: 80 */
    unsigned smem_per_block; /* bytes; 0: what that capability has */
    double seconds;          /* a launch that runs longer is an error; 0: 120 */
    bool only_faults;        /* leave out races and reads of unwritten memory (faster) */
    bool ucontext;           /* switch fibers by swapcontext, as CPUs other than x86-64 do */
};

/* Opens the emulator; o may be NULL. One launch at a time in a process. Close with dev->close. */
int device_emu_open(struct device *dev, const struct emu_options *o, struct err *err);

/* Changes the order for the launches that follow. */
void emu_set_schedule(struct device *dev, enum emu_schedule schedule, uint64_t seed);

/* Plants an error: in every text of `kernel` (the beginning of the symbol) that is loaded from now on, the n-th occurrence (from
 * 0) of `from` behind the prelude becomes `to`. from NULL ends it. The strings must outlive it. */
void emu_plant(struct device *dev, const char *kernel, const char *from, int n, const char *to);

/* Counts since the device was opened. */
struct emu_stats {
    uint64_t launches, blocks;
    uint64_t planted;            /* texts that were loaded with an error planted */
    uint64_t collectives;        /* of a warp, barriers included */
    uint64_t ldmatrix_rows;      /* groups of eight 16-byte rows that ldmatrix read... */
    uint64_t ldmatrix_conflicts; /* ...and the extra shared-memory passes that bank conflicts cost them */
};
struct emu_stats emu_get_stats(const struct device *dev);

/* Compiles a kernel's host text into the cache if it is not there, as load() would; for compiling many in parallel. */
int emu_compile(const char *text, const char *symbol, const struct emu_options *o, struct err *err);

#endif
