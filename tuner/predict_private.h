#ifndef WEIR_PREDICT_PRIVATE_H
#define WEIR_PREDICT_PRIVATE_H

/* Inside the prediction model: predict.c puts together what the kernels' own models say. */

#include "machine.h"
#include "predict.h"
#include "runtime/occupancy.h"

enum { RESIDENT_MAX = 16 }; /* blocks of a multiprocessor that are told apart */

/* What a stream of loads gets of the memory's rate that the maker gives (H200: copies at 3881 of 4800 GB/s). */
#define BUS_OF_PEAK 0.82

/* A prediction in the making. */
struct predict_job {
    const struct predict_input *in;
    struct machine machine;
    struct occupancy occupancy;
    int regs, spills; /* a thread, bytes of spills; from the cubin, or estimated */
    bool compiled;    /* they are the cubin's */
    bool simulated;   /* the loop is that of the machine code */
    double of_peak;   /* of the memory's rate, that the kernel gets at the most */
    struct prediction *out;
};

/* Resolved value of a parameter, `missing` where the kernel does not have it. */
long predict_param(const struct predict_job *job, const char *name, long missing);

/* A run-time size; -1 with *err naming it where it is missing or no positive number (zero is allowed for `held` and `moved`). */
int predict_size(const struct predict_job *job, const char *name, double *value, struct err *err);

/* What each says of its kernel: fills job->out but ms_limit and why. */
typedef int predict_kernel(struct predict_job *job, struct err *err);

predict_kernel predict_prefill, predict_scores; /* kernels with a loop over tiles (predict_loop.c) */
predict_kernel predict_decode; /* one token's attention of a layer in a chain of them (predict_token.c) */

/* Kernels that move memory and compute next to nothing (predict_stream.c, predict_forward.c). */
predict_kernel predict_turn, predict_reduce, predict_copy, predict_matvec, predict_update, predict_token_scores;
predict_kernel predict_norm, predict_swiglu, predict_bias, predict_dequantise, predict_embed, predict_likelihood,
    predict_sample;

/* Fills job->out for a kernel of so many blocks, each of whose threads has so many bytes under way, and waits so often for memory that
 * does not come while others wait. */
void predict_traffic(struct predict_job *job, double blocks, double bytes_in_flight, double waits);

/* Instructions that a warp issues in a turn of its loop, by the templates' text. */
struct predict_counts {
    double tensor, sfu, fma, alu, copies;
    double shared; /* pieces of 128 bytes */
    double waits;  /* cycles that a warp stands still, with nothing else on the multiprocessor */
};

/* Cycles of a turn, as machine_turn, and the floors, as machine_load_of. */
double predict_turn_by_count(const struct machine *m, const struct predict_counts *c, int blocks, int warps);
struct machine_load predict_load_by_count(const struct machine *m, const struct predict_counts *c, int warps);

/* Registers a thread and bytes of spills of an attention kernel that is not compiled, by what its tile holds in registers. */
void predict_registers(struct predict_job *job);

/* Milliseconds of so many cycles. */
double predict_ms(const struct predict_job *job, double cycles);

/* ---- how blocks follow one another on a GPU ---- */

struct predict_grid {
    int blocks;
    double (*work)(const void *user, int block); /* turns of the loop; blocks start in order */
    const void *user;
    double start;                  /* cycles of a block beside its turns, in which it waits and others go on */
    double turn[RESIDENT_MAX + 1]; /* cycles of a turn with so many blocks on a multiprocessor; [1..resident] */
    double alike;                  /* how much of a multiprocessor its blocks share alike, 0..1; the rest goes by age */
    double vary; /* by how much of its turns a block may take longer or shorter than they say, by chance */
    int resident;
};

/* Cycles from the first block's start to the last one's end on `sms` multiprocessors; INFINITY where memory is out. */
double predict_makespan(const struct predict_grid *grid, int sms);

#endif
