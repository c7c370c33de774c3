/* libweir: models and their text. */
#include <stdlib.h>
#include <string.h>

#include "timeline.h"
#include "weir_private.h"

#define TEXT_OF_(x) #x
#define TEXT_OF(x)  TEXT_OF_(x)

const char *weir_version(void)
{
    return TEXT_OF(WEIR_VERSION_MAJOR) "." TEXT_OF(WEIR_VERSION_MINOR);
}

void weir_free(void *p)
{
    free(p);
}

static int open_parts(struct weir_model *m, const char *path, struct err *err)
{
    if (model_open(&m->model, path, err))
        return -1;
    timeline("model mapped");
    if (tokenizer_open(&m->tokenizer, m->model.gguf, err))
        return -1;
    timeline("tokenizer");
    int tokens = tokenizer_vocab(m->tokenizer);
    return tokens <= m->model.shape.vocab
               ? 0
               : err_set(err, "%s: the tokenizer has %d tokens, the embedding only %d; the file is damaged", path,
                         tokens, m->model.shape.vocab);
}

int weir_model_open(struct weir_model **model, const char *path, struct weir_error *error)
{
    struct weir_model *m = err_calloc(1, sizeof *m, "a model", weir_err(error));
    *model = NULL;
    if (!m)
        return -1;
    if (open_parts(m, path, weir_err(error))) {
        weir_model_close(m);
        return -1;
    }
    *model = m;
    return 0;
}

int weir_model_take(struct weir_model **out, struct model *m, struct err *err)
{
    *out = err_calloc(1, sizeof **out, "a model", err);
    if (!*out) {
        model_close(m);
        return -1;
    }
    (*out)->model = *m;
    return 0;
}

void weir_model_close(struct weir_model *model)
{
    if (!model)
        return;
    if (model->tokenizer)
        tokenizer_close(model->tokenizer);
    model_close(&model->model);
    free(model);
}

struct weir_model_facts weir_model_facts(const struct weir_model *model)
{
    const struct model_shape *s = &model->model.shape;
    return (struct weir_model_facts){
        .layers = s->layers,
        .hidden = s->hidden,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .ffn = s->ffn,
        .vocab = s->vocab,
        .context = s->ctx_train,
        .bos = tokenizer_bos(model->tokenizer),
        .eos = tokenizer_eos(model->tokenizer),
        .adds_bos = tokenizer_adds_bos(model->tokenizer) && tokenizer_bos(model->tokenizer) >= 0,
    };
}

int weir_model_ends(const struct weir_model *model, int32_t token)
{
    return tokenizer_is_end(model->tokenizer, token);
}

int weir_tokenize(const struct weir_model *model, const char *text, size_t bytes, int special, int32_t **tokens,
                  size_t *count, struct weir_error *error)
{
    struct ids ids = {0};
    *tokens = NULL;
    *count = 0;
    if (tokenizer_encode(model->tokenizer, text, bytes, special ? TOKENIZE_SPECIAL : 0, &ids, weir_err(error))) {
        ids_free(&ids);
        return -1;
    }
    *tokens = ids.id;
    *count = ids.count;
    return 0;
}

int weir_detokenize(const struct weir_model *model, const int32_t *tokens, size_t count, char **text, size_t *bytes,
                    struct weir_error *error)
{
    struct decoder decoder = {0};
    size_t room = 8, used = 0, piece;
    *text = NULL;
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        weir_token_text(model, tokens[i], &piece);
        room += piece + 4;
    }
    char *out = err_alloc(room, 1, "a text", weir_err(error));
    if (!out)
        return -1;
    for (size_t i = 0; i < count; i++)
        used += decoder_push(&decoder, model->tokenizer, tokens[i], out + used, room - used);
    used += decoder_flush(&decoder, out + used, room - used);
    out[used] = 0;
    *text = out;
    *bytes = used;
    return 0;
}

const char *weir_token_text(const struct weir_model *model, int32_t token, size_t *bytes)
{
    return tokenizer_piece(model->tokenizer, token, bytes);
}
