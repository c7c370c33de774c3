/* Saved streams. What a mutation makes of one gets the length and the checksum that fit, so that it is read beyond them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "runtime/sha256.h"
#include "runtime/stream_file.h"

enum { LENGTH_AT = 12, DIGEST = 32 };

struct spec {
    int layers, kv_heads, head_dim, window, subcaches, span;
    int64_t seen;
    enum cascade_policy policy;
    bool logits;
};

static int give_layer(struct backend *be, int layer, const struct cache_layer *to, struct err *err)
{
    return 0; /* zeros will do */
}

struct bytes fuzz_seed(int i)
{
    static const struct spec specs[] = {
        {1, 1, 4, 8, 2, 2, 13, POLICY_INDEPENDENT, true},
        {2, 2, 2, 12, 3, 1, 40, POLICY_HOMOGENEOUS, false},
        {1, 2, 2, 4, 1, 1, 0, POLICY_INDEPENDENT, false},
    };
    struct bytes b = {0};
    if (i >= (int)(sizeof specs / sizeof *specs))
        return b;
    const struct spec *s = &specs[i];
    int32_t recent[3] = {1, 2, 3};
    float logits[4] = {0, 1, 2, 3};
    struct stream_head h = {.layers = s->layers,
                            .kv_heads = s->kv_heads,
                            .head_dim = s->head_dim,
                            .vocab = 4,
                            .cache_type = QUANT_F32,
                            .cascade = cascade_defaults(),
                            .seen = s->seen,
                            .sampler = {sampler_defaults(), 7, 3, recent},
                            .chat = {true, "chatml"},
                            .logits = s->logits ? logits : NULL};
    h.cascade.sinks = 1, h.cascade.window = s->window, h.cascade.subcaches = s->subcaches, h.cascade.span = s->span;
    h.cascade.policy = s->policy;
    struct backend be = {.read_layer = give_layer};
    struct err err;
    char path[] = "/tmp/weir-fuzz-XXXXXX", block[512];
    int fd = mkstemp(path);
    FILE *f = fd >= 0 && stream_file_write(path, &h, &be, &err) == 0 ? fopen(path, "rb") : NULL;
    if (!f)
        abort();
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        bytes_put(&b, block, n);
    fclose(f);
    remove(path);
    b.size -= DIGEST;
    return b;
}

static int touch_layer(struct backend *be, int layer, const struct cache_layer *from, struct err *err)
{
    const struct stream_head *h = be->state;
    size_t rows = (size_t)cascade_rows(&h->cascade), keys = (size_t)h->kv_heads * rows;
    volatile unsigned char last = ((unsigned char *)from->k)[keys * (size_t)h->head_dim * 4 - 1];
    last = ((unsigned char *)from->v)[keys * (size_t)h->head_dim * 4 - 1];
    (void)last;
    return 0;
}

static int touch_clock(struct backend *be, int64_t t, struct err *err)
{
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stream_file f;
    struct err err = {""};
    struct sha256 sum;
    uint64_t whole = size + DIGEST;
    unsigned char *copy = malloc(size + DIGEST);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    if (size >= LENGTH_AT + 8)
        memcpy(copy + LENGTH_AT, &whole, 8);
    sha256_begin(&sum);
    sha256_add(&sum, copy, size);
    sha256_end(&sum, copy + size);
    if (stream_file_open_memory(&f, copy, size + DIGEST, "input", &err) == 0) {
        /* A window of gigabytes that is empty is a stream that can be; there is no need to make room for it here. */
        double room = (double)f.head.kv_heads * cascade_rows(&f.head.cascade) * f.head.head_dim;
        struct backend be = {.name = "fuzz",
                             .cache_type = QUANT_F32,
                             .write_layer = touch_layer,
                             .set_clock = touch_clock,
                             .state = &f.head};
        if (room < 1 << 20 && f.head.layers < 100 && stream_file_load(&f, &be, &err) != 0)
            abort();
        stream_file_close(&f);
    } else if (!err.msg[0] || strchr(err.msg, '\n')) {
        abort();
    }
    free(copy);
    return 0;
}
