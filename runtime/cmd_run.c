/* weir run: a text of any length goes in, its continuation comes out. */
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "autotune.h"
#include "cmd.h"
#include "keep.h"
#include "memory.h"
#include "timeline.h"

struct run_options {
    const char *text, *file;
    bool special, json, autotune;
};

struct prompt {
    int64_t tokens;
    double seconds;
};

/* A llama_chunk_fn. */
static int read_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    progress_line("%lld tokens read", (long long)be->seen(be));
    return 0;
}

/* Feeds the prompt, if there is one. 0, -1 with *err, or FEED_STOPPED after an interrupt. */
static int read_prompt(struct session *s, const struct run_options *o, struct prompt *p, struct err *err)
{
    struct feed feed;
    double begin = session_clock();
    int rc = feed_open(&feed, s, o->special ? TOKENIZE_SPECIAL : 0, INT64_MAX, err);
    feed.fn = read_chunk;
    if (rc == 0 && weir_stream_seen(s->stream) == 0)
        rc = feed_bos(&feed, err);
    if (rc == 0 && (o->file || o->text))
        rc = o->file ? feed_file(&feed, o->file, err) : feed_text(&feed, o->text, strlen(o->text), true, err);
    p->tokens = feed.fed;
    p->seconds = session_clock() - begin;
    timeline("prompt");
    feed_close(&feed);
    progress_line(NULL);
    if (rc == 0 && weir_stream_seen(s->stream) == 0)
        rc = err_set(err, "%s: the prompt is empty, and this model has no token to begin with",
                     o->file ? o->file : "-p");
    return rc;
}

static void print_json(const struct session *s, const struct prompt *p, const struct generation *g)
{
    static const char *const ends[] = {"limit", "end", "interrupt"};
    char *text = json_text(g->text, g->len);
    cJSON *top = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(top, "tokens");
    cJSON_AddStringToObject(top, "text", text ? text : "");
    for (size_t i = 0; i < g->ids.count; i++)
        cJSON_AddItemToArray(ids, cJSON_CreateNumber(g->ids.id[i]));
    cJSON_AddStringToObject(top, "stopped_by", ends[g->end]);
    cJSON_AddNumberToObject(top, "prompt_tokens", (double)p->tokens);
    cJSON_AddNumberToObject(top, "prompt_tokens_per_second", generate_rate(p->tokens, p->seconds));
    cJSON_AddNumberToObject(top, "generated_tokens", (double)g->tokens);
    cJSON_AddNumberToObject(top, "generated_tokens_per_second", generate_rate(g->tokens, g->seconds));
    cJSON_AddNumberToObject(top, "stream_tokens", (double)weir_stream_seen(s->stream));
    cJSON_AddNumberToObject(top, "window", s->stream->cascade.window);
    cJSON_AddNumberToObject(top, "reach", (double)weir_stream_reach(s->stream));
    cJSON_AddNumberToObject(top, "cache_bytes", (double)weir_stream_cache_bytes(s->stream));
    cJSON_AddNumberToObject(top, "peak_memory_bytes", (double)memory_peak());
    cmd_print_json(top);
    free(text);
}

int cmd_run(int argc, char **argv, struct err *err)
{
    struct run_options o = {0};
    struct cascade_options cascade;
    struct session_options so;
    struct generate_options go;
    struct keep keep;
    keep_init(&keep);
    cascade_options_init(&cascade);
    session_options_init(&so, true);
    generate_options_init(&go, 256);
    const struct option own[] = {
        {"--prompt", "-p", OPTION_TEXT, &o.text, "TEXT", "the text to continue", 0, 0, NULL},
        {"--file", "-f", OPTION_TEXT, &o.file, "FILE", "a text of any length to continue; - is stdin", 0, 0, NULL},
        {"--special", NULL, OPTION_FLAG, &o.special, NULL,
         "special tokens in the text, like <|im_start|>, are what they say", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &o.json, NULL, "print JSON when all is done", 0, 0, NULL},
        AUTOTUNE_OPTION(&o.autotune),
        {0},
    };
    struct options set = {
        .usage = "weir run -m MODEL -p TEXT|-f FILE [-n N] [options]",
        .what = "Reads a text of any length through the cascade, in constant memory, and continues it.",
        .group = {{"run", own},
                  {"streams that last", keep.table},
                  {"sampling", go.table},
                  {"model", so.table},
                  {"cascade", cascade.table}},
    };
    struct session s = {0};
    struct prompt prompt = {0};
    struct generation g = {.s = &s, .options = &go};
    int status = keep_parse(&keep, &set, &cascade, &go, argc, argv, err);
    if (status != OPTIONS_GO)
        goto done;
    status = CMD_USAGE;
    if ((o.text && o.file) || (!o.text && !o.file && !keep.load)) {
        err_set(err, "give the prompt with either -p TEXT or -f FILE");
        goto done;
    }
    if (generate_options_finish(&go, err))
        goto done;
    status = o.autotune ? autotune(&so, &cascade, err) : CMD_OK;
    if (status == CMD_OK)
        status = keep_begin(&keep, &s, &so, &cascade, &go, err);
    if (status != CMD_OK)
        goto done;
    g.echo = o.json ? NULL : stdout;
    g.keep = o.json;
    status = CMD_FAILED;
    interrupt_catch();
    int rc = read_prompt(&s, &o, &prompt, err);
    if (rc < 0 || (rc == 0 && generate(&g, err)))
        goto done;
    if (rc == FEED_STOPPED)
        g.end = GENERATE_INTERRUPTED;
    if (keep_save(&keep, &s, err))
        goto done;
    if (o.json)
        print_json(&s, &prompt, &g);
    else
        putchar('\n');
    fflush(stdout);
    generate_summary(&s, prompt.tokens, prompt.seconds, g.tokens, g.seconds);
    status = CMD_OK;
done:
    generation_free(&g);
    keep_close(&keep);
    session_close(&s);
    return status;
}
