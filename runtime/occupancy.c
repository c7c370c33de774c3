#include "occupancy.h"

enum { WARP = 32, PARTITIONS = 4 /* of a multiprocessor; each has its share of the registers */ };

static int round_up(int n, int unit)
{
    return (n + unit - 1) / unit * unit;
}

struct occupancy occupancy_of(const struct gen_gpu *gpu, const struct gen_kernel *k, const struct cubin *c)
{
    int warps = round_up((int)k->threads, WARP) / WARP;
    int regs_per_warp = round_up(c->regs * WARP, gpu->reg_unit);
    int warps_by_regs = regs_per_warp ? gpu->regs_per_sm / PARTITIONS / regs_per_warp * PARTITIONS : 1 << 16;
    int smem = round_up(c->smem + (int)k->smem + gpu->smem_reserved, gpu->smem_unit);
    const struct {
        int blocks;
        const char *name;
    } limits[] = {
        {gpu->blocks_per_sm, "blocks"},
        {gpu->threads_per_sm / WARP / warps, "threads"},
        {gpu->smem_per_sm / smem, "shared memory"},
        {warps_by_regs / warps, "registers"},
    };
    struct occupancy o = {limits[0].blocks, 0, limits[0].name};
    for (size_t i = 1; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].blocks < o.blocks) {
            o.blocks = limits[i].blocks;
            o.limit = limits[i].name;
        }
    o.percent = 100 * o.blocks * warps / (gpu->threads_per_sm / WARP);
    return o;
}
