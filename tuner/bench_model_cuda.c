/* weir bench model on a GPU: prompts and decoding as inference does them, beside the rate at which the GPU copies memory; and how long
 * each kind of kernel takes of a token's time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_model.h"
#include "runtime/backend_cuda.h"
#include "runtime/sampler.h"

struct cuda_bench {
    struct model_bench *b;
    struct cuda_backend *c;
    struct bench g;      /* borrows the backend's device */
    double weight_bytes; /* that a token reads: all but the embedding's */
    unsigned parts;      /* of a token's step, that enqueue launches */
};

static int held(const struct model_bench *b)
{
    struct cascade_state s;
    cascade_state_at(&b->s.stream->cascade, b->s.stream->backend.seen(&b->s.stream->backend), &s);
    return cascade_held(&b->s.stream->cascade, &s);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One row: milliseconds a token; bytes that a token must read, or 0. */
static void row(struct cuda_bench *x, const char *work, int keys, double ms, double spread, double bytes)
{
    double gbs = bytes / ms / 1e6, of_copy = 100 * gbs / x->g.copy_gbs, peak = x->g.gpu.dram_gbs,
           of_peak = peak > 0 ? 100 * gbs / peak : 0;
    switch ((enum bench_format)x->b->format) {
    case BENCH_MD:
        if (x->b->rows == 0)
            printf("| work | keys held | tokens/s | ms a token | +- | MB a token | GB/s | of the copy rate | of the "
                   "datasheet |\n"
                   "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        printf("| %s | %d | %.1f | %.4f | %.4f | ", work, keys, 1e3 / ms, ms, spread);
        if (bytes > 0)
            printf("%.1f | %.0f | %.0f %% | %.0f %% |\n", bytes / 1e6, gbs, of_copy, of_peak);
        else
            printf("- | - | - | - |\n");
        break;
    case BENCH_CSV:
        if (x->b->rows == 0)
            printf("work,keys,tokens_per_s,ms,spread_ms,bytes,gbs,of_copy,of_datasheet\n");
        printf("%s,%d,%.3f,%.6f,%.6f,%.0f,%.1f,%.4f,%.4f\n", work, keys, 1e3 / ms, ms, spread, bytes, gbs,
               of_copy / 100, of_peak / 100);
        break;
    case BENCH_JSON:
        printf("%s{\"work\":\"%s\",\"keys\":%d,\"tokens_per_s\":%.3f,\"ms\":%.6f,\"spread_ms\":%.6f,\"bytes\":%.0f,"
               "\"gbs\":%.1f,"
               "\"of_copy\":%.4f,\"of_datasheet\":%.4f}",
               x->b->rows ? ",\n " : "[", work, keys, 1e3 / ms, ms, spread, bytes, gbs, of_copy / 100, of_peak / 100);
        break;
    }
    x->b->rows++;
    fflush(stdout);
}

/* --- prompts ------------------------------------------------------------------------------------------------------------------- */

/* Feeds n tokens in chunks and waits for the GPU; seconds into *took. */
static int feed(struct cuda_bench *x, int64_t n, double *took, struct err *err)
{
    struct model_bench *b = x->b;
    struct backend *be = &b->s.stream->backend;
    int stride = b->s.stream->cascade.stride;
    double start = session_clock();
    for (int64_t done = 0; done < n;) {
        int T = n - done < stride ? (int)(n - done) : stride;
        if (llama_forward(be, &b->s.model->model, b->ids, T, err) != 0)
            return -1;
        done += T;
    }
    if (x->c->dev.sync(&x->c->dev, err) != 0)
        return -1;
    *took = session_clock() - start;
    return 0;
}

/* A whole prompt, from an empty cache on; the first time apart, since it makes what later ones find made. */
static int run_prompt(struct cuda_bench *x, struct err *err)
{
    struct model_bench *b = x->b;
    double took;
    char work[64];
    int64_t warm = 2 * (int64_t)b->s.stream->cascade.stride;
    if (feed(x, warm < b->prompt ? warm : b->prompt, &took, err) != 0)
        return -1;
    b->s.stream->backend.reset(&b->s.stream->backend);
    if (feed(x, b->prompt, &took, err) != 0)
        return -1;
    snprintf(work, sizeof work, "prompt of %d tokens", b->prompt);
    row(x, work, held(b), took * 1e3 / b->prompt, 0, 0);
    int64_t full = (int64_t)b->s.stream->cascade.sinks + b->s.stream->cascade.window + b->s.stream->cascade.stride,
            seen = b->s.stream->backend.seen(&b->s.stream->backend);
    return b->full && seen < full ? feed(x, full - seen, &took, err) : 0;
}

/* --- decoding ------------------------------------------------------------------------------------------------------------------- */

static double token_bytes(const struct cuda_bench *x)
{
    return x->weight_bytes + (double)x->b->s.model->model.shape.layers * x->c->kv * 4.0 * held(x->b);
}

/* Token after token, each picked on the GPU (greedy) and read back before the next one, as generation does. */
static int run_decode(struct cuda_bench *x, struct err *err)
{
    struct model_bench *b = x->b;
    struct backend *be = &b->s.stream->backend;
    struct sampler_params greedy = sampler_defaults();
    struct sampler *s = NULL;
    int32_t id = b->ids[0];
    int rc = -1, keys = held(b);
    greedy.temperature = 0;
    if (sampler_open(&s, &greedy, b->s.model->model.shape.vocab, err) != 0)
        return -1;
    b->count = 0;
    for (int i = -8; i < b->tokens; i++) {
        double start = session_clock();
        if (llama_forward(be, &b->s.model->model, &id, 1, err) != 0 || be->pick(be, s, 0, &id, err) != 0)
            goto done;
        if (i >= 0)
            b->seconds[b->count++] = session_clock() - start;
    }
    qsort(b->seconds, (size_t)b->count, sizeof *b->seconds, by_value);
    row(x, "decode, token after token", keys, b->seconds[b->count / 2] * 1e3,
        (b->seconds[b->count * 9 / 10] - b->seconds[b->count / 10]) * 1e3, token_bytes(x));
    rc = 0;
done:
    sampler_close(s);
    return rc;
}

static int enqueue(void *user, struct err *err)
{
    struct cuda_bench *x = user;
    return cuda_decode_enqueue(x->c, x->parts, err);
}

static double linear_bytes(const struct cuda_linear *l)
{
    double bytes = 0;
    for (int i = 0; i < l->parts; i++)
        bytes += (double)l->part[i].bytes;
    return bytes;
}

/* Where a token's time goes: each kind of kernel in a graph of its own, all layers. */
static int run_parts(struct cuda_bench *x, struct err *err)
{
    const struct cuda_backend *c = x->c;
    double layers = x->b->s.model->model.shape.layers, cache = layers * c->kv * 4.0 * held(x->b);
    const struct cuda_layer *l = &c->layer[0];
    const struct {
        const char *name;
        unsigned parts;
        double bytes;
    } all[] = {
        {"whole step, replayed", DECODE_ALL, token_bytes(x)},
        {"  embed", DECODE_EMBED, 0},
        {"  matvec qkv", DECODE_QKV, layers * linear_bytes(&l->qkv)},
        {"  attn_decode", DECODE_ATTENTION, cache},
        {"  attn_decode_scores", DECODE_SCORES, 0},
        {"  attn_decode and its scores", DECODE_ATTENTION | DECODE_SCORES, cache},
        {"  matvec wo", DECODE_WO, layers * linear_bytes(&l->wo)},
        {"  matvec gate, up", DECODE_GATE_UP, layers * linear_bytes(&l->gate_up)},
        {"  matvec down", DECODE_DOWN, layers * linear_bytes(&l->down)},
        {"  cascade_update", DECODE_UPDATE, 0},
        {"  matvec logits", DECODE_LOGITS, linear_bytes(&c->output)},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct bench_time t;
        x->parts = all[i].parts;
        if (bench_graph(&x->g, enqueue, x, &t, err) != 0)
            return -1;
        row(x, all[i].name, held(x->b), t.ms, t.spread, all[i].bytes);
    }
    return 0;
}

int bench_model_cuda(struct model_bench *b, struct err *err)
{
    struct cuda_bench x = {.b = b, .c = b->s.stream->backend.state};
    char gpu[GEN_GPU_MAX];
    int rc = -1;
    x.g.dev = x.c->dev;
    kernel_cache_default(&x.g.cache);
    x.weight_bytes = (double)x.c->weight_bytes -
                     (b->s.model->model.embed != b->s.model->model.output ? (double)b->s.model->model.embed->bytes : 0);
    if (gen_open(&x.g.gen, NULL, err) == 0 &&
        gen_gpu_name(x.g.gen, x.c->dev.facts.name, x.c->dev.facts.sm, gpu, err) == 0 &&
        gen_gpu(x.g.gen, gpu, &x.g.gpu, err) == 0 && bench_copy(&x.g, err) == 0 && run_prompt(&x, err) == 0 &&
        run_decode(&x, err) == 0)
        rc = run_parts(&x, err);
    if (x.g.gen)
        gen_close(x.g.gen);
    return rc;
}
