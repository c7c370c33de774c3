#ifndef WEIR_SPACE_H
#define WEIR_SPACE_H

/* What there is to choose from: one kernel at one shape with its run-time sizes on one GPU, every config of its space, and which
 * restriction refuses which. */

#include <stdio.h>

#include "gen/gen.h"
#include "runtime/pairs.h"

enum { REVISION_MAX = 17 /* 16 digits */, CUTS_MAX = 24 };

/* What is tuned. Trials and wisdom are keyed by it. */
struct tune_problem {
    char kernel[48];
    struct pairs shape; /* shape parameters, all of them */
    struct pairs sizes; /* the kernel's args */
};

/* "attn_prefill d=128 t=bf16 | tokens=4096 held=16448 heads=32 kv_heads=8" */
enum { PROBLEM_TEXT_MAX = 48 + 2 * PAIRS_TEXT_MAX };
void tune_problem_text(const struct tune_problem *p, char text[PROBLEM_TEXT_MAX]);
bool tune_problem_equal(const struct tune_problem *a, const struct tune_problem *b);

struct tune_space {
    struct tune_problem problem;
    struct gen *gen; /* the caller's */
    struct gen_gpu gpu;
    char gpu_arg[GEN_GPU_MAX];      /* what gen_* calls take for it: its name, or the file that describes it */
    struct gen_space all;           /* every combination of tile values */
    char (*revision)[REVISION_MAX]; /* [all.nconfigs] for tune_space_revision, "" while nobody asked; owned */
    int nvalid;
    int *valid;     /* [nvalid] the configs that no restriction refuses, as indices into all.config; owned */
    int by_default; /* the config of the kernel's defaults, among all; -1: this GPU refuses it */
    int ncuts;
    struct tune_cut {
        char name[32];
        int configs;     /* that it refuses, being the first to do so */
    } cut[CUTS_MAX];     /* [ncuts] most first */
    double bytes, flops; /* of a launch */
};

/* gpu: as for gen_render. g must outlive the space. The problem names every shape parameter and every size. fixed: tile parameters that
 * are not to be searched, with their values; NULL: none. */
int tune_space_open(struct tune_space *s, struct gen *g, const char *gpu, const struct tune_problem *problem,
                    const struct pairs *fixed, struct err *err);
void tune_space_close(struct tune_space *s);

/* The tile of a config (index into all.config) as names and values. */
void tune_space_config(const struct tune_space *s, int config, struct pairs *tile);

/* The config (index into all.config) with this tile, or -1. Parameters that the tile does not name, because they came into the space after
 * it was written down, have their defaults. */
int tune_space_find(const struct tune_space *s, const struct pairs *tile);

/* Of which text a valid config is rendered (gen_essence) and how such kernels are timed, as hex: trials of another text or another way say
 * nothing. "" where it cannot be rendered. */
const char *tune_space_revision(const struct tune_space *s, int config);

/* Parameters of a config for gen_* calls: shape, then tile. They point into the space's problem and *tile. */
enum { TUNE_PARAMS_MAX = 2 * PAIRS_MAX };
int tune_space_params(const struct tune_space *s, int config, struct pairs *tile,
                      struct gen_param param[TUNE_PARAMS_MAX]);

/* Its spec, without source (gen_resolve). Nothing to free. */
int tune_space_spec(const struct tune_space *s, int config, struct gen_kernel *out, struct err *err);

/* How many configs there are and what cuts the rest, for a person: several lines on out. */
void tune_space_print(const struct tune_space *s, FILE *out);

#endif
