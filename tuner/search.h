#ifndef WEIR_SEARCH_H
#define WEIR_SEARCH_H

/* In which order configs are measured. A search knows a space as points: each a row of coordinates (its tile values) and, where a model
 * has predicted it, a time. It says which point is next and is told what became of it; who measures, and how, is not its business. */

#include <stdbool.h>
#include <stdint.h>

#include "runtime/err.h"

enum search_kind { SEARCH_EXHAUSTIVE, SEARCH_RANDOM, SEARCH_LOCAL, SEARCH_GUIDED };

/* The words of --search, in order of the enum: "exhaustive|random|local|guided". */
extern const char search_kinds[];

struct search {
    enum search_kind kind;
    int n, dims;
    const long *at;          /* [n][dims] coordinates; the caller's */
    const double *predicted; /* [n] ms, 0 where there is no prediction; the caller's */
    uint64_t seed;           /* state of the random numbers */
    int measured;            /* how many are done */
    double *ms;              /* [n] 0: not done, INFINITY: failed; owned */
    int best;                /* -1: none yet */
    int *order;              /* [n] for exhaustive and random search; owned */
    double *unit;            /* [n][dims] coordinates from 0 to 1, by octaves; owned */
    struct guide *guide;     /* guided search: owned */
};

/* first: the point to begin with (the kernel's default), or -1. */
int search_open(struct search *s, enum search_kind kind, int n, int dims, const long *at, const double *predicted,
                int first, uint64_t seed, struct err *err);
void search_close(struct search *s);

/* The next points, best first: as many as `want` and there are. The first is to be measured now; the others are likely to follow. Returns
 * how many. */
int search_next(struct search *s, int want, int *point);

/* ms 0: it failed. */
void search_report(struct search *s, int point, double ms);

/* search_guided.c: what Gaussian processes over log(measured / predicted), and over the times alone, make of every point. */
int guide_open(struct search *s, struct err *err);
void guide_close(struct search *s);
int guide_next(struct search *s, int want, int *point);

#endif
