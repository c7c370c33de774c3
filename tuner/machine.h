#ifndef WEIR_MACHINE_H
#define WEIR_MACHINE_H

/* A model of one multiprocessor that executes the loop of a kernel, cycle by cycle: four partitions that issue one instruction a
 * cycle each, their pipes, the shared memory that all of them share, and copies that take their time from L2. It knows nothing of
 * values: only when what is free. Everything is in cycles, so that it carries over from GPU to GPU with the rates of each. */

#include "gen/gen.h"
#include "sass.h"

struct machine {
    int tensor;         /* cycles that one m16n8k16 keeps a partition's tensor core busy, and its issue slot */
    int fma, alu, sfu;  /* cycles that a warp's instruction keeps the pipe busy */
    int shared_latency; /* cycles from issue to result, when nothing is in the way */
    int sfu_latency;
    int copy_latency;  /* from L2 */
    double copy_bytes; /* from L2 a cycle, for one multiprocessor while all of them read */
    double clock_ghz;
};

/* From the facts of a GPU. -1 where they do not suffice: an "sm_NN" has no rates. */
int machine_of(const struct gen_gpu *gpu, struct machine *out, struct err *err);

/* Cycles that `blocks` resident blocks of `warps` warps each need for one turn of the loop, all of them together: the time between two
 * turns of a warp. Infinite where the loop never comes to an end. */
double machine_turn(const struct machine *m, const struct sass *loop, int blocks, int warps);

/* Cycles that one partition's pipes are busy in a turn, with that many warps on the multiprocessor: the floors that a report names. */
struct machine_load {
    double tensor, alu, sfu, issue, shared, copy;
};
struct machine_load machine_load_of(const struct machine *m, const struct sass *loop, int warps);

#endif
