#include "generate.h"

#include <stdlib.h>
#include <string.h>

#include "timeline.h"

void generate_options_init(struct generate_options *o, int64_t most)
{
    memset(o, 0, sizeof *o);
    o->sampler = sampler_defaults();
    o->most = most;
    const struct option rows[] = {
        {"--tokens", "-n", OPTION_LONG, &o->most, "N", "generate no more than N tokens", 0, INT64_MAX, NULL},
        {"--temp", NULL, OPTION_REAL, &o->sampler.temperature, "X", "temperature; 0 is greedy (0.8)", 0, 0, NULL},
        {"--top-k", NULL, OPTION_INT, &o->sampler.top_k, "K", "sample from the K likeliest; 0: from all (40)", 0,
         INT32_MAX, NULL},
        {"--top-p", NULL, OPTION_REAL, &o->sampler.top_p, "X", "from the likeliest that sum to X (0.95)", 0, 0, NULL},
        {"--min-p", NULL, OPTION_REAL, &o->sampler.min_p, "X",
         "from those at least X times as likely as the likeliest (0.05)", 0, 0, NULL},
        {"--repeat-penalty", NULL, OPTION_REAL, &o->sampler.repeat_penalty, "X",
         "divides the logits of recent tokens; 1 is none (1)", 0, 0, NULL},
        {"--repeat-last", NULL, OPTION_INT, &o->sampler.repeat_last, "K", "how many tokens are recent (64)", 0,
         INT32_MAX, NULL},
        {"--seed", NULL, OPTION_LONG, &o->seed, "K", "the same seed gives the same text (0)", 0, 0, NULL},
        {"--greedy", NULL, OPTION_FLAG, &o->greedy, NULL, "always the likeliest token", 0, 0, NULL},
        {"--ignore-end", NULL, OPTION_FLAG, &o->ignore_end, NULL, "go on behind an end token", 0, 0, NULL},
        {0},
    };
    _Static_assert(sizeof rows <= sizeof o->table, "the table is too small");
    memcpy(o->table, rows, sizeof rows);
}

void generate_options_adopt(struct generate_options *o, const struct sampler_params *p)
{
    o->sampler = *p;
    o->seed = (int64_t)p->seed;
}

int generate_options_finish(struct generate_options *o, struct err *err)
{
    if (o->greedy)
        o->sampler.temperature = 0;
    o->sampler.seed = (uint64_t)o->seed;
    return sampler_check(&o->sampler, err);
}

double generate_rate(int64_t tokens, double seconds)
{
    return tokens > 0 && seconds > 0 ? (double)tokens / seconds : 0.0;
}

void generate_summary(const struct session *s, int64_t read, double read_seconds, int64_t made, double made_seconds)
{
    char cache[160];
    session_describe_cache(s, cache, sizeof cache);
    fprintf(stderr, "prompt: %lld tokens, %.1f tok/s; generated: %lld tokens, %.1f tok/s; %s\n", (long long)read,
            generate_rate(read, read_seconds), (long long)made, generate_rate(made, made_seconds), cache);
}

/* Bytes of the UTF-8 character at s[0..n), 0 where there is none. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf8 ? 0 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
    if (len == 0 || len > n || s[0] == 0)
        return 0;
    uint32_t c = len == 1 ? s[0] : s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    return c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : len;
}

char *json_text(const char *bytes, size_t len)
{
    char *text = malloc(3 * len + 1), *at = text;
    for (size_t i = 0; text && i < len;) {
        size_t n = utf8_length((const unsigned char *)bytes + i, len - i);
        memcpy(at, n > 0 ? bytes + i : "\xef\xbf\xbd", n > 0 ? n : 3);
        at += n > 0 ? n : 3;
        i += n > 0 ? n : 1;
    }
    if (text)
        *at = 0;
    return text;
}

static int put_text(struct generation *g, const char *bytes, size_t n, struct err *err)
{
    if (g->echo && n > 0) {
        fwrite(bytes, 1, n, g->echo);
        fflush(g->echo);
    }
    if (!g->keep || n == 0)
        return 0;
    if (g->len + n > g->room) {
        size_t room = (g->len + n) * 2;
        char *grown = realloc(g->text, room);
        if (!grown)
            return err_set(err, "out of memory: %zu bytes of text", room);
        g->text = grown;
        g->room = room;
    }
    memcpy(g->text + g->len, bytes, n);
    g->len += n;
    return 0;
}

int generate(struct generation *g, struct err *err)
{
    const struct weir_model *m = g->s->model;
    struct weir_stream *stream = g->s->stream;
    struct weir_error *error = weir_error_of(err);
    struct decoder decoder = {0};
    char *bytes = NULL;
    size_t room = 0, piece;
    int32_t id;
    int rc = -1;
    double begin = session_clock();
    for (g->end = GENERATE_LIMIT; g->tokens < g->options->most; g->tokens++) {
        if (interrupt_seen()) {
            g->end = GENERATE_INTERRUPTED;
            break;
        }
        if (weir_stream_sample(stream, &id, error))
            goto done;
        if (weir_model_ends(m, id) && !g->options->ignore_end) {
            g->end = GENERATE_END_TOKEN;
            g->end_token = id;
            break;
        }
        weir_token_text(m, id, &piece);
        if (piece + 8 > room) {
            char *grown = realloc(bytes, room = piece + 64);
            if (!grown) {
                err_set(err, "out of memory");
                goto done;
            }
            bytes = grown;
        }
        if (g->keep && ids_append(&g->ids, &id, 1, err))
            goto done;
        if (g->tokens == 0)
            timeline("first token");
        if (put_text(g, bytes, decoder_push(&decoder, m->tokenizer, id, bytes, room), err))
            goto done;
        if (weir_stream_feed(stream, &id, 1, error))
            goto done;
    }
    rc = bytes ? put_text(g, bytes, decoder_flush(&decoder, bytes, room), err) : 0;
done:
    g->seconds = session_clock() - begin;
    free(bytes);
    return rc;
}

void generation_free(struct generation *g)
{
    free(g->text);
    ids_free(&g->ids);
}
