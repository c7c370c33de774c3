#include "attn_grid.h"

#include <string.h>

#include "gen/gen.h"

const char *attn_prefill_kernel(int sm, int d)
{
    return sm == 90 && (d == 64 || d == 128) ? "attn_prefill_wgmma" : "attn_prefill";
}

bool attn_kernel_serves(const char *kernel, int sm, int d)
{
    return strncmp(kernel, "attn_prefill", strlen("attn_prefill")) != 0 || !strcmp(kernel, attn_prefill_kernel(sm, d));
}

static int between(int x, int lo, int hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

int attn_decode_splits(int sms, int blocks_per_sm, int kv_heads, int keys)
{
    return between(sms * blocks_per_sm / kv_heads, 1, keys / 64 + 1);
}

int attn_decode_share(const struct gen_kernel *k, int resident)
{
    int share = (int)gen_value(k, "bs");
    return share > 0 && share < resident ? share : resident;
}

int attn_decode_stride(int rows)
{
    return (rows + 1 + 7) / 8 * 8;
}

int attn_decode_layers(int layers, int heads, int stride)
{
    const int room = 4 << 20; /* floats: an A100 has 40 MB of L2, and weights and caches pass through it */
    return between(room / heads / stride, 1, layers);
}

int attn_decode_slices(const struct gen_kernel *k, int sms, int cascades, int keys)
{
    int rows = (int)k->threads * (int)gen_value(k, "u"), least = (int)gen_value(k, "bs") * sms / cascades;
    return between(keys / rows + 1, least, 8 * sms / cascades + 1);
}
