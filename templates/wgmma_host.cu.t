
/* Products of a warpgroup. */
extern void emu_fence_async(void), emu_wgmma_commit(const char *at), emu_wgmma_wait(int n, const char *at), emu_wgmma_begin(const char *at);
extern void emu_wgmma(float *c, int n, const unsigned *a, u64 a_at, u64 b_at, int add, int bf16, const char *at);
extern void emu_arrive_named(int id, int threads, const char *at);
#define arrive_named(id, threads) emu_arrive_named(id, threads, EMU_AT)
#define registers_give(n) ((void)0)
#define registers_take(n) ((void)0)
#define fence_async() emu_fence_async()
#define wgmma_begin() emu_wgmma_begin(EMU_AT)
#define wgmma_commit() emu_wgmma_commit(EMU_AT)
#define wgmma_wait(n) emu_wgmma_wait(n, EMU_AT)
#define settle(x) ((void)(x))
#define wgmma_arrived(x, count) ((void)0)
% include "wgmma_operand.cu.t"
#define wgmma_shared(c, a, b, add) emu_wgmma((float *)(c), ${shared_n}, 0, a, b, add, ${t == "bf16" and 1 or 0}, EMU_AT)
#define wgmma_registers(c, a, b) emu_wgmma((float *)(c), ${registers_n}, a, 0, b, 1, ${t == "bf16" and 1 or 0}, EMU_AT)
