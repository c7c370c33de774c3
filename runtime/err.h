#ifndef WEIR_ERR_H
#define WEIR_ERR_H

#include <stddef.h>

/* An error that travels as data: one sentence that says what, where and what to do. Only main prints it. */
struct err {
    char msg[640]; /* NUL-terminated; empty while nothing went wrong */
};

/* Formats the sentence into *err (cut at its size; err may be NULL). Always returns -1, so that a failing
 * function can end with `return err_set(err, ...)`. */
int err_set(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the sentence that is there. Always returns -1. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A name out of a file for a one-line message: cut, and nothing in it that is not printable ASCII. */
struct err_name {
    char text[84];
};
/* name[len] as it may be shown. By value: `err_name(s, n).text` lives to the end of the full expression. */
struct err_name err_name(const char *name, size_t len);

/* malloc(count * size), or NULL with *err filled when the product overflows or memory is out. The caller frees. */
void *err_alloc(size_t count, size_t size, const char *what, struct err *err);

/* As err_alloc, with all bytes zero. */
void *err_calloc(size_t count, size_t size, const char *what, struct err *err);

#endif
