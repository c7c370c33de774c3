/* Hugging Face's files. The first byte says which: a safetensors file, config.json, or tokenizer.json. Whatever they say, it ends in one
 * line, or in tensors that can be read, or in metadata that the tokenizer's loader takes or refuses. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "runtime/hf.h"
#include "runtime/safetensors.h"
#include "runtime/tokenizer.h"

static const char header[] = "{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                             "\"lm_head.weight\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[8,16]}} ";
static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":32,\"num_attention_heads\":2,"
    "\"max_position_embeddings\":64,\"num_hidden_layers\":1,\"rms_norm_eps\":1e-5,\"rope_theta\":10000,\"rope_"
    "scaling\":"
    "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
    "\"original_max_position_embeddings\":64},\"tie_word_embeddings\":true}";
static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":5,\"content\":\"[x]\"}],"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},\"post_processor\":{\"type\":\"TemplateProcessing\","
    "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":2,\"ab\":3}"
    ","
    "\"merges\":[\"a b\",[\"a\",\"b\"]]}}";

struct bytes fuzz_seed(int i)
{
    static const char *const text[] = {header, config, tokenizer};
    struct bytes b = {0};
    if (i > 2)
        return b;
    bytes_put(&b, &(char){(char)i}, 1);
    if (i == 0)
        bytes_u64(&b, strlen(header));
    bytes_put(&b, text[i], strlen(text[i]));
    bytes_put(&b, "0123456789abcdef", i == 0 ? 16 : 0);
    return b;
}

static int touch(void *user, const struct tensor *t, struct err *err)
{
    char name[HF_NAME_MAX];
    volatile unsigned char last = ((const unsigned char *)t->data)[t->bytes - 1];
    (void)last;
    hf_tensor_name(t->name, name);
    return 0;
}

static void read_tokenizer(struct gguf_build *b)
{
    struct gguf *g;
    struct tokenizer *t;
    struct ids ids = {0};
    struct err err = {""};
    if (gguf_open_memory(&g, b->data, b->size, "input", &err) != 0)
        abort(); /* what is built is whole */
    if (tokenizer_open(&t, g, &err) == 0) {
        if (tokenizer_encode(t, "ab [x] 12 <s>", 13, TOKENIZE_SPECIAL, &ids, &err) != 0)
            abort();
        ids_free(&ids);
        tokenizer_close(t);
    }
    gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {""};
    struct gguf_build b;
    bool tied;
    int rc;
    if (size == 0)
        return 0;
    size--;
    unsigned char *copy = malloc(size ? size : 1); /* aligned as a map is, and of exactly that size */
    if (!copy)
        abort();
    memcpy(copy, data + 1, size);
    if (data[0] % 3 == 0) {
        rc = safetensors_read(copy, size, "input", touch, NULL, &err);
    } else {
        cJSON *top = cJSON_ParseWithLength((const char *)copy, size);
        gguf_build_begin(&b);
        rc = data[0] % 3 == 1 ? hf_config(&b, top, "input", &tied, &err) : hf_tokenizer(&b, top, top, "input", &err);
        if (rc == 0 && gguf_build_end(&b, &err) == 0)
            read_tokenizer(&b);
        free(b.data);
        cJSON_Delete(top);
    }
    if (rc != 0 && (!err.msg[0] || strchr(err.msg, '\n')))
        abort();
    free(copy);
    return 0;
}
