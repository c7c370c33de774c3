/* Streams in files: a stream that is loaded in another process goes on bit for bit, and a file that is not whole is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/weir_private.h"
#include "scratch.h"

/* Samples and feeds n tokens; writes them, then the stream, to files. */
static int go_on(struct weir_stream *s, int n, const char *tokens, const char *file, struct weir_error *e)
{
    FILE *f = fopen(tokens, "w");
    int rc = f ? 0 : -1;
    for (int i = 0; i < n && rc == 0; i++) {
        int32_t id;
        rc = weir_stream_sample(s, &id, e) || weir_stream_feed(s, &id, 1, e) ? -1 : 0;
        fprintf(f, "%d\n", (int)id);
    }
    if (f)
        fclose(f);
    return rc == 0 ? weir_stream_save(s, file, e) : -1;
}

/* The other process: MODEL FILE N TOKENS FILE. */
static int continue_stream(char **argv)
{
    struct weir_error e = {""};
    struct weir_model *m;
    struct weir_stream *s = NULL;
    struct weir_stream_options o = {.machine = WEIR_MACHINE_CPU, .threads = 2};
    if (weir_model_open(&m, argv[0], &e) || weir_stream_load(&s, m, argv[1], &o, &e) ||
        go_on(s, atoi(argv[2]), argv[3], argv[4], &e)) {
        fprintf(stderr, "%s\n", e.message);
        return 1;
    }
    weir_stream_close(s);
    weir_model_close(m);
    return 0;
}

static void in_another_process(const char *model, const char *from, const char *n, const char *tokens, const char *to)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "test_stream", "continue", model, from, n, tokens, to, (char *)NULL);
        _exit(99);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static struct tiny_model small_model(void)
{
    struct tiny_model t = tiny_model_defaults();
    t.tokenizer = TINY_BPE;
    return t;
}

static void a_stream_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int read, sinks, subcaches, window, span, stride;
        int homogeneous, original, lazy, every1;
        enum weir_reduction reduction;
    } cases[] = {
        {"single tokens", 300, 4, 3, 48, 1, 16, 0, 0, 0, 2, WEIR_REDUCE_MAX},
        {"spans", 300, 4, 2, 64, 16, 32, 0, 0, 0, 2, WEIR_REDUCE_MEAN},
        {"half a span is pending", 299, 4, 3, 48, 4, 16, 0, 0, 0, 3, WEIR_REDUCE_MEDIAN},
        {"heads keep the same", 301, 4, 3, 48, 8, 16, 1, 0, 0, 2, WEIR_REDUCE_MEAN},
        {"positions of the text", 300, 2, 3, 48, 4, 24, 0, 1, 0, 2, WEIR_REDUCE_MEAN},
        {"a sliding window", 300, 4, 1, 32, 2, 16, 0, 0, 0, 1, WEIR_REDUCE_MEAN},
        {"filled step by step", 300, 0, 3, 48, 4, 16, 1, 0, 1, 3, WEIR_REDUCE_MAX},
        {"not full yet", 20, 4, 3, 96, 8, 16, 0, 0, 0, 2, WEIR_REDUCE_MEAN},
        {"sinks alone", 3, 4, 3, 48, 8, 16, 0, 0, 0, 2, WEIR_REDUCE_MEAN},
    };
    struct tiny_model t = small_model();
    struct scratch_path model = in_scratch("model.gguf"), saved = in_scratch("saved"), here = in_scratch("here"),
                        there = in_scratch("there"), a = in_scratch("tokens"), b = in_scratch("tokens-there");
    struct weir_error e = {""};
    struct weir_model *m;
    tiny_model_file(&t, model.text);
    assert_int_equal(weir_model_open(&m, model.text, &e), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct weir_stream_options o = weir_stream_defaults(m);
        struct weir_stream *s;
        int32_t tokens[301];
        uint64_t seed = i + 1;
        o.machine = WEIR_MACHINE_CPU;
        o.threads = 1; /* and another number there: threads change no bit */
        o.cascade.sinks = cases[i].sinks;
        weir_cascade_resize(&o.cascade, cases[i].window, cases[i].subcaches);
        o.cascade.span = cases[i].span;
        o.cascade.stride = cases[i].stride;
        o.cascade.policy = cases[i].homogeneous ? WEIR_HEADS_HOMOGENEOUS : WEIR_HEADS_INDEPENDENT;
        o.cascade.positions = cases[i].original ? WEIR_POSITIONS_ORIGINAL : WEIR_POSITIONS_CACHE;
        o.cascade.eager = !cases[i].lazy;
        for (int k = 1; k < cases[i].subcaches; k++)
            o.cascade.every[k] = o.cascade.every[k - 1] * cases[i].every1;
        o.cascade.reduction = cases[i].reduction;
        o.sampling.repeat_penalty = 1.3;
        o.sampling.repeat_last = 20;
        o.sampling.seed = 99;
        for (int k = 0; k < cases[i].read; k++)
            tokens[k] = random_int(&seed, 0, t.vocab - 1);
        if (weir_stream_open(&s, m, &o, &e) || weir_stream_feed(s, tokens, (size_t)cases[i].read, &e) ||
            weir_stream_save(s, saved.text, &e) || go_on(s, 200, a.text, here.text, &e))
            fail_msg("%s: %s", cases[i].what, e.message);
        assert_int_equal(weir_stream_seen(s), cases[i].read + 200);
        weir_stream_close(s);
        in_another_process(model.text, saved.text, "200", b.text, there.text);
        same_files(a.text, b.text, cases[i].what);
        same_files(here.text, there.text, cases[i].what);
    }
    weir_model_close(m);
}

/* A stream that nothing was fed to, and the very file again after it was loaded and saved. */
static void files_are_canonical(void **state)
{
    (void)state;
    struct tiny_model t = small_model();
    struct scratch_path model = in_scratch("model.gguf"), one = in_scratch("one"), two = in_scratch("two");
    struct weir_error e = {""};
    struct weir_model *m;
    struct weir_stream *s;
    int32_t id = 5;
    tiny_model_file(&t, model.text);
    assert_int_equal(weir_model_open(&m, model.text, &e), 0);
    for (int fed = 0; fed < 2; fed++) {
        assert_int_equal(weir_stream_open(&s, m, NULL, &e), 0);
        assert_int_equal(weir_stream_feed(s, &id, (size_t)fed, &e), 0);
        assert_int_equal(weir_stream_save(s, one.text, &e), 0);
        weir_stream_close(s);
        assert_int_equal(weir_stream_load(&s, m, one.text, NULL, &e), 0);
        assert_int_equal(weir_stream_save(s, two.text, &e), 0);
        assert_int_equal(weir_stream_sample(s, &id, &e), fed ? 0 : -1);
        weir_stream_close(s);
        same_files(one.text, two.text, "saved, loaded, saved");
    }
    weir_model_close(m);
}

/* A small stream in a file, and its model. */
static struct bytes small_file(struct weir_model **m, const char *path)
{
    struct tiny_model t = small_model();
    struct scratch_path model = in_scratch("small.gguf");
    struct weir_error e = {""};
    struct weir_stream *s;
    static const int32_t tokens[13] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
    t.layers = 1, t.hidden = 32, t.heads = 2, t.kv_heads = 1, t.ffn = 32;
    tiny_model_file(&t, model.text);
    assert_int_equal(weir_model_open(m, model.text, &e), 0);
    struct weir_stream_options o = weir_stream_defaults(*m);
    o.machine = WEIR_MACHINE_CPU;
    o.cascade.sinks = 2;
    weir_cascade_resize(&o.cascade, 8, 2);
    if (weir_stream_open(&s, *m, &o, &e) || weir_stream_feed(s, tokens, 13, &e) || weir_stream_save(s, path, &e))
        fail_msg("%s", e.message);
    weir_stream_close(s);
    return file_read(path);
}

static void refused(const unsigned char *data, size_t size, const char *what, size_t at)
{
    struct stream_file f;
    struct err err = {""};
    if (stream_file_open_memory(&f, data, size, "file", &err) == 0)
        fail_msg("%s at byte %zu: taken", what, at);
    if (strncmp(err.msg, "file: ", 6) != 0 || strchr(err.msg, '\n'))
        fail_msg("%s at byte %zu: '%s'", what, at, err.msg);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    struct scratch_path path = in_scratch("small");
    struct weir_model *m;
    struct bytes b = small_file(&m, path.text);
    for (size_t n = 0; n < b.size; n++) {
        unsigned char *cut = malloc(n ? n : 1); /* of exactly that size, for the sanitizer */
        assert_non_null(cut);
        memcpy(cut, b.data, n);
        refused(cut, n, "cut", n);
        free(cut);
    }
    for (size_t i = 0; i < b.size; i++) {
        b.data[i] ^= (unsigned char)(1 << i % 8);
        refused(b.data, b.size, "a flipped bit", i);
        b.data[i] ^= (unsigned char)(1 << i % 8);
    }
    bytes_put(&b, "", 1);
    refused(b.data, b.size, "a byte more", b.size);
    free(b.data);
    weir_model_close(m);
}

static void other_models_are_refused(void **state)
{
    (void)state;
    struct scratch_path path = in_scratch("small"), other = in_scratch("other.gguf");
    struct tiny_model t = small_model();
    struct weir_error e = {""};
    struct weir_model *m, *o;
    struct weir_stream *s;
    struct bytes b = small_file(&m, path.text);
    t.layers = 1, t.hidden = 32, t.heads = 2, t.kv_heads = 1, t.ffn = 32;
    t.seed++; /* the same shape, other weights */
    tiny_model_file(&t, other.text);
    assert_int_equal(weir_model_open(&o, other.text, &e), 0);
    assert_int_equal(weir_stream_load(&s, o, path.text, NULL, &e), -1);
    assert_null(s);
    assert_non_null(strstr(e.message, "another model"));
    assert_int_equal(weir_stream_load(&s, o, "/nonexistent", NULL, &e), -1);
    assert_non_null(strstr(e.message, "/nonexistent: No such file"));
    assert_int_equal(weir_stream_load(&s, o, in_scratch("").text, NULL, &e), -1);
    assert_non_null(strstr(e.message, "is no file"));
    weir_model_close(o);
    weir_model_close(m);
    free(b.data);
}

/* A disk that is full, as a limit on the size of files: what was saved before is still there. */
static void a_full_disk_costs_nothing(void **state)
{
    (void)state;
    struct scratch_path path = in_scratch("small");
    struct weir_error e = {""};
    struct weir_model *m;
    struct weir_stream *s;
    struct rlimit old, little;
    struct bytes b = small_file(&m, path.text);
    int32_t id = 4;
    assert_int_equal(weir_stream_load(&s, m, path.text, NULL, &e), 0);
    assert_int_equal(weir_stream_feed(s, &id, 1, &e), 0);
    getrlimit(RLIMIT_FSIZE, &old);
    little = old;
    little.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &little);
    int rc = weir_stream_save(s, path.text, &e);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(e.message, "cannot be written"));
    struct bytes after = file_read(path.text);
    assert_true(after.size == b.size && memcmp(after.data, b.data, b.size) == 0);
    assert_int_equal(weir_stream_save(s, path.text, &e), 0); /* the stream is as it was, too */
    weir_stream_close(s);
    weir_model_close(m);
    free(after.data);
    free(b.data);
}

/* A cache of another type is converted, to its nearest values. */
static int take_layer(struct backend *be, int layer, const struct cache_layer *from, struct err *err)
{
    memcpy(be->state, from->k, 64);
    return 0;
}

static int take_clock(struct backend *be, int64_t t, struct err *err)
{
    return t == 13 ? 0 : -1;
}

static void other_types_are_converted(void **state)
{
    (void)state;
    struct scratch_path path = in_scratch("small");
    struct weir_model *m;
    struct stream_file f;
    struct err err = {""};
    struct bytes b = small_file(&m, path.text);
    float key[16];
    uint16_t half[32], bfloat[32];
    assert_int_equal(stream_file_open(&f, path.text, &err), 0);
    struct backend be = {.name = "test", .cache_type = QUANT_F32, .state = key};
    assert_int_equal(stream_file_load(&f, &be, &err), -1); /* one that cannot */
    assert_non_null(strstr(err.msg, "the test backend cannot load"));
    be.write_layer = take_layer;
    be.set_clock = take_clock;
    assert_int_equal(stream_file_load(&f, &be, &err), 0);
    be.cache_type = QUANT_F16, be.state = half;
    assert_int_equal(stream_file_load(&f, &be, &err), 0);
    be.cache_type = QUANT_BF16, be.state = bfloat;
    assert_int_equal(stream_file_load(&f, &be, &err), 0);
    for (int i = 0; i < 16; i++) {
        assert_true(key[i] != 0);
        assert_int_equal(half[i], quant_float_to_half(key[i]));
        assert_int_equal(bfloat[i], quant_float_to_bfloat(key[i]));
    }
    stream_file_close(&f);
    weir_model_close(m);
    free(b.data);
}

static void unwritable_places(void **state)
{
    (void)state;
    struct scratch_path path = in_scratch("small");
    struct weir_error e = {""};
    struct weir_model *m;
    struct weir_stream *s;
    struct bytes b = small_file(&m, path.text);
    file_write(path.text, b.data, b.size);
    assert_int_equal(weir_stream_load(&s, m, path.text, NULL, &e), 0);
    assert_int_equal(weir_stream_save(s, "/nonexistent/stream", &e), -1);
    assert_non_null(strstr(e.message, "/nonexistent/stream"));
    assert_int_equal(weir_stream_save(s, in_scratch("").text, &e), -1);
    assert_non_null(strstr(e.message, "directory"));
    weir_stream_close(s);
    weir_model_close(m);
    free(b.data);
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "continue"))
        return continue_stream(argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_goes_on),          cmocka_unit_test(files_are_canonical),
        cmocka_unit_test(broken_files_are_refused),  cmocka_unit_test(other_models_are_refused),
        cmocka_unit_test(a_full_disk_costs_nothing), cmocka_unit_test(other_types_are_converted),
        cmocka_unit_test(unwritable_places),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
