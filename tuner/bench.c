#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 25, COPY_BYTES = 1 << 29, RANDOM_PERIOD = 1 << 20 };

void bench_init(struct bench *b)
{
    memset(b, 0, sizeof *b);
    cascade_options_init(&b->cascade);
    b->heads = 32;
    b->kv_heads = 8;
    b->head_dim = 128;
    b->layers = 8;
    b->tokens = 1 << 20;
    b->type = 1;
}

int bench_open(struct bench *b, struct err *err)
{
    char gpu[GEN_GPU_MAX];
    kernel_cache_default(&b->cache);
    return gen_open(&b->gen, b->templates, err) != 0 || device_cuda_open(&b->dev, 0, err) != 0 ||
                   gen_gpu_name(b->gen, b->dev.facts.name, b->dev.facts.sm, gpu, err) != 0 ||
                   gen_gpu(b->gen, gpu, &b->gpu, err) != 0
               ? -1
               : 0;
}

int bench_take_set(struct bench *b, struct err *err)
{
    char *save = NULL;
    b->split = b->set ? strdup(b->set) : NULL;
    for (char *pair = b->split ? strtok_r(b->split, ",", &save) : NULL; pair; pair = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(pair, '=');
        if (!eq || eq == pair || !eq[1] || b->nparams == (int)(sizeof b->param / sizeof *b->param))
            return err_set(err, "--set %s: wants up to %zu pairs NAME=VALUE", b->set,
                           sizeof b->param / sizeof *b->param);
        *eq = 0;
        b->param[b->nparams++] = (struct gen_param){pair, eq + 1};
    }
    return 0;
}

int bench_start(struct bench *b, const char *usage, const char *what, int argc, char **argv, struct err *err)
{
    bench_init(b);
    const struct option rows[] = {
        {"--heads", NULL, OPTION_INT, &b->heads, "H", "query heads (32)", 1, 1024, NULL},
        {"--kv-heads", NULL, OPTION_INT, &b->kv_heads, "H", "key heads (8)", 1, 1024, NULL},
        {"--head-dim", NULL, OPTION_INT, &b->head_dim, "D", "64, 80, 96, 128 or 256 (128)", 1, 1024, NULL},
        {"--layers", NULL, OPTION_INT, &b->layers, "L", "layers whose caches take turns, so that no L2 holds them (8)",
         1, 1024, NULL},
        {"--tokens", NULL, OPTION_INT, &b->tokens, "N", "bench stream: length of the prompt (1048576)", 1, INT32_MAX,
         NULL},
        {"--type", NULL, OPTION_CHOICE, &b->type, "fp16|bf16", "data type (bf16)", 0, 0, NULL},
        {"--set", NULL, OPTION_TEXT, &b->set, "[KERNEL.]N=V[,...]",
         "tile parameters, of all kernels or of one: --set bn=32,attn_decode.bn=16", 0, 0, NULL},
        {"--output", "-o", OPTION_CHOICE, &b->format, "md|csv|json", "form of the table (md)", 0, 0, NULL},
        {"--templates", NULL, OPTION_TEXT, &b->templates, "DIR", "folder with gen/ and templates/", 0, 0, NULL},
        {0},
    };
    memcpy(b->table, rows, sizeof rows);
    struct options o = {.usage = usage, .what = what, .group = {{"shape", b->table}, {"cascade", b->cascade.table}}};
    int status = options_parse(&o, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    if (b->heads % b->kv_heads != 0) {
        err_set(err, "--heads %d: must be a multiple of --kv-heads %d", b->heads, b->kv_heads);
        return CMD_USAGE;
    }
    b->whole_windows = b->cascade.window_given;
    if (cascade_options_finish(&b->cascade, 0, err) != 0)
        return CMD_USAGE;
    if (bench_take_set(b, err) != 0)
        return CMD_USAGE;
    return bench_open(b, err) == 0 && bench_copy(b, err) == 0 &&
                   wisdom_open(&b->wisdom, b->gen, b->gpu.name, cmd_say, err) == 0
               ? OPTIONS_GO
               : CMD_FAILED;
}

void bench_end(struct bench *b)
{
    if (b->rows && b->format == BENCH_JSON)
        printf("]\n");
    if (b->rows && b->note[0])
        fprintf(b->format == BENCH_MD ? stdout : stderr, "\nTiles: %s.\n", b->note);
    wisdom_close(b->wisdom);
    if (b->dev.close)
        b->dev.close(&b->dev);
    if (b->gen)
        gen_close(b->gen);
    free(b->split);
    memset(b, 0, sizeof *b);
}

int bench_sizes(struct bench *b, int tokens, int held, struct err *err)
{
    const struct {
        const char *name;
        long value;
    } all[] = {{"tokens", tokens},
               {"held", held},
               {"keys", held},
               {"heads", b->heads},
               {"kv_heads", b->kv_heads},
               {"cascades", b->cascade.p.policy == POLICY_HOMOGENEOUS ? 1 : b->kv_heads}};
    b->sizes.n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (pairs_put_long(&b->sizes, all[i].name, all[i].value, err) != 0)
            return -1;
    return 0;
}

/* "name (from where)", once. */
static void add_note(struct bench *b, const char *name, const struct wisdom_found *found, bool set)
{
    static const char *const matches[] = {"this shape", "the nearest shape", "a GPU of its compute capability"};
    char from[96] = "default", note[300];
    if (found->match != WISDOM_DEFAULT)
        snprintf(from, sizeof from, "wisdom of %s, %s", matches[found->match],
                 found->measured ? "measured" : "predicted");
    snprintf(note, sizeof note, "%s (%s%s)", name, set ? "--set; else " : "", from);
    size_t len = strlen(b->note);
    if (!strstr(b->note, note))
        snprintf(b->note + len, sizeof b->note - len, "%s%s", len ? ", " : "", note);
}

int bench_kernel(struct bench *b, const char *kernel, const char *params, struct kernel *out, struct err *err)
{
    struct gen_param param[32];
    char text[256], *save = NULL;
    int n = 0;
    snprintf(text, sizeof text, "%s", params);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '=');
        *value++ = 0;
        param[n++] = (struct gen_param){word, value};
    }
    int given = n;
    for (int i = 0; i < b->nparams; i++) {
        const char *name = b->param[i].name, *dot = strchr(name, '.');
        if (dot && ((size_t)(dot - name) != strlen(kernel) || strncmp(name, kernel, strlen(kernel)) != 0))
            continue;
        int has = gen_has_param(b->gen, kernel, dot ? dot + 1 : name, err);
        if (has < 0)
            return -1;
        if (has)
            param[n++] = (struct gen_param){dot ? dot + 1 : name, b->param[i].value};
    }
    struct wisdom_found found = {.match = WISDOM_DEFAULT};
    bool set = n > given;
    if (b->wisdom) {
        wisdom_best(b->wisdom, kernel, param, n, &b->sizes, &found);
        n = pairs_params(&found.config, param, n);
    }
    if (kernel_get(b->gen, &b->cache, &b->dev, kernel, param, n, out, err) != 0)
        return -1;
    if (!b->quiet)
        add_note(b, out->gen.name, &found, set);
    if (!b->quiet)
        fprintf(stderr, "%s: %d registers, %d bytes of spills, %u bytes of shared memory, %d blocks a multiprocessor\n",
                out->gen.name, out->cubin.regs, out->cubin.spill_store + out->cubin.spill_load, out->gen.smem,
                bench_blocks(b, out));
    return 0;
}

int bench_blocks(const struct bench *b, const struct kernel *k)
{
    struct occupancy o = occupancy_of(&b->gpu, &k->gen, &k->cubin);
    return o.blocks;
}

float bench_normal(uint64_t *s)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(*s >> 40) / (1 << 24);
    }
    return (float)((sum - 2) * 1.732);
}

int bench_random(struct bench *b, size_t count, devptr *out, struct err *err)
{
    uint16_t *x = err_alloc(RANDOM_PERIOD, sizeof *x, "random numbers", err);
    uint64_t s = 0x9e3779b97f4a7c15u * ++b->seed;
    if (!x || b->dev.alloc(&b->dev, count * sizeof *x, out, err) != 0) {
        free(x);
        return -1;
    }
    for (size_t i = 0; i < RANDOM_PERIOD; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        double sum = (double)((s & 0xffff) + (s >> 16 & 0xffff) + (s >> 32 & 0xffff) + (s >> 48)) / 65536 - 2;
        float v = (float)(sum * 1.732);
        x[i] = b->type ? quant_float_to_bfloat(v) : quant_float_to_half(v);
    }
    int status = 0;
    for (size_t at = 0; at < count && status == 0; at += RANDOM_PERIOD) {
        size_t n = count - at < RANDOM_PERIOD ? count - at : RANDOM_PERIOD;
        status = b->dev.upload(&b->dev, *out + at * sizeof *x, x, n * sizeof *x, err);
    }
    free(x);
    return status;
}

int bench_put(struct bench *b, const void *data, size_t bytes, devptr *out, struct err *err)
{
    if (b->dev.alloc(&b->dev, bytes, out, err) != 0)
        return -1;
    return data ? b->dev.upload(&b->dev, *out, data, bytes, err) : b->dev.fill(&b->dev, *out, 0, bytes, err);
}

int bench_angles(struct bench *b, int positions, devptr *out, struct err *err)
{
    size_t d = (size_t)b->head_dim, n = (size_t)positions * d;
    float *table = err_alloc(n, sizeof *table, "the table of angles", err);
    if (!table)
        return -1;
    for (size_t i = 0; i < (size_t)positions; i++)
        for (size_t j = 0; j < d / 2; j++) {
            double angle = (double)i * pow(BENCH_THETA, -2.0 * (double)j / (double)d);
            table[i * d + 2 * j] = (float)cos(angle);
            table[i * d + 2 * j + 1] = (float)sin(angle);
        }
    int status = bench_put(b, table, n * sizeof *table, out, err);
    free(table);
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Batches of a millisecond or more: a mark costs some microseconds. */
int bench_graph(struct bench *b, int (*enqueue)(void *user, struct err *err), void *user, struct bench_time *out,
                struct err *err)
{
    struct device *dev = &b->dev;
    void *graph;
    double sample[SAMPLES];
    float ms = 0;
    int status = -1, replays = 1;
    if (device_capture(dev, enqueue, user, &graph, err) != 0)
        return -1;
    for (int i = -3; i < SAMPLES; i++) {
        if (dev->mark(dev, 0, err) != 0)
            goto done;
        for (int k = 0; k < replays; k++)
            if (dev->replay(dev, graph, err) != 0)
                goto done;
        if (dev->mark(dev, 1, err) != 0 || dev->elapsed(dev, 0, 1, &ms, err) != 0)
            goto done;
        if (i < 0)
            replays = ms < 2 ? (int)fmin(200, ceil(replays * 2 / fmax(ms, 1e-3))) : replays;
        else
            sample[i] = (double)ms / replays;
    }
    qsort(sample, SAMPLES, sizeof *sample, by_value);
    out->ms = sample[SAMPLES / 2];
    out->spread = sample[SAMPLES * 9 / 10] - sample[SAMPLES / 10];
    status = 0;
done:
    dev->release_graph(dev, graph);
    return status;
}

struct copy {
    struct bench *b;
    struct kernel kernel;
    devptr from, to;
};

static int enqueue_copy(void *user, struct err *err)
{
    struct copy *c = user;
    int64_t n = COPY_BYTES / 16;
    unsigned a_block = c->kernel.gen.threads * (unsigned)gen_value(&c->kernel.gen, "u");
    struct launch l = {.grid = {(unsigned)((n + a_block - 1) / a_block), 1, 1},
                       .block = c->kernel.gen.threads,
                       .args = (void *[]){&c->from, &c->to, &n}};
    return c->b->dev.launch(&c->b->dev, c->kernel.loaded, &l, err);
}

int bench_copy(struct bench *b, struct err *err)
{
    struct copy c = {.b = b};
    struct bench_time t;
    int status = -1;
    if (kernel_get(b->gen, &b->cache, &b->dev, "stream_copy", NULL, 0, &c.kernel, err) != 0)
        return -1;
    if (bench_random(b, COPY_BYTES / 2, &c.from, err) == 0 && b->dev.alloc(&b->dev, COPY_BYTES, &c.to, err) == 0 &&
        bench_graph(b, enqueue_copy, &c, &t, err) == 0) {
        b->copy_gbs = 2.0 * COPY_BYTES / t.ms / 1e6;
        fprintf(stderr, "%s: copies %.0f GB/s (read and written); limits below are by this rate\n", b->dev.facts.name,
                b->copy_gbs);
        status = 0;
    }
    b->dev.release(&b->dev, c.from);
    b->dev.release(&b->dev, c.to);
    kernel_free(&c.kernel);
    return status;
}

void bench_row(struct bench *b, const char *work, const char *what, double ms, double spread, double limit_ms)
{
    double ratio = limit_ms > 0 ? limit_ms / ms : 0;
    switch ((enum bench_format)b->format) {
    case BENCH_MD:
        if (b->rows == 0)
            printf("| work | part | ms | +- | limit ms | of the limit |\n|---|---|---:|---:|---:|---:|\n");
        printf("| %s | %s | %.4f | %.4f | ", work, what, ms, spread);
        if (limit_ms > 0)
            printf("%.4f | %.0f %% |\n", limit_ms, 100 * ratio);
        else
            printf("- | - |\n");
        break;
    case BENCH_CSV:
        if (b->rows == 0)
            printf("gpu,work,part,ms,spread_ms,limit_ms,of_limit\n");
        printf("%s,\"%s\",\"%s\",%.6f,%.6f,%.6f,%.4f\n", b->dev.facts.name, work, what, ms, spread, limit_ms, ratio);
        break;
    case BENCH_JSON:
        printf("%s{\"gpu\":\"%s\",\"work\":\"%s\",\"part\":\"%s\",\"ms\":%.6f,\"spread_ms\":%.6f,\"limit_ms\":%.6f,"
               "\"of_limit\":%.4f}",
               b->rows ? ",\n " : "[", b->dev.facts.name, work, what, ms, spread, limit_ms, ratio);
        break;
    }
    b->rows++;
    fflush(stdout);
}
