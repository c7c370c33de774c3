#ifndef WEIR_METER_H
#define WEIR_METER_H

/* How configs get their times: from this machine's GPU (meter_device.c), or from a table of trials made earlier, which stands for a GPU
 * where there is none (meter_table.c). */

#include "compile_pool.h"
#include "runtime/device.h"

/* How a space stands while it is measured. The anchor is the first config that was right: its time then and now says what the clock has
 * done since. It is not the best so far, whose time is the least of many and so less than it takes: what is compared with that would
 * look faster with every new best. */
struct meter_standing {
    int anchor, best; /* configs, -1: none yet */
    double anchor_ms, best_ms;
};

struct meter {
    void *state;               /* owned */
    struct device_facts facts; /* of the GPU; of a table: its name only */
    int cores;                 /* configs worth being told of ahead */

    /* These configs will be wanted soon, in this order. slots [all.nconfigs] stay where they are until `leave`. */
    int (*ahead)(struct meter *m, const struct tune_space *s, const int *config, int n, struct compiled *slots,
                 struct err *err);

    /* Compiles, checks and times one config, in turn with the anchor; of one far behind the best only roughly. Whatever becomes of it is a
     * trial; -1 only where nothing can be measured at all, or a signal came. */
    int (*measure)(struct meter *m, const struct tune_space *s, int config, const struct meter_standing *now,
                   struct compiled *slots, struct trial *out, struct err *err);

    /* The space is done with. */
    void (*leave)(struct meter *m);
    void (*close)(struct meter *m);
};

/* GPU 0 of this machine, in a process of its own. home: folder of gen/ and templates/, or NULL. */
int meter_device_open(struct meter *m, const char *home, struct err *err);

/* The same with another device: open_bench opens it, in the process that measures. How tests bring one that hangs. */
struct bench;
int meter_device_open_with(struct meter *m, const char *home, int (*open_bench)(struct bench *b, struct err *err),
                           double trial_seconds, struct err *err);

/* A trial log. Configs that it does not hold are TRIAL_CONSTRAINTS. */
int meter_table_open(struct meter *m, const char *path, struct err *err);

/* Fills in what every trial of a config has in common. */
void meter_begin_trial(const struct tune_space *s, int config, struct trial *out);

#endif
