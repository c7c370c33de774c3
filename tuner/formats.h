#ifndef WEIR_FORMATS_H
#define WEIR_FORMATS_H

/* Kernel Tuner's file formats: results as T4 JSON, spaces as T1 JSON, and the cache file that its simulation mode replays, so that its
 * tools read ours. tests/bench/kernel_tuner_replay.py holds them to Kernel Tuner's own schemas and code. All are written aside and renamed. */

#include "trials.h"

/* All trials of a space (of any revision), as T4 (schema 1.0.0). What T4 has no place for stands beside the results under "weir": kernel,
 * GPU, shape, sizes; and a trial's revision and message among its measurements. -1 also where there are none. */
int t4_write(const struct trials *t, const struct tune_space *s, const char *path, struct err *err);

/* Reads a T4 file that t4_write made back into a log in memory, which cannot be added to. Free with trials_close. -1 with one line naming
 * file and place. */
int t4_read(const char *path, struct trials *out, struct err *err);

/* Trials to look at: a journal, or where the name ends in .json a T4 file. Free with trials_close. */
int trials_load(struct trials *out, const char *path, struct err *err);

/* The space as T1: parameters with their values, and the restrictions as conditions over them in Python, shape and GPU filled in. */
int t1_write(const struct tune_space *s, const char *path, struct err *err);

/* The trials as a cache file of Kernel Tuner, closed. Failed ones are error configs there. */
int kernel_tuner_cache_write(const struct trials *t, const struct tune_space *s, const char *path, struct err *err);

#endif
