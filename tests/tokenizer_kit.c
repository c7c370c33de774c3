#include "tokenizer_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p, const char *what)
{
    if (!p) {
        fprintf(stderr, "tests/vectors: %s cannot be used\n", what);
        abort();
    }
    return p;
}

char *vector_file(const char *name, size_t *len)
{
    char path[512];
    const char *folder = getenv("WEIR_VECTORS");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "tests/vectors", name);
    FILE *f = must(fopen(path, "rb"), path);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    char *text = must(malloc(*len + 1), path);
    if (fread(text, 1, *len, f) != *len)
        must(NULL, path);
    fclose(f);
    text[*len] = 0;
    return text;
}

cJSON *vector_json(const char *name)
{
    size_t len;
    char *text = vector_file(name, &len);
    cJSON *json = must(cJSON_Parse(text), name);
    free(text);
    return json;
}

static void put_strings(struct gguf_writer *w, const char *key, const cJSON *list)
{
    size_t n = (size_t)cJSON_GetArraySize(list), i = 0;
    const char **s = must(calloc(n, sizeof *s), key);
    const cJSON *item;
    cJSON_ArrayForEach(item, list) s[i++] = must(item->valuestring, key);
    gguf_put_strs(w, key, s, n);
    free(s);
}

void kit_metadata(struct gguf_writer *w, const cJSON *vocab, const char *pre)
{
    const cJSON *tokens = must(cJSON_GetObjectItem(vocab, "tokens"), "tokens"), *item;
    size_t n = (size_t)cJSON_GetArraySize(tokens), i = 0;
    int32_t *type = must(calloc(n, sizeof *type), "types");
    gguf_put_str(w, "tokenizer.ggml.model", pre ? "gpt2" : "llama");
    put_strings(w, "tokenizer.ggml.tokens", tokens);
    if (pre) {
        const cJSON *control = must(cJSON_GetObjectItem(vocab, "control"), "control");
        gguf_put_str(w, "tokenizer.ggml.pre", pre);
        put_strings(w, "tokenizer.ggml.merges", must(cJSON_GetObjectItem(vocab, "merges"), "merges"));
        for (i = 0; i < n; i++)
            type[i] = (int)i < control->valueint ? 3 : 1;
    } else {
        float *score = must(calloc(n, sizeof *score), "scores");
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(vocab, "scores")) score[i++] = (float)item->valuedouble;
        gguf_put_f32s(w, "tokenizer.ggml.scores", score, n);
        free(score);
        i = 0;
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(vocab, "types")) type[i++] = item->valueint;
    }
    gguf_put_i32s(w, "tokenizer.ggml.token_type", type, n);
    free(type);
}

int kit_open(struct kit_tokenizer *k, struct gguf_writer *w, struct err *err)
{
    k->file = gguf_writer_finish(w);
    k->gguf = NULL;
    k->t = NULL;
    if (gguf_open_memory(&k->gguf, k->file.data, k->file.size, "memory", err) == 0 &&
        tokenizer_open(&k->t, k->gguf, err) == 0)
        return 0;
    kit_close(k);
    return -1;
}

void kit_open_vocab(struct kit_tokenizer *k, const cJSON *vocab, const char *pre)
{
    struct gguf_writer w = {0};
    struct err err = {""};
    kit_metadata(&w, vocab, pre);
    if (kit_open(k, &w, &err))
        must(NULL, err.msg);
}

void kit_close(struct kit_tokenizer *k)
{
    tokenizer_close(k->t);
    gguf_close(k->gguf);
    free(k->file.data);
    *k = (struct kit_tokenizer){0};
}

struct ids kit_encode(const struct tokenizer *t, const char *text, size_t len, int flags)
{
    struct ids ids = {0};
    struct err err = {""};
    if (tokenizer_encode(t, text, len, flags, &ids, &err))
        must(NULL, err.msg);
    return ids;
}

uint64_t ids_hash(const int32_t *id, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        for (int b = 0; b < 4; b++)
            h = (h ^ ((uint32_t)id[i] >> 8 * b & 0xff)) * UINT64_C(0x100000001b3);
    return h;
}
