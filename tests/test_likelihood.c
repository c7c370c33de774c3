/* The CPU backend against an independent implementation: per-token likelihoods of SmolLM2-135M-Instruct on 1,000 tokens of
 * prose by Hugging Face transformers (tests/vectors/README.md says how they were made). A window as long as the text evicts
 * nothing, so the cascade must give full attention's likelihoods at any stride. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/llama.h"
#include "sanitized.h"
#include "tests/model_path.h"

enum { TOKENS = 1000, ROWS = 50 /* of logits at a time */ };
static int32_t ids[TOKENS];      /* [TOKENS] */
static double reference[TOKENS]; /* [TOKENS] nats; the first has none */

static int read_vector(void)
{
    FILE *f = fopen("tests/vectors/emma_smollm2_nll.txt", "r");
    if (!f)
        return -1;
    char nll[32];
    int n = 0;
    while (n < TOKENS && fscanf(f, "%d %31s", &ids[n], nll) == 2)
        reference[n++] = nll[0] == '-' ? 0 : atof(nll);
    fclose(f);
    return n == TOKENS ? 0 : -1;
}

struct check {
    const struct model *model;
    int n;         /* tokens */
    double *nll;   /* [n] */
    float *logits; /* [ROWS][vocab] */
    int at;
    struct err *err;
};

static int take_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    struct check *c = user;
    (void)tokens;
    int vocab = c->model->shape.vocab;
    for (int i = 0; i < T && c->at + 1 < c->n; i++, c->at++) {
        if (i % ROWS == 0 && be->logits(be, i, T - i < ROWS ? T - i : ROWS, c->logits, c->err))
            return -1;
        const float *row = c->logits + (size_t)(i % ROWS) * (size_t)vocab;
        float top = row[0];
        for (int v = 1; v < vocab; v++)
            top = row[v] > top ? row[v] : top;
        double sum = 0;
        for (int v = 0; v < vocab; v++)
            sum += expf(row[v] - top);
        c->nll[c->at + 1] = top + log(sum) - row[ids[c->at + 1]];
    }
    return 0;
}

/* Largest difference to the reference with this window, sub-cache count and stride. */
static double largest_difference(const char *path, int window, int subcaches, int stride)
{
    struct err err = {""};
    struct model m;
    if (model_open(&m, path, &err))
        fail_msg("%s", err.msg);
    struct cascade_params p = cascade_defaults();
    p.window = window;
    p.subcaches = subcaches;
    p.stride = stride;
    struct backend_options o = {.threads = 0};
    struct backend be;
    if (cascade_check(&p, &err) || backend_cpu_open(&be, &m, &p, &o, &err))
        fail_msg("%s", err.msg);
    static double nll[TOKENS];
    struct check c = {.model = &m,
                      .n = TOKENS / sanitized_step(4),
                      .nll = nll,
                      .logits = malloc((size_t)m.shape.vocab * ROWS * sizeof(float)),
                      .err = &err};
    assert_non_null(c.logits);
    if (llama_feed(&be, &m, &p, ids, (size_t)c.n, take_chunk, &c, &err))
        fail_msg("%s", err.msg);
    double worst = 0;
    for (int i = 1; i < c.n; i++) {
        double d = fabs(nll[i] - reference[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    free(c.logits);
    be.close(&be);
    model_close(&m);
    return worst;
}

static void window_as_long_as_the_text_is_full_attention(void **state)
{
    (void)state;
    char path[4096];
    if (default_model_path(path, sizeof path))
        skip();
    assert_int_equal(read_vector(), 0);
    const struct {
        int window, subcaches, stride;
    } cases[] = {{1024, 1, 1000}, {1024, 4, 256}, {2048, 4, 1024}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += (size_t)sanitized_step(3)) {
        double worst = largest_difference(path, cases[i].window, cases[i].subcaches, cases[i].stride);
        if (!(worst < 1e-3))
            fail_msg("window %d, %d sub-caches, stride %d: a token differs by %g nats", cases[i].window,
                     cases[i].subcaches, cases[i].stride, worst);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(window_as_long_as_the_text_is_full_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
