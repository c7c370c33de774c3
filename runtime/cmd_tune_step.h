#ifndef WEIR_CMD_TUNE_STEP_H
#define WEIR_CMD_TUNE_STEP_H

/* The last stage of weir tune: tiles of a token's kernels, refined in the decoding step of the models that were tuned (tuner/refine.h). */

#include "../tuner/tune_session.h"
#include "cascade_options.h"
#include "model.h"
#include "tune_show.h"

/* What weir tune was asked for. */
struct tune_steps {
    struct tune_session *session; /* with meter, log and paths */
    const struct cascade_options *cascade;
    const char *model, *shapes, *weights; /* --model, --model-shape, --weights, or NULL */
    const char *type;                     /* "fp16", "bf16", or NULL: what inference takes */
    const char *wisdom;                   /* --wisdom, or NULL */
    bool asked; /* by name: a model that cannot be measured is an error then, else a line on stderr */
    struct tune_show *show;
    volatile sig_atomic_t *stop;
    int (*open_device)(struct device *dev, struct err *err); /* where the steps run; NULL: GPU 0 */
};

/* Kernels that the log has no trial of are searched first, quickly. Prints a table for each model and window, and keeps what was found as
 * wisdom. Closes the session's meter, whose GPU memory the models may need. -1 with *err. */
int cmd_tune_steps(const struct tune_steps *t, struct err *err);

/* The cascades that kernels are tuned for: the one that was asked for, else the default one and a long one. Returns how many. */
int tune_cascades(const struct cascade_options *o, struct cascade_params out[2]);

#endif
