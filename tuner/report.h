#ifndef WEIR_REPORT_H
#define WEIR_REPORT_H

/* One HTML page about tuning, without anything from outside: heat maps of tiles for all GPUs of a problem side by side, fractions of the
 * limit, occupancy, failures, prediction against measurement, the search's path. tuner/report.lua draws it. */

#include "predict_space.h"
#include "trials.h"

struct report;

/* g must outlive it. */
int report_open(struct report **out, struct gen *g, struct err *err);
void report_close(struct report *r);

/* Adds one problem on one GPU. trials: what was measured, in its order, as far as it is of this space; NULL, or none of it: the GPU was not
 * there, and the predictions stand for it. predicted: of this space; NULL: they are made here, from the specs. Copies what it needs. */
int report_add(struct report *r, const struct tune_space *s, const struct trials *trials,
               const struct predict_space *predicted, struct err *err);

/* Writes the page aside and renames it. -1 also where nothing was added. */
int report_write(struct report *r, const char *path, struct err *err);

#endif
