#ifndef WEIR_REFINE_H
#define WEIR_REFINE_H

/* The last stage of tuning. A search times each kernel in launches of its own; in a model's decoding step, where a kernel starts while the one
 * ahead of it ends, another of its good tiles may serve the step better. So of each kernel of a token the leaders of its trials are tried
 * inside the step, one kernel after the other, and what makes the step faster stays. */

#include <signal.h>

#include "step_meter.h"
#include "trials.h"
#include "wisdom_write.h"

enum { REFINE_LEADERS = 8, REFINE_TILES_MAX = REFINE_LEADERS + 2 };

struct refine_tile {
    struct pairs config;
    double ms, spread_ms; /* of a launch, in its trial */
    double ratio;         /* of the step with it to the step without, when it was last tried; 0: it was not */
    bool failed;
};

struct refine_kernel {
    int n;
    struct refine_tile tile[REFINE_TILES_MAX]; /* all of them correct in their trials, the fastest launch first */
    int trials;                                /* of its problem, that are right */
    struct pairs before;                       /* its tile when the stage began */
    double base_ms, ms; /* the step's, before and after its last exchange that stayed; 0: none did */
    int tried, failed;
    char failure[200]; /* the last one */
};

struct refine {
    struct refine_kernel kernel[STEP_KERNELS_MAX]; /* beside the meter's */
    volatile sig_atomic_t *stop;                   /* set by Ctrl-C: what was found is kept. NULL: nobody does */
    void (*progress)(void *user, const struct refine *now, int kernel); /* before each try; NULL: none */
    void *user;

    int exchanged;      /* kernels that have another tile in the end */
    double base_ms, ms; /* the whole step, as it was and as it is, in turn */
    bool stopped;
};

/* What is to be tried of one kernel: of its trials that are right and within 15 % of the best, the first of each kind (threads a block and
 * blocks a multiprocessor) before others of the same kind, then the default; and `present` where it was tried alone. */
int refine_candidates(struct refine_kernel *k, const struct trials *trials, const struct tune_space *space,
                      const struct pairs *present, struct err *err);

/* Two rounds at most over the kernels that the step launches. A tile stays where the step is faster by more than 0.3 % and more than half the
 * spread of the pairs that were compared; so must the whole be in the end, or all is as it was. A tile that fails is left out. The
 * meter's kernels have the tiles that were found. -1 where nothing can be measured. */
int refine_step(struct refine *r, struct step_meter *m, struct err *err);

/* The wisdom entry of a kernel with the tile that the stage left it with: false where that one has no trial. name: of the model. */
bool refine_entry(const struct refine *r, const struct step_meter *m, int kernel, const char *name,
                  struct wisdom_entry *out);

#endif
