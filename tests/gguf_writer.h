#ifndef TESTS_GGUF_WRITER_H
#define TESTS_GGUF_WRITER_H

/* Writes GGUF files for tests: by hand, entry for entry (right or wrong on purpose), or a whole tiny Llama-like model with
 * random weights of any quantised type. Running out of memory ends the test program. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/model.h"

/* Bytes that grow. Zero-initialise; free with free(data). */
struct bytes {
    unsigned char *data; /* [size], owned */
    size_t size, room;
};
void bytes_put(struct bytes *b, const void *data, size_t n);
void bytes_u32(struct bytes *b, uint32_t v);
void bytes_u64(struct bytes *b, uint64_t v);
void bytes_str(struct bytes *b, const char *s); /* u64 length, then the text, as GGUF has it */

/* A GGUF file in parts. Zero-initialise; gguf_writer_finish frees it. */
struct gguf_writer {
    struct bytes kv, info, data;
    uint64_t nkv, ntensors;
    uint32_t version; /* 0 means 3 */
    size_t alignment; /* 0 means 32, and no general.alignment is written by itself */
};
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_i64(struct gguf_writer *w, const char *key, int64_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_str(struct gguf_writer *w, const char *key, const char *v);
void gguf_put_strs(struct gguf_writer *w, const char *key, const char *const *v, size_t n);
void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n);
/* ne[0 .. ndim-1] with ne[0] contiguous; `data` has the bytes of all its blocks. */
void gguf_put_tensor(struct gguf_writer *w, const char *name, enum quant_type type, int ndim, const int64_t *ne,
                     const void *data, size_t size);
/* Same, for an entry whose offset and type number are given as they are (damaged files). No data is added. */
void gguf_put_tensor_entry(struct gguf_writer *w, const char *name, uint32_t type, int ndim, const int64_t *ne,
                           uint64_t offset);
/* The file; the caller frees out.data. */
struct bytes gguf_writer_finish(struct gguf_writer *w);

/* Random blocks of a type: n elements with mean 0 and a standard deviation near sigma. The same seed gives the same bytes.
 * The caller frees. */
unsigned char *random_blocks(enum quant_type type, size_t n, double sigma, uint64_t *seed, size_t *bytes);

/* Uniform in [0, 1) and normal random numbers; *seed moves on. */
double random_uniform(uint64_t *seed);
double random_normal(uint64_t *seed);
int random_int(uint64_t *seed, int lo, int hi); /* lo..hi, both included */

enum tiny_tokenizer { TINY_NO_TOKENIZER, TINY_BPE, TINY_SPM };

/* A model of random weights. Queries and keys are strong enough that attention is neither flat nor one key's. */
struct tiny_model {
    const char *arch; /* "llama", "qwen2" */
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab, ctx;
    int rope_dim; /* 0: head_dim */
    double rope_base;
    double rope_linear;            /* factor of linear scaling, 0: none */
    bool rope_freqs;               /* a rope_freqs tensor with factors from 1 to 8, as Llama 3.1 has */
    bool tied;                     /* output = embedding */
    bool biases;                   /* on q, k and v */
    enum quant_type type;          /* of all matrices but the embedding */
    enum quant_type embed_type;    /* of the embedding, and of the output where there is one */
    enum tiny_tokenizer tokenizer; /* BPE needs vocab >= 272, SPM >= 300 */
    uint64_t seed;
};

/* 2 layers, hidden 64, 4 heads on 2 key heads of 16, ffn 96, vocab 288, ctx 4096, F32, tied, no tokenizer. */
struct tiny_model tiny_model_defaults(void);

/* The file in memory; the caller frees out.data. */
struct bytes tiny_model_bytes(const struct tiny_model *t);
/* The file on disk. */
void tiny_model_file(const struct tiny_model *t, const char *path);
/* The model, opened; *file holds its bytes, to be freed after model_close. */
void tiny_model_open(const struct tiny_model *t, struct model *m, struct bytes *file);

#endif
