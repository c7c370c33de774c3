#ifndef WEIR_WEAVE_H
#define WEIR_WEAVE_H

/* A model's matrices woven (simd.h) for the CPU: made when the first CPU backend of the model opens, shared by all later ones, freed with
 * the model. Woven matrices take the memory of the file's pages, which are given back while they are made. */

#include "err.h"
#include "simd.h"
#include "threads.h"

struct model;

/* One layer's woven matrices, each NULL where it is not: the version has none of its type, or it has no whole groups of rows. */
struct weave_layer {
    const unsigned char *wq, *wk, *wv, *wo, *gate, *up, *down;
};

struct weave_model {
    struct weave_layer *layer;   /* [layers] */
    const unsigned char *output; /* likewise */
};

struct weave; /* opaque: what a model owns */
int weave_open(struct weave **out, struct err *err);
void weave_close(struct weave *w);

/* The woven form of m for one version; weaves with the pool where that has not been done. NULL where there is nothing to weave, where another
 * version has woven, or where the memory is not there: then the file's form serves. May be called from several threads. */
const struct weave_model *weave_model(const struct model *m, const struct simd *simd, struct pool *pool);

#endif
