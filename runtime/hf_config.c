/* config.json, and the names of tensors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hf.h"

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

int64_t hf_int(const cJSON *object, const char *name, int64_t missing)
{
    const cJSON *j = member(object, name);
    if (!j || cJSON_IsNull(j))
        return missing;
    double v = cJSON_GetNumberValue(j);
    return cJSON_IsNumber(j) && v >= 0 && v <= INT32_MAX && v == floor(v) ? (int64_t)v : -1;
}

/* A size under its key, unless it is absent and may be. */
static int put_size(struct gguf_build *b, const cJSON *config, const char *name, const char *arch, const char *key,
                    bool optional, const char *path, struct err *err)
{
    char full[96];
    int64_t v = hf_int(config, name, optional ? -2 : -1);
    if (v == -2)
        return 0;
    if (v < 0)
        return err_set(err, "%s: '%s' is missing or no whole number", path, name);
    snprintf(full, sizeof full, "%s.%s", arch, key);
    gguf_build_int(b, full, v);
    return 0;
}

static int put_real(struct gguf_build *b, const cJSON *object, const char *name, const char *arch, const char *key,
                    const char *path, struct err *err)
{
    char full[96];
    const cJSON *j = member(object, name);
    if (!cJSON_IsNumber(j))
        return err_set(err, "%s: '%s' is missing or no number", path, name);
    snprintf(full, sizeof full, "%s.%s", arch, key);
    gguf_build_real(b, full, j->valuedouble);
    return 0;
}

/* rope_theta and rope_scaling; newer files have both in rope_parameters. */
static int put_rope(struct gguf_build *b, const cJSON *config, const char *arch, const char *path, struct err *err)
{
    const cJSON *newer = member(config, "rope_parameters"), *r = newer ? newer : member(config, "rope_scaling");
    const cJSON *theta = member(newer, "rope_theta") ? newer : config;
    if (member(theta, "rope_theta") && put_real(b, theta, "rope_theta", arch, "rope.freq_base", path, err))
        return -1;
    if (!cJSON_IsObject(r))
        return 0;
    const char *type = cJSON_GetStringValue(member(r, "rope_type"));
    char key[96];
    if (!type)
        type = cJSON_GetStringValue(member(r, "type"));
    if (!type || !strcmp(type, "default"))
        return 0;
    bool llama3 = !strcmp(type, "llama3");
    if (!llama3 && strcmp(type, "linear") != 0)
        return err_set(err, "%s: the rope scaling '%s' is not supported; linear and llama3 are", path,
                       err_name(type, strlen(type)).text);
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    gguf_build_text(b, key, type);
    if (put_real(b, r, "factor", arch, "rope.scaling.factor", path, err))
        return -1;
    return llama3 && (put_real(b, r, "low_freq_factor", arch, "rope.scaling.low_freq_factor", path, err) ||
                      put_real(b, r, "high_freq_factor", arch, "rope.scaling.high_freq_factor", path, err) ||
                      put_real(b, r, "original_max_position_embeddings", arch, "rope.scaling.original_context_length",
                               path, err))
               ? -1
               : 0;
}

int hf_config(struct gguf_build *b, const cJSON *config, const char *path, bool *tied, struct err *err)
{
    static const struct {
        const char *name, *key;
        bool optional;
    } sizes[] = {
        {"hidden_size", "embedding_length", false},
        {"intermediate_size", "feed_forward_length", false},
        {"num_attention_heads", "attention.head_count", false},
        {"num_key_value_heads", "attention.head_count_kv", true},
        {"head_dim", "attention.key_length", true},
        {"max_position_embeddings", "context_length", false},
        {"num_hidden_layers", "block_count", false},
    };
    const char *type = cJSON_GetStringValue(member(config, "model_type")),
               *act = cJSON_GetStringValue(member(config, "hidden_act"));
    bool llama = type && (!strcmp(type, "llama") || !strcmp(type, "mistral"));
    if (!llama && (!type || strcmp(type, "qwen2") != 0))
        return err_set(err, "%s: the model type '%s' is not supported; llama, mistral and qwen2 are", path,
                       type ? err_name(type, strlen(type)).text : "");
    const char *arch = llama ? "llama" : "qwen2";
    if (act && strcmp(act, "silu") != 0)
        return err_set(err, "%s: the activation '%s' is not supported; silu is", path, err_name(act, strlen(act)).text);
    gguf_build_text(b, "general.architecture", arch);
    gguf_build_int(b, "weir.rope_halves", 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (put_size(b, config, sizes[i].name, arch, sizes[i].key, sizes[i].optional, path, err))
            return -1;
    *tied = cJSON_IsTrue(member(config, "tie_word_embeddings"));
    return put_real(b, config, "rms_norm_eps", arch, "attention.layer_norm_rms_epsilon", path, err) ||
                   put_rope(b, config, arch, path, err)
               ? -1
               : 0;
}

bool hf_tensor_name(const char *name, char out[HF_NAME_MAX])
{
    static const char *const whole[][2] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                           {"model.norm.weight", "output_norm.weight"},
                                           {"lm_head.weight", "output.weight"}};
    static const char *const parts[][2] = {{"input_layernorm", "attn_norm"},   {"post_attention_layernorm", "ffn_norm"},
                                           {"self_attn.q_proj", "attn_q"},     {"self_attn.k_proj", "attn_k"},
                                           {"self_attn.v_proj", "attn_v"},     {"self_attn.o_proj", "attn_output"},
                                           {"mlp.gate_proj", "ffn_gate"},      {"mlp.up_proj", "ffn_up"},
                                           {"mlp.down_proj", "ffn_down"},      {"self_attn.q_norm", "attn_q_norm"},
                                           {"self_attn.k_norm", "attn_k_norm"}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(name, whole[i][0])) {
            strcpy(out, whole[i][1]);
            return true;
        }
    static const char layers[] = "model.layers.";
    const char *number = name + sizeof layers - 1, *dot = strrchr(name, '.');
    if (strncmp(name, layers, sizeof layers - 1) != 0)
        return false;
    size_t digits = strspn(number, "0123456789");
    const char *part = number + digits + 1;
    if (digits == 0 || digits > 6 || number[digits] != '.' || dot < part ||
        (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0))
        return false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strlen(parts[i][0]) == (size_t)(dot - part) && !strncmp(part, parts[i][0], (size_t)(dot - part))) {
            snprintf(out, HF_NAME_MAX, "blk.%.*s.%s%s", (int)digits, number, parts[i][1], dot);
            return true;
        }
    return false;
}
