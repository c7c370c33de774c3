/* Whole models of random weights, for gguf_writer.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

#include "gguf_writer.h"

struct tiny_model tiny_model_defaults(void)
{
    return (struct tiny_model){
        .arch = "llama",
        .layers = 2,
        .hidden = 64,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 16,
        .ffn = 96,
        .vocab = 288,
        .ctx = 4096,
        .rope_base = 10000,
        .tied = true,
        .type = QUANT_F32,
        .embed_type = QUANT_F32,
        .seed = 1,
    };
}

static void put_matrix(struct gguf_writer *w, const char *name, enum quant_type type, int in, int out, double sigma,
                       uint64_t *seed)
{
    size_t bytes;
    unsigned char *data = random_blocks(type, (size_t)in * (size_t)out, sigma, seed, &bytes);
    gguf_put_tensor(w, name, type, 2, (const int64_t[]){in, out}, data, bytes);
    free(data);
}

/* n values mean + spread * (-1..1). */
static void put_vector(struct gguf_writer *w, const char *name, int n, double mean, double spread, uint64_t *seed)
{
    float *v = malloc((size_t)n * sizeof *v);
    if (!v)
        abort();
    for (int i = 0; i < n; i++)
        v[i] = (float)(mean + spread * (2 * random_uniform(seed) - 1));
    gguf_put_tensor(w, name, QUANT_F32, 1, (const int64_t[]){n}, v, (size_t)n * sizeof *v);
    free(v);
}

static void put_layer(struct gguf_writer *w, const struct tiny_model *t, int i, uint64_t *seed)
{
    char n[64];
#define NAME(rest) (snprintf(n, sizeof n, "blk.%d." rest, i), n)
    int q = t->heads * t->head_dim, kv = t->kv_heads * t->head_dim;
    double in = 1 / sqrt(t->hidden);
    put_vector(w, NAME("attn_norm.weight"), t->hidden, 1, 0.2, seed);
    put_matrix(w, NAME("attn_q.weight"), t->type, t->hidden, q, 1.4 * in, seed);
    put_matrix(w, NAME("attn_k.weight"), t->type, t->hidden, kv, 1.4 * in, seed);
    put_matrix(w, NAME("attn_v.weight"), t->type, t->hidden, kv, in, seed);
    if (t->biases) {
        put_vector(w, NAME("attn_q.bias"), q, 0, 0.5, seed);
        put_vector(w, NAME("attn_k.bias"), kv, 0, 0.5, seed);
        put_vector(w, NAME("attn_v.bias"), kv, 0, 0.5, seed);
    }
    put_matrix(w, NAME("attn_output.weight"), t->type, q, t->hidden, 1 / sqrt(q), seed);
    put_vector(w, NAME("ffn_norm.weight"), t->hidden, 1, 0.2, seed);
    put_matrix(w, NAME("ffn_gate.weight"), t->type, t->hidden, t->ffn, in, seed);
    put_matrix(w, NAME("ffn_up.weight"), t->type, t->hidden, t->ffn, in, seed);
    put_matrix(w, NAME("ffn_down.weight"), t->type, t->ffn, t->hidden, 1 / sqrt(t->ffn), seed);
#undef NAME
}

/* GPT-2's printable stand-in for a byte, in UTF-8. */
static void byte_stand_in(int byte, char out[3])
{
    int code = byte, next = 256;
    for (int b = 0; b <= byte; b++)
        if (b <= ' ' || (b > '~' && b <= 0xa0) || b == 0xad)
            code = b == byte ? next : code, next++;
    if (code < 0x80) {
        out[0] = (char)code;
        out[1] = 0;
    } else {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        out[2] = 0;
    }
}

struct vocabulary {
    char (*text)[24]; /* [size] */
    const char **str; /* [size], into text */
    int32_t *kind;    /* [size] token types: 1 normal, 2 unknown, 3 control, 5 unused, 6 byte */
    float *score;     /* [size] */
    int size, used;
};

static void add_token(struct vocabulary *v, const char *text, int kind, float score)
{
    if (v->used == v->size) {
        fprintf(stderr, "tiny_model: the vocabulary is too small for its tokenizer\n");
        abort();
    }
    snprintf(v->text[v->used], sizeof *v->text, "%s", text);
    v->str[v->used] = v->text[v->used];
    v->kind[v->used] = kind;
    v->score[v->used++] = score;
}

static void fill_bpe(struct gguf_writer *w, struct vocabulary *v)
{
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    /* "\xc4\xa0" stands for a space. */
    static const char *const merges[] = {"\xc4\xa0 t", "h e", "\xc4\xa0t he", "i n", "e r",
                                         "l l",        "o u", "in g",         "a n", "an d"};
    enum { MERGES = sizeof merges / sizeof *merges };
    char text[16];
    for (int i = 0; i < 3; i++)
        add_token(v, special[i], 3, 0);
    for (int b = 0; b < 256; b++) {
        byte_stand_in(b, text);
        add_token(v, text, 1, 0);
    }
    for (int i = 0; i < MERGES; i++) {
        const char *gap = strchr(merges[i], ' ');
        snprintf(text, sizeof text, "%.*s%s", (int)(gap - merges[i]), merges[i], gap + 1);
        add_token(v, text, 1, 0);
    }
    gguf_put_str(w, "tokenizer.ggml.model", "gpt2");
    gguf_put_str(w, "tokenizer.ggml.pre", "smollm");
    gguf_put_strs(w, "tokenizer.ggml.merges", merges, MERGES);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
}

static void fill_spm(struct gguf_writer *w, struct vocabulary *v)
{
    /* "\xe2\x96\x81" is SentencePiece's mark of a word's beginning. */
    static const char *const pieces[] = {"\xe2\x96\x81t", "he", "\xe2\x96\x81the", "in", "er", "ing", "an", "and"};
    char text[16];
    add_token(v, "<unk>", 2, 0);
    add_token(v, "<s>", 3, 0);
    add_token(v, "</s>", 3, 0);
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        add_token(v, text, 6, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add_token(v, pieces[i], 1, -(float)i);
    add_token(v, "\xe2\x96\x81", 1, -100);
    for (char c = 'a'; c <= 'z'; c++)
        add_token(v, (const char[]){c, 0}, 1, -101 - (float)(c - 'a'));
    gguf_put_str(w, "tokenizer.ggml.model", "llama");
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
}

static void put_tokenizer(struct gguf_writer *w, const struct tiny_model *t)
{
    size_t n = (size_t)t->vocab;
    struct vocabulary v = {.size = t->vocab};
    v.text = calloc(n, sizeof *v.text);
    v.str = calloc(n, sizeof *v.str);
    v.kind = calloc(n, sizeof *v.kind);
    v.score = calloc(n, sizeof *v.score);
    if (!v.text || !v.str || !v.kind || !v.score)
        abort();
    if (t->tokenizer == TINY_BPE)
        fill_bpe(w, &v);
    else
        fill_spm(w, &v);
    while (v.used < v.size) {
        char text[24];
        snprintf(text, sizeof text, "[unused%d]", v.used);
        add_token(&v, text, 5, 0);
    }
    gguf_put_strs(w, "tokenizer.ggml.tokens", v.str, n);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", v.kind, n);
    if (t->tokenizer == TINY_SPM)
        gguf_put_f32s(w, "tokenizer.ggml.scores", v.score, n);
    free(v.text);
    free(v.str);
    free(v.kind);
    free(v.score);
}

static void put_shape(struct gguf_writer *w, const struct tiny_model *t)
{
    char k[64];
#define KEY(rest) (snprintf(k, sizeof k, "%s." rest, t->arch), k)
    gguf_put_str(w, "general.architecture", t->arch);
    gguf_put_str(w, "general.name", "tiny random model");
    gguf_put_u32(w, KEY("block_count"), (uint32_t)t->layers);
    gguf_put_u32(w, KEY("context_length"), (uint32_t)t->ctx);
    gguf_put_u32(w, KEY("embedding_length"), (uint32_t)t->hidden);
    gguf_put_u32(w, KEY("feed_forward_length"), (uint32_t)t->ffn);
    gguf_put_u32(w, KEY("attention.head_count"), (uint32_t)t->heads);
    gguf_put_u32(w, KEY("attention.head_count_kv"), (uint32_t)t->kv_heads);
    if (t->head_dim * t->heads != t->hidden) {
        gguf_put_u32(w, KEY("attention.key_length"), (uint32_t)t->head_dim);
        gguf_put_u32(w, KEY("attention.value_length"), (uint32_t)t->head_dim);
    }
    gguf_put_f32(w, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    gguf_put_u32(w, KEY("rope.dimension_count"), (uint32_t)(t->rope_dim ? t->rope_dim : t->head_dim));
    gguf_put_f32(w, KEY("rope.freq_base"), (float)t->rope_base);
    if (t->rope_linear > 0) {
        gguf_put_str(w, KEY("rope.scaling.type"), "linear");
        gguf_put_f32(w, KEY("rope.scaling.factor"), (float)t->rope_linear);
    }
    gguf_put_u32(w, KEY("vocab_size"), (uint32_t)t->vocab);
#undef KEY
}

struct bytes tiny_model_bytes(const struct tiny_model *t)
{
    struct gguf_writer w = {0};
    uint64_t seed = t->seed;
    put_shape(&w, t);
    if (t->tokenizer != TINY_NO_TOKENIZER)
        put_tokenizer(&w, t);
    put_matrix(&w, "token_embd.weight", t->embed_type, t->hidden, t->vocab, 2 / sqrt(t->hidden), &seed);
    put_vector(&w, "output_norm.weight", t->hidden, 1, 0.2, &seed);
    if (!t->tied)
        put_matrix(&w, "output.weight", t->embed_type, t->hidden, t->vocab, 2 / sqrt(t->hidden), &seed);
    if (t->rope_freqs)
        put_vector(&w, "rope_freqs.weight", (t->rope_dim ? t->rope_dim : t->head_dim) / 2, 4.5, 3.5, &seed);
    for (int i = 0; i < t->layers; i++)
        put_layer(&w, t, i, &seed);
    return gguf_writer_finish(&w);
}

void tiny_model_file(const struct tiny_model *t, const char *path)
{
    struct bytes b = tiny_model_bytes(t);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b.data, 1, b.size, f) != b.size || fclose(f) != 0) {
        fprintf(stderr, "tiny_model: cannot write %s\n", path);
        abort();
    }
    free(b.data);
}

void tiny_model_open(const struct tiny_model *t, struct model *m, struct bytes *file)
{
    struct err err = {""};
    struct gguf *g;
    *file = tiny_model_bytes(t);
    if (gguf_open_memory(&g, file->data, file->size, "tiny model", &err) < 0 || model_from_gguf(m, g, &err) < 0) {
        fprintf(stderr, "tiny_model: %s\n", err.msg);
        abort();
    }
}
