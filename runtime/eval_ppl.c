/* weir eval ppl: the likelihood of a text that streams through the cascade. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "aside.h"
#include "cmd.h"
#include "eval.h"

enum { ROWS = 16 }; /* rows of logits held at a time: 49152 tokens of vocabulary x 1024 rows would be 200 MB */

struct ppl {
    struct session *s;
    float *logits; /* [ROWS][vocab] */
    float *last;   /* [vocab] of the row before the coming chunk */
    bool begun;    /* `last` is filled */
    double sum;    /* nats */
    int64_t count; /* tokens that have a likelihood */
    double seconds;
    FILE *dump; /* or NULL */
    const char *label;
    struct err *err;
};

/* -log softmax(x)[target]. The sum is in double, so 10^5 small terms lose nothing. */
static double nll(const float *x, int n, int32_t target)
{
    float max = x[0];
    for (int i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)expf(x[i] - max);
    return log(sum) + ((double)max - (double)x[target]);
}

static void count_token(struct ppl *r, const float *logits, int32_t token)
{
    double v = nll(logits, r->s->model->model.shape.vocab, token);
    r->sum += v;
    r->count++;
    if (r->dump)
        fprintf(r->dump, "%.7f\n", v);
}

/* A llama_chunk_fn: row j of a chunk foretells token j + 1, and the last row the first token of the next chunk. */
static int score_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    struct ppl *r = user;
    size_t vocab = (size_t)r->s->model->model.shape.vocab;
    if (r->begun)
        count_token(r, r->last, tokens[0]);
    for (int row = 0; row < T; row += ROWS) {
        int n = T - row < ROWS ? T - row : ROWS;
        if (be->logits(be, row, n, r->logits, r->err))
            return -1;
        for (int j = 0; j < n; j++)
            if (row + j + 1 < T)
                count_token(r, r->logits + (size_t)j * vocab, tokens[row + j + 1]);
            else
                memcpy(r->last, r->logits + (size_t)j * vocab, vocab * sizeof *r->last);
    }
    r->begun = true;
    progress_line("%s: %lld tokens, perplexity %.3f", r->label, (long long)r->count + 1,
                  r->count ? exp(r->sum / (double)r->count) : 0.0);
    return 0;
}

struct ppl_options {
    const char *file, *text, *dump;
    int64_t max_tokens;
    bool json;
};

/* One setting over the whole text. Returns an exit status. */
static int run_setting(struct session *s, const struct ppl_options *o, const struct eval_setting *setting,
                       struct ppl *r, struct err *err)
{
    struct feed feed;
    int status = session_start(s, &setting->p, NULL, err);
    if (status != CMD_OK)
        return status;
    size_t vocab = (size_t)s->model->model.shape.vocab;
    r->s = s;
    r->label = setting->label;
    r->err = err;
    r->logits = err_alloc(ROWS * vocab, sizeof *r->logits, "logits", err);
    r->last = err_alloc(vocab, sizeof *r->last, "logits", err);
    int rc = feed_open(&feed, s, 0, o->max_tokens, err);
    if (!r->logits || !r->last || rc) {
        rc = -1;
        goto done;
    }
    feed.fn = score_chunk;
    feed.user = r;
    double begin = session_clock();
    rc = feed_bos(&feed, err);
    if (rc == 0)
        rc = o->file ? feed_file(&feed, o->file, err) : feed_text(&feed, o->text, strlen(o->text), true, err);
    r->seconds = session_clock() - begin;
    progress_line(NULL);
    if (rc >= 0 && interrupt_seen())
        rc = err_set(err, "interrupted after %lld tokens", (long long)feed.fed);
    else if (rc >= 0 && r->count == 0)
        rc = err_set(err, "%s: a perplexity needs a text of two tokens or more", o->file ? o->file : "-p");
done:
    feed_close(&feed);
    free(r->logits);
    free(r->last);
    r->logits = r->last = NULL;
    return rc < 0 ? CMD_FAILED : CMD_OK;
}

static void print_results(const struct ppl_options *o, const struct eval_setting *setting, const struct ppl *r, int n,
                          const char *model)
{
    if (!o->json) {
        printf("%12s %12s %10s %8s  %s\n", "perplexity", "nats/token", "tokens", "tok/s", "setting");
        for (int i = 0; i < n; i++) {
            double mean = r[i].sum / (double)r[i].count;
            printf("%12.4f %12.5f %10lld %8.1f  %s\n", exp(mean), mean, (long long)r[i].count,
                   (double)(r[i].count + 1) / r[i].seconds, setting[i].label);
        }
        return;
    }
    cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "results");
    cJSON_AddStringToObject(top, "model", model);
    for (int i = 0; i < n; i++) {
        double mean = r[i].sum / (double)r[i].count;
        cJSON *e = cJSON_CreateObject();
        cJSON_AddStringToObject(e, "setting", setting[i].label);
        cJSON_AddNumberToObject(e, "perplexity", exp(mean));
        cJSON_AddNumberToObject(e, "nats_per_token", mean);
        cJSON_AddNumberToObject(e, "tokens", (double)r[i].count);
        cJSON_AddNumberToObject(e, "tokens_per_second", (double)(r[i].count + 1) / r[i].seconds);
        cJSON_AddItemToArray(list, e);
    }
    char *text = cJSON_PrintUnformatted(top);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(top);
}

int eval_ppl(int argc, char **argv, struct err *err)
{
    struct ppl_options o = {.max_tokens = INT64_MAX};
    struct option_texts compare = {.count = 0};
    struct cascade_options cascade;
    struct session_options so;
    cascade_options_init(&cascade);
    session_options_init(&so, false);
    const struct option own[] = {
        {"--file", "-f", OPTION_TEXT, &o.file, "FILE", "the text; - is stdin", 0, 0, NULL},
        {"--prompt", "-p", OPTION_TEXT, &o.text, "TEXT", "the text itself", 0, 0, NULL},
        {"--max-tokens", NULL, OPTION_LONG, &o.max_tokens, "K", "read no more than K tokens", 2, INT64_MAX, NULL},
        {"--dump", NULL, OPTION_TEXT, &o.dump, "FILE", "write -log p of tokens 2..K, in nats, one a line", 0, 0, NULL},
        {"--compare", NULL, OPTION_TEXTS, &compare, "'OPTIONS'",
         "a setting, as cascade options on top of the others; give several for a table", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &o.json, NULL, "print JSON", 0, 0, NULL},
        {0},
    };
    struct options set = {
        .usage = "weir eval ppl -m MODEL -f FILE [options]",
        .what = "Perplexity of a text that streams through the cascade, for one setting or several side by side:\n"
                "  weir eval ppl -f book.txt --window 512 --compare '--subcaches 1' --compare '' --compare '--select "
                "random'",
        .group = {{"ppl", own}, {"model", so.table}, {"cascade", cascade.table}},
    };
    int status = options_parse(&set, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    struct eval_setting setting[EVAL_MAX_SETTINGS];
    int n = eval_settings(&cascade, &compare, 0, setting, err);
    if (n < 0)
        return CMD_USAGE;
    const char *wrong = !o.file == !o.text ? "give the text with either -f FILE or -p TEXT"
                        : n > 1 && o.dump  ? "--dump goes with one setting, not with several --compare"
                        : n > 1 && o.file && !strcmp(o.file, "-")
                            ? "-f -: stdin can be read once, so not by several --compare"
                            : NULL;
    if (wrong) {
        err_set(err, "%s", wrong);
        return CMD_USAGE;
    }

    struct session s;
    status = session_open(&s, &so, err);
    if (status != CMD_OK)
        return status;
    struct aside dump = {.f = NULL};
    struct ppl result[EVAL_MAX_SETTINGS] = {{0}};
    status = CMD_FAILED;
    if (eval_settings(&cascade, &compare, s.model->model.shape.ctx_train, setting, err) < 0) {
        status = CMD_USAGE;
        goto done;
    }
    if (o.dump && aside_open(&dump, o.dump, err))
        goto done;
    result[0].dump = dump.f;
    interrupt_catch();
    for (int i = 0; i < n; i++) {
        status = run_setting(&s, &o, &setting[i], &result[i], err);
        if (status != CMD_OK)
            goto done;
    }
    if (dump.f && aside_keep(&dump, false, err))
        status = CMD_FAILED;
    if (status == CMD_OK)
        print_results(&o, setting, result, n, gguf_path(s.model->model.gguf));
done:
    aside_drop(&dump);
    session_close(&s);
    return status;
}
