#ifndef WEIR_REPLAY_H
#define WEIR_REPLAY_H

/* What a search is worth: replayed over a space whose every time is known, many times over. */

#include "search.h"

struct replay {
    int seeds, reached;   /* of the seeds: how many were near the best within a tenth of the space */
    double median, worst; /* trials until the first config near the best */
};

/* Runs a search with `seeds` seeds over n points (as search_open) whose times are ms [n] (0: it fails), until a point is within `near`
 * (0.05) of the best. */
int replay_search(enum search_kind kind, int n, int dims, const long *at, const double *predicted, const double *ms,
                  int first, int seeds, double near, struct replay *out, struct err *err);

#endif
