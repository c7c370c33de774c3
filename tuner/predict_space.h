#ifndef WEIR_PREDICT_SPACE_H
#define WEIR_PREDICT_SPACE_H

/* Predictions of a whole space, in two stages: every config from its spec, then the leaders again from their machine code, compiled on
 * all cores. Times of the two stages are not comparable; where there are some of the second, they decide. */

#include "predict.h"
#include "space.h"

struct predict_space {
    int n;                  /* = nvalid */
    struct prediction *all; /* [n] from the spec, by index into space->valid; ms 0: the model cannot say. Owned */
    struct prediction *sim; /* [n] from the machine code; ms 0: not compiled, or not to be read. Owned */
    int *order;             /* [n] best first: those of the second stage, then the rest. Owned */
    int pick;     /* the first of them, or the kernel's default where the model cannot tell that it is slower */
    int compiled; /* how many are of the second stage */
    int refused;  /* that did not compile */
};

/* compile: how many leaders go through the second stage, and the default beside them; 0: none. keep(user, config): whether a config (an index into space->valid) is
 * compiled whatever its place; NULL: none. -1 where nothing can be predicted; *err then says why of the last one. */
int predict_space(const struct tune_space *s, int compile, bool (*keep)(void *user, int config), void *user,
                  struct predict_space *out, struct err *err);

/* Takes one more config (an index into space->valid) through the second stage; the order follows. */
int predict_space_add(const struct tune_space *s, struct predict_space *p, int config, struct err *err);
void predict_space_free(struct predict_space *p);

/* The better known prediction of a config. */
const struct prediction *predict_space_of(const struct predict_space *p, int config);

#endif
