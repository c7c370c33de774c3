#include "options.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

/* The option that `arg` names. *value is the text behind a '=', or NULL. */
static const struct option *find(const struct options *o, const char *arg, const char **value)
{
    const char *eq = strncmp(arg, "--", 2) ? NULL : strchr(arg, '=');
    size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
    *value = eq ? eq + 1 : NULL;
    for (int g = 0; g < OPTIONS_MAX_GROUPS && o->group[g].option; g++)
        for (const struct option *p = o->group[g].option; p->name; p++)
            if ((strlen(p->name) == len && !strncmp(p->name, arg, len)) || (p->letter && !strcmp(p->letter, arg)))
                return p;
    return NULL;
}

static int read_long(const struct option *p, const char *name, const char *value, int64_t *out, struct err *err)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end)
        return err_set(err, "%s %s: not a whole number", name, value);
    int64_t min = p->min, max = p->max;
    if (min == 0 && max == 0)
        min = p->kind == OPTION_INT ? INT_MIN : INT64_MIN, max = p->kind == OPTION_INT ? INT_MAX : INT64_MAX;
    if (errno == ERANGE || v < min || v > max) {
        if (max == INT_MAX || max == INT64_MAX)
            return v < min ? err_set(err, "%s %s: must be %lld or more", name, value, (long long)min)
                           : err_set(err, "%s %s: too large", name, value);
        return err_set(err, "%s %s: must be %lld to %lld", name, value, (long long)min, (long long)max);
    }
    *out = v;
    return 0;
}

static int choose(const struct option *p, const char *name, const char *value, struct err *err)
{
    size_t len = strlen(value);
    int index = 0;
    for (const char *w = p->value;; index++) {
        size_t n = strcspn(w, "|");
        if (n == len && !strncmp(w, value, n)) {
            *(int *)p->to = index;
            return 0;
        }
        if (!w[n])
            return err_set(err, "%s %s: must be one of %s", name, value, p->value);
        w += n + 1;
    }
}

static int take(const struct option *p, const char *name, const char *value, struct err *err)
{
    struct option_texts *texts;
    int64_t whole;
    char *end;
    switch (p->kind) {
    case OPTION_FLAG:
        *(bool *)p->to = true;
        break;
    case OPTION_ONOFF:
        if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
            return err_set(err, "%s %s: must be on or off", name, value);
        *(bool *)p->to = !strcmp(value, "on");
        break;
    case OPTION_INT:
        if (read_long(p, name, value, &whole, err))
            return -1;
        *(int *)p->to = (int)whole;
        break;
    case OPTION_LONG:
        if (read_long(p, name, value, &whole, err))
            return -1;
        *(int64_t *)p->to = whole;
        break;
    case OPTION_REAL:
        *(double *)p->to = strtod(value, &end);
        if (end == value || *end || !isfinite(*(double *)p->to))
            return err_set(err, "%s %s: not a number", name, value);
        break;
    case OPTION_TEXT:
        *(const char **)p->to = value;
        break;
    case OPTION_TEXTS:
        texts = p->to;
        if (texts->count == OPTION_MAX_TEXTS)
            return err_set(err, "%s %s: given more than %d times", name, value, OPTION_MAX_TEXTS);
        texts->text[texts->count++] = value;
        break;
    case OPTION_CHOICE:
        if (choose(p, name, value, err))
            return -1;
        break;
    }
    if (p->given)
        *p->given = true;
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, struct err *err)
{
    bool ended = false;
    o->nwords = 0;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value;
        if (!ended && !strcmp(arg, "--")) {
            ended = true;
            continue;
        }
        if (ended || arg[0] != '-' || !arg[1]) {
            if (o->nwords == o->max_words) {
                err_set(err, "unexpected argument '%s'; --help lists the options", arg);
                return CMD_USAGE;
            }
            o->word[o->nwords++] = arg;
            continue;
        }
        if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
            options_help(o);
            return CMD_OK;
        }
        const struct option *p = find(o, arg, &value);
        if (!p) {
            err_set(err, "unknown option '%s'; --help lists the options", arg);
            return CMD_USAGE;
        }
        if (p->kind == OPTION_FLAG && value) {
            err_set(err, "%s: takes no value", arg);
            return CMD_USAGE;
        }
        if (p->kind != OPTION_FLAG && !value && i + 1 == argc) {
            err_set(err, "%s: needs a value; --help lists the options", arg);
            return CMD_USAGE;
        }
        if (p->kind != OPTION_FLAG && !value)
            value = argv[++i];
        if (take(p, arg[1] == '-' ? p->name : arg, value, err))
            return CMD_USAGE;
    }
    return OPTIONS_GO;
}

void options_help(const struct options *o)
{
    printf("usage: %s\n\n%s\n", o->usage, o->what);
    for (int g = 0; g < OPTIONS_MAX_GROUPS && o->group[g].option; g++) {
        if (!o->group[g].option->name)
            continue;
        printf("\n%s\n", o->group[g].title);
        for (const struct option *p = o->group[g].option; p->name; p++) {
            char left[160];
            int n = snprintf(left, sizeof left, "%s%s%s%s%s", p->letter ? p->letter : "", p->letter ? ", " : "",
                             p->name, p->value || p->kind == OPTION_ONOFF ? " " : "",
                             p->kind == OPTION_ONOFF ? "on|off"
                             : p->value              ? p->value
                                                     : "");
            if (n > 30) /* the help text goes below */
                printf("  %s\n  %30s  %s\n", left, "", p->help);
            else
                printf("  %-30s  %s\n", left, p->help);
        }
    }
    printf("\n  %-30s  %s\n", "-h, --help", "this text");
}
