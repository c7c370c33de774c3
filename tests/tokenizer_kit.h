#ifndef TESTS_TOKENIZER_KIT_H
#define TESTS_TOKENIZER_KIT_H

/* Vocabularies and ids of tests/vectors, for tests of the tokenizer. What is missing or damaged ends the test program. */

#include <cJSON.h>

#include "gguf_writer.h"
#include "runtime/tokenizer.h"

/* A file under tests/vectors (or WEIR_VECTORS), NUL-terminated; the caller frees. */
char *vector_file(const char *name, size_t *len);
cJSON *vector_json(const char *name);

/* A tokenizer of its own file in memory. */
struct kit_tokenizer {
    struct tokenizer *t;
    struct gguf *gguf;
    struct bytes file;
};
/* Metadata of the byte-level vocabulary with a pre-tokeniser, or of the SentencePiece vocabulary (pre = NULL). */
void kit_metadata(struct gguf_writer *w, const cJSON *vocab, const char *pre);
/* Opens what the writer holds. Returns 0, or -1 with *err. */
int kit_open(struct kit_tokenizer *k, struct gguf_writer *w, struct err *err);
void kit_open_vocab(struct kit_tokenizer *k, const cJSON *vocab, const char *pre);
void kit_close(struct kit_tokenizer *k);

/* The ids of a text, the caller's to free. */
struct ids kit_encode(const struct tokenizer *t, const char *text, size_t len, int flags);

/* FNV-1a, 64 bits, of ids as little-endian 32-bit numbers. */
uint64_t ids_hash(const int32_t *id, size_t n);

#endif
