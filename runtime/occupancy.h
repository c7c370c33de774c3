#ifndef WEIR_OCCUPANCY_H
#define WEIR_OCCUPANCY_H

#include "kernel.h"

/* How much of a multiprocessor a kernel can fill. */
struct occupancy {
    int blocks;        /* resident blocks a multiprocessor; 0: not even one fits */
    int percent;       /* of its warps */
    const char *limit; /* what ends it: "registers", "shared memory", "threads", "blocks" */
};

/* From the registers and shared memory of a compiled kernel and the facts of a GPU, by the allocation units of the CUDA Occupancy
 * Calculator. */
struct occupancy occupancy_of(const struct gen_gpu *gpu, const struct gen_kernel *k, const struct cubin *c);

#endif
