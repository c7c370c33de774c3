#ifndef WEIR_CHAT_H
#define WEIR_CHAT_H

/* A conversation as token ids, by the chat template of the model's family (gen/chat.lua). Only the next turn is ever made, so that a
 * conversation of any length needs no memory. */

#include <stdbool.h>

#include "err.h"
#include "tokenizer.h"

struct chat; /* opaque; the tokenizer must outlive it */

/* family: "chatml", "llama3", ..., or NULL: found from the template in the model's file, or its vocabulary. home: as for
 * gen_open. Returns 0, or -1 with *err (an unknown family: it names those that are known). */
int chat_open(struct chat **out, const struct tokenizer *t, const char *family, const char *home, struct err *err);
void chat_close(struct chat *c);

/* "chatml": the family whose template it is; valid while c is open. */
const char *chat_family(const struct chat *c);

/* Appends the ids that the model is to read for the next turn, up to where its reply begins. The first turn begins the text (BOS,
 * the system's message); later ones begin by ending the reply, so the token that ends a reply (tokenizer_is_end) is not
 * fed by the caller; nor need a reply that was broken off be ended. Special tokens in `system` and `user` are plain text.
 * system: NULL for the template's own, "" for none; it counts on the first turn only. */
int chat_turn(struct chat *c, const char *system, const char *user, struct ids *out, struct err *err);

/* Whether there was a first turn; and, for a conversation out of a file, that there was one. */
bool chat_begun(const struct chat *c);
void chat_resume(struct chat *c);

#endif
