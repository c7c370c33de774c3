/* check_gpu -m MODEL -f TEXT [--gpu N] [cascade options]: the CUDA backend beside the CPU's on a real model, in fp16 and bf16.
 *   - Fed the CPU's greedy tokens (256 each behind three prompts, N = 1 and the cascade given), the GPU's likeliest token is the CPU's
 *     wherever the CPU's first two logits are more than 0.25 apart.
 *   - Likelihoods of 4,000 tokens: their means differ by at most 3e-3 nats; single ones by 0.006 (fp16) or 0.03 (bf16) on average.
 *   - A second run gives the same bits.
 * Ends with 1 where one of these does not hold. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cascade_options.h"
#include "runtime/llama.h"
#include "runtime/tokenizer.h"

enum { PROMPTS = 3, PROMPT = 700, GREEDY = 256, LIKELIHOODS = 4000, BATCH = 64 };

static struct model model;
static struct ids text;
static float *logits; /* [BATCH][vocab] */
static int gpu;

static void stop(const struct err *err)
{
    fprintf(stderr, "check_gpu: %s\n", err->msg);
    exit(1);
}

static void open_backend(struct backend *be, const struct cascade_params *p, bool cuda, enum backend_half half)
{
    struct backend_options o = {.gpu = gpu, .half = half};
    struct err err = {""};
    if ((cuda ? backend_cuda_open : backend_cpu_open)(be, &model, p, &o, &err) != 0)
        stop(&err);
}

static void feed(struct backend *be, const struct cascade_params *p, const int32_t *id, size_t n)
{
    struct err err = {""};
    if (llama_feed(be, &model, p, id, n, NULL, NULL, &err) != 0)
        stop(&err);
}

/* The likeliest token of one row, and how far the next one is behind. */
static int32_t likeliest(struct backend *be, int row, double *lead)
{
    struct err err = {""};
    int best = 0;
    float second = -INFINITY;
    if (be->logits(be, row, 1, logits, &err) != 0)
        stop(&err);
    for (int i = 1; i < model.shape.vocab; i++)
        if (logits[i] > logits[best]) {
            second = logits[best];
            best = i;
        } else if (logits[i] > second) {
            second = logits[i];
        }
    *lead = (double)logits[best] - (double)second;
    return best;
}

/* Generates on the CPU, or (cuda) follows its tokens. [GREEDY] each. */
static void greedy(struct backend *be, const struct cascade_params *p, const int32_t *prompt, bool follow, int32_t *id,
                   double *lead, int32_t *mine)
{
    int row = (PROMPT - 1) % p->stride;
    feed(be, p, prompt, PROMPT);
    for (int i = 0; i < GREEDY; i++) {
        double ahead;
        mine[i] = likeliest(be, row, &ahead);
        if (!follow) {
            id[i] = mine[i];
            lead[i] = ahead;
        }
        feed(be, p, &id[i], 1);
        row = 0;
    }
}

static bool check_greedy(const struct cascade_params *p, enum backend_half half)
{
    static int32_t id[GREEDY], own[GREEDY], mine[GREEDY];
    static double lead[GREEDY];
    int wrong = 0, differ = 0, clear = 0;
    for (int k = 0; k < PROMPTS; k++) {
        struct backend be;
        const int32_t *prompt = text.id + (size_t)k * PROMPT;
        open_backend(&be, p, false, half);
        greedy(&be, p, prompt, false, id, lead, own);
        be.close(&be);
        open_backend(&be, p, true, half);
        greedy(&be, p, prompt, true, id, lead, mine);
        be.close(&be);
        for (int i = 0; i < GREEDY; i++) {
            differ += mine[i] != id[i];
            clear += lead[i] > 0.25;
            wrong += mine[i] != id[i] && lead[i] > 0.25;
        }
    }
    printf("N=%d %s: %d tokens, %d with a clear lead; %d differ, %d of them with one\n", p->subcaches,
           half == BACKEND_HALF_FP16 ? "fp16" : "bf16", PROMPTS * GREEDY, clear, differ, wrong);
    return wrong == 0;
}

struct likelihoods {
    double *nll; /* [LIKELIHOODS] */
    size_t done;
};

static int take_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    struct likelihoods *l = user;
    struct err err = {""};
    size_t vocab = (size_t)model.shape.vocab;
    (void)tokens;
    for (int row = 0; row < T; row += BATCH) {
        int n = T - row < BATCH ? T - row : BATCH;
        if (be->logits(be, row, n, logits, &err) != 0)
            stop(&err);
        for (int i = 0; i < n; i++, l->done++) {
            const float *x = logits + (size_t)i * vocab;
            double largest = -INFINITY, sum = 0;
            for (size_t j = 0; j < vocab; j++)
                largest = fmax(largest, (double)x[j]);
            for (size_t j = 0; j < vocab; j++)
                sum += exp((double)x[j] - largest);
            if (l->done < LIKELIHOODS)
                l->nll[l->done] = largest + log(sum) - (double)x[text.id[l->done + 1]];
        }
    }
    return 0;
}

static void measure(double *nll, const struct cascade_params *p, bool cuda, enum backend_half half)
{
    struct likelihoods l = {.nll = nll};
    struct backend be;
    struct err err = {""};
    open_backend(&be, p, cuda, half);
    if (llama_feed(&be, &model, p, text.id, LIKELIHOODS, take_chunk, &l, &err) != 0)
        stop(&err);
    be.close(&be);
}

static bool check_likelihoods(const struct cascade_params *p, const double *want, enum backend_half half)
{
    static double got[LIKELIHOODS], again[LIKELIHOODS];
    double mean = 0, apart = 0, most = 0, level = 0;
    measure(got, p, true, half);
    measure(again, p, true, half);
    for (int i = 0; i < LIKELIHOODS; i++) {
        double gap = got[i] - want[i];
        level += want[i] / LIKELIHOODS;
        mean += gap / LIKELIHOODS;
        apart += fabs(gap) / LIKELIHOODS;
        most = fabs(gap) <= most ? most : fabs(gap);
    }
    bool same = !memcmp(got, again, sizeof got),
         near = fabs(mean) <= 3e-3 && apart <= (half == BACKEND_HALF_FP16 ? 0.006 : 0.03);
    printf("N=%d %s: likelihoods of %d tokens (mean %.4f): means %+.1e apart, single ones %.4f on average, %.3f at "
           "most; a second "
           "run is %s\n",
           p->subcaches, half == BACKEND_HALF_FP16 ? "fp16" : "bf16", LIKELIHOODS, level, mean, apart, most,
           same ? "the same to the bit" : "DIFFERENT");
    return same && near;
}

static void read_text(const char *path, const struct tokenizer *t)
{
    static char bytes[64 << 10];
    struct err err = {""};
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f)
        fclose(f);
    if (tokenizer_encode(t, bytes, n, 0, &text, &err) != 0)
        stop(&err);
    if (text.count <= LIKELIHOODS) {
        err_set(&err, "%s: %zu tokens in its first 64 KB; %d are wanted", path, text.count, LIKELIHOODS + 1);
        stop(&err);
    }
}

int main(int argc, char **argv)
{
    const char *path = NULL, *text_path = NULL;
    static double want[LIKELIHOODS];
    struct cascade_options cascade;
    struct tokenizer *t;
    struct err err = {""};
    bool good = true;
    cascade_options_init(&cascade);
    const struct option own[] = {
        {"--model", "-m", OPTION_TEXT, &path, "MODEL", "model file", 0, 0, NULL},
        {"--file", "-f", OPTION_TEXT, &text_path, "FILE", "text of 4,001 tokens or more", 0, 0, NULL},
        {"--gpu", NULL, OPTION_INT, &gpu, "N", "number of the GPU (0)", 0, 255, NULL},
        {0},
    };
    struct options o = {.usage = "check_gpu -m MODEL -f TEXT",
                        .what = "Compares the CUDA backend with the CPU's.",
                        .group = {{"options", own}, {"cascade", cascade.table}}};
    if (options_parse(&o, argc, argv, &err) != OPTIONS_GO || !path || !text_path) {
        fprintf(stderr, "check_gpu: %s\n", err.msg[0] ? err.msg : "-m and -f are needed");
        return 2;
    }
    if (model_open(&model, path, &err) != 0 || tokenizer_open(&t, model.gguf, &err) != 0 ||
        cascade_options_finish(&cascade, model.shape.ctx_train, &err) != 0)
        stop(&err);
    logits = err_alloc((size_t)BATCH * (size_t)model.shape.vocab, sizeof *logits, "logits", &err);
    if (!logits)
        stop(&err);
    read_text(text_path, t);
    for (int i = 0; i < 2; i++) {
        struct cascade_params p = cascade.p;
        p.subcaches = i ? cascade.p.subcaches : 1;
        measure(want, &p, false, BACKEND_HALF_AUTO);
        for (enum backend_half half = BACKEND_HALF_FP16; half <= BACKEND_HALF_BF16; half++)
            good = check_likelihoods(&p, want, half) && check_greedy(&p, half) && good;
    }
    printf("%s\n", good ? "all within bounds" : "NOT within bounds");
    free(logits);
    ids_free(&text);
    tokenizer_close(t);
    model_close(&model);
    return good ? 0 : 1;
}
