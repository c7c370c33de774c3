#ifndef WEIR_TEST_GEN_HOME_H
#define WEIR_TEST_GEN_HOME_H

/* A temporary folder with gen/kernels/ and templates/, for tests of the generator and of what stands on it. It begins with a
 * small kernel, `axpy`, and both preludes, so that a test needs to write only what it is about. */

#include "gen/gen.h"

struct gen_home {
    char path[64];
};

/* Makes the folder, or fails the test. */
void gen_home_open(struct gen_home *h);

/* Writes a file (a path inside the folder), or fails the test. */
void gen_home_write(const struct gen_home *h, const char *path, const char *text);

/* Removes the folder and all in it. */
void gen_home_close(struct gen_home *h);

/* The whole text of a file, which the caller frees, or NULL. */
char *gen_home_read(const char *path);

/* Such a folder and a generator that reads it, for one test: its set-up, which makes it the test's state, and its tear-down. */
struct gen_fixture {
    struct gen_home home;
    struct gen *gen;
};
int gen_fixture_open(void **state);
int gen_fixture_close(void **state);

/* A generator of the project's own files, for all tests of a program: the group's set-up and tear-down. */
extern struct gen *own_gen;
int own_gen_open(void **state);
int own_gen_close(void **state);

#endif
