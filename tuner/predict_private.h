#ifndef WEIR_PREDICT_PRIVATE_H
#define WEIR_PREDICT_PRIVATE_H

/* Inside the prediction model: predict.c puts together what predict_loop.c (kernels with a loop over tiles), predict_token.c (one
 * token's attention) and predict_stream.c (kernels that only move memory) say. */

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

/* attn_prefill, attn_scores. Fill job->out but ms_limit and why. */
int predict_prefill(struct predict_job *job, struct err *err);
int predict_scores(struct predict_job *job, struct err *err);

/* One token's attention of a layer in a chain of them. */
int predict_decode(struct predict_job *job, struct err *err);

/* Kernels that move memory and compute next to nothing. */
int predict_stream(struct predict_job *job, struct err *err);

/* rms_norm, swiglu, add_bias, dequantise, embed, likelihood, sample: such kernels, too (predict_forward.c). */
int predict_forward(struct predict_job *job, struct err *err);

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
