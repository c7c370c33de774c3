/* weir eval ppl: the likelihood of a text that streams through the cascade. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "aside.h"
#include "cmd.h"
#include "eval.h"
#include "likelihood.h"

/* What a setting's text came to when so many of its tokens had been read. */
struct ppl_row {
    double nats;    /* of all tokens that have a likelihood, */
    int64_t tokens; /* which are so many */
    double seconds; /* since the text began */
};

struct ppl {
    struct session *s;
    float *nats; /* [stride] of a chunk */
    float *last; /* [vocab] logits of the row before the coming chunk */
    bool begun;  /* `last` is filled */
    double sum;  /* nats */
    int64_t count;
    const int *length; /* [lengths] text lengths to keep a row of */
    int lengths, reached;
    struct ppl_row row[EVAL_MAX_LENGTHS];
    double begin; /* of the clock */
    FILE *dump;   /* or NULL */
    const char *label;
    struct err *err;
};

static struct ppl_row row_now(const struct ppl *r)
{
    return (struct ppl_row){.nats = r->sum, .tokens = r->count, .seconds = session_clock() - r->begin};
}

static void count_token(struct ppl *r, double nats)
{
    r->sum += nats;
    r->count++;
    if (r->reached < r->lengths && r->count + 1 == r->length[r->reached])
        r->row[r->reached++] = row_now(r);
    if (r->dump)
        fprintf(r->dump, "%.7f\n", nats);
}

/* A llama_chunk_fn: row j of a chunk foretells token j + 1, and the last row the first token of the next chunk. */
static int score_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    struct ppl *r = user;
    if (r->begun)
        count_token(r, likelihood_nats(r->last, r->s->model->model.shape.vocab, tokens[0]));
    if (T > 1 && be->likelihoods(be, 0, T - 1, tokens + 1, r->nats, r->err))
        return -1;
    for (int j = 0; j + 1 < T; j++)
        count_token(r, (double)r->nats[j]);
    if (be->logits(be, T - 1, 1, r->last, r->err))
        return -1;
    r->begun = true;
    progress_line("%s: %lld tokens, perplexity %.3f", r->label, (long long)r->count + 1,
                  r->count ? exp(r->sum / (double)r->count) : 0.0);
    return 0;
}

struct ppl_options {
    const char *file, *text, *dump, *lengths;
    int64_t max_tokens;
    int length[EVAL_MAX_LENGTHS], nlengths;
    bool json;
};

/* Whether a text that has been read to its end gave all that was asked for. */
static int check_read(const struct ppl_options *o, const struct ppl *r, int64_t fed, struct err *err)
{
    const char *name = o->file ? o->file : "-p";
    if (interrupt_seen())
        return err_set(err, "interrupted after %lld tokens", (long long)fed);
    if (r->count == 0)
        return err_set(err, "%s: a perplexity needs a text of two tokens or more", name);
    if (r->reached < r->lengths)
        return err_set(err, "--lengths %d: %s has only %lld tokens", r->length[r->reached], name, (long long)fed);
    return 0;
}

/* One setting over the whole text. Returns an exit status. */
static int run_setting(struct session *s, const struct ppl_options *o, const struct eval_setting *setting,
                       struct ppl *r, struct err *err)
{
    struct feed feed;
    int status = session_start(s, &setting->p, NULL, err);
    if (status != CMD_OK)
        return status;
    r->s = s;
    r->label = setting->label;
    r->err = err;
    r->length = o->length;
    r->lengths = o->nlengths;
    r->nats = err_alloc((size_t)setting->p.stride, sizeof *r->nats, "likelihoods", err);
    r->last = err_alloc((size_t)s->model->model.shape.vocab, sizeof *r->last, "logits", err);
    int rc = feed_open(&feed, s, 0, o->nlengths ? o->length[o->nlengths - 1] : o->max_tokens, err);
    if (!r->nats || !r->last || rc) {
        rc = -1;
        goto done;
    }
    feed.fn = score_chunk;
    feed.user = r;
    r->begin = session_clock();
    rc = feed_bos(&feed, err);
    if (rc == 0)
        rc = o->file ? feed_file(&feed, o->file, err) : feed_text(&feed, o->text, strlen(o->text), true, err);
    progress_line(NULL);
    if (rc >= 0)
        rc = check_read(o, r, feed.fed, err);
    if (o->nlengths == 0)
        r->row[r->reached++] = row_now(r);
done:
    feed_close(&feed);
    free(r->nats);
    free(r->last);
    r->nats = r->last = NULL;
    return rc < 0 ? CMD_FAILED : CMD_OK;
}

/* Rows are printed as settings end, so that a run that is stopped has shown what it found. */
static void print_rows(const struct ppl *r, bool first)
{
    if (first)
        printf("%12s %12s %10s %8s  %s\n", "perplexity", "nats/token", "tokens", "tok/s", "setting");
    for (const struct ppl_row *row = r->row; row < r->row + r->reached; row++) {
        double mean = row->nats / (double)row->tokens;
        printf("%12.4f %12.5f %10lld %8.1f  %s\n", exp(mean), mean, (long long)row->tokens,
               (double)(row->tokens + 1) / row->seconds, r->label);
    }
    fflush(stdout);
}

static void print_json(const struct ppl *r, int n, const char *model)
{
    cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "results");
    cJSON_AddStringToObject(top, "model", model);
    for (int i = 0; i < n; i++)
        for (const struct ppl_row *row = r[i].row; row < r[i].row + r[i].reached; row++) {
            double mean = row->nats / (double)row->tokens;
            cJSON *e = cJSON_CreateObject();
            cJSON_AddStringToObject(e, "setting", r[i].label);
            cJSON_AddNumberToObject(e, "perplexity", exp(mean));
            cJSON_AddNumberToObject(e, "nats_per_token", mean);
            cJSON_AddNumberToObject(e, "tokens", (double)row->tokens);
            cJSON_AddNumberToObject(e, "tokens_per_second", (double)(row->tokens + 1) / row->seconds);
            cJSON_AddItemToArray(list, e);
        }
    cmd_print_json(top);
}

/* What is wrong with the options beside each other, or NULL. */
static const char *contradiction(const struct ppl_options *o, int settings)
{
    if (!o->file == !o->text)
        return "give the text with either -f FILE or -p TEXT";
    if (settings > 1 && o->dump)
        return "--dump goes with one setting, not with several --compare";
    if (settings > 1 && o->file && !strcmp(o->file, "-"))
        return "-f -: stdin can be read once, so not by several --compare";
    if (o->lengths && o->max_tokens != INT64_MAX)
        return "--max-tokens and --lengths exclude each other: the last length ends the text";
    return NULL;
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
        {"--lengths", NULL, OPTION_TEXT, &o.lengths, "L,..", "a row for the first L tokens, for each of the list", 0, 0,
         NULL},
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
    if (o.lengths && (o.nlengths = eval_lengths(o.lengths, 2, o.length, err)) < 0)
        return CMD_USAGE;
    const char *wrong = contradiction(&o, n);
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
        if (!o.json)
            print_rows(&result[i], i == 0);
    }
    if (dump.f && aside_keep(&dump, false, err))
        status = CMD_FAILED;
    if (status == CMD_OK && o.json)
        print_json(result, n, gguf_path(s.model->model.gguf));
done:
    aside_drop(&dump);
    session_close(&s);
    return status;
}
