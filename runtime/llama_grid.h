#ifndef WEIR_LLAMA_GRID_H
#define WEIR_LLAMA_GRID_H

/* How many blocks the kernels of the forward pass are launched with (x of the grid; y and z are 1): for everyone who launches
 * them. embed and rms_norm want one block a token and are not here. */

#include <stddef.h>
#include <stdint.h>

#include "../gen/gen.h"

/* matvec: each block takes outputs until none is left, so any number gives a right result; this one fills the GPU once, with
 * `blocks_per_sm` resident (occupancy_of), or gives each block its outputs where there are fewer. outputs: the argument `rows`. */
unsigned llama_grid_matvec(const struct gen_kernel *k, int outputs, int sms, int blocks_per_sm);

/* swiglu and add_bias: one thread a piece of eight of T rows of n elements. */
unsigned llama_grid_pieces(const struct gen_kernel *k, int64_t T, int n);

/* dequantise: any number will do. */
unsigned llama_grid_dequantise(const struct gen_kernel *k, int64_t elements, int sms);

/* The output's logits of several rows are made a piece of the vocabulary at a time, so many tokens of it; likelihood is launched after
 * each piece for a block a row. */
enum { LLAMA_VOCAB_PIECE = 8192, LLAMA_LOGIT_ROWS = 64 /* whose whole logits are held, with as long a stride */ };
int llama_vocab_piece(int vocab);
/* Rows whose logits of a piece are made at once with chunks of `stride` tokens: as many as there is memory for. */
int llama_vocab_rows(int vocab, int stride);
/* fp32 numbers of that memory. */
size_t llama_logit_room(int vocab, int stride);

/* sample: blocks for all logits at once, as far as its scratch memory goes; and the fp32 numbers of that. */
unsigned llama_grid_sample(const struct gen_kernel *k, int vocab, int sms);
size_t llama_sample_room(int vocab);

#endif
