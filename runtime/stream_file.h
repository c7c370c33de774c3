#ifndef WEIR_STREAM_FILE_H
#define WEIR_STREAM_FILE_H

/* A stream in a file: all that is needed to go on with it as if it had never stopped. Little endian, without gaps:
 *
 *     "weirstrm", format version, bytes of the whole file, fingerprint of the model
 *     its layers, key heads, head dimension and vocabulary; the type of the cache's elements; the cascade's parameters
 *     clock, sampler, chat, logits of the last token
 *     for each layer, over the held rows in order of position (cascade_runs):
 *         for each key head: keys [held][head_dim], then values, as a struct cache_layer has them
 *         for each cascade of the layer: scores [held] fp32, original token numbers [held] int64
 *     SHA-256 of all that stands before it
 *
 * The layout is the same for every backend; a backend whose cache has elements of another type converts them, and then the stream goes
 * on, but not bit for bit. */

#include "backend.h"
#include "sampler.h"

struct stream_chat {
    bool begun;      /* a conversation is under way */
    char family[32]; /* of its chat template, "" where there is none */
};

/* Everything but the layers. Free with stream_head_free. */
struct stream_head {
    unsigned char model[32]; /* model_digest */
    int layers, kv_heads, head_dim, vocab;
    enum quant_type cache_type;
    struct cascade_params cascade;
    int64_t seen; /* tokens */
    struct sampler_state sampler;
    struct stream_chat chat;
    float *logits; /* [vocab] fp32 of the last token, owned, or NULL */
};
void stream_head_free(struct stream_head *h);

/* Writes head and layers, whole or not at all. Returns 0, or -1 with one line. */
int stream_file_write(const char *path, const struct stream_head *h, struct backend *be, struct err *err);

/* A file that has been found whole. */
struct stream_file {
    char *path; /* owned */
    struct stream_head head;
    const unsigned char *data; /* [size] */
    size_t size;
    size_t layers_at; /* where the layers begin */
    bool mapped;      /* data is our memory map */
};

/* Maps a file and checks checksum, head and length. -1 with one line that names the file and what is wrong. */
int stream_file_open(struct stream_file *f, const char *path, struct err *err);
/* The same for a file in memory, which must outlive *f. */
int stream_file_open_memory(struct stream_file *f, const void *data, size_t size, const char *label, struct err *err);
void stream_file_close(struct stream_file *f);

/* Brings caches and clock of a backend, opened for the same model and cascade, to where the file has them. */
int stream_file_load(const struct stream_file *f, struct backend *be, struct err *err);

#endif
