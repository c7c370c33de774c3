#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

/* A folder of its own for the files of a test program. What cannot be read or written fails the test. */

#include "gguf_writer.h"

/* Make it, and remove it with all that is in it: set-up and tear-down of a group of tests. */
int scratch_make(void **state);
int scratch_remove(void **state);

/* The path of a file in it, or with "" of the folder itself. */
struct scratch_path {
    char text[96];
};
struct scratch_path in_scratch(const char *name);

/* A whole file, wherever it lies; a NUL follows that size does not count. The caller frees data. */
struct bytes file_read(const char *path);
void file_write(const char *path, const void *data, size_t n);

/* Fails with `what` unless both files hold the same bytes. */
void same_files(const char *a, const char *b, const char *what);

#endif
