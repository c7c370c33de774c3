#ifndef TESTS_ORACLE_CASCADE_H
#define TESTS_ORACLE_CASCADE_H

/* The cascade of the design's section 3, token by token and straight from its text: lists of token numbers, no rings, no
 * groups, no closed forms. One of these is one cascade (of a key head, or of a layer where the head policy is homogeneous).
 * It shares no code with runtime/, only the struct of parameters. Running out of memory ends the test program. */

#include <stdint.h>

#include "runtime/cascade.h"

struct oracle_cascade {
    struct cascade_params p;
    int64_t t;                           /* tokens inserted; the next one has this number */
    int nsinks, npending;                /* tokens in the lists below */
    int count[CASCADE_MAX_SUBCACHES];    /* tokens in sub-cache i, a multiple of the span */
    int64_t *sinks;                      /* [S] */
    int64_t *pending;                    /* [B] "while the span is incomplete its tokens are pending" */
    int64_t *sub[CASCADE_MAX_SUBCACHES]; /* [N][w] oldest first; each B of them are one span */
    double *score;                       /* [room], by token number; the caller may change it between insertions */
    int64_t room;
    double closest; /* smallest difference of two compared scores, relative to the larger; infinite before any */
};

/* Parameters that cascade_check accepts. Selection random is not modelled. Freed by oracle_cascade_close. */
void oracle_cascade_open(struct oracle_cascade *c, const struct cascade_params *p);
void oracle_cascade_close(struct oracle_cascade *c);

/* "Then insertion token by token": token c->t arrives with its score. */
void oracle_cascade_insert(struct oracle_cascade *c, double score);

/* "Positions are places in the cache": writes the held token numbers in the order sinks, sub-cache N-1 oldest to newest, ...,
 * sub-cache 0 oldest to newest, pending, and returns how many (never more than S + W + B - 1). */
int oracle_cascade_held(const struct oracle_cascade *c, int64_t *tokens);

#endif
