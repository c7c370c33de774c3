#ifndef WEIR_BENCH_H
#define WEIR_BENCH_H

/* Times kernels on this machine's GPU as inference launches them: in a captured graph, replayed, over caches that no L2 holds. Each
 * kind of bench is a file bench_<kind>.c and a row in cmd_bench.c. */

#include "gen/gen.h"
#include "runtime/cascade_options.h"
#include "runtime/cmd.h"
#include "runtime/device.h"
#include "runtime/kernel.h"
#include "runtime/occupancy.h"
#include "runtime/quant.h"
#include "runtime/wisdom.h"

cmd_fn bench_decode, bench_matvec, bench_prefill, bench_update, bench_stream, bench_model;

enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON };

/* What the benches of attention kernels share. */
struct bench {
    struct cascade_options cascade;
    int heads, kv_heads, head_dim, layers, type, format;
    int tokens;         /* of the prompt, for bench_stream */
    bool quiet;         /* no line on stderr for each kernel */
    bool whole_windows; /* --window was given; else a bench takes the sizes of the project's speed table */
    const char *set, *templates;
    struct option table[16];

    struct gen *gen;
    struct kernel_cache cache;
    struct device dev;
    struct gen_gpu gpu;
    double copy_gbs; /* measured: bytes read and written by stream_copy, a second */
    char *split;     /* copy of `set` that param[] points into */
    struct gen_param param[16];
    int nparams, rows;
    uint64_t seed;
    struct wisdom *
        wisdom; /* where tiles come from that --set does not give, as in inference; NULL: they are the kernels' defaults */
    struct pairs sizes; /* of the run, for its look-up */
    char note[2000];    /* which kernel has its tile from where; stands under the table */
};

/* Defaults of everything that options set. Then bench_open: the generator (templates set) and the GPU. */
void bench_init(struct bench *b);
int bench_open(struct bench *b, struct err *err);

/* Both, with the options read and the copy rate measured. OPTIONS_GO, or the exit status to end with (after bench_end). */
int bench_start(struct bench *b, const char *usage, const char *what, int argc, char **argv, struct err *err);
void bench_end(struct bench *b);

/* For benches with options of their own: --set's pairs into param[]; -1 is a usage error. */
int bench_take_set(struct bench *b, struct err *err);

/* What the kernels that are opened next run with: tokens of a chunk, keys held. Heads are b's. */
int bench_sizes(struct bench *b, int tokens, int held, struct err *err);

/* kernel_get with "d=128 g=4", with what --set gives of the kernel's parameters, and the rest of its tile from b->wisdom; prints registers
 * and spills on stderr, and notes where the tile comes from. */
int bench_kernel(struct bench *b, const char *kernel, const char *params, struct kernel *out, struct err *err);
int bench_blocks(const struct bench *b, const struct kernel *k); /* resident a multiprocessor */

/* The next number of a sequence like a normal one's, of variance 1. */
float bench_normal(uint64_t *state);

/* Device memory with random numbers of the bench's type, of variance 1. Read as floats, two by two, they are finite
 * numbers of many sizes, which will do for scores. */
int bench_random(struct bench *b, size_t count, devptr *out, struct err *err);

/* Device memory with the given content, or zeros when data is NULL. */
int bench_put(struct bench *b, const void *data, size_t bytes, devptr *out, struct err *err);

/* The table of angles for so many positions, to the base BENCH_THETA. */
#define BENCH_THETA 500000.0
int bench_angles(struct bench *b, int positions, devptr *out, struct err *err);

struct bench_time {
    double ms;     /* median */
    double spread; /* 90th less 10th percentile */
};

/* Captures what `enqueue` launches, replays it and times each of many batches of replays. */
int bench_graph(struct bench *b, int (*enqueue)(void *user, struct err *err), void *user, struct bench_time *out,
                struct err *err);

/* Measures b->copy_gbs and says it on stderr. bench_start does so. */
int bench_copy(struct bench *b, struct err *err);

/* One line of the result; limit_ms 0: no limit is known. */
void bench_row(struct bench *b, const char *work, const char *what, double ms, double spread, double limit_ms);

#endif
