#ifndef WEIR_PREDICT_H
#define WEIR_PREDICT_H

/* How long a kernel will take on a GPU that need not be there: a model of the machine from the facts of gpus.lua, the spec of the
 * kernel and, once it is compiled, what ptxas said of it. The search asks it twice: for every config of a space before anything is
 * compiled (cubin NULL, some microseconds each), and again for the leaders with their cubins. */

#include "gen/gen.h"
#include "runtime/nvrtc.h"
#include "runtime/pairs.h"

/* Names what the model is and which data its parameters were fitted on, for the header of a wisdom file; it changes whenever a
 * prediction can. */
extern const char predict_model[];

/* One config of one kernel at one shape. Everything is the caller's. */
struct predict_input {
    const struct gen_gpu *gpu;
    const struct gen_kernel
        *spec; /* from gen_render or gen_resolve: kernel, threads, smem, every parameter; source is not read */
    const struct cubin
        *cubin; /* registers, stack, spills, shared memory, image; NULL: not compiled, and estimated. image may
                                      be NULL where only the facts are known, as from a trial log */
    const struct pairs *sizes; /* the kernel's args by name: tokens, held, heads, kv_heads, keys, ... */
    double bytes, flops;       /* of the launch, by the kernel's declaration (gen_work) */
};

struct prediction {
    double ms;
    double tensor_ms, smem_ms, l2_ms, dram_ms,
        other_ms;      /* what each unit alone would need; other: latency, launch, barriers */
    int blocks_per_sm; /* resident */
    double waves;      /* blocks over the blocks that the GPU holds at once; 1.02 means a second wave for 2 % */
    const char *limit; /* what decides: "tensor", "shared memory", "L2", "DRAM", "latency", "waves" */
    char why[160];     /* one sentence with figures for a person: reports print it beside the pick */
};

/* -1 where the GPU's facts do not suffice (an "sm_NN" has no rates) or the kernel is one that the model does not know. */
int predict_time(const struct predict_input *in, struct prediction *out, struct err *err);

/* How far two predictions of a kernel's tiles must be apart before they tell which is faster, as a fraction of the time. 0 for a kernel
 * that the model does not know. */
double predict_tells(const char *kernel);

#endif
