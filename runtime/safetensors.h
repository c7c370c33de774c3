#ifndef WEIR_SAFETENSORS_H
#define WEIR_SAFETENSORS_H

/* Reads one safetensors file: the length of a JSON text, the text, which says where each tensor lies, and the data. */

#include "gguf.h"

/* Called for each tensor of F32, F16 or BF16, in the order of the file; t->name is NUL-terminated and lives until safetensors_read
 * returns, t->data as long as the file's bytes. A return other than 0 ends the reading with that value. */
typedef int (*safetensors_fn)(void *user, const struct tensor *t, struct err *err);

/* Reads a file that lies in memory; `path` names it in messages. Dimensions come in GGUF's order: ne[0] is contiguous. Returns 0, -1
 * with one line, or what fn returned. */
int safetensors_read(const void *data, size_t size, const char *path, safetensors_fn fn, void *user, struct err *err);

#endif
