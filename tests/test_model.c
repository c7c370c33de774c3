#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "runtime/model.h"
#include "runtime/model_random.h"

static int open_bytes(struct model *m, const void *data, size_t size, struct err *err)
{
    struct gguf *g;
    return gguf_open_memory(&g, data, size, "the-file", err) < 0 ? -1 : model_from_gguf(m, g, err);
}

static void shape_and_weights(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    struct model m;
    struct bytes file;
    tiny_model_open(&t, &m, &file);
    const struct model_shape *s = &m.shape;
    assert_string_equal(s->arch, "llama");
    assert_true(s->layers == 2 && s->hidden == 64 && s->heads == 4 && s->kv_heads == 2 && s->head_dim == 16 &&
                s->ffn == 96 && s->vocab == 288 && s->ctx_train == 4096 && s->rope_dim == 16);
    assert_true(s->norm_eps == 1e-5f && s->rope_base == 10000 && s->scaling == ROPE_PLAIN && s->rope_interleaved);
    assert_true(m.output == m.embed && !m.rope_freqs && !m.layer[0].bq);
    assert_true(m.layer[1].down->ne[0] == 96 && m.layer[1].down->ne[1] == 64 && m.layer[1].wk->ne[1] == 32);
    model_close(&m);
    free(file.data);

    t.arch = "qwen2", t.tied = false, t.biases = true, t.rope_freqs = true, t.type = QUANT_Q4_1, t.rope_dim = 8;
    t.tokenizer = TINY_BPE, t.head_dim = 32;
    tiny_model_open(&t, &m, &file);
    assert_true(m.output != m.embed && m.rope_freqs->ne[0] == 4 && m.layer[1].bv->ne[0] == 64 && !s->rope_interleaved);
    assert_true(s->head_dim == 32 && s->rope_dim == 8 && m.layer[0].wq->type == QUANT_Q4_1);
    model_close(&m);
    free(file.data);
}

static void every_type_of_weight(void **state)
{
    static const enum quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_1,
                                            QUANT_Q5_0, QUANT_Q5_1, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct tiny_model t = tiny_model_defaults();
        struct model m;
        struct bytes file;
        static float row[256];
        double sum = 0;
        t.hidden = t.ffn = 256, t.head_dim = 64, t.vocab = 300;
        t.type = t.embed_type = types[i];
        tiny_model_open(&t, &m, &file);
        size_t rows = (size_t)m.embed->ne[1], bytes = m.embed->bytes / rows;
        for (size_t r = 0; r < rows; r++) {
            quant_to_float(types[i], (const char *)m.embed->data + r * bytes, row, 256);
            for (int k = 0; k < 256; k++)
                sum += (double)row[k] * (double)row[k];
        }
        /* The writer's blocks have the deviation that was asked for, more or less. */
        double deviation = sqrt(sum / (double)rows / 256);
        assert_true(deviation > 0.5 * 2 / 16 && deviation < 2 * 2 / 16.0);
        model_close(&m);
        free(file.data);
    }
}

/* Frequencies after the formulas of the families' papers, for a few pairs worked out by hand. */
static void rope_frequencies(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    struct model m;
    struct bytes file;
    t.head_dim = 128, t.hidden = 512, t.rope_base = 500000;
    tiny_model_open(&t, &m, &file);
    assert_true(model_rope_freq(&m, 0) == 1);
    assert_true(fabs(model_rope_freq(&m, 32) - 1 / sqrt(500000)) < 1e-15);
    m.shape.scaling = ROPE_LLAMA3;
    m.shape.rope_factor = 8, m.shape.rope_low_freq = 1, m.shape.rope_high_freq = 4, m.shape.rope_ctx_origin = 8192;
    assert_true(model_rope_freq(&m, 0) == 1); /* 1304 turns in 8192: fast */
    double slow = pow(500000, -126.0 / 128), between = pow(500000, -66.0 / 128);
    assert_true(fabs(model_rope_freq(&m, 63) - slow / 8) < 1e-18);
    double turns = 8192 * between / (2 * M_PI), smooth = (turns - 1) / 3; /* pair 33: 1.0 to 4 turns */
    assert_true(turns > 1 && turns < 4);
    assert_true(fabs(model_rope_freq(&m, 33) - ((1 - smooth) * between / 8 + smooth * between)) < 1e-15);
    model_close(&m);
    free(file.data);

    t.rope_linear = 4, t.rope_freqs = true;
    tiny_model_open(&t, &m, &file);
    const float *factor = m.rope_freqs->data;
    assert_true(m.shape.scaling == ROPE_LINEAR && m.shape.rope_factor == 4);
    assert_true(fabs(model_rope_freq(&m, 0) - 1 / (double)factor[0] / 4) < 1e-15);
    model_close(&m);
    free(file.data);
}

/* A four-byte value of the tiny model's metadata that is overwritten, and what the message must then say. */
struct change {
    const char *key;
    uint32_t value;
    const char *says;
};

/* Where the value of a key begins in the file: after the key and four bytes of type (for a tensor: of dimensions). */
static size_t value_at(const struct bytes *b, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 8; i + n + 8 < b->size; i++)
        if (!memcmp(b->data + i, key, n) && b->data[i - 8] == n && b->data[i - 7] == 0)
            return i + n + 4;
    fail_msg("no key %s", key);
    return 0;
}

static void refused(const struct bytes *b, const char *part)
{
    struct model m;
    struct err err = {""};
    if (open_bytes(&m, b->data, b->size, &err) == 0)
        fail_msg("opened, though it should say '%s'", part);
    if (!strstr(err.msg, part) || !strstr(err.msg, "the-file") || strchr(err.msg, '\n'))
        fail_msg("said '%s' and not '%s'", err.msg, part);
}

static void absurd_sizes(void **state)
{
    static const struct change changes[] = {
        {"llama.block_count", 0, "block_count' is 0"},
        {"llama.block_count", 1u << 31, "block_count' is 2147483648"},
        {"llama.block_count", INT32_MAX, "no more than 2 layers"},
        {"llama.block_count", 3, "no more than 2 layers"},
        {"llama.embedding_length", 0, "embedding_length' is 0"},
        {"llama.embedding_length", 1u << 31, "embedding_length' is 2147483648"},
        {"llama.embedding_length", 65, "'token_embd.weight' has the shape"},
        {"llama.feed_forward_length", 0, "feed_forward_length' is 0"},
        {"llama.feed_forward_length", 97, "'blk.0.ffn_gate.weight' has the shape"},
        {"llama.attention.head_count", 0, "head_count' is 0"},
        {"llama.attention.head_count", UINT32_MAX, "head_count' is 4294967295"},
        {"llama.attention.head_count", 3, "no multiple of 2 key heads"},
        {"llama.attention.head_count", 8, "dimension_count' is 16"},
        {"llama.attention.head_count_kv", 0, "head_count_kv' is 0"},
        {"llama.attention.head_count_kv", 5, "head_count_kv' is 5"},
        {"llama.attention.head_count_kv", 4, "'blk.0.attn_k.weight' has the shape"},
        {"llama.context_length", 0, "context_length' is 0"},
        {"llama.rope.dimension_count", 0, "dimension_count' is 0"},
        {"llama.rope.dimension_count", 15, "odd"},
        {"llama.rope.dimension_count", 18, "dimension_count' is 18"},
        {"llama.attention.layer_norm_rms_epsilon", 0, "epsilon' is 0"},
        {"llama.attention.layer_norm_rms_epsilon", 0x7fc00000, "epsilon' is nan"},
        {"llama.rope.freq_base", 0xbf800000, "freq_base' is -1"},
        {"llama.rope.freq_base", 0x7f800000, "freq_base' is inf"},
    };
    struct tiny_model t = tiny_model_defaults();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct bytes b = tiny_model_bytes(&t);
        size_t at = value_at(&b, changes[i].key);
        for (int k = 0; k < 4; k++)
            b.data[at + (size_t)k] = (unsigned char)(changes[i].value >> 8 * k);
        refused(&b, changes[i].says);
        free(b.data);
    }
}

/* A key or tensor is taken away by changing a letter of its name. */
static void missing_parts(void **state)
{
    static const char *const keys[] = {"general.architecture",
                                       "llama.block_count",
                                       "llama.embedding_length",
                                       "llama.feed_forward_length",
                                       "llama.attention.head_count",
                                       "llama.context_length",
                                       "llama.attention.layer_norm_rms_epsilon"};
    static const char *const tensors[] = {"token_embd.weight",        "output_norm.weight",    "blk.0.attn_norm.weight",
                                          "blk.0.attn_q.weight",      "blk.1.attn_k.weight",   "blk.1.attn_v.weight",
                                          "blk.1.attn_output.weight", "blk.1.ffn_norm.weight", "blk.0.ffn_gate.weight",
                                          "blk.0.ffn_up.weight",      "blk.1.ffn_down.weight"};
    struct tiny_model t = tiny_model_defaults();
    struct bytes b = tiny_model_bytes(&t);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t at = value_at(&b, keys[i]) - 5;
        b.data[at] ^= 1;
        refused(&b, keys[i]);
        b.data[at] ^= 1;
    }
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        size_t at = value_at(&b, tensors[i]) - 5;
        b.data[at] ^= 1;
        refused(&b, tensors[i]);
        b.data[at] ^= 1;
    }
    free(b.data);
}

static void unsupported_models(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    t.arch = "gpt\n";
    struct bytes b = tiny_model_bytes(&t);
    refused(&b, "architecture 'gpt?' is not supported");
    free(b.data);

    struct gguf_writer w = {0};
    gguf_put_u32(&w, "general.architecture", 3);
    b = gguf_writer_finish(&w);
    refused(&b, "general.architecture");
    free(b.data);

    t = tiny_model_defaults();
    t.rope_linear = 2;
    b = tiny_model_bytes(&t);
    memcpy(b.data + value_at(&b, "llama.rope.scaling.type") + 8, "spiral", 6);
    refused(&b, "rope scaling 'spiral'");
    free(b.data);

    t = tiny_model_defaults();
    t.biases = true;
    b = tiny_model_bytes(&t);
    memcpy(b.data + value_at(&b, "blk.0.attn_q.bias") - 4 - 17, "blk.0.ffn_up.bias", 17);
    refused(&b, "'blk.0.ffn_up.bias' has no place");
    free(b.data);
}

static void a_vocabulary_that_does_not_match(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    t.tokenizer = TINY_SPM, t.vocab = 300;
    struct bytes b = tiny_model_bytes(&t);
    struct model m;
    struct err err = {""};
    assert_int_equal(open_bytes(&m, b.data, b.size, &err), 0);
    model_close(&m);
    free(b.data);

    struct gguf_writer w = {0};
    static const char *const words[] = {"a", "b", "c"};
    static const float zeros[64 * 4];
    gguf_put_str(&w, "general.architecture", "llama");
    gguf_put_u32(&w, "llama.block_count", 1);
    gguf_put_u32(&w, "llama.context_length", 10);
    gguf_put_u32(&w, "llama.embedding_length", 64);
    gguf_put_u32(&w, "llama.feed_forward_length", 64);
    gguf_put_u32(&w, "llama.attention.head_count", 1);
    gguf_put_f32(&w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_strs(&w, "tokenizer.ggml.tokens", words, 3);
    gguf_put_tensor(&w, "token_embd.weight", QUANT_F32, 2, (const int64_t[]){64, 4}, zeros, sizeof zeros);
    for (int i = 0; i < 8; i++) { /* so that there could be a layer */
        char name[8];
        snprintf(name, sizeof name, "t%d", i);
        gguf_put_tensor(&w, name, QUANT_F32, 1, (const int64_t[]){1}, zeros, 4);
    }
    b = gguf_writer_finish(&w);
    refused(&b, "3 tokens in 'tokenizer.ggml.tokens', but 4 rows");
    free(b.data);
}

static void truncated_and_damaged_files_are_one_line(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    t.layers = 1, t.hidden = t.ffn = 16, t.heads = 2, t.kv_heads = 1, t.head_dim = 8, t.vocab = 8;
    struct bytes b = tiny_model_bytes(&t);
    uint64_t seed = 5;
    for (size_t n = 0; n < b.size; n++) {
        struct model m;
        struct err err = {""};
        assert_int_equal(open_bytes(&m, b.data, n, &err), -1);
        assert_true(err.msg[0] && !strchr(err.msg, '\n'));
    }
    for (int i = 0; i < 20000; i++) {
        struct model m;
        struct err err = {""};
        size_t at = (size_t)random_int(&seed, 0, 2000) % b.size;
        unsigned char old = b.data[at];
        b.data[at] = (unsigned char)random_int(&seed, 0, 255);
        if (open_bytes(&m, b.data, b.size, &err) == 0)
            model_close(&m);
        else
            assert_true(err.msg[0] && !strchr(err.msg, '\n'));
        b.data[at] = old;
    }
    free(b.data);
}

static void a_file_on_disk(void **state)
{
    char path[] = "/tmp/weir-test-XXXXXX";
    int fd = mkstemp(path);
    struct tiny_model t = tiny_model_defaults();
    struct model m;
    struct err err = {""};
    assert_true(fd >= 0);
    tiny_model_file(&t, path);
    assert_int_equal(model_open(&m, path, &err), 0);
    assert_string_equal(gguf_path(m.gguf), path);
    model_close(&m);
    assert_int_equal(ftruncate(fd, 5000), 0);
    assert_int_equal(model_open(&m, path, &err), -1);
    assert_null(m.gguf);
    close(fd);
    unlink(path);
    assert_int_equal(model_open(&m, path, &err), -1);
    model_close(&m); /* harmless */
}

/* n weights from a tensor's beginning are small numbers, and not the same in one row as in the next. */
static void check_random(const struct tensor *t, size_t n)
{
    float *v = malloc(n * sizeof *v);
    size_t row = (size_t)t->ne[0];
    assert_non_null(v);
    quant_to_float(t->type, t->data, v, n);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(v[i]) < 1))
            fail_msg("%s: weight %zu is %g", quant_info(t->type)->name, i, (double)v[i]);
    assert_memory_not_equal(v, v + row, row * sizeof *v);
    free(v);
}

/* Random models of a known shape: whole, and as the patterns that a GPU repeats. */
static void random_weights(void **state)
{
    static const enum quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0,
                                            QUANT_Q4_1, QUANT_Q8_0, QUANT_Q4_K, QUANT_Q6_K};
    struct model m;
    struct err err = {""};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (model_random(&m, "llama-3.1-70b", types[i], true, &err) != 0) /* 40 GB and more, if it were whole */
            fail_msg("%s", err.msg);
        const struct tensor *up = m.layer[79].up;
        assert_int_equal(m.shape.layers, 80);
        assert_true(up->ne[0] == 8192 && up->ne[1] == 28672);
        assert_true(up->repeats > 0 && up->repeats < up->bytes && up->repeats % 16 == 0 && up->bytes % 16 == 0);
        check_random(up, up->repeats / (size_t)quant_info(types[i])->bytes * (size_t)quant_info(types[i])->block);
        assert_int_equal(m.layer[79].ffn_norm->repeats, 0);
        assert_true(((const float *)m.layer[79].ffn_norm->data)[8191] == 1);
        model_close(&m);
    }
    assert_int_equal(model_random(&m, "smollm2-135m", QUANT_Q8_0, false, &err), 0);
    assert_int_equal(m.layer[29].down->repeats, 0);
    check_random(m.layer[29].down, 576 * 1536);
    model_close(&m);
    assert_int_equal(model_random(&m, "smollm2-135m", QUANT_Q4_K, false, &err), -1);
    assert_non_null(strstr(err.msg, "no whole blocks of Q4_K"));
    assert_int_equal(model_random(&m, "none", QUANT_Q8_0, false, &err), -1);
    assert_non_null(strstr(err.msg, "llama-3.1-70b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shape_and_weights),
        cmocka_unit_test(every_type_of_weight),
        cmocka_unit_test(rope_frequencies),
        cmocka_unit_test(absurd_sizes),
        cmocka_unit_test(missing_parts),
        cmocka_unit_test(unsupported_models),
        cmocka_unit_test(a_vocabulary_that_does_not_match),
        cmocka_unit_test(truncated_and_damaged_files_are_one_line),
        cmocka_unit_test(a_file_on_disk),
        cmocka_unit_test(random_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
