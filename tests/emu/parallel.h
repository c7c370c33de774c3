#ifndef WEIR_EMU_PARALLEL_H
#define WEIR_EMU_PARALLEL_H

#include "../../runtime/err.h"

/* One of many jobs, in a process of its own kind: what it changes in memory is lost. 0, or -1 with *err. */
typedef int parallel_job(int i, void *arg, struct err *err);

/* Runs jobs 0..n-1 in as many forked workers as there are processors. A worker that dies fails its job, and another takes over.
 * errs [n]: empty where the job passed. Returns how many failed. */
int parallel_run(int n, parallel_job *job, void *arg, struct err *errs);

#endif
