#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H

/* The built program, driven as a user drives it, in the scratch folder. $WEIR names it (default build/weir). */

#include <stddef.h>

/* What the last run wrote, NUL-terminated. */
extern char out[1 << 20], errors[1 << 16];

/* scratch_make, and an environment in which the program finds nothing but what the test puts there: $W names it for the shell, and
 * the folder is the cache. */
int program_setup(void **state);
/* The same, and a model of random weights with a byte-level tokenizer: tiny.gguf. */
int program_setup_model(void **state);

/* Runs `weir ARGS` by the shell, with no input but what ARGS redirect; returns its exit status. */
int weir(const char *args, ...) __attribute__((format(printf, 1, 2)));

/* Fails unless the last run wrote nothing but one line of error that names its command and says `what`. */
void failed_with(const char *what);

/* A text file in the scratch folder. */
void spill(const char *name, const char *text);
/* A file of the scratch folder as a text. */
void slurp(const char *name, char *text, size_t room);

#endif
