/* libweir as others see it: the examples are built against a copy of weir.h alone, as C99 and as C++, with the shared library and with
 * the archive, and run. $WEIR names the program that lies beside the library (default build/weir). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "runtime/nvrtc.h"
#include "runtime/weir.h"
#include "sanitized.h"

#if SANITIZED
#define SAN "-fsanitize=address,undefined"
#else
#define SAN ""
#endif

static char folder[] = "/tmp/weir-library-XXXXXX";
static char text[1 << 16]; /* what the last command wrote, both streams */

/* A command for the shell; $D is the folder, $B where the library is. Returns its exit status. */
static int run(const char *command)
{
    char line[2048];
    snprintf(line, sizeof line, "(%s) 2>&1", command);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void must(const char *command)
{
    int status = run(command);
    if (status != 0)
        fail_msg("%s: status %d\n%s", command, status, text);
}

static int setup(void **state)
{
    char program[4096];
    const char *given = getenv("WEIR");
    struct tiny_model t = tiny_model_defaults();
    if (!mkdtemp(folder) || !realpath(given ? given : "build/weir", program))
        return -1;
    setenv("D", folder, 1);
    setenv("B", dirname(program), 1);
    setenv("SAN", SAN, 1);
    if (!getenv("CC"))
        setenv("CC", "cc", 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
    t.tokenizer = TINY_BPE;
    snprintf(program, sizeof program, "%s/tiny.gguf", folder);
    tiny_model_file(&t, program);
    return run("cp runtime/weir.h $D/");
}

static int teardown(void **state)
{
    return run("rm -rf $D");
}

static void a_program_with_the_shared_library(void **state)
{
    must("$CC -std=c99 -Wall -Wextra -Werror -pedantic $SAN -I$D tests/example/stream.c -o $D/stream -L$B -lweir "
         "-Wl,-rpath,$B");
    must("$D/stream $D/tiny.gguf 'some words' 30 $D/saved");
    assert_non_null(strstr(text, "libweir 0.1: "));
    assert_non_null(strstr(text, "which reaches back 964 tokens"));
    assert_int_equal(run("$D/stream $D/none.gguf x 1 $D/saved"), 1);
    assert_non_null(strstr(text, "none.gguf"));
}

static void a_program_with_the_archive(void **state)
{
    must("$CC -std=c99 $SAN -I$D tests/example/stream.c -o $D/static $B/libweir.a "
         "$(pkg-config --libs lua5.4 libcjson libpcre2-8) -lm -ldl -lpthread");
    must("$D/static $D/tiny.gguf 'some words' 4 $D/saved");
}

static void the_header_is_cplusplus_too(void **state)
{
    if (run("command -v c++") != 0)
        skip();
    must("printf '#include <weir.h>\\nint main() { weir_error e; weir_model *m; return weir_model_open(&m, \"none\", "
         "&e) "
         "+ 1; }\\n' >$D/a.cc && c++ -Wall -Wextra -Werror -pedantic $SAN -I$D $D/a.cc -o $D/a -L$B -lweir "
         "-Wl,-rpath,$B && $D/a");
}

/* Exactly what the header declares is exported. */
static void exports_what_the_header_declares(void **state)
{
    must("nm -D --defined-only $B/libweir.so | awk '{print $3}' | grep -v '^__' | sort >$D/exported");
    must("$CC -E -P $D/weir.h | tr -s '\\n;' ' \\n' | grep -oE 'weir_[a-z_]+\\(' | tr -d '(' | sort -u >$D/declared");
    must("diff $D/declared $D/exported");
    must("test $(wc -l <$D/declared) -ge 25");
}

/* With a driver that is none, and a cubin from NVRTC or the cache. */
static void a_kernel_on_the_callers_pointers(void **state)
{
    struct nvrtc_info info;
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
    if (strchr(info.path, '/')) /* the example does not lie where the test program does, beside .deps */
        setenv("WEIR_NVRTC", info.path, 0);
    must("$CC -shared -fPIC -I. tests/example/fake_stubs.c tests/example/fake_libcuda.c -o $D/libcuda.so");
    must("$CC -std=c99 -Wall -Wextra -Werror $SAN -I$D tests/example/kernel.c -o $D/kernel -L$B -lweir -ldl "
         "-Wl,-rpath,$B");
    must("WEIR_CACHE=$D/cache WEIR_LIBCUDA=$D/libcuda.so $D/kernel");
    assert_non_null(strstr(text, "stream_copy__bf16__wp8_u2__sm90: "));
    assert_non_null(strstr(text, "65536 bytes copied, 0 wrong"));
    assert_int_equal(run("WEIR_LIBCUDA=$D/none.so $D/kernel"), 1);
    assert_non_null(strstr(text, "no CUDA driver"));
}

static void kernels_say_what_is_wrong(void **state)
{
    struct weir_error e = {""};
    struct weir_kernel *k;
    struct nvrtc_info info;
    const struct weir_parameter t = {"t", "bf16"}, bogus = {"bogus", "1"};
    void *none[1] = {NULL};
    assert_int_equal(weir_kernel_open(&k, "no_such_kernel", "a100", &t, 1, &e), -1);
    assert_null(k);
    assert_non_null(strstr(e.message, "unknown kernel 'no_such_kernel'"));
    assert_int_equal(weir_kernel_open(&k, "stream_copy", "voodoo", &t, 1, &e), -1);
    assert_non_null(strstr(e.message, "unknown GPU 'voodoo'"));
    assert_int_equal(weir_kernel_open(&k, "stream_copy", "a100", &bogus, 1, &e), -1);
    assert_non_null(strstr(e.message, "bogus"));
    assert_int_equal(weir_kernel_open(&k, "stream_copy", "a100", NULL, -1, NULL), -1);
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
    setenv("WEIR_CACHE", folder, 1);
    if (weir_kernel_open(&k, "stream_copy", "a100", &t, 1, &e) != 0)
        fail_msg("%s", e.message);
    struct weir_kernel_facts facts = weir_kernel_facts(k);
    assert_true(facts.cubin_bytes > 0 && memcmp(facts.cubin, "\177ELF", 4) == 0);
    assert_non_null(strstr(facts.source, facts.symbol));
    assert_string_equal(facts.warning, "");
    assert_int_equal(weir_kernel_parameter(k, "t", -1), 1);
    assert_int_equal(weir_kernel_parameter(k, "nothing", -7), -7);
    assert_int_equal(weir_kernel_launch(k, (const unsigned[]){1, 1, 1}, none, NULL, &e), -1);
    assert_non_null(strstr(e.message, "before it is loaded"));
    weir_kernel_close(k);
    weir_kernel_close(NULL);
}

static void texts_and_bad_requests(void **state)
{
    struct weir_error e = {""};
    struct weir_model *m;
    struct weir_stream *s;
    char path[64], *back;
    static const char said[] = "some words,\n and \xe2\x82\xac 12";
    int32_t *tokens, bad = -1;
    size_t count, bytes;
    float logits[288];
    snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    assert_int_equal(weir_model_open(&m, path, &e), 0);
    struct weir_model_facts facts = weir_model_facts(m);
    assert_int_equal(facts.vocab, 288);
    assert_int_equal(weir_tokenize(m, said, strlen(said), 0, &tokens, &count, &e), 0);
    assert_int_equal(weir_detokenize(m, tokens, count, &back, &bytes, &e), 0);
    assert_string_equal(back, said);
    assert_int_equal(bytes, strlen(said));
    weir_free(back);
    assert_int_equal(weir_detokenize(m, &bad, 1, &back, &bytes, &e), 0);
    assert_int_equal(bytes, 0);
    weir_free(back);

    struct weir_stream_options o = weir_stream_defaults(m);
    o.machine = WEIR_MACHINE_CPU;
    o.cascade.span = 7;
    assert_int_equal(weir_stream_open(&s, m, &o, &e), -1);
    assert_null(s);
    assert_non_null(strstr(e.message, "--span 7"));
    o = weir_stream_defaults(m);
    o.cascade.select = (enum weir_select)9;
    assert_int_equal(weir_stream_open(&s, m, &o, &e), -1);
    o = weir_stream_defaults(m);
    o.sampling.top_p = 2;
    assert_int_equal(weir_stream_open(&s, m, &o, &e), -1);
    assert_int_equal(weir_stream_open(&s, m, NULL, &e), 0);
    assert_int_equal(weir_stream_logits(s, logits, &e), -1);
    assert_non_null(strstr(e.message, "no token"));
    assert_int_equal(weir_stream_feed(s, &bad, 1, &e), -1);
    assert_non_null(strstr(e.message, "vocabulary"));
    weir_stream_reset(s);
    assert_int_equal(weir_stream_feed(s, tokens, count, &e), 0);
    assert_int_equal(weir_stream_logits(s, logits, &e), 0);
    assert_int_equal(weir_stream_seen(s), count);
    weir_stream_close(s);
    weir_free(tokens);
    weir_model_close(m);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_with_the_shared_library),
        cmocka_unit_test(a_program_with_the_archive),
        cmocka_unit_test(the_header_is_cplusplus_too),
        cmocka_unit_test(exports_what_the_header_declares),
        cmocka_unit_test(a_kernel_on_the_callers_pointers),
        cmocka_unit_test(kernels_say_what_is_wrong),
        cmocka_unit_test(texts_and_bad_requests),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
