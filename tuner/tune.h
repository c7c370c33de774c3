#ifndef WEIR_TUNE_H
#define WEIR_TUNE_H

/* Tuning of one problem: a search asks, a meter answers, the trial log keeps all of it. */

#include <signal.h>

#include "meter.h"
#include "search.h"

enum {
    TUNE_QUICK_TRIALS = 12, /* of a problem, for a good tile in seconds */
    TUNE_PATIENCE = 40      /* of a guided search that nobody gave a budget */
};

struct tune_state; /* of one problem, for whoever shows the progress */

struct tune {
    struct meter *meter;
    struct trials *trials;
    enum search_kind search;
    int max_trials;     /* that are new, a problem; 0: no limit */
    double max_seconds; /* a problem; 0: no limit */
    int patience; /* it ends when so many trials and a twentieth of the space, one after the other, made nothing faster; 0: never */
    uint64_t seed;
    volatile sig_atomic_t *stop; /* set by Ctrl-C: what is under way is finished and kept */
    /* After every trial; NULL: none. */
    void (*progress)(void *user, const struct tune_state *now);
    void *user;
};

struct tune_state {
    const struct tune_space *space;
    const struct trial *last;   /* NULL before the first */
    int trials, known;          /* new ones; taken from the log */
    int failed;                 /* of the new ones */
    int best;                   /* config, -1: none is correct yet */
    double best_ms, default_ms; /* default_ms: of the kernel's defaults, 0 while they are not measured */
    double seconds;
    bool stopped; /* by Ctrl-C */
};

/* Measures what the search wants until the budget or its patience is spent or nothing is left, the default first. predicted: [space->nvalid] ms of each
 * valid config, 0 where there is no prediction. What the log has of this space is not measured again. *out is how it stands. -1 where
 * nothing can be measured; the log keeps what there is. */
int tune_run(struct tune *t, const struct tune_space *space, const double *predicted, struct tune_state *out,
             struct err *err);

/* Predicted times of all valid configs from their specs alone, [space->nvalid]; 0 for what cannot be predicted. */
int tune_predict(const struct tune_space *space, double *predicted, struct err *err);

#endif
