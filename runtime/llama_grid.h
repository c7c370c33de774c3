#ifndef WEIR_LLAMA_GRID_H
#define WEIR_LLAMA_GRID_H

/* How many blocks the kernels of the forward pass are launched with (x of the grid; y and z are 1): for everyone who launches
 * them. embed and rms_norm want one block a token and are not here. */

#include <stdint.h>

#include "../gen/gen.h"

/* matvec: each block takes outputs until none is left, so any number gives a right result; this one fills the GPU once, with
 * `blocks_per_sm` resident (occupancy_of), or gives each block its outputs where there are fewer. outputs: the argument `rows`. */
unsigned llama_grid_matvec(const struct gen_kernel *k, int outputs, int sms, int blocks_per_sm);

/* swiglu and add_bias: one thread a piece of eight of T rows of n elements. */
unsigned llama_grid_pieces(const struct gen_kernel *k, int64_t T, int n);

/* dequantise: any number will do. */
unsigned llama_grid_dequantise(const struct gen_kernel *k, int64_t elements, int sms);

/* sample: blocks for all logits at once, as far as its scratch memory goes. */
unsigned llama_grid_sample(const struct gen_kernel *k, int vocab, int sms);

#endif
