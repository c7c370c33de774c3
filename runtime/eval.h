#ifndef WEIR_EVAL_H
#define WEIR_EVAL_H

/* What weir eval ppl and weir eval passkey share. */

#include "session.h"

enum { EVAL_MAX_SETTINGS = OPTION_MAX_TEXTS };

/* One row of a comparison: a cascade, and the line that names it. */
struct eval_setting {
    char label[160];
    struct cascade_params p;
};

/* Settings side by side: each text is a string of cascade options on top of those of the command line; with no texts there is
 * one setting, the command line's. ctx_train as for cascade_options_finish, and 0 checks before a model is open. Returns how
 * many settings it wrote, or -1 with *err (a usage error). */
int eval_settings(const struct cascade_options *base, const struct option_texts *texts, int ctx_train,
                  struct eval_setting *out, struct err *err);

enum { EVAL_MAX_LENGTHS = 16 };

/* Reads "4096,6144": rising token counts from `least` on. Returns how many, or -1 with *err (a usage error). */
int eval_lengths(const char *text, int least, int length[EVAL_MAX_LENGTHS], struct err *err);

int eval_ppl(int argc, char **argv, struct err *err);     /* as a cmd_fn */
int eval_passkey(int argc, char **argv, struct err *err); /* as a cmd_fn */

#endif
