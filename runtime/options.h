#ifndef WEIR_OPTIONS_H
#define WEIR_OPTIONS_H

/* The commands' options: tables say what there is, one parser reads them, and --help is generated from them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

enum option_kind {
    OPTION_FLAG,   /* bool, set to true; takes no value */
    OPTION_ONOFF,  /* bool, from on|off */
    OPTION_INT,    /* int, min..max */
    OPTION_LONG,   /* int64_t, min..max */
    OPTION_REAL,   /* double, any finite number */
    OPTION_TEXT,   /* const char *, points into argv */
    OPTION_TEXTS,  /* struct option_texts, may be given several times */
    OPTION_CHOICE, /* int: index of the word in `value`, "max|mean|median" */
};

enum { OPTION_MAX_TEXTS = 16 };

struct option_texts {
    const char *text[OPTION_MAX_TEXTS]; /* [count] */
    int count;
};

struct option {
    const char *name;   /* "--window"; NULL ends a table */
    const char *letter; /* "-m", or NULL */
    enum option_kind kind;
    void *to;          /* what it sets, of the kind's type */
    const char *value; /* how the help calls its value, "W"; the words of a choice; NULL for a flag */
    const char *help;
    int64_t min, max; /* OPTION_INT and OPTION_LONG; no limit where both are 0 */
    bool *given;      /* set to true when the option is there; may be NULL */
};

struct option_group {
    const char *title;           /* heading in the help */
    const struct option *option; /* ends with a NULL name */
};

enum { OPTIONS_MAX_GROUPS = 6, OPTIONS_GO = -1 };

struct options {
    const char *usage;                             /* "weir run -m MODEL -p TEXT|-f FILE" */
    const char *what;                              /* what the command does, one or more lines */
    struct option_group group[OPTIONS_MAX_GROUPS]; /* ends with a NULL table */
    const char **word;                             /* [max_words] filled with what is no option, or NULL */
    int max_words, nwords;
};

/* Reads argv[1..]: `--name value`, `--name=value`, `-x value`; `--` ends the options. Returns OPTIONS_GO, or the exit status
 * to end with: CMD_OK after --help (printed to stdout), CMD_USAGE with *err naming option and value. */
int options_parse(struct options *o, int argc, char **argv, struct err *err);

/* The help text, to stdout. */
void options_help(const struct options *o);

#endif
