#ifndef WEIR_EMU_FIBER_H
#define WEIR_EMU_FIBER_H

/* Fibers: many stacks on one OS thread, switched by hand. One scheduler (the caller's own stack) resumes fibers; a fiber runs
 * until it yields. Not thread-safe. */

#include <stdbool.h>
#include <stddef.h>

#include "../../runtime/err.h"

struct fibers; /* a set of stacks, reused by launch after launch */

/* count stacks of FIBER_STACK bytes each, with a guard page below. ucontext: use swapcontext even where there is a faster way. */
enum { FIBER_STACK = 256 * 1024 };
int fibers_open(struct fibers **out, int count, bool ucontext, struct err *err);
void fibers_close(struct fibers *f);

/* Makes fiber i run entry() from the top at its next resume, whatever it was doing. entry must not return. */
void fiber_start(struct fibers *f, int i, void (*entry)(void));
/* Runs fiber i until it yields. */
void fiber_resume(struct fibers *f, int i);
/* Back to the scheduler, from the fiber that runs. */
void fiber_yield(struct fibers *f);

/* Address range of all stacks. */
void fibers_range(const struct fibers *f, const unsigned char **lo, size_t *bytes);

#endif
