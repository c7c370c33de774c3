#ifndef WEIR_PRIVATE_H
#define WEIR_PRIVATE_H

/* What stands behind the handles of weir.h, for the files of the library and the commands that look inside (eval, bench). */

#include "backend.h"
#include "sampler.h"
#include "stream_file.h"
#include "tokenizer.h"
#include "weir.h"

struct weir_model {
    struct model model;
    struct tokenizer *tokenizer; /* NULL for a model of random weights */
};

struct weir_stream {
    const struct weir_model *m;
    struct cascade_params cascade;
    struct backend backend;
    struct sampler *sampler;
    float *logits; /* [vocab] of the last token, where `where` says so */
    enum { LOGITS_NONE, LOGITS_IN_BACKEND, LOGITS_HERE } where;
    int row;                 /* LOGITS_IN_BACKEND: of the last chunk */
    struct stream_chat chat; /* travels with the stream; only weir chat uses it */
    char note[512];
};

/* The two error types are one: a line of text. */
static inline struct err *weir_err(struct weir_error *e)
{
    _Static_assert(sizeof(struct err) == sizeof(struct weir_error), "an error is an array of characters");
    return (struct err *)e;
}

static inline struct weir_error *weir_error_of(struct err *e)
{
    return (struct weir_error *)e;
}

/* A handle for a model that is open already (of random weights, with no tokenizer), which it takes over, also where it fails. */
int weir_model_take(struct weir_model **out, struct model *m, struct err *err);

/* weir_stream_open with the program's own structures, which must have been checked. o->kind may be any. */
int weir_stream_start(struct weir_stream **out, const struct weir_model *m, const struct cascade_params *p,
                      const struct sampler_params *sampling, const struct backend_options *o, struct err *err);

/* Opens a stream where a file that has been opened has it, with `sampling` (the file's own, or other). */
int weir_stream_resume(struct weir_stream **out, const struct weir_model *m, const struct stream_file *f,
                       const struct sampler_params *sampling, const struct backend_options *o, struct err *err);

/* One chunk, 1 <= T <= stride. Afterwards the backend has the logits of all its rows. */
int weir_stream_chunk(struct weir_stream *s, const int32_t *tokens, int T, struct err *err);

/* Logits of the last token, [vocab], valid until the next chunk; NULL with *err where there are none. */
const float *weir_stream_last(struct weir_stream *s, struct err *err);

#endif
