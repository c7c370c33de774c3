#ifndef WEIR_GGUF_H
#define WEIR_GGUF_H

/* Reads GGUF v2 and v3 (little endian) through a bounds-checked cursor over a memory map. Nothing is copied but the
 * directory; names, strings and tensor data point into the map and live until gguf_close. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "quant.h"

struct tensor {
    const char *name; /* not NUL-terminated in the file: name[0 .. name_len - 1] */
    size_t name_len;
    enum quant_type type;
    int ndim;         /* 1..4 */
    int64_t ne[4];    /* ne[0] is contiguous; 1 beyond ndim */
    const void *data; /* ne[1]*ne[2]*ne[3] rows of ne[0] elements, in the file's map */
    size_t bytes;
    size_t repeats; /* 0; random weights for a GPU (model_random.h): data holds so many bytes of a pattern */
};

struct gguf; /* opaque */

/* Maps and checks the whole directory: magic, version, counts, types, every offset and overlap. *out is owned by the caller
 * (gguf_close). Returns 0, or -1 with one line that names the file and what is wrong. */
int gguf_open(struct gguf **out, const char *path, struct err *err);
/* The same for a file that lies in memory (tests, fuzzing); `data` must outlive *out. */
int gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *label, struct err *err);
void gguf_close(struct gguf *g);

/* These bytes of the file will hardly be read again: their pages need not stay in this process's memory. They can be read all the same.
 * Does nothing where the file is not mapped (g may be NULL). */
void gguf_forget(const struct gguf *g, const void *data, size_t bytes);

/* The path (or label) that it was opened with, and the size of the file. */
const char *gguf_path(const struct gguf *g);
size_t gguf_file_bytes(const struct gguf *g);

/* Tensors: by name (NULL where there is none) or by number. */
const struct tensor *gguf_tensor(const struct gguf *g, const char *name);
size_t gguf_tensor_count(const struct gguf *g);
const struct tensor *gguf_tensor_at(const struct gguf *g, size_t i);

/* Metadata. A key that is absent leaves *out as it is and returns false, so that the caller sets its default first. A key
 * of another kind, or a value that does not fit, counts as absent. */
bool gguf_has(const struct gguf *g, const char *key);
bool gguf_get_int(const struct gguf *g, const char *key, int64_t *out);  /* any integer type, and bool */
bool gguf_get_float(const struct gguf *g, const char *key, double *out); /* any float or integer type */
bool gguf_get_str(const struct gguf *g, const char *key, const char **str, size_t *len);

/* Array metadata: element count, or -1 where the key is absent or no array of that kind. */
int64_t gguf_array_len(const struct gguf *g, const char *key);
/* Fill [array_len] elements, of strs both lists. */
bool gguf_array_strs(const struct gguf *g, const char *key, const char **str, size_t *len);
bool gguf_array_ints(const struct gguf *g, const char *key, int32_t *out);
bool gguf_array_floats(const struct gguf *g, const char *key, float *out);

#endif
