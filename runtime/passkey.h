#ifndef WEIR_PASSKEY_H
#define WEIR_PASSKEY_H

/* Texts of the pass key task (Mohtashami and Jaggi, "Landmark Attention", 2023): a hint, filler, the key, filler, a question that
 * the model completes. */

#include "tokenizer.h"

enum { PASSKEY_DIGITS = 5 };

struct passkey_filler; /* sentences that are taken in turn, opaque */

/* The usual repeated sentences, or those of a file (its first 16 MB). The tokenizer must outlive it. */
int passkey_filler_open(struct passkey_filler **out, const struct tokenizer *t, const char *path, struct err *err);
void passkey_filler_close(struct passkey_filler *f);

/* A prompt of at most `tokens` tokens, with the key behind `depth` (0..1) of the filler's sentences. *text is the caller's to
 * free. -1 also where the length leaves no room for filler. */
int passkey_prompt(struct passkey_filler *f, int tokens, double depth, const char *key, char **text, struct err *err);

#endif
