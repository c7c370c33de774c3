#include "hf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cJSON.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

static FILE *open_in(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    must(f != NULL);
    return f;
}

static void write_json(const char *folder, const char *name, cJSON *top)
{
    FILE *f = open_in(folder, name);
    char *text = cJSON_PrintUnformatted(top);
    must(text && fputs(text, f) >= 0 && fclose(f) == 0);
    cJSON_free(text);
    cJSON_Delete(top);
}

/* --- tensors -------------------------------------------------------------------------------------------------------------------- */

struct shard {
    cJSON *header;
    struct bytes data;
};

static void add_tensor(struct shard *s, const char *name, const struct tensor *t, const unsigned char *data)
{
    const char *type = t->type == QUANT_F32 ? "F32" : t->type == QUANT_F16 ? "F16" : "BF16";
    cJSON *j = cJSON_AddObjectToObject(s->header, name), *shape, *place;
    must(t->type == QUANT_F32 || t->type == QUANT_F16 || t->type == QUANT_BF16);
    cJSON_AddStringToObject(j, "dtype", type);
    shape = cJSON_AddArrayToObject(j, "shape");
    if (t->ne[1] > 1)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->ne[1]));
    cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->ne[0]));
    place = cJSON_AddArrayToObject(j, "data_offsets");
    cJSON_AddItemToArray(place, cJSON_CreateNumber((double)s->data.size));
    bytes_put(&s->data, data, t->bytes);
    cJSON_AddItemToArray(place, cJSON_CreateNumber((double)s->data.size));
}

/* Rows (or elements of a bias) of heads of d, from pairs (2i, 2i+1) to halves (i, i + d/2). */
static void add_halves(struct shard *s, const char *name, const struct tensor *t, int d)
{
    size_t rows = (size_t)(t->ne[1] > 1 ? t->ne[1] : t->ne[0]), row = t->bytes / rows, half = (size_t)d / 2;
    unsigned char *out = malloc(t->bytes);
    must(out != NULL);
    for (size_t r = 0; r < rows; r++) {
        size_t head = r / (size_t)d, e = r % (size_t)d,
               from = head * (size_t)d + (e < half ? 2 * e : 2 * (e - half) + 1);
        memcpy(out + r * row, (const unsigned char *)t->data + from * row, row);
    }
    add_tensor(s, name, t, out);
    free(out);
}

static void put_tensor(struct shard *s, const char *name, const struct tensor *t, int halves)
{
    if (t && halves)
        add_halves(s, name, t, halves);
    else if (t)
        add_tensor(s, name, t, t->data);
}

static void put_layer(struct shard *s, const struct model *m, int i)
{
    const struct model_layer *l = &m->layer[i];
    int d = m->shape.rope_interleaved ? m->shape.head_dim : 0;
    const struct {
        const char *name;
        const struct tensor *t;
        int halves;
    } parts[] = {
        {"input_layernorm.weight", l->attn_norm, 0},
        {"self_attn.q_proj.weight", l->wq, d},
        {"self_attn.k_proj.weight", l->wk, d},
        {"self_attn.v_proj.weight", l->wv, 0},
        {"self_attn.o_proj.weight", l->wo, 0},
        {"self_attn.q_proj.bias", l->bq, d},
        {"self_attn.k_proj.bias", l->bk, d},
        {"self_attn.v_proj.bias", l->bv, 0},
        {"post_attention_layernorm.weight", l->ffn_norm, 0},
        {"mlp.gate_proj.weight", l->gate, 0},
        {"mlp.up_proj.weight", l->up, 0},
        {"mlp.down_proj.weight", l->down, 0},
    };
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s", i, parts[k].name);
        put_tensor(s, name, parts[k].t, parts[k].halves);
    }
}

static void finish_shard(struct shard *s, const char *folder, const char *name, cJSON *weight_map)
{
    const cJSON *j;
    cJSON_ArrayForEach(j, s->header) if (weight_map) cJSON_AddStringToObject(weight_map, j->string, name);
    cJSON_AddStringToObject(cJSON_AddObjectToObject(s->header, "__metadata__"), "format", "pt");
    char *text = cJSON_PrintUnformatted(s->header);
    must(text != NULL);
    size_t len = strlen(text), padded = (len + 7) / 8 * 8;
    struct bytes b = {0};
    bytes_u64(&b, padded);
    bytes_put(&b, text, len);
    bytes_put(&b, "       ", padded - len);
    bytes_put(&b, s->data.data, s->data.size);
    FILE *f = open_in(folder, name);
    must(fwrite(b.data, 1, b.size, f) == b.size && fclose(f) == 0);
    free(b.data);
    free(s->data.data);
    cJSON_free(text);
    cJSON_Delete(s->header);
}

static void write_weights(const char *folder, const struct model *m, const struct hf_folder *o)
{
    int shards = o->shards > 1 ? o->shards : 1;
    cJSON *index = cJSON_CreateObject(), *map = shards > 1 ? cJSON_AddObjectToObject(index, "weight_map") : NULL;
    for (int k = 0; k < shards; k++) {
        struct shard s = {.header = cJSON_CreateObject()};
        char name[64] = "model.safetensors";
        if (shards > 1)
            snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", k + 1, shards);
        if (k == 0)
            put_tensor(&s, "model.embed_tokens.weight", m->embed, 0);
        for (int i = k; i < m->shape.layers; i += shards)
            put_layer(&s, m, i);
        if (k == shards - 1) {
            put_tensor(&s, "model.norm.weight", m->out_norm, 0);
            put_tensor(&s, "lm_head.weight", m->output == m->embed ? NULL : m->output, 0);
        }
        finish_shard(&s, folder, name, map);
    }
    if (shards > 1)
        write_json(folder, "model.safetensors.index.json", index);
    else
        cJSON_Delete(index);
}

/* --- config.json and tokenizer.json ------------------------------------------------------------------------------------------------ */

static void write_config(const char *folder, const struct model *m, const struct hf_folder *o)
{
    const struct model_shape *s = &m->shape;
    cJSON *c = cJSON_CreateObject(), *rope = o->newer ? cJSON_AddObjectToObject(c, "rope_parameters") : c;
    cJSON_AddStringToObject(c, "model_type", s->arch);
    cJSON_AddStringToObject(c, "hidden_act", "silu");
    cJSON_AddNumberToObject(c, "hidden_size", s->hidden);
    cJSON_AddNumberToObject(c, "intermediate_size", s->ffn);
    cJSON_AddNumberToObject(c, "num_attention_heads", s->heads);
    cJSON_AddNumberToObject(c, "num_key_value_heads", s->kv_heads);
    if (s->head_dim * s->heads != s->hidden)
        cJSON_AddNumberToObject(c, "head_dim", s->head_dim);
    cJSON_AddNumberToObject(c, "max_position_embeddings", s->ctx_train);
    cJSON_AddNumberToObject(c, "num_hidden_layers", s->layers);
    cJSON_AddNumberToObject(c, "rms_norm_eps", (double)s->norm_eps);
    cJSON_AddNumberToObject(rope, "rope_theta", s->rope_base);
    if (o->newer)
        cJSON_AddStringToObject(rope, "rope_type", "default");
    if (o->scaling)
        cJSON_AddItemToObject(c, "rope_scaling", cJSON_Parse(o->scaling));
    cJSON_AddNumberToObject(c, "vocab_size", s->vocab);
    cJSON_AddNumberToObject(c, "bos_token_id", 1);
    cJSON_AddItemToObject(c, "eos_token_id", cJSON_CreateIntArray((const int[]){2, 0}, 2));
    cJSON_AddBoolToObject(c, "tie_word_embeddings", m->output == m->embed);
    write_json(folder, "config.json", c);
}

static cJSON *pretokenizer(enum hf_cuts cuts)
{
    static const char *const json[] = {
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'"
        "ll|"
        "'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r"
        "\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false,\"use_regex\":false}]}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'"
        "ll|"
        "'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r"
        "\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":false,\"use_regex\":false}]}",
    };
    return cJSON_Parse(json[cuts]);
}

static void put_tokens(cJSON *top, cJSON *model, const struct gguf *g)
{
    size_t n = (size_t)gguf_array_len(g, "tokenizer.ggml.tokens");
    const char **text = calloc(n, sizeof *text);
    size_t *len = calloc(n, sizeof *len);
    int32_t *type = calloc(n, sizeof *type);
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab"), *added = cJSON_AddArrayToObject(top, "added_tokens");
    must(text && len && type && gguf_array_strs(g, "tokenizer.ggml.tokens", text, len) &&
         gguf_array_ints(g, "tokenizer.ggml.token_type", type));
    for (size_t i = 0; i < n; i++) {
        char *copy = strndup(text[i], len[i]);
        must(copy != NULL);
        if (type[i] == 1)
            cJSON_AddNumberToObject(vocab, copy, (double)i);
        if (type[i] == 3 || type[i] == 4) {
            cJSON *j = cJSON_CreateObject();
            cJSON_AddNumberToObject(j, "id", (double)i);
            cJSON_AddStringToObject(j, "content", copy);
            cJSON_AddBoolToObject(j, "special", type[i] == 3);
            cJSON_AddItemToArray(added, j);
        }
        free(copy); /* those that are unused become holes, padded up to vocab_size */
    }
    free(text);
    free(len);
    free(type);
}

static void put_merges(cJSON *model, const struct gguf *g, bool pairs)
{
    size_t n = (size_t)gguf_array_len(g, "tokenizer.ggml.merges");
    const char **text = calloc(n + 1, sizeof *text);
    size_t *len = calloc(n + 1, sizeof *len);
    cJSON *merges = cJSON_AddArrayToObject(model, "merges");
    must(text && len && gguf_array_strs(g, "tokenizer.ggml.merges", text, len));
    for (size_t i = 0; i < n; i++) {
        char *copy = strndup(text[i], len[i]), *blank = copy ? strchr(copy, ' ') : NULL;
        must(blank != NULL);
        if (pairs) {
            *blank = 0;
            cJSON_AddItemToArray(merges, cJSON_CreateStringArray((const char *const[]){copy, blank + 1}, 2));
        } else {
            cJSON_AddItemToArray(merges, cJSON_CreateString(copy));
        }
        free(copy);
    }
    free(text);
    free(len);
}

static void write_tokenizer(const char *folder, const struct model *m, const struct hf_folder *o)
{
    cJSON *top = cJSON_CreateObject(), *model = cJSON_AddObjectToObject(top, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    put_tokens(top, model, m->gguf);
    put_merges(model, m->gguf, o->pairs);
    cJSON_AddNullToObject(top, "normalizer");
    cJSON_AddItemToObject(top, "pre_tokenizer", pretokenizer(o->cuts));
    if (o->bos) {
        const cJSON *one = cJSON_GetArrayItem(cJSON_GetObjectItem(top, "added_tokens"), 0);
        char text[256];
        snprintf(text, sizeof text,
                 "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\","
                 "\"single\":[{\"SpecialToken\":{\"id\":\"%s\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"}}]}]}",
                 cJSON_GetStringValue(cJSON_GetObjectItem(one, "content")));
        cJSON_AddItemToObject(top, "post_processor", cJSON_Parse(text));
    }
    write_json(folder, "tokenizer.json", top);
    if (o->chat) {
        cJSON *config = cJSON_CreateObject();
        cJSON_AddStringToObject(config, "chat_template", o->chat);
        write_json(folder, "tokenizer_config.json", config);
    }
}

void hf_write(const char *folder, const struct model *m, const struct hf_folder *o)
{
    (void)mkdir(folder, 0777);
    write_config(folder, m, o);
    write_tokenizer(folder, m, o);
    write_weights(folder, m, o);
}
