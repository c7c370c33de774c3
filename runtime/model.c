#include "model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hf.h"

/* Architectures that are the same forward pass. Mistral's GGUF files call themselves "llama". */
static const struct arch {
    const char *name;
    bool rope_interleaved;
} arches[] = {{"llama", true}, {"qwen2", false}};

/* Limits that no real model comes near; they keep products of sizes inside their types. */
enum { MAX_DIM = 1 << 24, MAX_HEADS = 4096, MAX_HEAD_DIM = 1024, KEY_MAX = 96 };

/* "llama.block_count" and the like. */
struct key {
    char text[KEY_MAX];
};

static struct key arch_key(const struct model *m, const char *rest)
{
    struct key k;
    snprintf(k.text, sizeof k.text, "%s.%s", m->shape.arch, rest);
    return k;
}

/* A size that must be there (fallback < 0) or has a default; 1..max. */
static int read_size(const struct model *m, const char *rest, int64_t fallback, int64_t max, int *out, struct err *err)
{
    struct key key = arch_key(m, rest);
    int64_t v = fallback;
    if (!gguf_get_int(m->gguf, key.text, &v) && (fallback < 0 || gguf_has(m->gguf, key.text)))
        return err_set(err, "%s: key '%s' is %s; the file holds no complete model of this architecture",
                       gguf_path(m->gguf), key.text, gguf_has(m->gguf, key.text) ? "no number" : "missing");
    if (v < 1 || v > max)
        return err_set(err, "%s: key '%s' is %lld, not from 1 to %lld; the file is damaged", gguf_path(m->gguf),
                       key.text, (long long)v, (long long)max);
    *out = (int)v;
    return 0;
}

/* A real number that must be finite and positive; fallback 0 means that the key must be there. */
static int read_real(const struct model *m, const char *rest, double fallback, double *out, struct err *err)
{
    struct key key = arch_key(m, rest);
    double v = fallback;
    if (!gguf_get_float(m->gguf, key.text, &v) && fallback == 0)
        return err_set(err,
                       "%s: key '%s' is missing or no number; the file holds no complete model of this architecture",
                       gguf_path(m->gguf), key.text);
    if (!(v > 0 && v < 1e30))
        return err_set(err, "%s: key '%s' is %g, no positive number; the file is damaged", gguf_path(m->gguf), key.text,
                       v);
    *out = v;
    return 0;
}

static int read_arch(struct model *m, struct err *err)
{
    const char *name;
    size_t len;
    if (!gguf_get_str(m->gguf, "general.architecture", &name, &len))
        return err_set(err, "%s: key 'general.architecture' is missing; the file holds no model", gguf_path(m->gguf));
    for (size_t i = 0; i < sizeof arches / sizeof *arches; i++)
        if (strlen(arches[i].name) == len && !memcmp(arches[i].name, name, len)) {
            strcpy(m->shape.arch, arches[i].name);
            m->shape.rope_interleaved = arches[i].rope_interleaved && !gguf_has(m->gguf, "weir.rope_halves");
            return 0;
        }
    char shown[40];
    size_t n = len < sizeof shown ? len : sizeof shown - 1;
    for (size_t i = 0; i < n; i++)
        shown[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
    shown[n] = 0;
    return err_set(
        err,
        "%s: the architecture '%s' is not supported; use a llama (Llama, Mistral, SmolLM2, TinyLlama) or qwen2 model",
        gguf_path(m->gguf), shown);
}

/* Llama 3.1's scaling as numbers; GGUF files have it as the tensor rope_freqs. */
static int read_llama3(struct model *m, struct err *err)
{
    struct model_shape *s = &m->shape;
    s->scaling = ROPE_LLAMA3;
    if (read_real(m, "rope.scaling.factor", 0, &s->rope_factor, err) < 0 ||
        read_real(m, "rope.scaling.low_freq_factor", 0, &s->rope_low_freq, err) < 0 ||
        read_real(m, "rope.scaling.high_freq_factor", 0, &s->rope_high_freq, err) < 0 ||
        read_real(m, "rope.scaling.original_context_length", 0, &s->rope_ctx_origin, err) < 0)
        return -1;
    return s->rope_high_freq > s->rope_low_freq
               ? 0
               : err_set(err, "%s: the rope scaling's frequencies %g to %g are no range; the file is damaged",
                         gguf_path(m->gguf), s->rope_low_freq, s->rope_high_freq);
}

static int read_rope(struct model *m, struct err *err)
{
    struct model_shape *s = &m->shape;
    if (read_size(m, "rope.dimension_count", s->head_dim, s->head_dim, &s->rope_dim, err) < 0 ||
        read_real(m, "rope.freq_base", 10000, &s->rope_base, err) < 0)
        return -1;
    if (s->rope_dim % 2)
        return err_set(err, "%s: key '%s.rope.dimension_count' is %d, an odd number; the file is damaged",
                       gguf_path(m->gguf), s->arch, s->rope_dim);
    const char *type = "none";
    size_t len = 4;
    gguf_get_str(m->gguf, arch_key(m, "rope.scaling.type").text, &type, &len);
    s->scaling = ROPE_PLAIN;
    s->rope_factor = 1;
    if (len == 6 && !memcmp(type, "linear", 6)) {
        s->scaling = ROPE_LINEAR;
        return read_real(m, "rope.scaling.factor", 0, &s->rope_factor, err);
    }
    if (len == 6 && !memcmp(type, "llama3", 6))
        return read_llama3(m, err);
    if (len != 4 || memcmp(type, "none", 4))
        return err_set(err, "%s: the rope scaling '%.*s' is not supported; linear, none and Llama 3.1's are",
                       gguf_path(m->gguf), len < 20 ? (int)len : 20, type);
    /* Files written before rope.scaling.type have the linear factor alone. */
    if (gguf_has(m->gguf, arch_key(m, "rope.scale_linear").text)) {
        s->scaling = ROPE_LINEAR;
        return read_real(m, "rope.scale_linear", 0, &s->rope_factor, err);
    }
    return 0;
}

static int read_shape(struct model *m, struct err *err)
{
    struct model_shape *s = &m->shape;
    double eps;
    /* A layer has nine tensors or more, so this bounds what is allocated for the layers too. */
    int64_t max_layers = (int64_t)(gguf_tensor_count(m->gguf) / 9);
    if (read_size(m, "embedding_length", -1, MAX_DIM, &s->hidden, err) < 0 ||
        read_size(m, "feed_forward_length", -1, MAX_DIM, &s->ffn, err) < 0 ||
        read_size(m, "attention.head_count", -1, MAX_HEADS, &s->heads, err) < 0 ||
        read_size(m, "attention.head_count_kv", s->heads, s->heads, &s->kv_heads, err) < 0 ||
        read_size(m, "context_length", -1, INT_MAX, &s->ctx_train, err) < 0 ||
        read_real(m, "attention.layer_norm_rms_epsilon", 0, &eps, err) < 0 ||
        read_size(m, "block_count", -1, INT_MAX, &s->layers, err) < 0)
        return -1;
    if (s->layers > max_layers)
        return err_set(
            err,
            "%s: key '%s.block_count' is %d, but there are tensors for no more than %lld layers; the file is damaged",
            gguf_path(m->gguf), s->arch, s->layers, (long long)max_layers);
    s->norm_eps = (float)eps;
    if (s->heads % s->kv_heads)
        return err_set(err, "%s: %d attention heads are no multiple of %d key heads; the file is damaged",
                       gguf_path(m->gguf), s->heads, s->kv_heads);
    int value_dim = 0, natural = s->hidden / s->heads > 0 ? s->hidden / s->heads : 1;
    if (read_size(m, "attention.key_length", natural, MAX_HEAD_DIM, &s->head_dim, err) < 0 ||
        read_size(m, "attention.value_length", s->head_dim, MAX_HEAD_DIM, &value_dim, err) < 0)
        return -1;
    if (value_dim != s->head_dim || s->head_dim % 2)
        return err_set(
            err, "%s: heads of %d elements for keys and %d for values are not supported; they must be equal and even",
            gguf_path(m->gguf), s->head_dim, value_dim);
    int64_t experts = 0;
    if (gguf_get_int(m->gguf, arch_key(m, "expert_count").text, &experts) && experts != 0)
        return err_set(err, "%s: a mixture of %lld experts is not supported; use a dense model", gguf_path(m->gguf),
                       (long long)experts);
    return read_rope(m, err);
}

/* A tensor by name with the shape [ne0, ne1] (ne1 = 1: a vector, which must be F32). An optional one that is absent gives NULL. */
static int find(const struct model *m, const char *name, int64_t ne0, int64_t ne1, bool optional,
                const struct tensor **out, struct err *err)
{
    const struct tensor *t = gguf_tensor(m->gguf, name);
    *out = t;
    if (!t)
        return optional ? 0
                        : err_set(err, "%s: tensor '%s' is missing; the file holds no complete %s model",
                                  gguf_path(m->gguf), name, m->shape.arch);
    if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != 1 || t->ne[3] != 1)
        return err_set(err,
                       "%s: tensor '%s' has the shape [%lld, %lld, %lld, %lld], not [%lld, %lld] as the metadata says; "
                       "the file is damaged",
                       gguf_path(m->gguf), name, (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2],
                       (long long)t->ne[3], (long long)ne0, (long long)ne1);
    if (ne1 == 1 && t->type != QUANT_F32)
        return err_set(err, "%s: tensor '%s' is %s, but vectors must be F32; convert the model again",
                       gguf_path(m->gguf), name, quant_info(t->type)->name);
    return 0;
}

static int find_layer(struct model *m, int i, struct err *err)
{
    const struct model_shape *s = &m->shape;
    struct model_layer *l = &m->layer[i];
    int64_t q = (int64_t)s->heads * s->head_dim, kv = (int64_t)s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        int64_t ne0, ne1;
        const struct tensor **out;
        bool optional;
    } want[] = {
        {"attn_norm.weight", s->hidden, 1, &l->attn_norm, false},
        {"attn_q.weight", s->hidden, q, &l->wq, false},
        {"attn_k.weight", s->hidden, kv, &l->wk, false},
        {"attn_v.weight", s->hidden, kv, &l->wv, false},
        {"attn_q.bias", q, 1, &l->bq, true},
        {"attn_k.bias", kv, 1, &l->bk, true},
        {"attn_v.bias", kv, 1, &l->bv, true},
        {"attn_output.weight", q, s->hidden, &l->wo, false},
        {"ffn_norm.weight", s->hidden, 1, &l->ffn_norm, false},
        {"ffn_gate.weight", s->hidden, s->ffn, &l->gate, false},
        {"ffn_up.weight", s->hidden, s->ffn, &l->up, false},
        {"ffn_down.weight", s->ffn, s->hidden, &l->down, false},
    };
    /* Parts of a layer that some relatives of Llama have; leaving them out in silence would give wrong text. */
    static const char *const foreign[] = {"attn_output.bias",  "ffn_gate.bias",  "ffn_up.bias",
                                          "ffn_down.bias",     "attn_norm.bias", "attn_q_norm.weight",
                                          "attn_k_norm.weight"};
    char name[64];
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        snprintf(name, sizeof name, "blk.%d.%s", i, want[k].name);
        if (find(m, name, want[k].ne0, want[k].ne1, want[k].optional, want[k].out, err) < 0)
            return -1;
    }
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
        snprintf(name, sizeof name, "blk.%d.%s", i, foreign[k]);
        if (gguf_tensor(m->gguf, name))
            return err_set(err, "%s: tensor '%s' has no place in the models that are supported", gguf_path(m->gguf),
                           name);
    }
    return 0;
}

/* The vocabulary is as large as the embedding; the tokenizer's list of tokens, where there is one, must agree. */
static int find_vocabulary(struct model *m, struct err *err)
{
    struct model_shape *s = &m->shape;
    const struct tensor *embed = gguf_tensor(m->gguf, "token_embd.weight");
    int64_t tokens = gguf_array_len(m->gguf, "tokenizer.ggml.tokens");
    if (embed && (embed->ne[1] > MAX_DIM || (tokens >= 0 && tokens != embed->ne[1])))
        return err_set(
            err,
            "%s: %lld tokens in 'tokenizer.ggml.tokens', but %lld rows in 'token_embd.weight'; the file is damaged",
            gguf_path(m->gguf), (long long)tokens, (long long)embed->ne[1]);
    s->vocab = embed ? (int)embed->ne[1] : 0;
    return find(m, "token_embd.weight", s->hidden, s->vocab, false, &m->embed, err);
}

static int check_rope_freqs(const struct model *m, struct err *err)
{
    for (int i = 0; m->rope_freqs && i < m->shape.rope_dim / 2; i++) {
        float f = ((const float *)m->rope_freqs->data)[i];
        if (!(f > 0 && f < 1e30f))
            return err_set(err, "%s: tensor 'rope_freqs.weight' holds %g, no positive number; the file is damaged",
                           gguf_path(m->gguf), (double)f);
    }
    return 0;
}

int model_source(struct gguf **out, const char *path, struct err *err)
{
    struct stat st;
    char config[PATH_MAX];
    bool folder =
        snprintf(config, sizeof config, "%s/config.json", path) < (int)sizeof config && stat(config, &st) == 0;
    return folder ? hf_open(out, path, err) : gguf_open(out, path, err);
}

int model_open(struct model *m, const char *path, struct err *err)
{
    *m = (struct model){0};
    if (model_source(&m->gguf, path, err) < 0)
        return -1;
    return model_from_gguf(m, m->gguf, err);
}

int model_from_gguf(struct model *m, struct gguf *g, struct err *err)
{
    *m = (struct model){.gguf = g};
    struct model_shape *s = &m->shape;
    if (read_arch(m, err) < 0 || read_shape(m, err) < 0 || find_vocabulary(m, err) < 0 ||
        find(m, "output_norm.weight", s->hidden, 1, false, &m->out_norm, err) < 0 ||
        find(m, "output.weight", s->hidden, s->vocab, true, &m->output, err) < 0 ||
        find(m, "rope_freqs.weight", s->rope_dim / 2, 1, true, &m->rope_freqs, err) < 0 || check_rope_freqs(m, err) < 0)
        goto fail;
    if (weave_open(&m->weave, err) < 0)
        goto fail;
    if (!m->output)
        m->output = m->embed;
    if (!(m->layer = err_calloc((size_t)s->layers, sizeof *m->layer, "the model's layers", err)))
        goto fail;
    for (int i = 0; i < s->layers; i++)
        if (find_layer(m, i, err) < 0)
            goto fail;
    return 0;
fail:
    model_close(m);
    return -1;
}

void model_close(struct model *m)
{
    weave_close(m->weave);
    free(m->layer);
    free(m->owned);
    gguf_close(m->gguf);
    *m = (struct model){0};
}

double model_rope_freq(const struct model *m, int i)
{
    const struct model_shape *s = &m->shape;
    double freq = pow(s->rope_base, -2.0 * i / s->rope_dim);
    if (m->rope_freqs)
        freq /= (double)((const float *)m->rope_freqs->data)[i];
    if (s->scaling == ROPE_LINEAR)
        return freq / s->rope_factor;
    if (s->scaling == ROPE_LLAMA3) {
        /* Llama 3.1: slow pairs (few turns in the original context) are scaled, fast ones stay, in between a linear blend. */
        double turns = s->rope_ctx_origin * freq / (2 * M_PI);
        double keep = (turns - s->rope_low_freq) / (s->rope_high_freq - s->rope_low_freq);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        return keep * freq + (1 - keep) * freq / s->rope_factor;
    }
    return freq;
}
