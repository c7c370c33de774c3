#ifndef WEIR_WISDOM_H
#define WEIR_WISDOM_H

/* What tuning found: which tile is best for a kernel, its shape and its sizes on a GPU. One JSON file per GPU, <folder>/<gpu>.json:
 *
 *   {"weir_wisdom": 1, "gpu": "h200", "title": "NVIDIA H200", "sm": 90, "driver": "13.0", "nvrtc": "13.0", "model": "...",
 *    "entries": [
 *     {"kernel": "attn_prefill", "shape": {"d": "128", "t": "bf16"}, "sizes": {"tokens": "4096", "held": "16448", ...},
 *      "config": {"bm": "128", "bn": "64", ...}, "ms": 3.31, "spread_ms": 0.02, "measured": "2026-11-24", "trials": 612},
 *     {..., "ms": 0.01, "spread_ms": 0.001, "measured": "2026-11-26", "trials": 40, "step": "llama-3.1-8b q4_0 W=1024", "step_ms": 1.7},
 *     {..., "ms": 9.8, "predicted": "which model", "why": "..."}]}
 *
 * driver, nvrtc and model say what the entries hold for. The runtime only reads such files; tuner/wisdom_write.h makes them. */

#include "kernel.h"
#include "pairs.h"

enum { WISDOM_FORMAT = 1 };

struct wisdom_entry {
    char kernel[48];
    struct pairs shape;   /* the kernel's shape parameters */
    struct pairs sizes;   /* its run-time sizes, by the names of its `args` */
    struct pairs config;  /* every tile parameter */
    double ms, spread_ms; /* a launch; spread 0 where it is predicted */
    int trials;           /* configs that were measured for it */
    char measured[12];    /* date, "2026-11-24"; "": it is predicted */
    char step[64];        /* measured again in the decoding step of this model; "": in launches of its own only */
    double step_ms;       /* that step, with this tile; 0 where `step` is "" */
    char predicted[96];   /* by which model; "": it is measured */
    char why[200];        /* of a prediction: what decides */
};

struct wisdom_file {
    char gpu[48], title[128], driver[16], nvrtc[16], model[96];
    int sm, nentries;
    struct wisdom_entry *entry; /* [nentries], owned */
};

/* Reads a file, or text that came from `name`. -1 with one line that names file and place. Free with wisdom_file_free. */
int wisdom_file_read(const char *path, struct wisdom_file *out, struct err *err);
int wisdom_file_parse(const char *text, size_t len, const char *name, struct wisdom_file *out, struct err *err);
void wisdom_file_free(struct wisdom_file *f);

/* How a line reaches the user: commands bring one that prints (cmd_say). warning: even without WEIR_VERBOSE. */
typedef void wisdom_say(bool warning, const char *line);

/* All wisdom that may serve one GPU: its own file, then those of other GPUs of its compute capability. */
struct wisdom {
    struct gen *gen;
    struct gen_gpu gpu;
    wisdom_say *say; /* or NULL */
    int nfiles;
    struct wisdom_file *file; /* [nfiles], owned */
};

/* Folders that are searched, most wanted first: WEIR_WISDOM alone if it is set (a folder, or one file), else <home>/kernels_out/wisdom
 * where home is gen_home, and <cache>/wisdom. Returns how many were written (at most 2). */
int wisdom_folders(const struct gen *g, char folder[2][600]);

/* Opens all there is for a GPU by its name in gpus.lua. Missing wisdom is none; a damaged file is left out with ONE warning through
 * say. -1 only where the GPU is not known or memory is out. g must outlive it. */
int wisdom_open(struct wisdom **out, struct gen *g, const char *gpu, wisdom_say *say, struct err *err);
void wisdom_close(struct wisdom *w);

/* Above 0 where a is worth more than b for the same problem, below 0 the other way round: a measurement more than a prediction, one that was
 * confirmed in a decoding step more than one of launches alone, whatever their dates; then the later one. */
int wisdom_rank(const struct wisdom_entry *a, const struct wisdom_entry *b);

enum wisdom_match {
    WISDOM_SAME,    /* same GPU, shape and sizes */
    WISDOM_NEAREST, /* same GPU, the nearest shape that it has */
    WISDOM_SM,      /* another GPU of the same compute capability */
    WISDOM_DEFAULT, /* none: the kernel's own defaults */
};

struct wisdom_found {
    enum wisdom_match match;
    bool measured;       /* the entry is a measurement, not a prediction */
    struct pairs config; /* tile parameters that the caller has not given; empty for WISDOM_DEFAULT */
    char line[640];      /* which entry, in words */
};

/* Look-up for a kernel with the caller's parameters (shape, and tile parameters that are to stay) and sizes, NULL where they are not
 * known. The nearest entry whose config satisfies the restrictions of this GPU wins: the same kernel (weights, output, reduction)
 * before another one's tile, then same GPU before same compute capability, at equal distance the one worth more (wisdom_rank). */
void wisdom_best(const struct wisdom *w, const char *kernel, const struct gen_param *params, int nparams,
                 const struct pairs *sizes, struct wisdom_found *found);

#endif
