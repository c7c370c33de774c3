#ifndef WEIR_COMPILE_POOL_H
#define WEIR_COMPILE_POOL_H

/* Compiles configs on all cores ahead of their measurement, each core a process. The cubins go into the cache on disk, where whoever
 * measures finds them; what comes back is ptxas' facts, or why there is no cubin. */

#include "trials.h"
#include "worker.h"

enum compile_state { COMPILE_NONE, COMPILE_QUEUED, COMPILE_DONE };

/* What became of one config. The caller keeps it; the pool fills it in. */
struct compiled {
    enum compile_state state;
    enum trial_validity validity;                 /* TRIAL_CORRECT: there is a cubin */
    int regs, spills, stack, smem, blocks_per_sm; /* as in struct trial */
    double ms;
    char message[200];
};

struct compile_pool;

/* workers: processes, 0 for one a core. home: the folder of gen/ and templates/, or NULL. */
int compile_pool_open(struct compile_pool **out, int workers, const char *home, struct err *err);
void compile_pool_close(struct compile_pool *p);
int compile_pool_workers(const struct compile_pool *p);

/* Puts a config in the queue unless it is there or done. slot and the space must stay where they are until it is done. */
int compile_pool_add(struct compile_pool *p, const struct tune_space *s, int config, struct compiled *slot,
                     struct err *err);

/* Works on the queue until *slot is done. -1 also when a signal came (errno is EINTR). */
int compile_pool_wait(struct compile_pool *p, const struct compiled *slot, struct err *err);

/* Forgets what is still queued (slots become COMPILE_NONE again), so that a space may be closed; what runs is finished first. */
void compile_pool_drain(struct compile_pool *p);

#endif
