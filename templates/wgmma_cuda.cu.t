
/* Products of a warpgroup, four warps of which the first one's number divides by 4 (sm_90a). They run behind the threads and read
 * shared memory by the async proxy: what threads wrote there (copies included, once waited for) they publish by fence_async before the
 * barrier that says it is there. */
DEVICE void fence_async(void) { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/* A warpgroup's registers a thread, from here on: fewer, then others of the block can have more. All of its warps at once. */
#define registers_give(n) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n))
#define registers_take(n) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n))
/* Counts this thread in at barrier `id` as sync_named does, and goes on: what it wrote is there for those that wait. */
DEVICE void arrive_named(int id, int threads) { asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
/* Before the first product of a group: what was written to its registers is there. */
DEVICE void wgmma_begin(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Waits until at most n (a constant) of the groups are still under way; registers and shared memory of the others are free then. */
#define wgmma_wait(n) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory")
/* What x is made of is made before the wait that follows: the assembler would move the wait up, as if it took no time. All lanes. */
DEVICE void settle(float x)
{
    asm volatile("{.reg .b32 m; mov.b32 m, %%tid.z; and.b32 m, m, %0; not.b32 m, m; bar.warp.sync m;}" ::"r"(__float_as_uint(x)) : "memory");
}
/* Behind the wait, for accumulators that it was for: the compiler does not know that they were not there before. */
#define wgmma_arrived(x, count) wgmma_arrived_at((float *)(x), count)
DEVICE void wgmma_arrived_at(float *x, int count)
{
    UNROLL
    for (int i = 0; i < count; i++)
        asm volatile("" : "+f"(x[i])::"memory");
}

% include "wgmma_operand.cu.t"

% local kind = t == "bf16" and "bf16" or "f16"
% -- Registers of the accumulator of an m64nNk16 product: "%0, %1, ..." and the constraints.
% local function numbers(from, count)
%   local out = {}
%   for i = 0, count - 1 do out[i + 1] = "%" .. from + i end
%   return table.concat(out, ", ")
% end
% local function floats(n)
%   local out = {}
%   for i = 0, n // 2 - 1 do out[i + 1] = ('"+f"(c[%d][%d])'):format(i // 4, i % 4) end
%   return table.concat(out, ", ")
% end
/* c[64][${shared_n}] = a[64][16] * b[${shared_n}][16]^T, or += where `add`; both in shared memory, rows of 16 along the row of a panel. Lane i of
 * warp w holds c as of mma_m16n8k16, ${shared_n // 8} of them side by side, rows 16 * (w % 4) and on. */
DEVICE void wgmma_shared(float (*c)[4], u64 a, u64 b, bool add)
{
% local n = shared_n // 2
    asm volatile("{.reg .pred p; setp.ne.b32 p, %${n + 2}, 0; "
                 "wgmma.mma_async.sync.aligned.m64n${shared_n}k16.f32.${kind}.${kind} {${numbers(0, n)}}, "
                 "%${n}, %${n + 1}, p, 1, 1, 0, 0;}"
                 : ${floats(shared_n)}
                 : "l"(a), "l"(b), "r"((int)add));
}
/* c[64][${registers_n}] += a[64][16] * b[16][${registers_n}]; a in registers as of mma_m16n8k16, b in shared memory, 16 rows of ${registers_n // 64} panel${registers_n > 64 and "s" or ""}. */
DEVICE void wgmma_registers(float (*c)[4], const unsigned a[4], u64 b)
{
% n = registers_n // 2
    asm volatile("wgmma.mma_async.sync.aligned.m64n${registers_n}k16.f32.${kind}.${kind} {${numbers(0, n)}}, "
                 "{${numbers(n, 4)}}, %${n + 4}, 1, 1, 1, 1;"
                 : ${floats(registers_n)}
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
