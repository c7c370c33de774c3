/* weir eval: how well the model reads and remembers through the cascade. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "eval.h"

/* One setting: the options in `text`, on top of base. */
static int make_setting(const struct cascade_options *base, const char *text, int ctx_train, struct eval_setting *out,
                        struct err *err)
{
    enum { MOST_WORDS = 64 };
    char *argv[MOST_WORDS] = {(char *)"--compare"}, *save = NULL;
    char *words = strdup(text); /* a schedule points into it until the setting is finished */
    if (!words)
        return err_set(err, "out of memory");
    int argc = 1;
    for (char *w = strtok_r(words, " ", &save); w && argc < MOST_WORDS; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    struct cascade_options own;
    cascade_options_copy(&own, base);
    struct options set = {.usage = "weir eval --compare 'OPTIONS'",
                          .what = "Cascade options on top of those of the command line.",
                          .group = {{"cascade", own.table}}};
    int rc = options_parse(&set, argc, argv, err) == OPTIONS_GO ? 0 : -1;
    if (rc == 0)
        rc = cascade_options_finish(&own, ctx_train, err);
    if (rc && *text)
        err_prefix(err, "--compare '%s'", text);
    out->p = own.p;
    cascade_describe(&own.p, out->label, sizeof out->label);
    free(words);
    return rc;
}

int eval_settings(const struct cascade_options *base, const struct option_texts *texts, int ctx_train,
                  struct eval_setting *out, struct err *err)
{
    for (int i = 0; i < texts->count; i++)
        if (make_setting(base, texts->text[i], ctx_train, &out[i], err))
            return -1;
    if (texts->count > 0)
        return texts->count;
    return make_setting(base, "", ctx_train, &out[0], err) ? -1 : 1;
}

int eval_lengths(const char *text, int least, int length[EVAL_MAX_LENGTHS], struct err *err)
{
    int n = 0;
    for (const char *at = text;; at++) {
        char *end;
        long v = strtol(at, &end, 10);
        if (end == at || v < least || v > INT_MAX || (*end && *end != ',') || (n > 0 && v <= length[n - 1]))
            return err_set(err, "--lengths %s: must be a list of rising token counts from %d on, like 4096,6144", text,
                           least);
        if (n == EVAL_MAX_LENGTHS)
            return err_set(err, "--lengths %s: more than %d lengths", text, EVAL_MAX_LENGTHS);
        length[n++] = (int)v;
        if (!*end)
            return n;
        at = end;
    }
}

int cmd_eval(int argc, char **argv, struct err *err)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "ppl"))
        return eval_ppl(argc - 1, argv + 1, err);
    if (!strcmp(what, "passkey"))
        return eval_passkey(argc - 1, argv + 1, err);
    if (!strcmp(what, "--help") || !strcmp(what, "-h")) {
        printf("usage: weir eval ppl|passkey [options]\n\n"
               "  ppl        perplexity of a text that streams through the cascade\n"
               "  passkey    a number hidden in a long text: found or not, by length and depth\n\n"
               "weir eval ppl --help and weir eval passkey --help say more\n");
        return CMD_OK;
    }
    if (*what)
        err_set(err, "unknown kind '%s': must be ppl or passkey", what);
    else
        err_set(err, "needs a kind, ppl or passkey");
    return CMD_USAGE;
}
