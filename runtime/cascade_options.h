#ifndef WEIR_CASCADE_OPTIONS_H
#define WEIR_CASCADE_OPTIONS_H

/* The cascade's options, the same for run, chat, eval, bench and trace. */

#include "cascade.h"
#include "options.h"

enum cascade_preset { PRESET_NONE, PRESET_PAPER, PRESET_STREAMING };

struct cascade_options {
    struct cascade_params p; /* holds what was given; cascade_options_finish fills in the rest */
    int preset;
    const char *schedule; /* NULL: p.every is as it should be */
    bool window_given, subcaches_given, span_given,
        reduction_given;     /* single options win over a preset and the defaults */
    struct option table[24]; /* ends with a NULL name */
};

/* Fills in the defaults and the table that options_parse reads into *o, which must stay where it is. */
void cascade_options_init(struct cascade_options *o);

/* Drops the rows that concern attention (--ema, --head-reduction, --head-policy, --positions), for trace, which has none. */
void cascade_options_without_attention(struct cascade_options *o);

/* After parsing: preset, schedule by name, default window and span, cascade_check. ctx_train is the model's trained context in
 * tokens, or 0 where there is no model. Returns 0, or -1 with *err naming option and value (a usage error). */
int cascade_options_finish(struct cascade_options *o, int ctx_train, struct err *err);

/* Takes a cascade that is known whole, a saved stream's: all its values are as if given, and options that are parsed later win. */
void cascade_options_adopt(struct cascade_options *o, const struct cascade_params *p);

/* A copy that stands on its own (the table points into its own struct), for another set of options on top of these. */
void cascade_options_copy(struct cascade_options *to, const struct cascade_options *from);

/* The words of an option's value. */
const char *cascade_select_name(enum cascade_select s);
const char *cascade_reduction_name(enum cascade_reduction r);

/* One line that tells settings apart: "N=4 W=2048 B=16 T=1024 mean", and whatever else differs from the defaults. */
void cascade_describe(const struct cascade_params *p, char *out, size_t room);

#endif
