#ifndef TESTS_FAKE_DRIVER_H
#define TESTS_FAKE_DRIVER_H

/* A CUDA driver without a GPU: it counts what is made and released, notes what is launched, and fails where it is told to. */

#include <stdbool.h>

#include "runtime/cuda_api.h"

/* The driver's state. Handles are numbers. */
extern struct fake_driver {
    int calls, fail_at, fail_with; /* call number fail_at fails so; 0: none does */
    int contexts, streams, events, modules, graphs, execs, allocations;
    int launches, overlapping, replays, syncs;
    int smem_max;
    bool capturing, current;
    unsigned grid[3], block, smem;
    void **args;
} fake_driver;

extern const struct cuda_api fake_api;

/* Whether all that was made has been released. */
bool fake_driver_nothing_left(void);

#endif
