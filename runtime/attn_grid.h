#ifndef WEIR_ATTN_GRID_H
#define WEIR_ATTN_GRID_H

/* How many blocks a decode step's kernels are launched with: for everyone who launches them. Any number gives a right result. */

/* Splits of attn_decode for up to `keys` held keys: as many as fill the GPU once, each of at least 64 keys. */
int attn_decode_splits(int sms, int blocks_per_sm, int kv_heads, int keys);

/* Slices of attn_merge: two blocks a multiprocessor find room beside attn_decode, and so wait for it on the spot; more when a
 * block's rows would not all be in flight at once. rows_a_block: threads * u. */
int attn_merge_slices(int sms, int cascades, int keys, int rows_a_block);

#endif
