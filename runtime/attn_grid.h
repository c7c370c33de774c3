#ifndef WEIR_ATTN_GRID_H
#define WEIR_ATTN_GRID_H

/* For everyone who launches the kernels of attention: which serves a chunk, and how many blocks a decode step's are launched with (any
 * number gives a right result). */

#include <stdbool.h>

struct gen_kernel;

/* The kernel of a chunk's attention on a GPU of compute capability sm with heads of d elements: attn_prefill, or where there are products
 * of warpgroups attn_prefill_wgmma, which makes the same of the same arguments. */
const char *attn_prefill_kernel(int sm, int d);
/* Whether a model on that GPU may launch the kernel: false for the one of these two that it does not. */
bool attn_kernel_serves(const char *kernel, int sm, int d);

/* Splits of attn_decode for up to `keys` held keys: as many as fill the GPU once with so many blocks a multiprocessor, each of at least
 * 64 keys. */
int attn_decode_splits(int sms, int blocks_per_sm, int kv_heads, int keys);

/* The blocks a multiprocessor that the keys are split for, where it holds `resident` of this attn_decode: its tile may say fewer. */
int attn_decode_share(const struct gen_kernel *k, int resident);

/* Floats from one head's logits to the next, where a layer's cache has so many rows: those and the token's own key, in whole pieces of 32
 * bytes. */
int attn_decode_stride(int rows);

/* Layers whose logits are kept until one launch of attn_decode_scores takes them: as many as stay in a large L2, where
 * there is one. stride: attn_decode_stride. */
int attn_decode_layers(int layers, int heads, int stride);

/* Slices of this attn_decode_scores over so many cascades, of all its layers: so many blocks a multiprocessor as its tile says; more when a
 * block's rows would not all be in flight at once. */
int attn_decode_slices(const struct gen_kernel *k, int sms, int cascades, int keys);

#endif
