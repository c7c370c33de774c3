/* GGUF files: the directory, the metadata that the program asks for, the model's shape, every tensor's first row. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "runtime/model.h"

struct bytes fuzz_seed(int i)
{
    struct tiny_model t = tiny_model_defaults();
    struct gguf_writer w = {.version = 2, .alignment = 8};
    static const char *const words[] = {"a", "", "word"};
    t.layers = 1, t.hidden = t.ffn = 32, t.heads = 2, t.kv_heads = 1, t.vocab = 8, t.type = QUANT_Q4_1;
    switch (i) {
    case 0:
        return tiny_model_bytes(&t);
    case 1:
        t.arch = "qwen2", t.biases = t.rope_freqs = true, t.tied = false, t.rope_linear = 2, t.type = QUANT_Q8_0;
        return tiny_model_bytes(&t);
    case 2:
        gguf_put_u32(&w, "general.alignment", 8);
        gguf_put_str(&w, "general.architecture", "llama");
        gguf_put_strs(&w, "tokenizer.ggml.tokens", words, 3);
        gguf_put_f32s(&w, "tokenizer.ggml.scores", (const float[]){1, 2, 3}, 3);
        gguf_put_i32s(&w, "tokenizer.ggml.token_type", (const int32_t[]){1, 2, 3}, 3);
        return gguf_writer_finish(&w);
    default:
        return (struct bytes){0};
    }
}

static void read_arrays(const struct gguf *g)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t n = gguf_array_len(g, keys[i]);
        if (n < 0)
            continue;
        /* No more elements than the file has bytes, so this is no giant allocation. */
        size_t room = (size_t)n + 1;
        const char **str = calloc(room, sizeof *str);
        size_t *len = calloc(room, sizeof *len);
        int32_t *ints = calloc(room, sizeof *ints);
        float *floats = calloc(room, sizeof *floats);
        volatile char last = 0;
        if (!str || !len || !ints || !floats || room > gguf_file_bytes(g))
            abort();
        if (gguf_array_strs(g, keys[i], str, len))
            for (int64_t k = 0; k < n; k++)
                last = len[k] ? str[k][len[k] - 1] : last;
        gguf_array_ints(g, keys[i], ints);
        gguf_array_floats(g, keys[i], floats);
        free(str);
        free(len);
        free(ints);
        free(floats);
    }
}

static void read_tensors(const struct gguf *g)
{
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        float *row = malloc((size_t)t->ne[0] * sizeof *row);
        if (!row)
            abort();
        quant_to_float(t->type, t->data, row, (size_t)t->ne[0]);
        free(row);
        if (t->bytes % (size_t)quant_info(t->type)->bytes)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g;
    struct model m;
    struct err err = {""};
    if (gguf_open_memory(&g, data, size, "input", &err) < 0) {
        if (!err.msg[0] || strchr(err.msg, '\n'))
            abort();
        return 0;
    }
    read_arrays(g);
    read_tensors(g);
    if (model_from_gguf(&m, g, &err) == 0) {
        volatile double freq = model_rope_freq(&m, m.shape.rope_dim / 2 - 1);
        (void)freq;
        model_close(&m);
    } else if (!err.msg[0] || strchr(err.msg, '\n')) {
        abort();
    }
    return 0;
}
