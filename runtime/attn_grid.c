#include "attn_grid.h"

static int between(int x, int lo, int hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

int attn_decode_splits(int sms, int blocks_per_sm, int kv_heads, int keys)
{
    return between(sms * blocks_per_sm / kv_heads, 1, keys / 64 + 1);
}

int attn_merge_slices(int sms, int cascades, int keys, int rows_a_block)
{
    return between(keys / rows_a_block + 1, 2 * sms / cascades, 8 * sms / cascades + 1);
}
