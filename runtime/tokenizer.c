/* What a tokenizer knows of its tokens, and ids to text. Text to ids is in encoder.c. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "vocab.h"

int tokenizer_open(struct tokenizer **out, const struct gguf *g, struct err *err)
{
    struct tokenizer *t = err_calloc(1, sizeof *t, "the tokenizer", err);
    if (!t)
        return -1;
    if (vocab_load(t, g, err)) {
        tokenizer_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    free(t->start);
    free(t->bytes);
    free(t->type);
    free(t->ends);
    free(t->slot);
    free(t->slot_tag);
    free(t->merge);
    free(t->before_space);
    free(t->user.id);
    free(t->special.id);
    free(t->chat_template);
    free(t);
}

int tokenizer_vocab(const struct tokenizer *t)
{
    return t->count;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->adds_bos;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->count && t->ends[id];
}

int32_t tokenizer_special(const struct tokenizer *t, const char *text)
{
    bool more;
    size_t len = strlen(text), n;
    int32_t id = vocab_special_at(t, &t->special, text, len, &more);
    if (id < 0)
        return -1;
    vocab_bytes(t, id, &n);
    return n == len ? id : -1;
}

const char *tokenizer_chat_template(const struct tokenizer *t, size_t *len)
{
    *len = t->chat_template_len;
    return t->chat_template;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *len)
{
    if (id >= 0 && id < t->count)
        return vocab_bytes(t, id, len);
    *len = 0;
    return "";
}

/* Bytes at the end of s that begin a character and do not end it. */
static size_t unfinished(const char *s, size_t len)
{
    for (size_t n = 1; n <= 3 && n <= len; n++) {
        uint32_t code;
        if (((unsigned char)s[len - n] & 0xc0) != 0x80)
            return utf8_decode(s + len - n, n, &code) == 0 ? n : 0;
    }
    return 0;
}

size_t decoder_push(struct decoder *d, const struct tokenizer *t, int32_t id, char *out, size_t room)
{
    size_t n, held = (size_t)d->nheld;
    const char *piece = tokenizer_piece(t, id, &n);
    bool text = n > 0 && t->type[id] != TOKEN_CONTROL && t->type[id] != TOKEN_UNKNOWN;
    if (text && !d->begun && t->space_prefix && piece[0] == ' ') {
        piece++;
        n--;
    }
    d->begun = d->begun || text;
    if (held + n > room) /* the caller's mistake; keep what fits */
        n = room > held ? room - held : 0;
    memcpy(out, d->held, held);
    memcpy(out + held, piece, n);
    size_t keep = unfinished(out, held + n);
    d->nheld = (int)keep;
    memcpy(d->held, out + held + n - keep, keep);
    return held + n - keep;
}

size_t decoder_flush(struct decoder *d, char *out, size_t room)
{
    size_t n = (size_t)d->nheld < room ? (size_t)d->nheld : room;
    memcpy(out, d->held, n);
    d->nheld = 0;
    return n;
}
