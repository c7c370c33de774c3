/* The machine, in the words the kernels use. CUDA body; the emulator's body (prelude_host.cu.t) has the same names. */

#define KERNEL(name, threads, min_blocks) extern "C" __global__ void __launch_bounds__(threads, min_blocks) name
#define DEVICE __device__ __forceinline__
#define RESTRICT __restrict__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#define NEG_INF (-__int_as_float(0x7f800000))

typedef unsigned short half_t; /* the raw bits of a ${t} */
typedef long long i64;
typedef unsigned long long u64;
struct __align__(8) f2 { float x, y; };
struct __align__(16) f4 { float x, y, z, w; };
struct __align__(8) u2 { unsigned x, y; };
struct __align__(16) u4 { unsigned x, y, z, w; };

/* Where this thread is. */
DEVICE int tid(void) { return (int)threadIdx.x; }
DEVICE int lane(void) { return (int)(threadIdx.x & 31); }
DEVICE int warp(void) { return (int)(threadIdx.x >> 5); }
DEVICE int bid_x(void) { return (int)blockIdx.x; }
DEVICE int bid_y(void) { return (int)blockIdx.y; }
DEVICE int bid_z(void) { return (int)blockIdx.z; }
DEVICE int nbid_x(void) { return (int)gridDim.x; }
DEVICE int nbid_y(void) { return (int)gridDim.y; }
DEVICE int nbid_z(void) { return (int)gridDim.z; }

% local smem_align = wgmma == 1 and 1024 or 128
/* The block's dynamic shared memory, aligned to ${smem_align} bytes. */
extern __shared__ __align__(${smem_align}) unsigned char smem_bytes[];
DEVICE unsigned char *smem(void) { return smem_bytes; }
DEVICE unsigned smem_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* Barriers: the block, the warp, the first `threads` that meet at barrier `id` (1..15; 0 is sync_block's). sync_named is not the
 * aligned bar.sync: the compiler does not know that inline text must not be copied into both branches of a later condition. */
DEVICE void sync_block(void) { __syncthreads(); }
DEVICE void sync_warp(void) { __syncwarp(); }
DEVICE void sync_named(int id, int threads) { asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

/* All 32 lanes of the warp take part. */
DEVICE float shfl_f(float v, int from) { return __shfl_sync(0xffffffffu, v, from); }
DEVICE unsigned shfl_u(unsigned v, int from) { return __shfl_sync(0xffffffffu, v, from); }
DEVICE float shfl_xor_f(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE unsigned shfl_xor_u(unsigned v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE float shfl_up_f(float v, int by) { return __shfl_up_sync(0xffffffffu, v, (unsigned)by); }
DEVICE unsigned shfl_up_u(unsigned v, int by) { return __shfl_up_sync(0xffffffffu, v, (unsigned)by); }
DEVICE float shfl_down_f(float v, int by) { return __shfl_down_sync(0xffffffffu, v, (unsigned)by); }
DEVICE unsigned shfl_down_u(unsigned v, int by) { return __shfl_down_sync(0xffffffffu, v, (unsigned)by); }
DEVICE bool any_warp(bool p) { return __any_sync(0xffffffffu, p); }
DEVICE bool all_warp(bool p) { return __all_sync(0xffffffffu, p); }
#define ballot(p) __ballot_sync(0xffffffffu, (p)) /* a macro: nvcc's own headers hold an old function of this name */

/* Arithmetic. exp2_f, log2_f, rcp_f and rsqrt_f are the hardware's approximations (2 ulp); max_f and min_f drop a NaN. */
DEVICE float exp2_f(float v) { float r; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v)); return r; }
DEVICE float log2_f(float v) { float r; asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v)); return r; }
DEVICE float rcp_f(float v) { float r; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v)); return r; }
DEVICE float rsqrt_f(float v) { float r; asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v)); return r; }
DEVICE float max_f(float a, float b) { return fmaxf(a, b); }
DEVICE float min_f(float a, float b) { return fminf(a, b); }
DEVICE float fma_f(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE int max_i(int a, int b) { return a > b ? a : b; }
DEVICE int min_i(int a, int b) { return a < b ? a : b; }
/* exp(v) to the last bit or nearly; long, so it is there once. */
static __device__ __noinline__ double exp_once(double v) { return exp(v); }
DEVICE double exp_d(double v) { return exp_once(v); }
/* a & mask | bits in one instruction, which the compiler does not find where both are constants. */
DEVICE unsigned and_or(unsigned a, unsigned mask, unsigned bits)
{
    unsigned r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(a), "r"(mask), "r"(bits));
    return r;
}
/* v, but the compiler does not know it: what is computed from it is computed there, not before a loop and kept in registers. */
DEVICE int opaque(int v) { asm volatile("" : "+r"(v)); return v; }
DEVICE float bits_float(unsigned v) { return __uint_as_float(v); }
DEVICE unsigned float_bits(float v) { return __float_as_uint(v); }

/* Conversions of ${t}, to nearest even; pack2 puts lo into the low 16 bits. */
% if t == "bf16" then
DEVICE float to_float(half_t h) { return __uint_as_float((unsigned)h << 16); }
DEVICE half_t from_float(float v) { half_t r; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v)); return r; }
DEVICE unsigned pack2(float lo, float hi)
{
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
DEVICE struct f2 unpack2(unsigned v)
{
    struct f2 r = {__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u)};
    return r;
}
% else
DEVICE float to_float(half_t h) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h)); return r; }
DEVICE half_t from_float(float v) { half_t r; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v)); return r; }
DEVICE unsigned pack2(float lo, float hi)
{
    unsigned r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
DEVICE struct f2 unpack2(unsigned v)
{
    struct f2 r;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(r.x), "=f"(r.y) : "r"(v));
    return r;
}
% end

/* a * b + c of two pairs of ${t}, each rounded once. */
DEVICE unsigned fma2(unsigned a, unsigned b, unsigned c)
{
    unsigned r;
    asm("fma.rn.${t == "bf16" and "bf16x2" or "f16x2"} %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
/* The value of an fp16, whatever half_t is: weights and the scales of their blocks have types of their own. */
DEVICE float fp16_value(unsigned short h) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h)); return r; }

/* 16 bytes at once, 16-byte aligned, from device memory but for lds16 and sts16. ld16 and st16 keep their order: several ld16 in a
 * row are under way together, where the compiler might take plain ones apart or put them off. The _stream loads leave L1 alone and are for memory that nobody writes during the
 * kernel; the _l2 load sees what other blocks wrote before a fence_device. */
DEVICE struct u4 ld16(const void *p)
{
    struct u4 r;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p) : "memory");
    return r;
}
DEVICE void st16(void *p, struct u4 v)
{
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
DEVICE struct u4 lds16(const void *p) { return *(const struct u4 *)p; }
DEVICE void sts16(void *p, struct u4 v) { *(struct u4 *)p = v; }
DEVICE struct u4 ld16_stream(const void *p)
{
    struct u4 r;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
                 : "l"(p));
    return r;
}
DEVICE struct u4 ld16_l2(const void *p)
{
    struct u4 r;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p) : "memory");
    return r;
}
DEVICE float ld_stream_f(const float *p)
{
    float r;
    asm volatile("ld.global.nc.L1::no_allocate.f32 %0, [%1];" : "=f"(r) : "l"(p));
    return r;
}
DEVICE float ld_l2_f(const float *p)
{
    float r;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(r) : "l"(p) : "memory");
    return r;
}

/* Copies of 16 bytes from global to shared memory that run on behind the thread; groups complete in order. zfill writes zeros
 * where !valid and does not look at `global` then. */
DEVICE void cp_async16(void *shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(smem_address(shared)), "l"(global) : "memory");
}
DEVICE void cp_async16_zfill(void *shared, const void *global, bool valid)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(smem_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
/* The same address, but the assembler cannot take it apart: it is crossed with a zero that it does not know for one. ptxas 13.0
 * splits a shared address into a register and a uniform one, and writes an illegal instruction where the copy has a cache hint as
 * well ("LDGSTS [R19+UR0], desc[UR1]"). */
DEVICE unsigned whole_address(const void *shared)
{
    unsigned r;
    asm("{.reg .u32 z; mov.u32 z, %%tid.z; xor.b32 %0, %1, z;}" : "=r"(r) : "r"(smem_address(shared)));
    return r;
}
/* The same for what is read once: it gives way in L2 before all else. */
DEVICE void cp_async16_once(void *shared, const void *global, bool valid)
{
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(whole_address(shared)),
                 "l"(global), "r"(valid ? 16 : 0), "l"(policy)
                 : "memory");
}
/* The first `bytes` (0..16) of it likewise; what lies behind them is not to be used. The whole piece is copied, which stays in memory
 * that was allocated: that comes in multiples of more. */
DEVICE void cp_async16_part(void *shared, const void *global, int bytes) { cp_async16_once(shared, global, bytes > 0); }
DEVICE void cp_async_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most n (a constant) of this thread's groups are still under way. */
#define cp_async_wait(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

/* Four 8x8 matrices of half_t; lane i gives the address of row i % 8 of matrix i / 8, 16 bytes. */
DEVICE void ldmatrix_x4(unsigned r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_address(row))
                 : "memory");
}
DEVICE void ldmatrix_x4_trans(unsigned r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_address(row))
                 : "memory");
}
DEVICE void ldmatrix_x2(unsigned r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(smem_address(row)) : "memory");
}
DEVICE void ldmatrix_x2_trans(unsigned r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(smem_address(row))
                 : "memory");
}
/* c[16][8] += a[16][16] * b[16][8], a by rows, b by columns, fp32 sums. Lane i holds, with r = i / 4 and k = 2 * (i % 4):
 *   a: (r, k..k+1) (r+8, k..) (r, k+8..) (r+8, k+8..)    b: (k..k+1, r) (k+8.., r)    c: (r, k) (r, k+1) (r+8, k) (r+8, k+1) */
DEVICE void mma_m16n8k16(float c[4], const unsigned a[4], const unsigned b[2])
{
% local mma_type = t == "bf16" and "bf16" or "f16"
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.${mma_type}.${mma_type}.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Between blocks: integers only, so that every sum keeps its order. */
DEVICE unsigned atomic_add_u(unsigned *p, unsigned v) { return atomicAdd(p, v); }
DEVICE void fence_device(void) { __threadfence(); }
/* The same between fences: who meets here publishes what it wrote, and what others of its block had written at a barrier before, to
 * those that meet later; they read it with the _l2 loads or cp_async. */
DEVICE unsigned atomic_meet_u(unsigned *p, unsigned v)
{
    unsigned r;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory");
    return r;
}

/* Kernels in a row on sm_90: let the next one start early; wait for all that the one before wrote. No effect elsewhere, nor
 * where the launch did not ask for it. */
% if sm >= 90 then
DEVICE void grid_launch_next(void) { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
DEVICE void grid_wait(void) { asm volatile("griddepcontrol.wait;" ::: "memory"); }
% else
DEVICE void grid_launch_next(void) {}
DEVICE void grid_wait(void) {}
% end
% if wgmma == 1 then
% include "wgmma_cuda.cu.t"
% end
