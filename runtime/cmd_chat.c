/* weir chat: a conversation that may go on for ever, in a cache of constant size. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autotune.h"
#include "chat.h"
#include "cmd.h"
#include "keep.h"

/* What was done in the whole conversation, for the last line. */
struct talk {
    struct session s;
    struct chat *chat;
    const char *system;
    int64_t read, made; /* tokens */
    double read_seconds, made_seconds;
};

/* Feeds what the user said, until an interrupt. 0, -1 with *err, or FEED_STOPPED. */
static int read_turn(struct talk *t, const struct ids *ids, struct err *err)
{
    size_t stride = (size_t)t->s.stream->cascade.stride;
    for (size_t done = 0; done < ids->count && !interrupt_seen(); done += stride) {
        size_t T = ids->count - done < stride ? ids->count - done : stride;
        if (weir_stream_feed(t->s.stream, ids->id + done, T, weir_error_of(err)))
            return -1;
        t->read += (int64_t)T;
    }
    return interrupt_seen() ? FEED_STOPPED : 0;
}

/* Reads what the user said and answers. */
static int take_turn(struct talk *t, const struct generate_options *o, const char *said, struct err *err)
{
    struct ids ids = {0};
    int rc = chat_turn(t->chat, t->system, said, &ids, err);
    double begin = session_clock();
    if (rc == 0)
        rc = read_turn(t, &ids, err);
    t->read_seconds += session_clock() - begin;
    ids_free(&ids);
    if (rc)
        return rc < 0 ? -1 : 0;
    struct generation g = {.s = &t->s, .options = o, .echo = stdout};
    rc = generate(&g, err);
    t->made += g.tokens;
    t->made_seconds += g.seconds;
    printf("\n");
    fflush(stdout);
    return rc;
}

/* The chat template, and with --load the conversation that is under way. */
static int open_chat(struct talk *t, const struct keep *keep, const char *family, struct err *err)
{
    const struct stream_chat *saved = &t->s.stream->chat;
    if (keep->load && !saved->begun)
        return err_set(err, "%s: holds a text and no conversation; weir run --load goes on with it", keep->load);
    if (keep->load && family && strcmp(family, saved->family) != 0)
        return err_set(err, "--template %s: the conversation in %s was begun with %s", family, keep->load,
                       saved->family);
    if (chat_open(&t->chat, t->s.model->tokenizer, keep->load ? saved->family : family, NULL, err))
        return -1;
    if (keep->load)
        chat_resume(t->chat);
    return 0;
}

static int save_chat(struct talk *t, const struct keep *keep, struct err *err)
{
    struct stream_chat *c = &t->s.stream->chat;
    c->begun = chat_begun(t->chat);
    snprintf(c->family, sizeof c->family, "%s", chat_family(t->chat));
    return keep_save(keep, &t->s, err);
}

/* Turns until the end of the input. Ctrl-C ends an answer, or a line that is being typed. */
static int talk_on(struct talk *t, const struct generate_options *o, struct err *err)
{
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    char *line = NULL;
    size_t room = 0;
    int rc = 0;
    while (rc == 0 && !interrupt_leaves()) {
        if (terminal) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        interrupt_clear();
        errno = 0;
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0 && interrupt_seen()) {
            clearerr(stdin);
            if (terminal && !interrupt_leaves())
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
    bool tune_first = false;
    struct cascade_options cascade;
    struct session_options so;
    struct generate_options go;
    struct keep keep;
    keep_init(&keep);
    cascade_options_init(&cascade);
    session_options_init(&so, true);
    generate_options_init(&go, 1024);
    const struct option own[] = {
        {"--system", NULL, OPTION_TEXT, &t.system, "TEXT", "the system's message; \"\" for none (the template's own)",
         0, 0, NULL},
        {"--template", NULL, OPTION_TEXT, &family, "NAME",
         "chat template: chatml, llama2, llama3, mistral, zephyr (the model's)", 0, 0, NULL},
        AUTOTUNE_OPTION(&tune_first),
        {0},
    };
    struct options set = {
        .usage = "weir chat -m MODEL [options]",
        .what = "A conversation in constant memory, one line a turn. Ctrl-C ends an answer, the end of the input "
                "(Ctrl-D) the program.",
        .group = {{"chat", own},
                  {"streams that last", keep.table},
                  {"sampling", go.table},
                  {"model", so.table},
                  {"cascade", cascade.table}},
    };
    int status = keep_parse(&keep, &set, &cascade, &go, argc, argv, err);
    if (status == OPTIONS_GO) {
        status = generate_options_finish(&go, err) ? CMD_USAGE : tune_first ? autotune(&so, &cascade, err) : CMD_OK;
        if (status == CMD_OK)
            status = keep_begin(&keep, &t.s, &so, &cascade, &go, err);
    }
    if (status != CMD_OK || !t.s.stream)
        goto done;
    status = CMD_FAILED;
    if (open_chat(&t, &keep, family, err))
        goto done;
    interrupt_catch();
    if (talk_on(&t, &go, err) || save_chat(&t, &keep, err))
        goto done;
    generate_summary(&t.s, t.read, t.read_seconds, t.made, t.made_seconds);
    status = CMD_OK;
done:
    chat_close(t.chat);
    session_close(&t.s);
    keep_close(&keep);
    return status;
}
