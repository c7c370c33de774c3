#ifndef WEIR_THREADS_H
#define WEIR_THREADS_H

/* A pool of threads for short parallel loops. A loop's items are handed out one at a time from a shared counter, so a thread
 * whose core is taken away holds up one item and not a share of the loop, and one that is asleep holds up nothing: the caller
 * works too, and waits only for those who took part. Idle threads look for the next loop for a moment, then sleep. */

#include "err.h"

struct pool; /* opaque */

/* fn(context, item, thread): item 0..items-1, each exactly once; thread 0..threads-1, for scratch memory of its own. */
typedef void pool_fn(void *context, int item, int thread);

/* threads >= 1, the calling thread among them; 0: as many as there are cores that this process may use, at most
 * POOL_MAX_THREADS. Fewer than asked for are no error where the system refuses to start them. Free with pool_close. */
enum { POOL_MAX_THREADS = 64 };
int pool_open(struct pool **out, int threads, struct err *err);
void pool_close(struct pool *p);

/* Threads that it has, the caller among them. */
int pool_threads(const struct pool *p);
/* Threads that 0 stands for. */
int pool_cores(void);

/* Runs all items and returns when they are done. One loop at a time; not from inside a loop. */
void pool_run(struct pool *p, int items, pool_fn *fn, void *context);

#endif
