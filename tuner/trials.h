#ifndef WEIR_TRIALS_H
#define WEIR_TRIALS_H

/* The trial log: every config that was ever compiled or run for a problem, the failed ones too. On disk it is a journal, one JSON
 * object a line, appended with one write, so that it survives a kill at any moment and several tuners may share it; in memory a
 * list. Kernel Tuner's T4 results are exported from it (formats.h). */

#include "space.h"

enum trial_validity {
    TRIAL_CORRECT,
    TRIAL_COMPILE,
    TRIAL_RUNTIME,
    TRIAL_CORRECTNESS,
    TRIAL_CONSTRAINTS,
    TRIAL_TIMEOUT
};

/* T4's word for it, "correct", "compile", ...; and back: -1 for an unknown word. */
const char *trial_validity_name(enum trial_validity v);
int trial_validity_of(const char *name);

enum { TRIAL_RUNS_MAX = 24 };

struct trial {
    char gpu[48];                /* name in gpus.lua */
    char revision[REVISION_MAX]; /* tune_space_revision of the config then */
    struct tune_problem problem;
    struct pairs config;
    enum trial_validity validity;
    double ms, spread_ms; /* median; 90th less 10th percentile. Only of a correct one */
    int nruns;
    double run_ms[TRIAL_RUNS_MAX]; /* [nruns] what they are the median of */
    double compile_ms, check_ms;
    double error; /* largest difference from the oracle over what rounding may make; 1 is the bound */
    int regs, spills, stack, smem,
        blocks_per_sm; /* of the compiled kernel: bytes, a thread; smem: of a block, dynamic and static */
    long at;           /* seconds since 1970, before the year 10000; 0: unknown */
    char message[200]; /* why it is not correct; "" */
};

struct trials {
    char path[600];
    int fd;               /* of the journal, for appending; -1: it is only read */
    long read_to;         /* bytes of it that are in memory */
    int n, room, damaged; /* damaged: lines that could not be read */
    struct trial *trial;  /* [n], owned */
    bool ends_whole;      /* the journal's last line has its end */
};

/* Opens (and with write set, makes, folders too) a journal and reads all of it. A last line without its end is what a kill left of a
 * trial: it is not there. */
int trials_open(struct trials *t, const char *path, bool write, struct err *err);
void trials_close(struct trials *t);

/* Reads what others have appended since. */
int trials_refresh(struct trials *t, struct err *err);

/* Appends to the journal, on disk before it returns to memory's list. */
int trials_add(struct trials *t, const struct trial *trial, struct err *err);

/* The last trial of a config, or NULL (until the next trials_add). Trials of a config that is rendered as another text now do not count. */
const struct trial *trials_find(const struct trials *t, const struct tune_space *s, int config);

/* Fills slot[config] (indices into s->all.config) with the last trial of each, NULL where there is none: for whole spaces. The
 * pointers hold until the next trials_add or trials_refresh. any_revision: also trials of other texts, as simulation wants. */
void trials_of_space(const struct trials *t, const struct tune_space *s, bool any_revision, const struct trial **slot);

/* A time that a file gives as a trial's `at`: 0 where it is none. */
long trial_at(double seconds);

/* One line of the journal (without its end), and back. The caller frees *line. */
int trial_write(const struct trial *trial, char **line, struct err *err);
int trial_read(const char *line, size_t len, struct trial *out, struct err *err);

#endif
