#ifndef WEIR_AUTOTUNE_H
#define WEIR_AUTOTUNE_H

/* run --autotune and chat --autotune: before the model is loaded, the kernels that it runs with and that wisdom has no measured tile for
 * are tuned for some seconds, and what is found is kept as the user's wisdom. */

#include "../tuner/tune_session.h"
#include "session.h"

/* The row of a command's option table. */
#define AUTOTUNE_OPTION(flag)                                                                                          \
    {                                                                                                                  \
        "--autotune", NULL, OPTION_FLAG, flag, NULL,                                                                   \
            "tune kernels that have no measured tile for this GPU first, for 20 s at most, and keep what is found", 0, \
            0, NULL                                                                                                    \
    }

/* Comes before session_begin: nothing may have touched the GPU. c holds the options of the cascade, not yet finished. Says on stderr what
 * is done; without a GPU, that there is nothing to tune. Ctrl-C ends the tuning and not the command. Returns a CMD_ status, CMD_OK also where
 * there is nothing to do. */
int autotune(const struct session_options *o, const struct cascade_options *c, struct err *err);

/* The same for a model under a cascade, on a session with its GPU and paths: what the wisdom there is lacks for it. */
int autotune_model(struct tune_session *s, const struct model *m, const struct cascade_params *p, struct err *err);

#endif
