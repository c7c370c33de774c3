#ifndef WEIR_WISDOM_WRITE_H
#define WEIR_WISDOM_WRITE_H

/* Making of wisdom files (runtime/wisdom.h has their form and reads them). */

#include "runtime/wisdom.h"
#include "trials.h"

/* Puts an entry in: it takes the place of one for the same kernel, shape and sizes if it is worth more: by wisdom_rank, and
 * of two that were measured alone on one day the shorter. */
int wisdom_put(struct wisdom_file *f, const struct wisdom_entry *e, struct err *err);

/* Writes a file whole, aside and renamed; entries in order of kernel, shape and sizes, so that it diffs well. */
int wisdom_file_write(const struct wisdom_file *f, const char *path, struct err *err);

/* Adds entries to the file of a GPU, which need not be there: read, merged and written under a lock, so that two tuners lose nothing.
 * head: gpu, title, sm, driver, nvrtc, model of the new entries; fields that are empty keep what the file has. */
int wisdom_file_add(const char *path, const struct wisdom_file *head, const struct wisdom_entry *e, int n,
                    struct err *err);

/* Merges file b into a: the entries worth more of each. They must be of one GPU. */
int wisdom_file_merge(struct wisdom_file *a, const struct wisdom_file *b, struct err *err);

/* The entry that a measured best makes. trials: how many configs were measured. */
void wisdom_entry_of_trial(struct wisdom_entry *e, const struct trial *best, int trials);

#endif
