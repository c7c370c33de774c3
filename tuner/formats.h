#ifndef WEIR_FORMATS_H
#define WEIR_FORMATS_H

/* Kernel Tuner's file formats: results as T4 JSON, spaces as T1 JSON, so that its tools read ours and we replay theirs. */

#include "trials.h"

/* All trials of a space, as T4 (schema 1.0.0). What T4 has no place for stands beside it under "weir": kernel, GPU, shape, sizes. */
int t4_write(const struct trials *t, const struct tune_space *s, const char *path, struct err *err);

/* Reads a T4 file that t4_write made back into trials. -1 with one line naming file and place. */
int t4_read(const char *path, struct trials *out, struct err *err);

/* The space as T1: parameters, and the restrictions as conditions (Kernel Tuner reads Python expressions; each is given as the list of
 * valid combinations it comes to where Lua and Python differ). */
int t1_write(const struct tune_space *s, const char *path, struct err *err);

#endif
