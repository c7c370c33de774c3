#ifndef WEIR_TOKENIZER_H
#define WEIR_TOKENIZER_H

/* Byte-level BPE (with the model's pre-tokeniser) and SentencePiece BPE, from GGUF metadata. Ids equal those of Hugging
 * Face's `tokenizers` with the model's own pre-tokeniser, and llama.cpp's. Text is bytes: NUL and invalid UTF-8 are taken. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "gguf.h"

struct tokenizer; /* opaque; read only once open, so threads may share it */

/* Makes the tables from the metadata of g, which may be closed afterwards. -1 with one line for a vocabulary or pre-tokeniser that
 * is not known. Close with tokenizer_close. */
int tokenizer_open(struct tokenizer **out, const struct gguf *g, struct err *err);
void tokenizer_close(struct tokenizer *t);

/* Facts of the vocabulary: number of tokens, special ids. */
int tokenizer_vocab(const struct tokenizer *t);
int32_t tokenizer_bos(const struct tokenizer *t);                       /* -1 where there is none */
int32_t tokenizer_eos(const struct tokenizer *t);                       /* -1 where there is none */
bool tokenizer_adds_bos(const struct tokenizer *t);                     /* what the model's file asks for */
bool tokenizer_is_end(const struct tokenizer *t, int32_t id);           /* eos, eot, eom: generation stops after it */
int32_t tokenizer_special(const struct tokenizer *t, const char *text); /* id of a special token, or -1 */
const char *tokenizer_chat_template(const struct tokenizer *t, size_t *len); /* the file's, or NULL */

/* A growing list of ids. Zero-initialise; free with ids_free. */
struct ids {
    int32_t *id; /* [count], owned */
    size_t count, room;
};
void ids_free(struct ids *ids);

enum { TOKENIZE_SPECIAL = 1 /* special tokens in the text become their ids */ };

/* Appends the ids of a whole text. No BOS. Returns 0, or -1 when memory is out. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, int flags, struct ids *out,
                     struct err *err);

/* A text of any length in pieces, in memory that does not grow with it; the ids of all pieces together are those of the whole
 * text. `last` flushes. */
struct encoder; /* opaque */
int encoder_open(struct encoder **out, const struct tokenizer *t, int flags, struct err *err);
int encoder_push(struct encoder *e, const char *text, size_t len, bool last, struct ids *out, struct err *err);
/* Other flags for the text that follows. Words go on across the change; a special token that the text before only began is
 * none. */
int encoder_flags(struct encoder *e, int flags, struct ids *out, struct err *err);
void encoder_close(struct encoder *e);

/* Bytes of one token (byte-level and <0x..> decoded); *len bytes at the returned address, valid while t is open. Special
 * tokens give their text. */
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *len);

/* Streaming output that never ends inside a UTF-8 character. Zero-initialise. */
struct decoder {
    unsigned char held[4]; /* bytes of an unfinished character */
    int nheld;
    bool begun; /* SentencePiece drops the first space of a text */
};
/* Writes the bytes that are complete after this token to out (room >= piece + 4) and returns how many. */
size_t decoder_push(struct decoder *d, const struct tokenizer *t, int32_t id, char *out, size_t room);
/* What is left at the end, an unfinished character as it is. */
size_t decoder_flush(struct decoder *d, char *out, size_t room);

#endif
