#ifndef WEIR_PROBLEM_GRAPHS_H
#define WEIR_PROBLEM_GRAPHS_H

/* For families whose launch is a chain of them: chains as graphs, since launches one by one are slower than the kernels. Kept are
 * those of the config that is tried and of the one that it is timed in turn with. */

#include "problem.h"

enum {
    PROBLEM_GRAPHS = 2,
    PROBLEM_CHAIN_BYTES = 3 << 26 /* that a chain is to go over: no L2 keeps them until it comes round again */
};

struct problem_graphs {
    struct {
        void *graph;
        const struct device_kernel *of;
    } made[PROBLEM_GRAPHS];
    int oldest;
};

/* What a family enqueues for its problem with k in the place of its own. */
typedef int problem_enqueue(struct problem *p, const struct kernel *k, struct err *err);

/* Captures k's chain unless it is there, so that no time of it is measured; nothing where the device has no graphs. */
int problem_graphs_make(struct problem_graphs *g, struct problem *p, const struct kernel *k, problem_enqueue *enqueue,
                        struct err *err);

/* Replays k's chain, or enqueues it where the device has no graphs. */
int problem_graphs_launch(struct problem_graphs *g, struct problem *p, const struct kernel *k, problem_enqueue *enqueue,
                          struct err *err);

/* Releases the chain of k, or all with k NULL. */
void problem_graphs_drop(struct problem_graphs *g, struct problem *p, const struct kernel *k);

#endif
