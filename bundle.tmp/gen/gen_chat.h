#ifndef WEIR_GEN_CHAT_H
#define WEIR_GEN_CHAT_H

/* The C host of the chat templates (gen/chat.lua). */

#include <stdbool.h>

#include "gen.h"

/* What the templates ask of a model. All texts are the caller's. */
struct gen_chat_model {
    const char *template; /* Jinja text of the model's file, "" where there is none */
    size_t template_len;
    const char *bos, *eos; /* "" where there is none */
    bool adds_bos;
    bool (*has)(const void *user, const char *token); /* whether there is such a special token */
    const void *user;
};

enum { GEN_CHAT_NAME_MAX = 24 };

/* Finds the family of a model, or checks `want`, a name. Returns 0, or -1 with *err naming the known ones. */
int gen_chat_find(struct gen *g, const struct gen_chat_model *m, const char *want, char family[GEN_CHAT_NAME_MAX],
                  struct err *err);

/* Takes one part of a turn; markup: special tokens in it count. Returns 0, or not 0 to stop. */
typedef int (*gen_chat_part_fn)(void *user, const char *text, size_t len, bool markup);

/* What the model is to read for the next turn, in parts; texts are NUL-terminated. system: NULL for the template's own. Returns 0,
 * -1 with *err, or what fn returned. */
int gen_chat_turn(struct gen *g, const char *family, const struct gen_chat_model *m, bool first, const char *system,
                  const char *user, gen_chat_part_fn fn, void *fn_user, struct err *err);

#endif
