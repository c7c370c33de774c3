#ifndef WEIR_ASIDE_H
#define WEIR_ASIDE_H

/* Files that are there whole or not at all: written beside their place and renamed when they are complete, so that neither a full
 * disk nor Ctrl-C leaves half of one, or costs what was there before. */

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "err.h"

struct aside {
    FILE *f;             /* written by the caller, who need not look at its errors; NULL when closed */
    char path[PATH_MAX]; /* where it is to be */
    char temp
        [PATH_MAX]; /* where it is until then; "" where path is no regular file (a pipe, /dev/stdout), written directly */
};

/* Opens a file that aside_keep will put at `path`. -1 with one line that names it; nothing is open then. */
int aside_open(struct aside *a, const char *path, struct err *err);

/* Closes it and puts it in its place. -1 with one line where any byte could not be written: what was there before still is.
 * durable: after a power failure, too, either the old or the new file is whole (costs a wait for the disk). */
int aside_keep(struct aside *a, bool durable, struct err *err);

/* Throws it away. Does nothing where it is not open. */
void aside_drop(struct aside *a);

#endif
