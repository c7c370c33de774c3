#ifndef WEIR_EMU_API_H
#define WEIR_EMU_API_H

/* What templates/prelude_host.cu.t calls. The prelude declares these for itself, since emitted text includes no header; both
 * must agree. `at` is the place of the call in the kernel's text behind the prelude, "line 57". */

#include <stdbool.h>

struct emu_u4 {
    unsigned x, y, z, w;
} __attribute__((aligned(16)));

enum emu_space { EMU_ANY, EMU_SHARED, EMU_GLOBAL };

/* The thread that calls: its number in the block, its block's number along an axis (0 x, 1 y, 2 z), the blocks along it, and its
 * block's dynamic shared memory. */
int emu_tid(void);
int emu_bid(int axis);
int emu_nbid(int axis);
unsigned char *emu_smem(void);

/* Barriers: of the block, of the warp, and of those `threads` threads that name the same one. */
void emu_sync_block(const char *at);
void emu_sync_warp(const char *at);
void emu_sync_named(int id, int threads, const char *at);

/* Collectives of all lanes of a warp. shfl_up and shfl_down leave a lane its own value where there is none to take. */
unsigned emu_shfl(unsigned v, int from, const char *at);
unsigned emu_shfl_xor(unsigned v, int mask, const char *at);
unsigned emu_shfl_up(unsigned v, int by, const char *at);
unsigned emu_shfl_down(unsigned v, int by, const char *at);
bool emu_any(bool p, const char *at);
bool emu_all(bool p, const char *at);
unsigned emu_ballot(bool p, const char *at);

/* 16 or 4 bytes, aligned to their size, in the address space that is named. */
struct emu_u4 emu_ld16(const void *p, int space, const char *at);
void emu_st16(void *p, struct emu_u4 v, int space, const char *at);
float emu_ld_f(const float *p, int space, const char *at);
void emu_cp_async16(void *shared, const void *global, int bytes, const char *at);
void emu_cp_async_commit(void);
void emu_cp_async_wait(int n, const char *at);

/* ldmatrix (.trans) of 1, 2 or 4 matrices; mma.m16n8k16 with fp32 sums, of fp16 or bf16; an atomic add. */
void emu_ldmatrix(unsigned *r, const void *row, int matrices, int trans, const char *at);
void emu_mma(float *c, const unsigned *a, const unsigned *b, int bf16, const char *at);
unsigned emu_atomic_add_u(unsigned *p, unsigned v, const char *at);

/* Products of a warpgroup (templates/wgmma_host.cu.t): c[n / 2] of this lane; a in registers, or NULL and at a_at; b at b_at, by rows of k
 * where a is in registers, else by rows of n. Descriptors as the GPU's. */
void emu_arrive_named(int id, int threads, const char *at);
void emu_fence_async(void);
void emu_wgmma_begin(const char *at);
void emu_wgmma_commit(const char *at);
void emu_wgmma_wait(int n, const char *at);
void emu_wgmma(float *c, int n, const unsigned *a, unsigned long long a_at, unsigned long long b_at, int add, int bf16,
               const char *at);

/* A fence, and an atomic add between two of them. */
void emu_fence_device(void);
unsigned emu_atomic_meet_u(unsigned *p, unsigned v, const char *at);

/* Conversions, to nearest even. */
float emu_fp16_to_float(unsigned short h);
unsigned short emu_float_to_fp16(float v);
float emu_bf16_to_float(unsigned short h);
unsigned short emu_float_to_bf16(float v);

/* What the instrumented accesses of a compiled kernel call (build.c writes the callers). */
extern const unsigned char *emu_stack_lo; /* accesses to the fibers' stacks are let through */
extern unsigned long emu_stack_bytes;
void emu_read(const void *p, unsigned long bytes, const void *pc);
void emu_write(const void *p, unsigned long bytes, const void *pc);
void emu_fault(const char *what, unsigned line);

#endif
