/* The machine, in the words the kernels use. Body for the CPU emulator (tests/emu): the names of prelude_cuda.cu.t, each a call
 * into it that says where it stands. */

#define KERNEL(name, threads, min_blocks) void name
#define DEVICE static inline __attribute__((always_inline, unused))
#define RESTRICT
#define UNROLL
#define NO_UNROLL
#define NEG_INF (-__builtin_inff())

typedef _Bool bool;
#define true 1
#define false 0
typedef unsigned short half_t; /* the raw bits of a ${t} */
typedef long long i64;
typedef unsigned long long u64;
struct f2 { float x, y; } __attribute__((aligned(8)));
struct f4 { float x, y, z, w; } __attribute__((aligned(16)));
struct u2 { unsigned x, y; } __attribute__((aligned(8)));
struct u4 { unsigned x, y, z, w; } __attribute__((aligned(16)));

#define EMU_TEXT(x) #x
#define EMU_LINE(x) EMU_TEXT(x)
#define EMU_AT "line " EMU_LINE(__LINE__)

/* Where this thread is. */
extern __attribute__((const)) int emu_tid(void), emu_bid(int axis), emu_nbid(int axis);
#define tid() emu_tid()
#define lane() (emu_tid() & 31)
#define warp() (emu_tid() >> 5)
#define bid_x() emu_bid(0)
#define bid_y() emu_bid(1)
#define bid_z() emu_bid(2)
#define nbid_x() emu_nbid(0)
#define nbid_y() emu_nbid(1)
#define nbid_z() emu_nbid(2)

/* The block's dynamic shared memory. */
extern __attribute__((const)) unsigned char *emu_smem(void);
#define smem() emu_smem()
#define whole_address(p) smem_address(p)
#define smem_address(p) ((unsigned)((const unsigned char *)(p) - emu_smem()))
#define whole_address(p) smem_address(p)

/* Barriers. */
extern void emu_sync_block(const char *at), emu_sync_warp(const char *at), emu_sync_named(int id, int threads, const char *at);
#define sync_block() emu_sync_block(EMU_AT)
#define sync_warp() emu_sync_warp(EMU_AT)
#define sync_named(id, threads) emu_sync_named(id, threads, EMU_AT)

/* Bits of a float. */
DEVICE float bits_float(unsigned v) { union { unsigned u; float f; } c = {v}; return c.f; }
DEVICE unsigned float_bits(float v) { union { float f; unsigned u; } c = {v}; return c.u; }

/* All lanes of the warp take part. */
extern unsigned emu_shfl(unsigned v, int from, const char *at), emu_shfl_xor(unsigned v, int mask, const char *at);
extern unsigned emu_shfl_up(unsigned v, int by, const char *at), emu_shfl_down(unsigned v, int by, const char *at);
extern bool emu_any(bool p, const char *at), emu_all(bool p, const char *at);
extern unsigned emu_ballot(bool p, const char *at);
#define shfl_u(v, from) emu_shfl(v, from, EMU_AT)
#define shfl_f(v, from) bits_float(emu_shfl(float_bits(v), from, EMU_AT))
#define shfl_xor_u(v, mask) emu_shfl_xor(v, mask, EMU_AT)
#define shfl_xor_f(v, mask) bits_float(emu_shfl_xor(float_bits(v), mask, EMU_AT))
#define shfl_up_u(v, by) emu_shfl_up(v, by, EMU_AT)
#define shfl_up_f(v, by) bits_float(emu_shfl_up(float_bits(v), by, EMU_AT))
#define shfl_down_u(v, by) emu_shfl_down(v, by, EMU_AT)
#define shfl_down_f(v, by) bits_float(emu_shfl_down(float_bits(v), by, EMU_AT))
#define any_warp(p) emu_any(p, EMU_AT)
#define all_warp(p) emu_all(p, EMU_AT)
#define ballot(p) emu_ballot(p, EMU_AT)

/* Arithmetic; max_f and min_f drop a NaN. */
#define exp2_f(v) __builtin_exp2f(v)
#define log2_f(v) __builtin_log2f(v)
#define rcp_f(v) (1.0f / (v))
#define rsqrt_f(v) (1.0f / __builtin_sqrtf(v))
#define max_f(a, b) __builtin_fmaxf(a, b)
#define min_f(a, b) __builtin_fminf(a, b)
#define fma_f(a, b, c) __builtin_fmaf(a, b, c)
DEVICE unsigned and_or(unsigned a, unsigned mask, unsigned bits) { return (a & mask) | bits; }
#define exp_d(v) __builtin_exp(v)
DEVICE int opaque(int v) { return v; }
DEVICE int max_i(int a, int b) { return a > b ? a : b; }
DEVICE int min_i(int a, int b) { return a < b ? a : b; }

/* Conversions of ${t}, to nearest even; pack2 puts lo into the low 16 bits. */
% local name = t == "bf16" and "bf16" or "fp16"
extern __attribute__((const)) float emu_${name}_to_float(unsigned short h);
extern __attribute__((const)) unsigned short emu_float_to_${name}(float v);
#define to_float(h) emu_${name}_to_float(h)
#define from_float(v) emu_float_to_${name}(v)
DEVICE unsigned pack2(float lo, float hi) { return (unsigned)from_float(lo) | (unsigned)from_float(hi) << 16; }
DEVICE struct f2 unpack2(unsigned v)
{
    struct f2 r = {to_float((half_t)v), to_float((half_t)(v >> 16))};
    return r;
}

DEVICE unsigned fma2(unsigned a, unsigned b, unsigned c)
{
    struct f2 x = unpack2(a), y = unpack2(b), z = unpack2(c);
    return pack2(__builtin_fmaf(x.x, y.x, z.x), __builtin_fmaf(x.y, y.y, z.y));
}
% if t == "bf16" then
extern __attribute__((const)) float emu_fp16_to_float(unsigned short h);
% end
#define fp16_value(h) emu_fp16_to_float(h)

/* Loads and stores that must be aligned and in the right memory: 0 any, 1 shared, 2 device. */
extern struct u4 emu_ld16(const void *p, int space, const char *at);
extern void emu_st16(void *p, struct u4 v, int space, const char *at);
extern float emu_ld_f(const float *p, int space, const char *at);
#define ld16(p) emu_ld16(p, 0, EMU_AT)
#define st16(p, v) emu_st16(p, v, 0, EMU_AT)
#define lds16(p) emu_ld16(p, 1, EMU_AT)
#define sts16(p, v) emu_st16(p, v, 1, EMU_AT)
#define ld16_stream(p) emu_ld16(p, 2, EMU_AT)
#define ld16_l2(p) emu_ld16(p, 2, EMU_AT)
#define ld_stream_f(p) emu_ld_f(p, 2, EMU_AT)
#define ld_l2_f(p) emu_ld_f(p, 2, EMU_AT)

/* Copies that arrive when their group is waited for. */
extern void emu_cp_async16(void *shared, const void *global, int bytes, const char *at);
extern void emu_cp_async_commit(void), emu_cp_async_wait(int n, const char *at);
#define cp_async16(shared, global) emu_cp_async16(shared, global, 16, EMU_AT)
#define cp_async16_zfill(shared, global, valid) emu_cp_async16(shared, global, (valid) ? 16 : 0, EMU_AT)
#define cp_async16_once(shared, global, valid) emu_cp_async16(shared, global, (valid) ? 16 : 0, EMU_AT)
#define cp_async16_part(shared, global, bytes) emu_cp_async16(shared, global, bytes, EMU_AT)
#define cp_async_commit() emu_cp_async_commit()
#define cp_async_wait(n) emu_cp_async_wait(n, EMU_AT)

/* Matrices of 8x8 and their product. */
extern void emu_ldmatrix(unsigned *r, const void *row, int matrices, int trans, const char *at);
extern void emu_mma(float *c, const unsigned *a, const unsigned *b, int bf16, const char *at);
#define ldmatrix_x4(r, row) emu_ldmatrix(r, row, 4, 0, EMU_AT)
#define ldmatrix_x4_trans(r, row) emu_ldmatrix(r, row, 4, 1, EMU_AT)
#define ldmatrix_x2(r, row) emu_ldmatrix(r, row, 2, 0, EMU_AT)
#define ldmatrix_x2_trans(r, row) emu_ldmatrix(r, row, 2, 1, EMU_AT)
#define mma_m16n8k16(c, a, b) emu_mma(c, a, b, ${t == "bf16" and 1 or 0}, EMU_AT)

/* Between blocks: integers only. */
extern unsigned emu_atomic_add_u(unsigned *p, unsigned v, const char *at);
#define atomic_add_u(p, v) emu_atomic_add_u(p, v, EMU_AT)
extern void emu_fence_device(void);
extern unsigned emu_atomic_meet_u(unsigned *p, unsigned v, const char *at);
#define fence_device() emu_fence_device()
#define atomic_meet_u(p, v) emu_atomic_meet_u(p, v, EMU_AT)
#define grid_launch_next() ((void)0)
#define grid_wait() ((void)0)
% if wgmma == 1 then
% include "wgmma_host.cu.t"
% end
