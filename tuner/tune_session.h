#ifndef WEIR_TUNE_SESSION_H
#define WEIR_TUNE_SESSION_H

/* One GPU with all that tuning it needs: where its times come from, its trial log and its wisdom file. For commands. */

#include "tune.h"
#include "wisdom_write.h"

struct tune_session {
    struct gen *gen;            /* the caller's */
    const struct pairs *fixed;  /* tile parameters that are not searched; the caller's, or NULL */
    char gpu[GEN_GPU_MAX];      /* as gen_* calls take it */
    struct gen_gpu facts;       /* of it */
    struct meter meter;         /* owned; close NULL: nothing is measured here */
    struct trials trials;       /* owned; the log, while it is open */
    char log[700], wisdom[700]; /* paths */
};

/* Opens what times come from: a file of trials that stands for a GPU, or with NULL this machine's GPU. */
int tune_session_measure(struct tune_session *s, const char *simulate, struct err *err);

/* Which GPU it is about: by name or file; NULL: the meter's. */
int tune_session_gpu(struct tune_session *s, const char *name, struct err *err);

/* Fills in the paths, once the GPU is known. log, wisdom: files that were given, or NULL: trials/GPU.jsonl in the cache folder, and GPU.json
 * in the first folder that wisdom is looked for in; with `own`, in the last one, which is the user's. */
void tune_session_paths(struct tune_session *s, const char *log, const char *wisdom, bool simulated, bool own);

/* Head of a wisdom file for it, without entries. */
void tune_session_head(const struct tune_session *s, struct wisdom_file *head);

/* Opens the log at s->log, to be added to. */
int tune_session_log(struct tune_session *s, struct err *err);

/* Runs t (whose meter and trials become the session's) on one problem, tells its result where anything was measured, and keeps the best as
 * wisdom, or the default where that is as good within the noise. */
int tune_session_run(struct tune_session *s, struct tune *t, const struct tune_problem *problem,
                     void (*tell)(void *user, const struct tune_state *result), void *user, struct err *err);

/* The same for the log alone: wisdom stays as it is. */
int tune_session_try(struct tune_session *s, struct tune *t, const struct tune_problem *problem,
                     void (*tell)(void *user, const struct tune_state *result), void *user, struct err *err);

/* Closes meter and log. */
void tune_session_close(struct tune_session *s);

#endif
