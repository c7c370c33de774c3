#ifndef WEIR_SESSION_H
#define WEIR_SESSION_H

/* What run, chat, eval and bench share: options for libweir's model and stream, and texts fed to them. */

#include <stdio.h>

#include "cascade_options.h"
#include "llama.h"
#include "weir_private.h"

struct session_options {
    const char *model; /* NULL: WEIR_MODEL, else the default model in the cache folder */
    struct backend_options backend;
    bool cpu;
    int gpu;                /* -1: the first one, where there is one */
    struct option table[8]; /* ends with a NULL name */
};

/* Fills in the defaults and the table that options_parse reads into *o, which must stay where it is. int8: offer the
 * activations that cost accuracy. */
void session_options_init(struct session_options *o, bool int8);

/* Where the model lies: what is given (-m), else WEIR_MODEL, else the default model in the cache folder. Returns 0, or -1 with
 * *err saying how to get one. */
int session_model_path(const char *given, char *path, size_t room, struct err *err);

struct session {
    const struct session_options *options;
    struct weir_model *model;   /* owned */
    struct weir_stream *stream; /* owned */
};

/* Opens the model. Returns an exit status; CMD_OK, or another with *err filled and nothing open. */
int session_open(struct session *s, const struct session_options *o, struct err *err);

/* Opens a stream with a cascade, in place of the one that is open, if any; sampling may be NULL. Writes its note and the
 * warning of a window beyond the trained context to stderr. Returns an exit status. */
int session_start(struct session *s, const struct cascade_params *p, const struct sampler_params *sampling,
                  struct err *err);

/* The machine that the options ask for. */
struct backend_options session_machine(const struct session_options *o);

/* Writes the stream's note, and the warning of a window beyond the trained context, to stderr. */
void session_warn(const struct session *s);

/* Both at once: checks the options against each other, opens, starts. */
int session_begin(struct session *s, const struct session_options *o, struct cascade_options *c,
                  const struct sampler_params *sampling, struct err *err);

/* Closes stream and model, those that are open. */
void session_close(struct session *s);

/* One line about the cache: window, reach, memory. */
void session_describe_cache(const struct session *s, char *out, size_t room);

/* Adds ids to a list. Returns 0, or -1 when memory is out. */
int ids_append(struct ids *ids, const int32_t *id, size_t n, struct err *err);

/* A text of any length, fed in whole chunks of the stride (the last one short) in memory that does not grow with it. */
struct feed {
    struct session *s;
    struct encoder *encoder;
    struct ids ids;    /* read, and not yet fed */
    int64_t limit;     /* tokens to feed at most */
    int64_t fed;       /* tokens fed so far */
    llama_chunk_fn fn; /* called after each chunk, while its logits can be had; may be NULL */
    void *user;
};

enum { FEED_STOPPED = 1 };

/* Opens a feed for one text, of at most `limit` tokens; flags as for tokenizer_encode. */
int feed_open(struct feed *f, struct session *s, int flags, int64_t limit, struct err *err);
/* Puts a BOS before the text where the model asks for one. */
int feed_bos(struct feed *f, struct err *err);
/* Takes more of the text; `last` ends it. Returns 0, -1 with *err, or what fn returned to stop (FEED_STOPPED where the limit
 * was reached or the user interrupted). */
int feed_text(struct feed *f, const char *text, size_t len, bool last, struct err *err);
/* A whole file, "-" for stdin. */
int feed_file(struct feed *f, const char *path, struct err *err);
void feed_close(struct feed *f);

/* Ctrl-C, and the signals that ask a program to end. After interrupt_catch they set a flag instead of ending the process; a second
 * one, with the flag still set, ends it. */
void interrupt_catch(void);
bool interrupt_seen(void);
bool interrupt_leaves(void); /* it was not Ctrl-C: the program should come to its end */
void interrupt_clear(void);

/* Shows a line on stderr in place of the one before, where that is a terminal; NULL wipes it. */
void progress_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Seconds of a clock that only goes forward. */
double session_clock(void);

#endif
