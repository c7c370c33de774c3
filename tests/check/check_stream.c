/* check_stream -m MODEL -f TEXT [--tokens N] [--gpu N] [cascade options]: a stream that lasts, on a GPU. The text goes through the model
 * again and again until N tokens have been read. Ten times on the way it prints memory of the GPU and of the process, the range of all
 * scores, and the likelihood of the last tokens. Ends with 1 where a score or a logit is not finite, or memory grew behind the first
 * of these lines. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/backend_cuda.h"
#include "runtime/cascade_options.h"
#include "runtime/llama.h"
#include "runtime/session.h"
#include "runtime/tokenizer.h"

enum { REPORTS = 10, ROWS = 64 /* whose likelihoods are asked for */, GPU_SLACK = 4 << 20, HOST_SLACK = 16 << 20 };

static struct model model;
static struct ids text;
static float *logits;   /* [ROWS][vocab] */
static float *score;    /* [rows of a cascade] */
static int64_t *origin; /* likewise */

static void stop(const struct err *err)
{
    fprintf(stderr, "check_stream: %s\n", err->msg);
    exit(1);
}

/* Resident bytes of this process. */
static size_t host_bytes(void)
{
    size_t all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%zu %zu", &all, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t gpu_bytes(struct backend *be)
{
    struct cuda_backend *c = be->state;
    struct err err = {""};
    size_t left;
    if (c->dev.memory_left(&c->dev, &left, &err) != 0)
        stop(&err);
    return c->dev.facts.memory_bytes - left;
}

/* Mean negative log-likelihood of the tokens that follow the last rows of the chunk, which began at token `first` of the text. */
static double likelihood(struct backend *be, size_t first, int T)
{
    struct err err = {""};
    size_t vocab = (size_t)model.shape.vocab;
    int n = T - 1 < ROWS ? T - 1 : ROWS, row = T - 1 - n;
    double mean = 0;
    if (be->logits(be, row, n, logits, &err) != 0)
        stop(&err);
    for (int i = 0; i < n; i++) {
        const float *x = logits + (size_t)i * vocab;
        double largest = -INFINITY, sum = 0;
        for (size_t j = 0; j < vocab; j++)
            largest = fmax(largest, (double)x[j]);
        for (size_t j = 0; j < vocab; j++)
            sum += exp((double)x[j] - largest); /* a NaN, or all infinite: so is the sum */
        mean += (largest + log(sum) - (double)x[text.id[first + (size_t)(row + i) + 1]]) / n;
    }
    return mean;
}

/* The range of the scores of all tokens that are held; false where one is not finite. */
static bool score_range(struct backend *be, const struct cascade_params *p, double *least, double *most)
{
    int cascades = p->policy == POLICY_HOMOGENEOUS ? 1 : model.shape.kv_heads, rows = cascade_rows(p);
    struct err err = {""};
    *least = INFINITY;
    *most = -INFINITY;
    for (int layer = 0; layer < model.shape.layers; layer++)
        for (int head = 0; head < cascades; head++) {
            if (be->scores(be, layer, head, score, &err) != 0 || be->origins(be, layer, head, origin, &err) != 0)
                stop(&err);
            for (int i = 0; i < rows; i++) {
                if (origin[i] < 0)
                    continue;
                if (!isfinite(score[i]))
                    return false;
                *least = fmin(*least, (double)score[i]);
                *most = fmax(*most, (double)score[i]);
            }
        }
    return true;
}

static bool run(struct backend *be, const struct cascade_params *p, int64_t tokens)
{
    struct err err = {""};
    size_t at = 0, gpu = 0, host = 0;
    int64_t seen = 0, reported = 0;
    bool good = true;
    double begin = session_clock(), since = begin;
    for (int reports = 0; seen < tokens;) {
        size_t T = (size_t)p->stride < text.count - at ? (size_t)p->stride : text.count - at;
        if (llama_forward(be, &model, text.id + at, (int)T, &err) != 0)
            stop(&err);
        seen += (int64_t)T;
        if (seen >= tokens / REPORTS * (reports + 1) || seen >= tokens) {
            double least, most, nll = likelihood(be, at, (int)T), now = session_clock();
            bool finite = score_range(be, p, &least, &most) && isfinite(nll);
            size_t gpu_now = gpu_bytes(be), host_now = host_bytes();
            printf("%9lld tokens, %.0f tok/s: GPU memory %.1f MB, host %.1f MB, scores %.3g to %.3g, likelihood %.3f "
                   "nats%s\n",
                   (long long)seen, (double)(seen - reported) / (now - since), (double)gpu_now / 1e6,
                   (double)host_now / 1e6, least, most, nll, finite ? "" : ": NOT FINITE");
            fflush(stdout);
            gpu = reports ? gpu : gpu_now;
            host = reports ? host : host_now;
            good = good && finite && gpu_now <= gpu + GPU_SLACK && host_now <= host + HOST_SLACK;
            reports++;
            reported = seen;
            since = session_clock();
        }
        at = at + T < text.count - 1 ? at + T : 0;
    }
    printf("%lld tokens in %.1f s: %s\n", (long long)seen, session_clock() - begin,
           good ? "finite, and memory is flat" : "NOT well");
    return good;
}

static void read_text(const char *path, const struct tokenizer *t)
{
    struct err err = {""};
    FILE *f = fopen(path, "rb");
    size_t used = 0, room = 64 << 20, n;
    char *bytes = err_alloc(room, 1, "the text", &err);
    if (!bytes)
        stop(&err);
    while (f && used < room && (n = fread(bytes + used, 1, room - used, f)) > 0)
        used += n;
    if (f)
        fclose(f);
    if (tokenizer_encode(t, bytes, used, 0, &text, &err) != 0)
        stop(&err);
    free(bytes);
    if (text.count < 2) {
        err_set(&err, "%s: no text", path);
        stop(&err);
    }
}

int main(int argc, char **argv)
{
    const char *path = NULL, *text_path = NULL;
    int64_t tokens = 10000000;
    int gpu = 0;
    struct cascade_options cascade;
    struct tokenizer *t = NULL;
    struct backend be;
    struct err err = {""};
    cascade_options_init(&cascade);
    const struct option own[] = {
        {"--model", "-m", OPTION_TEXT, &path, "MODEL", "model file", 0, 0, NULL},
        {"--file", "-f", OPTION_TEXT, &text_path, "FILE", "text, at most 64 MB", 0, 0, NULL},
        {"--tokens", "-n", OPTION_LONG, &tokens, "N", "tokens of the stream (10000000)", 1, INT64_MAX, NULL},
        {"--gpu", NULL, OPTION_INT, &gpu, "N", "number of the GPU (0)", 0, 255, NULL},
        {0},
    };
    struct options o = {.usage = "check_stream -m MODEL -f TEXT",
                        .what = "A long stream on a GPU: memory stays flat, all is finite.",
                        .group = {{"options", own}, {"cascade", cascade.table}}};
    if (options_parse(&o, argc, argv, &err) != OPTIONS_GO || !path || !text_path) {
        fprintf(stderr, "check_stream: %s\n", err.msg[0] ? err.msg : "-m and -f are needed");
        return 2;
    }
    if (model_open(&model, path, &err) != 0 || tokenizer_open(&t, model.gguf, &err) != 0 ||
        cascade_options_finish(&cascade, model.shape.ctx_train, &err) != 0)
        stop(&err);
    size_t rows = (size_t)cascade_rows(&cascade.p);
    logits = err_alloc((size_t)ROWS * (size_t)model.shape.vocab, sizeof *logits, "logits", &err);
    score = err_alloc(rows, sizeof *score, "scores", &err);
    origin = err_alloc(rows, sizeof *origin, "token numbers", &err);
    if (!logits || !score || !origin)
        stop(&err);
    read_text(text_path, t);
    if (backend_cuda_open(&be, &model, &cascade.p, &(struct backend_options){.gpu = gpu}, &err) != 0)
        stop(&err);
    bool good = run(&be, &cascade.p, tokens);
    be.close(&be);
    free(logits);
    free(score);
    free(origin);
    ids_free(&text);
    tokenizer_close(t);
    model_close(&model);
    return good ? 0 : 1;
}
