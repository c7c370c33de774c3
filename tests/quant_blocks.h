#ifndef TESTS_QUANT_BLOCKS_H
#define TESTS_QUANT_BLOCKS_H

/* Random weights of every type of GGUF, packed from the numbers that they mean: so the values do not come from any decoder. */

#include <stddef.h>
#include <stdint.h>

#include "device_kit.h"

enum { WEIGHT_TYPES = 11 };

/* What a type is called in kernels ("q4_0") and in GGUF (quant.h). */
struct weight_type {
    const char *name;
    int gguf, block, bytes; /* weights and bytes of a block */
};
extern const struct weight_type weight_types[WEIGHT_TYPES];

struct weights {
    const struct weight_type *type;
    size_t bytes;  /* of data */
    uint8_t *data; /* blocks, owned */
    double *value; /* [count], owned */
};

/* count: a multiple of the block. Weights of size 1 or so, all quantised numbers, scales and signs alike. */
void weights_random(struct kit *k, struct weights *w, const struct weight_type *type, size_t count);
void weights_free(struct weights *w);

#endif
