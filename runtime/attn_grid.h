#ifndef WEIR_ATTN_GRID_H
#define WEIR_ATTN_GRID_H

/* How many blocks a decode step's kernels are launched with: for everyone who launches them. Any number gives a right result. */

struct gen_kernel;

/* Splits of attn_decode for up to `keys` held keys: as many as fill the GPU once with so many blocks a multiprocessor, each of at least
 * 64 keys. */
int attn_decode_splits(int sms, int blocks_per_sm, int kv_heads, int keys);

/* The blocks a multiprocessor that the keys are split for, where it holds `resident` of this attn_decode: its tile may say fewer. */
int attn_decode_share(const struct gen_kernel *k, int resident);

/* Slices of this attn_merge: so many blocks a multiprocessor as its tile says, two of them find room beside attn_decode, and so wait for it
 * on the spot; more when a block's rows would not all be in flight at once. */
int attn_merge_slices(const struct gen_kernel *k, int sms, int cascades, int keys);

#endif
