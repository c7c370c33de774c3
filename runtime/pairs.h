#ifndef WEIR_PAIRS_H
#define WEIR_PAIRS_H

/* Short lists of names with values, as text: a kernel's shape ("d=128 t=bf16"), the sizes it runs with ("tokens=4096 held=16448")
 * or its tile ("bm=128 bn=64"). Wisdom and trials are keyed by them. */

#include <stdbool.h>
#include <stddef.h>

#include "../gen/gen.h"

enum { PAIRS_MAX = 12, PAIRS_TEXT_MAX = 320 };

struct pair {
    char name[24], value[24];
};

struct pairs {
    int n;
    struct pair at[PAIRS_MAX]; /* [n], in order */
};

/* Reads "d=128 t=bf16" (spaces or commas between). -1 naming the word that is no pair. */
int pairs_parse(struct pairs *p, const char *text, struct err *err);

/* Appends, or replaces the value of that name. -1 where the list is full or a word too long. */
int pairs_put(struct pairs *p, const char *name, const char *value, struct err *err);
int pairs_put_long(struct pairs *p, const char *name, long value, struct err *err);

/* The value of a name: NULL (missing for pairs_long) where there is none. */
const char *pairs_get(const struct pairs *p, const char *name);
long pairs_long(const struct pairs *p, const char *name, long missing);

/* Whether both hold the same values under the same names, in any order. */
bool pairs_equal(const struct pairs *a, const struct pairs *b);

/* "d=128 t=bf16" into text. */
void pairs_text(const struct pairs *p, char text[PAIRS_TEXT_MAX]);

/* Appends them to parameters for gen_* calls, which point into p. Returns how many there are now. */
int pairs_params(const struct pairs *p, struct gen_param *params, int n);

#endif
