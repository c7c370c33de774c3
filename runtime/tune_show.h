#ifndef WEIR_TUNE_SHOW_H
#define WEIR_TUNE_SHOW_H

/* How tuning looks to whoever waits for it: a line that changes while it runs, where stderr is a terminal, and a table row a problem. */

#include "../tuner/tune.h"

struct tune_show {
    bool header; /* of the table: printed */
};

/* A progress callback of struct tune; user is a struct tune_show. */
void tune_show_progress(void *user, const struct tune_state *now);

/* A row on stdout: the best tile beside the default. user as above. */
void tune_show_result(void *user, const struct tune_state *result);

#endif
