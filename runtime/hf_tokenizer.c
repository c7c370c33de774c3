/* tokenizer.json: vocabulary, merges, special tokens, and which pre-tokenizer it means. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hf.h"

enum { MOST_TOKENS = 1 << 24, NORMAL = 1, CONTROL = 3, USER = 4, UNUSED = 5 };

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(member(object, name));
    return text ? text : "";
}

/* --- which cuts ----------------------------------------------------------------------------------------------------------------- */

/* Llama 3's expression and Qwen2's, which differ in how many digits go together. */
#define CUTS(digits)                                                                                                   \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits                                         \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* A ByteLevel step that cuts with GPT-2's expression, or leaves the cuts alone. */
static bool byte_level(const cJSON *step, bool cuts)
{
    const cJSON *regex = member(step, "use_regex");
    return !strcmp(text_of(step, "type"), "ByteLevel") && !cJSON_IsTrue(member(step, "add_prefix_space")) &&
           (!regex || cJSON_IsTrue(regex)) == cuts;
}

/* GGUF's name of the pre-tokenizer, or NULL. */
static const char *pretokenizer(const cJSON *pre)
{
    bool sequence = !strcmp(text_of(pre, "type"), "Sequence");
    const cJSON *steps = member(pre, "pretokenizers"), *first = sequence ? cJSON_GetArrayItem(steps, 0) : pre,
                *second = sequence ? cJSON_GetArrayItem(steps, 1) : NULL;
    int n = sequence ? cJSON_GetArraySize(steps) : 1;
    if (n == 1)
        return byte_level(first, true) ? "gpt-2" : NULL;
    if (n != 2)
        return NULL;
    if (!strcmp(text_of(first, "type"), "Digits"))
        return cJSON_IsTrue(member(first, "individual_digits")) && byte_level(second, true) ? "smollm" : NULL;
    const char *regex = text_of(member(first, "pattern"), "Regex");
    if (strcmp(text_of(first, "type"), "Split") != 0 || strcmp(text_of(first, "behavior"), "Isolated") != 0 ||
        cJSON_IsTrue(member(first, "invert")) || !byte_level(second, false))
        return NULL;
    return !strcmp(regex, CUTS("{1,3}")) ? "llama-bpe" : !strcmp(regex, CUTS("")) ? "qwen2" : NULL;
}

/* --- tokens ------------------------------------------------------------------------------------------------------------------- */

struct tokens {
    const char **text; /* [n] into the JSON, NULL where no token has that id */
    int32_t *type;     /* [n] as in GGUF */
    size_t n;
};

static int64_t largest_id(const cJSON *vocab, const cJSON *added)
{
    int64_t most = -1;
    const cJSON *j;
    cJSON_ArrayForEach(j, vocab) most =
        cJSON_IsNumber(j) && j->valuedouble > (double)most ? (int64_t)j->valueint : most;
    cJSON_ArrayForEach(j, added)
    {
        int64_t id = hf_int(j, "id", -1);
        most = id > most ? id : most;
    }
    return most;
}

static int read_tokens(struct tokens *t, const cJSON *vocab, const cJSON *added, int64_t at_least, const char *path,
                       struct err *err)
{
    int64_t n = largest_id(vocab, added) + 1;
    const cJSON *j;
    if (!cJSON_IsObject(vocab) || n < 1 || n > MOST_TOKENS)
        return err_set(err, "%s: holds no usable vocabulary", path);
    t->n = (size_t)(at_least > n && at_least <= MOST_TOKENS ? at_least : n);
    t->text = err_calloc(t->n, sizeof *t->text, "the vocabulary", err);
    t->type = err_calloc(t->n, sizeof *t->type, "the vocabulary", err);
    if (!t->text || !t->type)
        return -1;
    cJSON_ArrayForEach(j, vocab)
    {
        if (!cJSON_IsNumber(j) || j->valueint < 0 || (int64_t)j->valueint >= n)
            return err_set(err, "%s: token '%s' has no number that can be", path,
                           err_name(j->string, strlen(j->string)).text);
        t->text[j->valueint] = j->string;
        t->type[j->valueint] = NORMAL;
    }
    cJSON_ArrayForEach(j, added)
    {
        int64_t id = hf_int(j, "id", -1);
        const char *content = cJSON_GetStringValue(member(j, "content"));
        if (id < 0 || !content)
            return err_set(err, "%s: an entry of added_tokens has no id or no content", path);
        t->text[id] = content;
        t->type[id] = cJSON_IsTrue(member(j, "special")) ? CONTROL : USER;
    }
    return 0;
}

static void put_tokens(struct gguf_build *b, const struct tokens *t)
{
    gguf_build_texts(b, "tokenizer.ggml.tokens", t->n);
    for (size_t i = 0; i < t->n; i++) {
        char hole[32];
        snprintf(hole, sizeof hole, "[PAD%zu]", i);
        gguf_build_element(b, t->text[i] ? t->text[i] : hole, "");
        t->type[i] = t->text[i] ? t->type[i] : UNUSED;
    }
    gguf_build_ints(b, "tokenizer.ggml.token_type", t->type, t->n);
}

static int put_merges(struct gguf_build *b, const cJSON *merges, const char *path, struct err *err)
{
    const cJSON *j;
    gguf_build_texts(b, "tokenizer.ggml.merges", (size_t)cJSON_GetArraySize(merges));
    cJSON_ArrayForEach(j, merges)
    {
        const char *one = cJSON_GetStringValue(j), *a = cJSON_GetStringValue(cJSON_GetArrayItem(j, 0)),
                   *z = cJSON_GetStringValue(cJSON_GetArrayItem(j, 1));
        if (!one && (!a || !z || strlen(a) > 4000 || strlen(z) > 4000))
            return err_set(err, "%s: an entry of merges is neither \"a b\" nor [\"a\", \"b\"]", path);
        if (one) {
            gguf_build_element(b, one, "");
        } else {
            char left[4096];
            snprintf(left, sizeof left, "%s ", a);
            gguf_build_element(b, left, z);
        }
    }
    return 0;
}

/* --- special tokens --------------------------------------------------------------------------------------------------------------- */

/* The token that the post-processor puts before every text, NULL for none. */
static const char *before_text(const cJSON *processor)
{
    const cJSON *j, *all = member(processor, "processors");
    if (!strcmp(text_of(processor, "type"), "TemplateProcessing")) {
        const cJSON *first = cJSON_GetArrayItem(member(processor, "single"), 0);
        return cJSON_GetStringValue(member(member(first, "SpecialToken"), "id"));
    }
    cJSON_ArrayForEach(j, all)
    {
        const char *found = !strcmp(text_of(j, "type"), "TemplateProcessing") ? before_text(j) : NULL;
        if (found)
            return found;
    }
    return NULL;
}

/* bos, whether it is put, and up to three tokens that end a text. */
static void put_roles(struct gguf_build *b, const struct tokens *t, const cJSON *tokenizer, const cJSON *config)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const char *first = before_text(member(tokenizer, "post_processor"));
    const cJSON *eos = member(config, "eos_token_id");
    int64_t bos = hf_int(config, "bos_token_id", -1);
    for (size_t i = 0; first && i < t->n; i++)
        if (t->type[i] == CONTROL && !strcmp(t->text[i], first))
            bos = (int64_t)i;
    gguf_build_int(b, "tokenizer.ggml.add_bos_token", first != NULL);
    if (bos >= 0)
        gguf_build_int(b, "tokenizer.ggml.bos_token_id", bos);
    for (int i = 0; i < 3; i++) {
        const cJSON *j = cJSON_IsArray(eos) ? cJSON_GetArrayItem(eos, i) : i == 0 ? eos : NULL;
        if (cJSON_IsNumber(j) && j->valueint >= 0)
            gguf_build_int(b, ends[i], j->valueint);
    }
}

int hf_tokenizer(struct gguf_build *b, const cJSON *tokenizer, const cJSON *config, const char *path, struct err *err)
{
    const cJSON *model = member(tokenizer, "model"), *normalizer = member(tokenizer, "normalizer");
    const char *pre = pretokenizer(member(tokenizer, "pre_tokenizer")), *type = text_of(normalizer, "type");
    struct tokens t = {0};
    if (strcmp(text_of(model, "type"), "BPE") != 0 || cJSON_IsTrue(member(model, "byte_fallback")))
        return err_set(err, "%s: is no byte-level BPE; for others, SentencePiece's among them, take the model as GGUF",
                       path);
    if (!pre)
        return err_set(
            err, "%s: its pre-tokenizer is none of GPT-2's, SmolLM's, Llama 3's and Qwen2's; take the model as GGUF",
            path);
    if (cJSON_IsObject(normalizer) && strcmp(type, "NFC") != 0) /* Qwen2's, which weir leaves out: pretoken.c */
        return err_set(err, "%s: its normalizer '%s' is not supported; take the model as GGUF", path,
                       err_name(type, strlen(type)).text);
    gguf_build_text(b, "tokenizer.ggml.model", "gpt2");
    gguf_build_text(b, "tokenizer.ggml.pre", pre);
    int rc = read_tokens(&t, member(model, "vocab"), member(tokenizer, "added_tokens"),
                         hf_int(config, "vocab_size", -1), path, err);
    if (rc == 0) {
        put_tokens(b, &t);
        put_roles(b, &t, tokenizer, config);
        rc = put_merges(b, member(model, "merges"), path, err);
    }
    free(t.text);
    free(t.type);
    return rc;
}
