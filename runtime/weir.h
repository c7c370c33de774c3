#ifndef WEIR_H
#define WEIR_H

/* libweir: Llama models over a cache of constant size, and the generated kernels by themselves. This header is all that a program
 * needs beside libweir.so or libweir.a (then also -llua5.4 -lcjson -lpcre2-8 -lm -ldl -lpthread). C99 and C++.
 *
 * Errors. A function that returns int returns 0, or -1 with one sentence in *error, which may be NULL. A handle that is asked for is
 * NULL after a failure. Nothing here prints or ends the process. Every *_close takes NULL.
 * Threads. A model is read only once it is open: any number of threads and streams may use it. A stream, and a kernel, belong to one
 * thread at a time. A model must outlive its streams.
 * Tokens are int32_t, 0 <= token < vocab. Texts are bytes: UTF-8 is expected, anything is taken, NUL included. */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define WEIR_API __attribute__((visibility("default")))
#else
#define WEIR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Programs built against 0.x run with the library of the same minor version. */
#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1

/* "0.1": the version of the library that runs, which need not be the header's. */
WEIR_API const char *weir_version(void);

struct weir_error {
    char message[640]; /* NUL-terminated, one line: what, where and what to do */
};

/* Frees what a function below gave out for weir_free. */
WEIR_API void weir_free(void *p);

/* --- Models and their text ----------------------------------------------------------------------------------------------------- */

struct weir_model;

/* Maps a model: a GGUF file, or a folder with config.json, tokenizer.json and *.safetensors. */
WEIR_API int weir_model_open(struct weir_model **model, const char *path, struct weir_error *error);
WEIR_API void weir_model_close(struct weir_model *model);

struct weir_model_facts {
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    int context;      /* tokens it was trained with */
    int32_t bos, eos; /* -1 where there is none */
    int adds_bos;     /* whether a text begins with bos */
};
WEIR_API struct weir_model_facts weir_model_facts(const struct weir_model *model);

/* Whether a reply ends with this token. */
WEIR_API int weir_model_ends(const struct weir_model *model, int32_t token);

/* Tokens of a text, without bos: *tokens [*count], for weir_free. special: whether special tokens in the text, like <|im_start|>, are
 * what they say, or plain text. */
WEIR_API int weir_tokenize(const struct weir_model *model, const char *text, size_t bytes, int special,
                           int32_t **tokens, size_t *count, struct weir_error *error);

/* Text of tokens: *text [*bytes] and a NUL behind it, for weir_free. A token outside the vocabulary has no text. */
WEIR_API int weir_detokenize(const struct weir_model *model, const int32_t *tokens, size_t count, char **text,
                             size_t *bytes, struct weir_error *error);

/* Bytes of one token, [*bytes], not NUL-terminated: they may end inside a character. Valid while the model is open. */
WEIR_API const char *weir_token_text(const struct weir_model *model, int32_t token, size_t *bytes);

/* --- Streams ------------------------------------------------------------------------------------------------------------------- */

enum weir_reduction { WEIR_REDUCE_MEAN, WEIR_REDUCE_MAX, WEIR_REDUCE_MEDIAN };
enum weir_policy { WEIR_HEADS_INDEPENDENT, WEIR_HEADS_HOMOGENEOUS };
enum weir_positions { WEIR_POSITIONS_CACHE, WEIR_POSITIONS_ORIGINAL };
enum weir_select { WEIR_SELECT_SCORE, WEIR_SELECT_NEWEST, WEIR_SELECT_OLDEST, WEIR_SELECT_RANDOM };
enum weir_span_score { WEIR_SPAN_MAX, WEIR_SPAN_MEAN };

enum { WEIR_MAX_SUBCACHES = 16 };

/* What the cache keeps. `weir run --help` says the same of its options. */
struct weir_cascade {
    int sinks;                         /* first tokens, kept for ever */
    int subcaches;                     /* steps of the cascade, 1..16; 1 is a sliding window */
    int window;                        /* tokens that all sub-caches hold; a multiple of subcaches */
    int span;                          /* neighbouring tokens that stay or go together; divides window / subcaches */
    int stride;                        /* tokens that are processed at a time */
    double ema;                        /* decay of a token's score, a token: 0..1 */
    int64_t every[WEIR_MAX_SUBCACHES]; /* [subcaches] step i takes each every[i]-th span; every[0] = 1, not falling */
    int eager;                         /* not 0: everything is kept until the window is full */
    enum weir_reduction reduction;     /* how the query heads that share a key head make one score */
    enum weir_policy policy;           /* whether key heads keep tokens of their own */
    enum weir_positions positions;
    enum weir_select select;
    enum weir_span_score span_score;
};

/* How the next token is picked: penalty, top-k, top-p, min-p, temperature, draw, in this order. */
struct weir_sampling {
    double temperature;    /* 0: always the likeliest */
    int top_k;             /* 0: all */
    double top_p;          /* 1: all */
    double min_p;          /* 0: all */
    double repeat_penalty; /* 1: none */
    int repeat_last;       /* tokens that are recent */
    uint64_t seed;
};

enum weir_machine {
    WEIR_MACHINE_ANY, /* a GPU where there is one that serves, else the CPU */
    WEIR_MACHINE_CPU,
    WEIR_MACHINE_GPU
};

struct weir_stream_options {
    struct weir_cascade cascade;
    struct weir_sampling sampling;
    enum weir_machine machine;
    int gpu;     /* which one, from 0 */
    int threads; /* of the CPU; 0: one a core */
};

/* The defaults, with a window that fits the model's trained context. A caller who sets `window` or `subcaches` sets `span` and `every`
 * as well, or calls weir_cascade_resize. */
WEIR_API struct weir_stream_options weir_stream_defaults(const struct weir_model *model);

/* Sets window and subcaches, and with them the largest span up to 16 and the schedule 1, 2, 4, ... that go with them. */
WEIR_API void weir_cascade_resize(struct weir_cascade *cascade, int window, int subcaches);

struct weir_stream; /* a text without end: its cache, scores, clock and sampler */

/* options NULL: the defaults. */
WEIR_API int weir_stream_open(struct weir_stream **stream, const struct weir_model *model,
                              const struct weir_stream_options *options, struct weir_error *error);
WEIR_API void weir_stream_close(struct weir_stream *stream);
/* Forgets the text; the stream is as it was when it was opened. */
WEIR_API void weir_stream_reset(struct weir_stream *stream);

/* What the user should know, in one line, such as why it runs on the CPU; "" for nothing. Valid while the stream is open. */
WEIR_API const char *weir_stream_note(const struct weir_stream *stream);

/* Reads tokens [count]. They are processed `stride` at a time from where the stream stands; feeding them in other portions gives the
 * same text, but not the same bits. After a failure the stream can be closed or reset, nothing else. */
WEIR_API int weir_stream_feed(struct weir_stream *stream, const int32_t *tokens, size_t count,
                              struct weir_error *error);

/* Logits of what comes after the last token: logits [vocab] fp32. -1 where none was fed. */
WEIR_API int weir_stream_logits(struct weir_stream *stream, float *logits, struct weir_error *error);

/* Picks the next token by the stream's sampling. It is not fed: a caller who goes on with it does that. */
WEIR_API int weir_stream_sample(struct weir_stream *stream, int32_t *token, struct weir_error *error);

/* Tokens read so far; bytes that the cache takes, which do not grow; how many tokens the cache can reach back (INT64_MAX: all). */
WEIR_API int64_t weir_stream_seen(const struct weir_stream *stream);
WEIR_API size_t weir_stream_cache_bytes(const struct weir_stream *stream);
WEIR_API int64_t weir_stream_reach(const struct weir_stream *stream);

/* Writes the whole stream to a file, beside its place and renamed: cache, scores, clock, sampler, logits. A stream that is loaded
 * from it goes on with the very same bits, on the same kind of machine and vector unit. */
WEIR_API int weir_stream_save(struct weir_stream *stream, const char *path, struct weir_error *error);

/* Opens a stream where a file has it. Cascade and sampling come from the file; of `options` (may be NULL) machine, gpu and threads
 * count. -1 where the file is cut short, damaged or another model's. */
WEIR_API int weir_stream_load(struct weir_stream **stream, const struct weir_model *model, const char *path,
                              const struct weir_stream_options *options, struct weir_error *error);

/* --- Kernels by themselves ------------------------------------------------------------------------------------------------------ */

/* One parameter of a kernel: shape or tile, {"d", "128"}. `weir gen --list` shows those of every kernel. */
struct weir_parameter {
    const char *name, *value;
};

struct weir_kernel;

/* The name by which the generator knows GPU number `ordinal` of this machine ("h200", "sm_90"), into name [room]. */
WEIR_API int weir_gpu_name(int ordinal, char *name, size_t room, struct weir_error *error);

/* Renders a kernel for a GPU, which need not be here, and compiles it with NVRTC or takes it from the cache on disk (WEIR_CACHE). Tile
 * parameters that are not given are chosen. */
WEIR_API int weir_kernel_open(struct weir_kernel **kernel, const char *name, const char *gpu,
                              const struct weir_parameter *parameters, int count, struct weir_error *error);
/* Unloads it, too. The context that it was loaded in must still be there. */
WEIR_API void weir_kernel_close(struct weir_kernel *kernel);

/* Pointers are valid while the kernel is open. */
struct weir_kernel_facts {
    const char *symbol; /* canonical name, the function's name in the cubin */
    const char *source; /* CUDA C, NUL-terminated, stands alone; says what the arguments are */
    const void *cubin;  /* [cubin_bytes] */
    size_t cubin_bytes;
    unsigned threads;      /* of a block, one-dimensional */
    unsigned shared_bytes; /* dynamic shared memory of a block */
    int registers;         /* of a thread */
    int spill_bytes;       /* of a thread, stored and loaded */
    const char *warning;   /* such as a cache on disk that could not be written; "" if all went well */
};
WEIR_API struct weir_kernel_facts weir_kernel_facts(const struct weir_kernel *kernel);

/* Value of a parameter as it was resolved, defaults included: numbers, or the index of a word (t: 0 fp16, 1 bf16); `missing` where the
 * kernel has none of that name. */
WEIR_API long weir_kernel_parameter(const struct weir_kernel *kernel, const char *name, long missing);

/* Loads it into the CUDA context that is current on this thread. */
WEIR_API int weir_kernel_load(struct weir_kernel *kernel, struct weir_error *error);

/* Launches it on a CUstream (or cudaStream_t; NULL: the default one) of that context, which must be current. grid: blocks in x, y, z.
 * arguments: one pointer to each argument's value, as cuLaunchKernel takes them; device pointers are the caller's. Returns when the
 * launch is queued: what goes wrong while it runs shows at the caller's next synchronisation. */
WEIR_API int weir_kernel_launch(struct weir_kernel *kernel, const unsigned grid[3], void **arguments, void *stream,
                                struct weir_error *error);

#ifdef __cplusplus
}
#endif

#endif
