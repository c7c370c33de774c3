/* Hugging Face folders beside the GGUF file of the same model: equal likelihoods, equal tokens; and folders that are not whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend_run.h"
#include "hf_writer.h"
#include "runtime/hf.h"
#include "runtime/safetensors.h"
#include "runtime/weir_private.h"
#include "scratch.h"

static void same_likelihoods(const struct model *a, const struct model *b, const char *what)
{
    struct cascade_params p = cascade_defaults();
    struct oracle_llama x, y;
    struct err err = {""};
    int32_t tokens[120];
    p.sinks = 4, p.window = 48, p.subcaches = 3, p.span = 4, p.stride = 16;
    for (int i = 0; i < 120; i++)
        tokens[i] = (i * 31 + i * i) % a->shape.vocab;
    if (backend_run_cpu(&x, a, &p, tokens, 120, 1, &err) != 0 || backend_run_cpu(&y, b, &p, tokens, 120, 1, &err) != 0)
        fail_msg("%s: %s", what, err.msg);
    struct llama_difference d = llama_compare(&x, &y, 120);
    if (!(d.nll < 1e-5) || d.kept > 0)
        fail_msg("%s: token %zu is %g nats off, %zu places hold another token", what, d.at, d.nll, d.kept);
    oracle_llama_free(&x);
    oracle_llama_free(&y);
}

static void same_tokens(const struct weir_model *a, const struct weir_model *b, const char *what)
{
    static const char text[] = "The weir, and 12345 he's\n\n in  the<|im_end|> \xe2\x82\xac river...\r\n!!";
    int32_t *x, *y;
    size_t n, m;
    for (int special = 0; special < 2; special++) {
        assert_int_equal(weir_tokenize(a, text, sizeof text - 1, special, &x, &n, NULL), 0);
        assert_int_equal(weir_tokenize(b, text, sizeof text - 1, special, &y, &m, NULL), 0);
        if (n != m || memcmp(x, y, n * sizeof *x) != 0)
            fail_msg("%s: %zu tokens and %zu, or others", what, n, m);
        weir_free(x);
        weir_free(y);
    }
}

static void equals_the_gguf_file(void **state)
{
    (void)state;
    static const struct {
        const char *what, *arch;
        enum quant_type type, embed;
        bool tied, biases;
        double linear;
        struct hf_folder o;
    } cases[] = {
        {"F32, tied", "llama", QUANT_F32, QUANT_F32, true, false, 0, {.cuts = HF_SMOLLM}},
        {"BF16, three shards", "llama", QUANT_BF16, QUANT_BF16, false, false, 0, {.cuts = HF_SMOLLM, .shards = 3}},
        {"F16, merges as pairs", "llama", QUANT_F16, QUANT_F16, false, false, 0, {.cuts = HF_SMOLLM, .pairs = true}},
        {"Qwen2", "qwen2", QUANT_BF16, QUANT_F32, false, true, 0, {.cuts = HF_SMOLLM, .newer = true}},
        {"biases", "llama", QUANT_F32, QUANT_BF16, true, true, 0, {.cuts = HF_SMOLLM}},
        {"linear scaling",
         "llama",
         QUANT_F32,
         QUANT_F32,
         true,
         false,
         4,
         {.cuts = HF_SMOLLM, .scaling = "{\"type\":\"linear\",\"factor\":4.0}"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_model t = tiny_model_defaults();
        struct scratch_path gguf = in_scratch("model.gguf"), hf = in_scratch("model");
        struct weir_model *a, *b;
        struct weir_error e = {""};
        t.tokenizer = TINY_BPE;
        t.arch = cases[i].arch;
        t.layers = 4;
        t.type = cases[i].type, t.embed_type = cases[i].embed;
        t.tied = cases[i].tied, t.biases = cases[i].biases;
        t.rope_linear = cases[i].linear;
        tiny_model_file(&t, gguf.text);
        assert_int_equal(weir_model_open(&a, gguf.text, &e), 0);
        hf_write(hf.text, &a->model, &cases[i].o);
        if (weir_model_open(&b, hf.text, &e) != 0)
            fail_msg("%s: %s", cases[i].what, e.message);
        assert_false(b->model.shape.rope_interleaved);
        same_likelihoods(&a->model, &b->model, cases[i].what);
        same_tokens(a, b, cases[i].what);
        assert_int_equal(weir_model_facts(b).bos, 1);
        assert_int_equal(weir_model_facts(b).eos, 2);
        assert_int_equal(weir_model_facts(b).adds_bos, 0);
        assert_true(weir_model_ends(b, 2) && weir_model_ends(b, 0) && !weir_model_ends(b, 5));
        weir_model_close(a);
        weir_model_close(b);
        char command[160];
        snprintf(command, sizeof command, "rm -rf %s", hf.text);
        assert_int_equal(system(command), 0);
    }
}

/* A small model as a folder. */
static void small_folder(const struct hf_folder *o, const char *path)
{
    struct tiny_model t = tiny_model_defaults();
    struct scratch_path gguf = in_scratch("small.gguf");
    struct weir_model *m;
    t.tokenizer = TINY_BPE;
    t.layers = 1, t.hidden = 32, t.heads = 2, t.kv_heads = 1, t.ffn = 32;
    tiny_model_file(&t, gguf.text);
    assert_int_equal(weir_model_open(&m, gguf.text, NULL), 0);
    hf_write(path, &m->model, o);
    weir_model_close(m);
}

static void says_which_cuts_and_which_first_token(void **state)
{
    (void)state;
    static const char *const pre[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
    for (int i = 0; i < 4; i++) {
        struct scratch_path hf = in_scratch("cuts");
        struct hf_folder o = {.cuts = (enum hf_cuts)i, .bos = i % 2 == 0, .chat = "{% for m in messages %}"};
        struct gguf *g;
        struct err err = {""};
        const char *text;
        size_t len;
        int64_t flag = -1, bos = -1;
        small_folder(&o, hf.text);
        if (hf_open(&g, hf.text, &err) != 0)
            fail_msg("%s: %s", pre[i], err.msg);
        assert_true(gguf_get_str(g, "tokenizer.ggml.pre", &text, &len));
        assert_int_equal(len, strlen(pre[i]));
        assert_memory_equal(text, pre[i], len);
        assert_true(gguf_get_int(g, "tokenizer.ggml.add_bos_token", &flag));
        assert_true(gguf_get_int(g, "tokenizer.ggml.bos_token_id", &bos));
        assert_int_equal(flag, o.bos);
        assert_int_equal(bos, o.bos ? 0 : 1); /* the post-processor's token, else config.json's */
        assert_true(gguf_get_str(g, "tokenizer.chat_template", &text, &len));
        assert_int_equal(len, strlen(o.chat));
        gguf_close(g);
    }
}

static void llama3_scaling(void **state)
{
    (void)state;
    struct scratch_path hf = in_scratch("scaled");
    struct model m;
    struct err err = {""};
    small_folder(&(struct hf_folder){.cuts = HF_LLAMA3,
                                     .scaling = "{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
                                                "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}"},
                 hf.text);
    if (model_open(&m, hf.text, &err) != 0)
        fail_msg("%s", err.msg);
    /* A turn each 6.28 positions is fast and stays; one in thousands is slow and slows down by the factor. */
    int last = m.shape.rope_dim / 2 - 1;
    double slow = pow(m.shape.rope_base, -2.0 * last / m.shape.rope_dim);
    assert_true(fabs(model_rope_freq(&m, 0) - 1) < 1e-12);
    assert_true(fabs(model_rope_freq(&m, last) - slow / 8) < 1e-12);
    model_close(&m);
}

/* Replaces the first `from` in a file of the folder. */
static void change(const char *path, const char *name, const char *from, const char *to)
{
    char full[160];
    static char text[1 << 20];
    snprintf(full, sizeof full, "%s/%s", path, name);
    FILE *f = fopen(full, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strstr(text, from); /* in the header of a safetensors file, too: behind its length */
    if (!at && n > 8)
        at = strstr(text + 8, from);
    if (!at)
        fail_msg("%s holds no '%s'", full, from);
    f = fopen(full, "wb");
    assert_non_null(f);
    fwrite(text, 1, (size_t)(at - text), f);
    fputs(to, f);
    fwrite(at + strlen(from), 1, n - (size_t)(at - text) - strlen(from), f);
    fclose(f);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *file, *from, *to, *says;
    } cases[] = {
        {"config.json", "\"llama\"", "\"mamba\"", "config.json: the model type 'mamba' is not supported"},
        {"config.json", "\"silu\"", "\"gelu\"", "config.json: the activation 'gelu'"},
        {"config.json", "\"hidden_size\":32", "\"hidden_size\":\"x\"", "config.json: 'hidden_size'"},
        {"config.json", "\"hidden_size\":32", "\"hidden_size\":64", "has the shape"},
        {"config.json", "\"num_hidden_layers\":1", "\"num_hidden_layers\":2", "no more than"},
        {"config.json", "\"rms_norm_eps\"", "\"eps\"", "'rms_norm_eps' is missing"},
        {"config.json", "\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false", "lm_head.weight"},
        {"config.json", "{", "", "config.json: is no JSON object"},
        {"tokenizer.json", "\"BPE\"", "\"Unigram\"", "tokenizer.json: is no byte-level BPE"},
        {"tokenizer.json", "\"Digits\"", "\"Whitespace\"", "tokenizer.json: its pre-tokenizer"},
        {"tokenizer.json", "\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}", "normalizer 'Lowercase'"},
        {"tokenizer.json", "\"h e\"", "7", "an entry of merges"},
        {"tokenizer.json", "\"id\":0,", "\"id\":-1,", "an entry of added_tokens"},
        {"model.safetensors", "\"F32\"", "\"I32\"", "is of type I32"},
        {"model.safetensors", "[288,32]", "[288,31]", "has other data than its shape wants"},
        {"model.safetensors", "[288,32]", "[0,32]  ", "has a size that cannot be"},
        {"model.safetensors", "embed_tokens", "embed_tokenz", "'model.embed_tokenz.weight' has no place"},
        {"model.safetensors", "q_proj.weight", "q_proj.bias  ", "has no place"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scratch_path hf = in_scratch("wrong");
        struct weir_model *m;
        struct weir_error e = {""};
        small_folder(&(struct hf_folder){.cuts = HF_SMOLLM}, hf.text);
        change(hf.text, cases[i].file, cases[i].from, cases[i].to);
        assert_int_equal(weir_model_open(&m, hf.text, &e), -1);
        if (!strstr(e.message, cases[i].says) || strchr(e.message, '\n') || !strstr(e.message, hf.text))
            fail_msg("%s '%s': %s", cases[i].file, cases[i].to, e.message);
        assert_int_equal(weir_model_open(&m, hf.text, NULL), -1); /* whoever does not want to know */
    }
    struct weir_model *m;
    struct weir_error e = {""};
    assert_int_equal(weir_model_open(&m, in_scratch("").text, &e), -1); /* a folder of anything */
    assert_non_null(strstr(e.message, "is a directory"));
    static const char *const files[] = {"tokenizer.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        struct scratch_path hf = in_scratch("wrong");
        char full[160];
        small_folder(&(struct hf_folder){.cuts = HF_SMOLLM}, hf.text);
        snprintf(full, sizeof full, "%s/%s", hf.text, files[i]);
        assert_int_equal(unlink(full), 0);
        assert_int_equal(weir_model_open(&m, hf.text, &e), -1);
        assert_non_null(strstr(e.message, "No such file"));
    }
}

/* Every length of every file. Cut JSON is no JSON; of the weights, something is always missing. */
static void cut_files_are_refused(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};
    struct scratch_path hf = in_scratch("cut");
    small_folder(&(struct hf_folder){.cuts = HF_SMOLLM}, hf.text);
    for (int i = 0; i < 3; i++) {
        char full[160];
        struct stat st;
        static char keep[1 << 20];
        snprintf(full, sizeof full, "%s/%s", hf.text, files[i]);
        FILE *f = fopen(full, "rb");
        assert_non_null(f);
        size_t n = fread(keep, 1, sizeof keep, f);
        fclose(f);
        assert_int_equal(stat(full, &st), 0);
        assert_int_equal(n, st.st_size);
        size_t step = i == 2   ? 97
                      : i == 1 ? 13
                               : 1; /* the data's bytes are all alike; the header is cut at each below */
        for (size_t cut = n - 1; cut < n; cut = cut >= step ? cut - step : n) {
            struct weir_model *m;
            struct weir_error e = {""};
            assert_int_equal(truncate(full, (off_t)cut), 0);
            if (weir_model_open(&m, hf.text, &e) == 0)
                fail_msg("%s cut to %zu bytes is taken", full, cut);
            if (strchr(e.message, '\n') || !strstr(e.message, hf.text))
                fail_msg("%s cut to %zu bytes: %s", full, cut, e.message);
        }
        f = fopen(full, "wb");
        assert_non_null(f);
        assert_true(fwrite(keep, 1, n, f) == n);
        fclose(f);
    }
}

static int count_tensor(void *user, const struct tensor *t, struct err *err)
{
    volatile unsigned char last = ((const unsigned char *)t->data)[t->bytes - 1];
    (void)last;
    ++*(int *)user;
    return 0;
}

static void cut_headers_are_refused(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                                 "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[8,16]}}";
    struct bytes b = {0};
    struct err err = {""};
    int count = 0;
    size_t len = sizeof header - 1, padded = (len + 7) / 8 * 8;
    bytes_u64(&b, padded);
    bytes_put(&b, header, len);
    bytes_put(&b, "       ", padded - len);
    bytes_put(&b, "0123456789abcdef", 16);
    assert_int_equal(safetensors_read(b.data, b.size, "file", count_tensor, &count, &err), 0);
    assert_int_equal(count, 2);
    for (size_t n = 0; n < b.size; n++) {
        unsigned char *cut = malloc(n ? n : 1);
        assert_non_null(cut);
        memcpy(cut, b.data, n);
        assert_int_equal(safetensors_read(cut, n, "file", count_tensor, &count, &err), -1);
        assert_true(strncmp(err.msg, "file: ", 6) == 0 && !strchr(err.msg, '\n'));
        free(cut);
    }
    free(b.data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_gguf_file),  cmocka_unit_test(says_which_cuts_and_which_first_token),
        cmocka_unit_test(llama3_scaling),        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(cut_files_are_refused), cmocka_unit_test(cut_headers_are_refused),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
