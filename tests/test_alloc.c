/* Memory that runs out: whatever is opened from a file fails with one line at every single allocation, and leaves nothing
 * behind. malloc and its relatives are replaced in this program. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hf_writer.h"
#include "runtime/llama.h"
#include "runtime/weir_private.h"
#include "sanitized.h"

#define REPLACED (!SANITIZED) /* the sanitizer has its own */

static atomic_long countdown = -1; /* allocations until one fails; negative: none does */
static atomic_long live;           /* blocks that were given out and not taken back */

#if REPLACED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *p);

static bool fails(void)
{
    return atomic_load(&countdown) >= 0 && atomic_fetch_sub(&countdown, 1) == 0;
}

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add(&live, 1);
    else
        errno = ENOMEM;
    return p;
}

void *malloc(size_t n)
{
    return counted(fails() ? NULL : __libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    return counted(fails() ? NULL : __libc_calloc(n, size));
}

void *aligned_alloc(size_t alignment, size_t n)
{
    return counted(fails() ? NULL : __libc_memalign(alignment, n));
}

void *realloc(void *p, size_t n)
{
    if (!p)
        return malloc(n);
    if (fails()) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(p, n);
}

void free(void *p)
{
    if (p)
        atomic_fetch_sub(&live, 1);
    __libc_free(p);
}
#endif

static struct bytes file; /* a tiny model with a tokenizer */

/* Opens and closes one thing. Returns what the opening did. */
typedef int attempt_fn(struct err *err);

static int attempt_model(struct err *err)
{
    struct gguf *g;
    struct model m;
    if (gguf_open_memory(&g, file.data, file.size, "file", err) < 0 || model_from_gguf(&m, g, err) < 0)
        return -1;
    model_close(&m);
    return 0;
}

static int attempt_tokenizer(struct err *err)
{
    struct gguf *g;
    struct tokenizer *t;
    struct ids ids = {0};
    if (gguf_open_memory(&g, file.data, file.size, "file", err) < 0)
        return -1;
    int rc = tokenizer_open(&t, g, err);
    if (rc == 0) {
        static const char text[] = "The weir, 1234 <|im_end|> and\n\n the other \xff\xf0\x9f\x98\x80";
        rc = tokenizer_encode(t, text, sizeof text - 1, TOKENIZE_SPECIAL, &ids, err);
        ids_free(&ids);
        tokenizer_close(t);
    }
    gguf_close(g);
    return rc;
}

static int attempt_stream(struct err *err)
{
    struct gguf *g;
    struct tokenizer *t;
    struct encoder *e;
    struct ids ids = {0};
    if (gguf_open_memory(&g, file.data, file.size, "file", err) < 0)
        return -1;
    int rc = tokenizer_open(&t, g, err);
    if (rc == 0) {
        rc = encoder_open(&e, t, 0, err);
        if (rc == 0) {
            for (int i = 0; i < 3 && rc == 0; i++)
                rc = encoder_push(e, "some words and ", 15, i == 2, &ids, err);
            encoder_close(e);
        }
        ids_free(&ids);
        tokenizer_close(t);
    }
    gguf_close(g);
    return rc;
}

static int attempt_backend(struct err *err)
{
    static const int32_t tokens[40] = {1, 2, 3};
    struct gguf *g;
    struct model m;
    struct backend be;
    struct cascade_params p = cascade_defaults();
    p.sinks = 2, p.window = 16, p.span = 2, p.stride = 8;
    if (gguf_open_memory(&g, file.data, file.size, "file", err) < 0 || model_from_gguf(&m, g, err) < 0)
        return -1;
    int rc = backend_cpu_open(&be, &m, &p, &(struct backend_options){.threads = 2}, err);
    if (rc == 0) {
        rc = llama_feed(&be, &m, &p, tokens, 40, NULL, NULL, err);
        be.close(&be);
    }
    model_close(&m);
    return rc;
}

/* A stream to a file, and out of it. */
static int attempt_saved_stream(struct err *err)
{
    static const int32_t tokens[40] = {1, 2, 3};
    static const char path[] = "/tmp/weir-alloc-stream";
    struct gguf *g;
    struct model m;
    struct weir_model *handle;
    struct weir_stream *s = NULL, *again = NULL;
    struct stream_file f;
    struct cascade_params p = cascade_defaults();
    struct sampler_params sampling = sampler_defaults();
    struct backend_options o = {.kind = BACKEND_CPU, .threads = 2};
    p.sinks = 2, p.window = 16, p.span = 2, p.stride = 8;
    if (gguf_open_memory(&g, file.data, file.size, "file", err) < 0 || model_from_gguf(&m, g, err) < 0 ||
        weir_model_take(&handle, &m, err) < 0)
        return -1;
    int rc = weir_stream_start(&s, handle, &p, &sampling, &o, err);
    if (rc == 0)
        rc = weir_stream_feed(s, tokens, 40, weir_error_of(err));
    if (rc == 0)
        rc = weir_stream_save(s, path, weir_error_of(err));
    if (rc == 0)
        rc = stream_file_open(&f, path, err);
    if (rc == 0) {
        rc = weir_stream_resume(&again, handle, &f, &sampling, &o, err);
        stream_file_close(&f);
    }
    weir_stream_close(s);
    weir_stream_close(again);
    weir_model_close(handle);
    return rc;
}

static const char folder[] = "/tmp/weir-alloc-hf";

/* A Hugging Face folder, which a_folder has written. */
static int attempt_folder(struct err *err)
{
    struct weir_model *m;
    if (weir_model_open(&m, folder, weir_error_of(err)) < 0)
        return -1;
    weir_model_close(m);
    return 0;
}

static void sweep(attempt_fn *attempt, enum tiny_tokenizer tokenizer)
{
    struct tiny_model t = tiny_model_defaults();
    struct err err = {""};
    t.tokenizer = tokenizer, t.vocab = 310;
    file = tiny_model_bytes(&t);
    assert_int_equal(attempt(&err), 0); /* what is set up once for the program is set up */
    if (!REPLACED) {
        free(file.data);
        skip();
    }
    long failures = 0;
    for (;; failures++) {
        err.msg[0] = 0;
        long before = atomic_load(&live);
        atomic_store(&countdown, failures);
        int rc = attempt(&err);
        bool reached = atomic_exchange(&countdown, -1) < 0;
        long leaked = atomic_load(&live) - before;
        if (leaked != 0)
            fail_msg("allocation %ld fails: %ld blocks are left", failures, leaked);
        if (!reached)
            break;
        if (rc == 0) /* that allocation could be done without */
            continue;
        if (rc != -1 || !err.msg[0] || strchr(err.msg, '\n'))
            fail_msg("allocation %ld fails: status %d, message '%s'", failures, rc, err.msg);
    }
    print_message("%ld allocations\n", failures);
    free(file.data);
}

static void a_model(void **state)
{
    sweep(attempt_model, TINY_NO_TOKENIZER);
}

static void a_tokenizer_of_bytes(void **state)
{
    sweep(attempt_tokenizer, TINY_BPE);
}

static void a_tokenizer_of_pieces(void **state)
{
    sweep(attempt_tokenizer, TINY_SPM);
}

static void a_stream_of_text(void **state)
{
    sweep(attempt_stream, TINY_BPE);
}

static void a_backend(void **state)
{
    sweep(attempt_backend, TINY_NO_TOKENIZER);
}

static void a_saved_stream(void **state)
{
    sweep(attempt_saved_stream, TINY_NO_TOKENIZER);
    remove("/tmp/weir-alloc-stream");
}

static void a_folder(void **state)
{
    struct tiny_model t = tiny_model_defaults();
    struct model m;
    struct bytes bytes;
    t.tokenizer = TINY_BPE;
    t.layers = 1;
    tiny_model_open(&t, &m, &bytes);
    hf_write(folder, &m, &(struct hf_folder){.cuts = HF_SMOLLM, .shards = 1, .bos = true, .chat = "{{ messages }}"});
    model_close(&m);
    free(bytes.data);
    sweep(attempt_folder, TINY_BPE);
    assert_int_equal(system("rm -r /tmp/weir-alloc-hf"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model),
        cmocka_unit_test(a_tokenizer_of_bytes),
        cmocka_unit_test(a_tokenizer_of_pieces),
        cmocka_unit_test(a_stream_of_text),
        cmocka_unit_test(a_backend),
        cmocka_unit_test(a_saved_stream),
        cmocka_unit_test(a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
