#ifndef WEIR_CMD_TUNE_PREDICT_H
#define WEIR_CMD_TUNE_PREDICT_H

/* What weir tune does without measuring: --predict, --validate, --report. */

#include "../tuner/report.h"
#include "../tuner/wisdom_write.h"

enum { TUNE_GPUS_MAX = 8 };

struct tune_offline {
    struct gen *gen;
    const struct pairs *fixed; /* tile parameters that stay */
    int compile;               /* leaders of each space whose machine code is looked at */
    int ngpus;
    struct tune_offline_gpu {
        char arg[GEN_GPU_MAX]; /* what gen_* calls take */
        int nproblems;
        struct tune_problem *problem; /* [nproblems], as many for each GPU and in the same order; owned */
        struct wisdom_file head;      /* of its wisdom file; no entries */
        char wisdom[700];             /* path */
        struct trials trials;         /* what is known of it; n 0: nothing */
    } gpu[TUNE_GPUS_MAX];
};

/* Each returns a CMD_ status. Prints the best tile of each problem on each GPU, with the reason and where the GPUs differ, and adds them to
 * the GPUs' wisdom files as predicted. */
int cmd_tune_predict(struct tune_offline *o, struct err *err);

/* Prints what the prediction is worth on the trials that there are. */
int cmd_tune_validate(struct tune_offline *o, struct err *err);

/* Writes the page about all problems on all GPUs. */
int cmd_tune_report(struct tune_offline *o, const char *path, struct err *err);

/* Prints how many trials each search needs on the spaces of the first GPU's log, over so many seeds (cmd_tune_replay.c). */
int cmd_tune_replay(struct tune_offline *o, int seeds, struct err *err);

/* Writes spaces and trials in Kernel Tuner's formats into a folder (cmd_tune_export.c). */
int cmd_tune_export(struct tune_offline *o, const char *folder, struct err *err);

/* Frees the problems and closes the trial logs. */
void cmd_tune_offline_free(struct tune_offline *o);

#endif
