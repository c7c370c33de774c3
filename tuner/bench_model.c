/* weir bench model: a whole model on this machine's CPU, prompt and decoding, with an empty and with a full cache, beside what
 * the machine can do: its rate of multiply-adds (prompt) and its rate of reading memory (decoding), both measured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_model.h"
#include "runtime/model_random.h"
#include "runtime/simd.h"
#include "runtime/threads.h"

/* --- the machine ------------------------------------------------------------------------------------------------------------- */

enum {
    PROBE_BYTES = 128 << 20,
    PROBE_PIECES = 256,
    PROBE_ROUNDS = 5,
    TILE_ROWS = 6,
    TILE_PANELS = 4,
    TILE_DEPTH = 128
};

struct probe {
    const struct simd *simd;
    float *data; /* PROBE_BYTES */
};

/* Reads one piece of the memory: a maximum is one instruction for each load. */
static void read_item(void *context, int item, int thread)
{
    (void)thread;
    struct probe *p = context;
    size_t n = PROBE_BYTES / PROBE_PIECES / sizeof(float);
    float *piece = p->data + (size_t)item * n;
    float largest = p->simd->max(piece, (int)n);
    if (largest > 1) /* never: but it must be worked out */
        piece[0] = largest;
}

/* Products that fit the first-level cache. */
static void product_item(void *context, int item, int thread)
{
    (void)thread;
    struct probe *p = context;
    size_t depth = TILE_DEPTH, width = TILE_PANELS * PANEL;
    float *a = p->data + (size_t)item * (TILE_ROWS * depth + depth * width + TILE_ROWS * width + PANEL);
    struct simd_product product = {.m = TILE_ROWS,
                                   .panels = TILE_PANELS,
                                   .k = TILE_DEPTH,
                                   .a = a,
                                   .a_row = depth,
                                   .b = a + TILE_ROWS * depth,
                                   .b_k = width,
                                   .b_panel = PANEL,
                                   .c = a + TILE_ROWS * depth + depth * width,
                                   .c_row = width};
    for (int i = 0; i < 500; i++)
        p->simd->product(&product);
}

static int measure_machine(struct model_bench *b, struct err *err)
{
    struct pool *pool = NULL;
    struct probe p = {.simd = simd_best(), .data = err_calloc(PROBE_BYTES / 4, 4, "the memory probe", err)};
    int status = -1;
    if (!p.data || pool_open(&pool, b->threads, err) != 0)
        goto done;
    double read = 1e9, multiply = 1e9;
    memset(p.data, 0, PROBE_BYTES); /* pages of its own */
    for (int i = 0; i < PROBE_ROUNDS; i++) {
        double start = session_clock();
        pool_run(pool, PROBE_PIECES, read_item, &p);
        double middle = session_clock();
        pool_run(pool, 32, product_item, &p);
        double end = session_clock();
        read = middle - start < read ? middle - start : read;
        multiply = end - middle < multiply ? end - middle : multiply;
    }
    b->gbs = PROBE_BYTES / read / 1e9;
    b->gflops = 2.0 * TILE_ROWS * TILE_PANELS * PANEL * TILE_DEPTH * 500 * 32 / multiply / 1e9;
    fprintf(stderr, "%s, %d threads: %.1f GFLOP/s fp32, %.1f GB/s read\n", p.simd->name, b->threads, b->gflops, b->gbs);
    status = 0;
done:
    pool_close(pool);
    free(p.data);
    return status;
}

/* --- what a token costs -------------------------------------------------------------------------------------------------------- */

static double matrix_values(const struct tensor *t)
{
    return (double)t->ne[0] * (double)t->ne[1];
}

/* Bytes and multiply-adds of all matrices but the embedding's rows; the output's apart, since a chunk needs one row of it. */
static void model_costs(const struct model *m, double *bytes, double *flops, double *output_flops)
{
    *bytes = (double)m->output->bytes;
    *output_flops = 2 * matrix_values(m->output);
    *flops = 0;
    for (int i = 0; i < m->shape.layers; i++) {
        const struct model_layer *l = &m->layer[i];
        const struct tensor *all[] = {l->wq, l->wk, l->wv, l->wo, l->gate, l->up, l->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
            *bytes += (double)all[j]->bytes;
            *flops += 2 * matrix_values(all[j]);
        }
    }
}

static int held(const struct model_bench *b)
{
    struct cascade_state s;
    cascade_state_at(&b->s.stream->cascade, b->s.stream->backend.seen(&b->s.stream->backend), &s);
    return cascade_held(&b->s.stream->cascade, &s);
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------ */

/* One row: seconds a token (median, and 90th less 10th percentile), what a token costs, and how far from the limit that is. */
static void row(struct model_bench *b, const char *work, int keys, int count, double bytes, double flops)
{
    const double *s = b->seconds;
    double median = s[count / 2], spread = s[count * 9 / 10] - s[count / 10], best = s[0];
    double limit = bytes > 0 ? bytes / b->gbs / 1e9 : flops / b->gflops / 1e9;
    const char *cost = bytes > 0 ? "MB" : "MFLOP";
    double amount = (bytes > 0 ? bytes : flops) / 1e6;
    switch ((enum bench_format)b->format) {
    case BENCH_MD:
        if (b->rows == 0)
            printf(
                "| work | threads | keys held | tokens/s | best | ms a token | +- | a token | rate | of the limit |\n"
                "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        printf("| %s | %d | %d | %.1f | %.1f | %.3f | %.3f | %.1f %s | %.1f %s/s | %.0f %% |\n", work, b->threads, keys,
               1 / median, 1 / best, median * 1e3, spread * 1e3, amount, cost, amount / 1e3 / median,
               bytes > 0 ? "GB" : "GFLOP", 100 * limit / median);
        break;
    case BENCH_CSV:
        if (b->rows == 0)
            printf("work,threads,keys,tokens_per_s,best_tokens_per_s,ms,spread_ms,bytes,flops,limit_ms,of_limit\n");
        printf("%s,%d,%d,%.3f,%.3f,%.6f,%.6f,%.0f,%.0f,%.6f,%.4f\n", work, b->threads, keys, 1 / median, 1 / best,
               median * 1e3, spread * 1e3, bytes, flops, limit * 1e3, limit / median);
        break;
    case BENCH_JSON:
        printf("%s{\"work\":\"%s\",\"threads\":%d,\"keys\":%d,\"tokens_per_s\":%.3f,\"best_tokens_per_s\":%.3f,\"ms\":%"
               ".6f,"
               "\"spread_ms\":%.6f,\"bytes\":%.0f,\"flops\":%.0f,\"limit_ms\":%.6f,\"of_limit\":%.4f}",
               b->rows ? ",\n " : "[", work, b->threads, keys, 1 / median, 1 / best, median * 1e3, spread * 1e3, bytes,
               flops, limit * 1e3, limit / median);
        break;
    }
    b->rows++;
    fflush(stdout);
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Feeds `tokens` tokens in chunks of T, with the last row's logits after each; adds the seconds a token to b->seconds. */
static int feed(struct model_bench *b, int tokens, int T, struct err *err)
{
    struct backend *be = &b->s.stream->backend;
    for (int done = 0; done < tokens; done += T) {
        int n = tokens - done < T ? tokens - done : T;
        double start = session_clock();
        if (llama_forward(be, &b->s.model->model, b->ids + (T > 1 ? 0 : done), n, err) != 0 ||
            be->logits(be, n - 1, 1, b->logits, err) != 0)
            return -1;
        b->seconds[b->count++] = (session_clock() - start) / n;
    }
    return 0;
}

/* Ends a group of times with its row: `keys` were held when it began. */
static void finish(struct model_bench *b, const char *work, int keys, int T)
{
    const struct model_shape *m = &b->s.model->model.shape;
    double bytes, flops, output,
        head = (double)m->head_dim * 4; /* bytes of a key in fp32; and operations of a key and value */
    model_costs(&b->s.model->model, &bytes, &flops, &output);
    qsort(b->seconds, (size_t)b->count, sizeof *b->seconds, compare_seconds);
    if (T == 1)
        row(b, work, keys, b->count, bytes + (double)m->layers * m->kv_heads * 2 * head * (keys + held(b)) / 2, 0);
    else
        row(b, work, keys, b->count, 0,
            flops + output / T + (double)m->layers * m->heads * head * (keys + (T + 1) / 2.0));
    b->count = 0;
}

static int run_prompts(struct model_bench *b, struct err *err)
{
    struct backend *be = &b->s.stream->backend;
    int T = b->s.stream->cascade.stride < b->prompt ? b->s.stream->cascade.stride : b->prompt, chunks = b->prompt / T;
    int64_t full = (int64_t)b->s.stream->cascade.sinks + b->s.stream->cascade.window + b->s.stream->cascade.stride;
    for (int i = 0; i < chunks; i++) {
        be->reset(be);
        if (feed(b, T, T, err) != 0)
            return -1;
    }
    finish(b, "prompt, empty cache", 0, T);
    while (b->full && be->seen(be) < full)
        if (feed(b, T, T, err) != 0)
            return -1;
    b->count = 0;
    int keys = held(b);
    if (b->full && feed(b, T * chunks, T, err) != 0)
        return -1;
    if (b->full)
        finish(b, "prompt, full cache", keys, T);
    return 0;
}

static int run_cases(struct model_bench *b, struct err *err)
{
    struct backend *be = &b->s.stream->backend;
    if (feed(b, 4, 1, err) != 0) /* the file's pages are read, the threads awake */
        return -1;
    b->count = 0;
    if (run_prompts(b, err) != 0)
        return -1;
    int keys = held(b);
    if (b->full && feed(b, b->tokens, 1, err) != 0)
        return -1;
    if (b->full)
        finish(b, "decode, full cache", keys, 1);
    be->reset(be);
    if (feed(b, b->tokens, 1, err) != 0)
        return -1;
    finish(b, "decode, empty cache", 0, 1);
    return 0;
}

static int allocate(struct model_bench *b, struct err *err)
{
    int64_t most = (int64_t)b->prompt + b->tokens + b->s.stream->cascade.window + b->s.stream->cascade.sinks +
                   2 * (int64_t)b->s.stream->cascade.stride + 4;
    uint64_t seed = 1;
    b->most = most;
    b->ids = err_alloc((size_t)most, sizeof *b->ids, "the prompt", err);
    b->seconds = err_alloc((size_t)most, sizeof *b->seconds, "the times", err);
    b->logits = err_alloc((size_t)b->s.model->model.shape.vocab, sizeof *b->logits, "the logits", err);
    if (!b->ids || !b->seconds || !b->logits)
        return -1;
    for (int64_t i = 0; i < most; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        b->ids[i] = (int32_t)((seed >> 33) % (uint64_t)b->s.model->model.shape.vocab);
    }
    return 0;
}

/* Whether the model will run on a GPU, which makes its random weights itself. */
static bool wants_gpu(const struct model_bench *b)
{
    int gpus = 0;
    return !b->session_options.cpu && device_cuda_count(&gpus, NULL) == 0 && gpus > 0;
}

/* A file's model or a random one of a named shape, and the CPU backend. */
static int open_model(struct model_bench *b, struct err *err)
{
    static const enum quant_type types[] = {QUANT_Q4_1, QUANT_Q4_0, QUANT_Q8_0, QUANT_Q4_K,
                                            QUANT_Q6_K, QUANT_BF16, QUANT_F16,  QUANT_F32};
    if (!b->shape)
        return session_begin(&b->s, &b->session_options, &b->cascade, NULL, err);
    if (b->session_options.model) {
        err_set(err, "--shape and --model exclude each other");
        return CMD_USAGE;
    }
    struct model random;
    b->s.options = &b->session_options;
    bool on_gpu = wants_gpu(b);
    if (model_random(&random, b->shape, types[b->type], on_gpu, err) != 0)
        return CMD_USAGE;
    if (on_gpu && b->session_options.gpu < 0) /* the CPU could not stand in: its weights are not here */
        b->session_options.gpu = 0;
    if (weir_model_take(&b->s.model, &random, err) != 0)
        return CMD_FAILED;
    if (cascade_options_finish(&b->cascade, b->s.model->model.shape.ctx_train, err) != 0)
        return CMD_USAGE;
    return session_start(&b->s, &b->cascade.p, NULL, err);
}

int bench_model(int argc, char **argv, struct err *err)
{
    struct model_bench b = {.prompt = 2048, .tokens = 64, .full = true};
    session_options_init(&b.session_options, true);
    cascade_options_init(&b.cascade);
    const struct option rows[] = {
        {"--prompt", NULL, OPTION_INT, &b.prompt, "P", "tokens of the prompt's rows, in chunks of the stride (2048)", 1,
         1 << 24, NULL},
        {"--tokens", "-n", OPTION_INT, &b.tokens, "N", "tokens of the decoding rows (64)", 1, 1 << 20, NULL},
        {"--full", NULL, OPTION_ONOFF, &b.full, "on|off", "rows with a full cache too, which takes longer (on)", 0, 0,
         NULL},
        {"--shape", NULL, OPTION_TEXT, &b.shape, "NAME", model_random_help, 0, 0, NULL},
        {"--dtype", NULL, OPTION_CHOICE, &b.type, "q4_1|q4_0|q8_0|q4_k|q6_k|bf16|f16|f32", "of its weights (q4_1)", 0, 0,
         NULL},
        {"--output", "-o", OPTION_CHOICE, &b.format, "md|csv|json", "form of the table (md)", 0, 0, NULL},
        {0},
    };
    _Static_assert(sizeof rows <= sizeof b.table, "the table is too small");
    memcpy(b.table, rows, sizeof rows);
    struct options set = {
        .usage = "weir bench model [-m MODEL | --shape NAME] [options]",
        .what = "Times a model on this machine's GPU, else its CPU (--cpu): prompts with exact scores, and decoding.\n"
                "Times are medians over chunks or tokens; limits are measured first.",
        .group = {{"bench", b.table}, {"model", b.session_options.table}, {"cascade", b.cascade.table}}};
    int status = options_parse(&set, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    b.threads = b.session_options.backend.threads ? b.session_options.backend.threads : pool_cores();
    status = open_model(&b, err);
    if (status == CMD_OK && allocate(&b, err) != 0)
        status = CMD_FAILED;
    bool gpu = status == CMD_OK && !strcmp(b.s.stream->backend.name, "cuda");
    if (status == CMD_OK && (gpu ? bench_model_cuda(&b, err) : measure_machine(&b, err) || run_cases(&b, err)) != 0)
        status = CMD_FAILED;
    if (b.format == BENCH_JSON && b.rows)
        printf("]\n");
    free(b.ids);
    free(b.seconds);
    free(b.logits);
    session_close(&b.s);
    return status;
}
