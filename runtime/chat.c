#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "../gen/gen_chat.h"

struct chat {
    const struct tokenizer *t;
    struct gen *gen; /* owned */
    struct gen_chat_model model;
    char family[GEN_CHAT_NAME_MAX];
    char *bos, *eos; /* texts of these tokens, owned */
    bool begun;
};

static bool has_special(const void *user, const char *token)
{
    return tokenizer_special(user, token) >= 0;
}

/* NUL-terminated text of a token, "" for none. */
static char *copy_piece(const struct tokenizer *t, int32_t id, struct err *err)
{
    size_t len;
    const char *piece = tokenizer_piece(t, id, &len);
    char *copy = err_alloc(len + 1, 1, "a token's text", err);
    if (copy) {
        memcpy(copy, piece, len);
        copy[len] = 0;
    }
    return copy;
}

int chat_open(struct chat **out, const struct tokenizer *t, const char *family, const char *home, struct err *err)
{
    struct chat *c = err_calloc(1, sizeof *c, "the conversation", err);
    if (!c)
        return -1;
    size_t len = 0;
    const char *template = tokenizer_chat_template(t, &len);
    c->t = t;
    c->bos = copy_piece(t, tokenizer_bos(t), err);
    c->eos = copy_piece(t, tokenizer_eos(t), err);
    c->model = (struct gen_chat_model){
        .template = template ? template : "",
        .template_len = len,
        .bos = c->bos,
        .eos = c->eos,
        .adds_bos = tokenizer_adds_bos(t),
        .has = has_special,
        .user = t,
    };
    if (!c->bos || !c->eos || gen_open(&c->gen, home, err) ||
        gen_chat_find(c->gen, &c->model, family, c->family, err)) {
        chat_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

void chat_close(struct chat *c)
{
    if (!c)
        return;
    gen_close(c->gen);
    free(c->bos);
    free(c->eos);
    free(c);
}

const char *chat_family(const struct chat *c)
{
    return c->family;
}

bool chat_begun(const struct chat *c)
{
    return c->begun;
}

void chat_resume(struct chat *c)
{
    c->begun = true;
}

struct turn {
    struct encoder *encoder;
    struct ids *out;
    struct err *err;
};

static int take_part(void *user, const char *text, size_t len, bool markup)
{
    struct turn *t = user;
    return encoder_flags(t->encoder, markup ? TOKENIZE_SPECIAL : 0, t->out, t->err) ||
                   encoder_push(t->encoder, text, len, false, t->out, t->err)
               ? -1
               : 0;
}

int chat_turn(struct chat *c, const char *system, const char *user, struct ids *out, struct err *err)
{
    struct turn turn = {.out = out, .err = err};
    if (encoder_open(&turn.encoder, c->t, TOKENIZE_SPECIAL, err))
        return -1;
    int failed = gen_chat_turn(c->gen, c->family, &c->model, !c->begun, system, user, take_part, &turn, err);
    if (!failed)
        failed = encoder_push(turn.encoder, "", 0, true, out, err);
    encoder_close(turn.encoder);
    c->begun = c->begun || !failed;
    return failed ? -1 : 0;
}
