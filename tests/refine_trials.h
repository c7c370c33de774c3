#ifndef TESTS_REFINE_TRIALS_H
#define TESTS_REFINE_TRIALS_H

/* What the tests of the last stage of tuning share: tiles by their text, and trials of them. After cmocka.h. */

#include <stdio.h>

#include "tuner/trials.h"

static inline struct pairs tile(const char *text)
{
    struct pairs p;
    struct err err = {""};
    if (pairs_parse(&p, text, &err) != 0)
        fail_msg("%s", err.msg);
    return p;
}

/* A trial of a config of the space, with the space's revision where none is given. */
static inline void put_trial(struct trials *to, const struct tune_space *s, const char *config, double ms, int blocks,
                             enum trial_validity validity, const char *revision)
{
    struct err err = {""};
    struct trial t = {.problem = s->problem, .config = tile(config), .ms = ms, .blocks_per_sm = blocks};
    int c = tune_space_find(s, &t.config);
    if (c < 0 || s->all.config[c].broken[0])
        fail_msg("%s is no config", config);
    t.validity = validity;
    snprintf(t.gpu, sizeof t.gpu, "%s", s->gpu.name);
    snprintf(t.revision, sizeof t.revision, "%s", revision ? revision : tune_space_revision(s, c));
    if (trials_add(to, &t, &err) != 0)
        fail_msg("%s", err.msg);
}

#endif
