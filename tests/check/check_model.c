/* check_model -m MODEL --vectors FILE --dump DUMP [cascade options]: holds what `weir eval ppl --dump` wrote against the
 * double-precision oracle's run of the same tokens under the same options (--full: against the vectors' own likelihoods, of full
 * attention by another implementation). Ends with 1 where a token is 1e-3 nats off or more. tests/check/check_model.sh runs it
 * with several settings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/cascade_options.h"
#include "tests/oracle_llama.h"

enum { MOST = 1 << 16 };

/* Lines of "token likelihood"; returns how many, -1 where the file cannot be read. */
static int read_vectors(const char *path, int32_t *token, double *nll)
{
    FILE *f = fopen(path, "r");
    int n = 0;
    if (!f)
        return -1;
    while (n < MOST && fscanf(f, "%d %lf", &token[n], &nll[n]) == 2)
        n++;
    fclose(f);
    return n;
}

static int read_dump(const char *path, double *nll)
{
    FILE *f = fopen(path, "r");
    int n = 0;
    if (!f)
        return -1;
    while (n < MOST && fscanf(f, "%lf", &nll[n]) == 1)
        n++;
    fclose(f);
    return n;
}

static int32_t token[MOST];
static double vectors[MOST], dump[MOST];

int main(int argc, char **argv)
{
    const char *model_path = NULL, *vectors_path = NULL, *dump_path = NULL;
    bool full = false;
    struct cascade_options cascade;
    struct err err = {""};
    struct model m;
    cascade_options_init(&cascade);
    const struct option own[] = {
        {"--model", "-m", OPTION_TEXT, &model_path, "MODEL", "model file", 0, 0, NULL},
        {"--vectors", NULL, OPTION_TEXT, &vectors_path, "FILE", "lines of token and likelihood", 0, 0, NULL},
        {"--dump", NULL, OPTION_TEXT, &dump_path, "FILE", "what weir eval ppl --dump wrote", 0, 0, NULL},
        {"--full", NULL, OPTION_FLAG, &full, NULL, "compare with the vectors, not with the oracle", 0, 0, NULL},
        {0},
    };
    struct options o = {.usage = "check_model -m MODEL --vectors FILE --dump FILE",
                        .what = "Compares likelihoods with the oracle's.",
                        .group = {{"options", own}, {"cascade", cascade.table}}};
    int status = options_parse(&o, argc, argv, &err);
    if (status != OPTIONS_GO || !model_path || !vectors_path || !dump_path) {
        fprintf(stderr, "check_model: %s\n", err.msg[0] ? err.msg : "-m, --vectors and --dump are needed");
        return 2;
    }
    if (model_open(&m, model_path, &err) < 0 || cascade_options_finish(&cascade, m.shape.ctx_train, &err) < 0) {
        fprintf(stderr, "check_model: %s\n", err.msg);
        return 1;
    }
    int n = read_vectors(vectors_path, token, vectors), dumped = read_dump(dump_path, dump);
    if (n < 2 || dumped != n - 1) {
        fprintf(stderr, "check_model: %d tokens in %s, %d likelihoods in %s (one less is expected)\n", n, vectors_path,
                dumped, dump_path);
        return 1;
    }
    struct oracle_llama want = {0};
    if (!full)
        oracle_llama_run(&want, &m, &cascade.p, token, (size_t)n, 2);
    double worst = 0, mean = 0, bias = 0;
    int at = 0;
    for (int i = 0; i < n - 1; i++) {
        double gap = dump[i] - (full ? vectors[i + 1] : want.nll[i]);
        mean += fabs(gap) / (n - 1);
        bias += gap / (n - 1);
        if (!(fabs(gap) <= worst)) {
            worst = fabs(gap);
            at = i + 2;
        }
    }
    char describe[256];
    cascade_describe(&cascade.p, describe, sizeof describe);
    printf("%-9s %s: %d tokens, worst %.1e nats (token %d), mean %.1e, bias %+.1e", full ? "reference" : "oracle",
           describe, n - 1, worst, at, mean, bias);
    if (!full)
        printf(", closest two scores %.0e", want.closest);
    printf("\n");
    oracle_llama_free(&want);
    model_close(&m);
    return worst < 1e-3 ? 0 : 1;
}
