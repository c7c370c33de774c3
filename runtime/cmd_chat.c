/* weir chat: a conversation that may go on for ever, in a cache of constant size. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat.h"
#include "cmd.h"
#include "generate.h"

/* What was done in the whole conversation, for the last line. */
struct talk {
    struct session s;
    struct sampler *sampler;
    struct chat *chat;
    const char *system;
    int64_t read, made; /* tokens */
    double read_seconds, made_seconds;
};

/* A llama_chunk_fn. */
static int read_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    struct talk *t = user;
    t->read += T;
    for (int i = 0; i < T; i++)
        sampler_accept(t->sampler, tokens[i]);
    return interrupt_seen() ? FEED_STOPPED : 0;
}

/* Reads what the user said and answers. */
static int take_turn(struct talk *t, const struct generate_options *o, const char *said, struct err *err)
{
    struct ids ids = {0};
    int rc = chat_turn(t->chat, t->system, said, &ids, err);
    double begin = session_clock();
    if (rc == 0)
        rc = llama_feed(&t->s.backend, &t->s.model, &t->s.cascade, ids.id, ids.count, read_chunk, t, err);
    t->read_seconds += session_clock() - begin;
    int last_row = (int)((ids.count - 1) % (size_t)t->s.cascade.stride);
    ids_free(&ids);
    if (rc)
        return rc < 0 ? -1 : 0;
    struct generation g = {.s = &t->s, .sampler = t->sampler, .options = o, .echo = stdout};
    rc = generate(&g, last_row, err);
    t->made += g.tokens;
    t->made_seconds += g.seconds;
    printf("\n");
    fflush(stdout);
    return rc;
}

/* Turns until the end of the input. Ctrl-C ends an answer, or a line that is being typed. */
static int talk_on(struct talk *t, const struct generate_options *o, struct err *err)
{
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    char *line = NULL;
    size_t room = 0;
    int rc = 0;
    while (rc == 0) {
        if (terminal) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        interrupt_clear();
        errno = 0;
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0 && interrupt_seen()) {
            clearerr(stdin);
            if (terminal)
                fputs("\n(Ctrl-D leaves)\n", stdout);
            continue;
        }
        if (n < 0) {
            if (ferror(stdin))
                rc = err_set(err, "stdin: %s", strerror(errno));
            break;
        }
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        if (n > 0)
            rc = take_turn(t, o, line, err);
    }
    if (terminal)
        putchar('\n');
    free(line);
    return rc;
}

int cmd_chat(int argc, char **argv, struct err *err)
{
    struct talk t = {0};
    const char *family = NULL;
    struct cascade_options cascade;
    struct session_options so;
    struct generate_options go;
    cascade_options_init(&cascade);
    session_options_init(&so, true);
    generate_options_init(&go, 1024);
    const struct option own[] = {
        {"--system", NULL, OPTION_TEXT, &t.system, "TEXT", "the system's message; \"\" for none (the template's own)",
         0, 0, NULL},
        {"--template", NULL, OPTION_TEXT, &family, "NAME",
         "chat template: chatml, llama2, llama3, mistral, zephyr (the model's)", 0, 0, NULL},
        {0},
    };
    struct options set = {
        .usage = "weir chat -m MODEL [options]",
        .what = "A conversation in constant memory, one line a turn. Ctrl-C ends an answer, the end of the input "
                "(Ctrl-D) the program.",
        .group = {{"chat", own}, {"sampling", go.table}, {"model", so.table}, {"cascade", cascade.table}},
    };
    int status = options_parse(&set, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    if (generate_options_finish(&go, err))
        return CMD_USAGE;
    status = session_begin(&t.s, &so, &cascade, err);
    if (status != CMD_OK)
        return status;
    status = CMD_FAILED;
    if (sampler_open(&t.sampler, &go.sampler, t.s.model.shape.vocab, err))
        goto done;
    if (chat_open(&t.chat, t.s.tokenizer, family, NULL, err))
        goto done;
    interrupt_catch();
    if (talk_on(&t, &go, err))
        goto done;
    char cache[160];
    session_describe_cache(&t.s, cache, sizeof cache);
    fprintf(stderr, "prompt: %lld tokens, %.1f tok/s; generated: %lld tokens, %.1f tok/s; %s\n", (long long)t.read,
            generate_rate(t.read, t.read_seconds), (long long)t.made, generate_rate(t.made, t.made_seconds), cache);
    status = CMD_OK;
done:
    chat_close(t.chat);
    sampler_close(t.sampler);
    session_close(&t.s);
    return status;
}
