#ifndef WEIR_GGUF_BUILD_H
#define WEIR_GGUF_BUILD_H

/* Metadata of a model that is in no GGUF file, as one would have it: so that all that reads models and tokenizers has one source. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct gguf_build {
    unsigned char *data; /* [size] a GGUF file without tensors, owned; free() it */
    size_t size, room;
    uint64_t count; /* entries */
    bool failed;    /* memory ran out; stays */
};

/* An empty list, then entry by entry. Memory that runs out shows at the end (gguf_build_end). Keys and texts are NUL-terminated and
 * copied. */
void gguf_build_begin(struct gguf_build *b);
void gguf_build_int(struct gguf_build *b, const char *key, int64_t v);
void gguf_build_real(struct gguf_build *b, const char *key, double v);
void gguf_build_text(struct gguf_build *b, const char *key, const char *v);
/* An array of n texts, or of n 32-bit integers; its elements follow by the two functions below. */
void gguf_build_texts(struct gguf_build *b, const char *key, size_t n);
void gguf_build_ints(struct gguf_build *b, const char *key, const int32_t *v, size_t n);
void gguf_build_element(struct gguf_build *b, const char *a, const char *z); /* one text: a and z one after the other */
/* 0, or -1 where memory ran out. */
int gguf_build_end(struct gguf_build *b, struct err *err);

#endif
