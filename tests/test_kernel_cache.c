#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gen_home.h"
#include "runtime/cubin_cache.h"
#include "runtime/kernel.h"
#include "runtime/sha256.h"

struct fixture {
    struct gen_home home;
    struct gen *gen;
    struct kernel_cache cache; /* <home>/cache, not there at first */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {""};
    gen_home_open(&f->home);
    snprintf(f->cache.folder, sizeof f->cache.folder, "%s/cache", f->home.path);
    if (gen_open(&f->gen, f->home.path, &err) != 0)
        fail_msg("%s", err.msg);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    gen_close(f->gen);
    gen_home_close(&f->home);
    free(f);
    return 0;
}

/* Tests that compile are skipped, and counted so, where there is no NVRTC. */
static void need_nvrtc(void)
{
    struct nvrtc_info info;
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
}

static int build(struct fixture *f, const char *n, struct kernel *k, struct err *err)
{
    struct gen_param p[] = {{"n", n}};
    return kernel_build(f->gen, &f->cache, "axpy", "a100", p, 1, k, err);
}

static void check_build(struct fixture *f, const char *n, struct kernel *k)
{
    struct err err = {""};
    if (build(f, n, k, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(k->cubin.bytes > 500);
    assert_memory_equal(k->cubin.image, "\177ELF", 4);
    assert_true(k->cubin.regs > 0);
}

/* Files in <cache>/cubin; the path of the last one. */
static int entries(const struct fixture *f, char *path, size_t size)
{
    char folder[600];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/cubin", f->cache.folder);
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            n++;
            snprintf(path, size, "%s/%s", folder, e->d_name);
        }
    if (dir)
        closedir(dir);
    return n;
}

static void sha256_of_known_texts(void **state)
{
    static const struct {
        const char *text;
        int times;
        const char *hex;
    } cases[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sha256 s;
        unsigned char digest[32];
        char hex[65];
        sha256_begin(&s);
        for (int n = 0; n < cases[i].times; n++)
            sha256_add(&s, cases[i].text, strlen(cases[i].text));
        sha256_end(&s, digest);
        for (int n = 0; n < 32; n++)
            snprintf(hex + 2 * n, 3, "%02x", digest[n]);
        assert_string_equal(hex, cases[i].hex);
    }
}

static void second_build_comes_from_the_cache(void **state)
{
    struct fixture *f = *state;
    struct kernel a, b;
    need_nvrtc();
    check_build(f, "64", &a);
    assert_false(a.cached);
    assert_string_equal(a.warning, "");
    check_build(f, "64", &b);
    assert_true(b.cached);
    assert_int_equal(a.cubin.bytes, b.cubin.bytes);
    assert_memory_equal(a.cubin.image, b.cubin.image, a.cubin.bytes);
    assert_int_equal(a.cubin.regs, b.cubin.regs);
    kernel_free(&a);
    kernel_free(&b);
}

/* The key is the text: a change of the header comment alone finds the old entry, a change of one constant does not. */
static void key_is_the_text_without_its_header(void **state)
{
    struct fixture *f = *state;
    struct nvrtc_info one = {.major = 13}, other = {.major = 12, .minor = 9};
    char keys[4][KERNEL_KEY_MAX];
    struct err err = {""};
    struct gen_kernel k;
    struct gen_param p[] = {{"n", "64"}};
    assert_int_equal(gen_render(f->gen, "axpy", "a100", p, 1, &k, &err), 0);
    cubin_cache_key(&k, &one, keys[0]);
    k.source[4] ^= 1;
    cubin_cache_key(&k, &one, keys[1]);
    cubin_cache_key(&k, &other, keys[2]);
    k.source[k.source_len - 2] ^= 1;
    cubin_cache_key(&k, &one, keys[3]);
    assert_string_equal(keys[0], keys[1]);
    assert_string_not_equal(keys[0], keys[2]);
    assert_string_not_equal(keys[0], keys[3]);
    gen_kernel_free(&k);
}

/* Cuts the entry at, or flips a bit of, many places: each is built again, with a warning, and is whole afterwards. */
static void damaged_entries_are_rebuilt(void **state)
{
    struct fixture *f = *state;
    struct kernel k;
    char path[900], *good;
    struct stat st;
    need_nvrtc();
    check_build(f, "64", &k);
    kernel_free(&k);
    assert_int_equal(entries(f, path, sizeof path), 1);
    assert_int_equal(stat(path, &st), 0);
    good = gen_home_read(path);
    for (long cut = 0; cut < 8; cut++) {
        assert_int_equal(truncate(path, cut < 4 ? cut * 50 : st.st_size * (cut - 3) / 5), 0);
        check_build(f, "64", &k);
        assert_false(k.cached);
        assert_non_null(strstr(k.warning, "damaged"));
        kernel_free(&k);
    }
    for (long bit = 0; bit < 24; bit++) {
        long at = bit < 20 ? bit * 8 : st.st_size - 1 - bit;
        int fd = open(path, O_RDWR);
        unsigned char c = (unsigned char)(good[at] ^ 1 << bit % 8);
        assert_int_equal(pwrite(fd, &c, 1, at), 1);
        close(fd);
        check_build(f, "64", &k);
        if (k.cached)
            fail_msg("a flipped bit of byte %ld went unseen", at);
        kernel_free(&k);
        check_build(f, "64", &k);
        assert_true(k.cached);
        kernel_free(&k);
    }
    /* Longer than it says, and a folder in its place. */
    FILE *out = fopen(path, "ab");
    fputs("more", out);
    fclose(out);
    check_build(f, "64", &k);
    assert_false(k.cached);
    kernel_free(&k);
    unlink(path);
    mkdir(path, 0700);
    check_build(f, "64", &k);
    assert_false(k.cached);
    assert_true(k.warning[0] != 0);
    kernel_free(&k);
    free(good);
}

/* Whether a file of the cache is an entry that its writer has not renamed yet: PATH.XXXXXX (aside.h). */
static bool is_aside(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && strlen(dot) == sizeof ".XXXXXX" - 1;
}

/* Eight processes build the same three kernels at once, again and again, while entries vanish under them. What another one has not
 * finished stays: its writer would warn, and rightly. */
static void many_processes_share_the_folder(void **state)
{
    struct fixture *f = *state;
    pid_t pid[8];
    need_nvrtc();
    for (int i = 0; i < 8; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0) {
            static const char *const rows[] = {"16", "32", "64"};
            int bad = 0;
            for (int round = 0; round < 6 && !bad; round++) {
                char path[900];
                struct kernel k;
                struct err err = {""};
                bad = build(f, rows[(round + i) % 3], &k, &err) != 0 || k.warning[0] ||
                      memcmp(k.cubin.image, "\177ELF", 4) != 0;
                if (!bad)
                    kernel_free(&k);
                if (i == 0 && round % 2 && entries(f, path, sizeof path) > 0 && !is_aside(path))
                    unlink(path);
            }
            _exit(bad);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status = -1;
        waitpid(pid[i], &status, 0);
        assert_int_equal(status, 0);
    }
    char path[900];
    assert_true(entries(f, path, sizeof path) <= 3); /* nothing half-written stays behind */
}

static void unusable_folder_costs_a_warning_only(void **state)
{
    struct fixture *f = *state;
    struct kernel k;
    need_nvrtc();
    /* A file where the folder should be: the same to root, who may write into read-only folders, as to others. */
    gen_home_write(&f->home, "cache", "");
    check_build(f, "64", &k);
    assert_false(k.cached);
    assert_non_null(strstr(k.warning, f->cache.folder));
    assert_null(strchr(k.warning, '\n'));
    kernel_free(&k);
    f->cache.folder[0] = 0;
    check_build(f, "64", &k);
    assert_non_null(strstr(k.warning, "WEIR_CACHE"));
    kernel_free(&k);
    snprintf(f->cache.folder, sizeof f->cache.folder, "/proc/weir");
    check_build(f, "64", &k);
    assert_non_null(strstr(k.warning, "/proc/weir"));
    kernel_free(&k);
}

/* In a process that is not root, who may write everywhere. */
static void read_only_folder(void **state)
{
    struct fixture *f = *state;
    need_nvrtc();
    assert_int_equal(chmod(f->home.path, 0755), 0);
    assert_int_equal(mkdir(f->cache.folder, 0555), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct kernel k;
        struct err err = {""};
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(2);
        if (build(f, "64", &k, &err) != 0)
            _exit(3);
        _exit(!k.cached && strstr(k.warning, "Permission denied") && k.cubin.bytes > 0 ? 0 : 4);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

/* A disk that is full after the first kilobyte, as a limit on the size of files. */
static void full_disk_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, small;
    struct kernel k;
    char path[900];
    need_nvrtc();
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 1024;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    struct err err = {""};
    int rc = build(f, "64", &k, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, 0);
    assert_non_null(strstr(k.warning, "cannot be written"));
    assert_int_equal(entries(f, path, sizeof path), 0);
    kernel_free(&k);
}

/* Where there is no NVRTC, an entry that came with the program is used. */
static void shipped_entries_need_no_nvrtc(void **state)
{
    struct fixture *f = *state;
    struct kernel k;
    need_nvrtc();
    check_build(f, "64", &k);
    kernel_free(&k);
    pid_t pid = fork();
    if (pid == 0) {
        /* This process has opened NVRTC already: a fresh program has not. */
        setenv("WEIR_NVRTC", "/nonexistent", 1);
        char *argv[] = {(char *)"test_kernel_cache", (char *)"shipped", f->home.path, NULL};
        execv("/proc/self/exe", argv);
        _exit(99);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

/* The other half of the test above, in a process of its own. */
static int shipped(const char *home)
{
    struct fixture f = {.gen = NULL};
    struct err err = {""};
    struct kernel k;
    snprintf(f.cache.folder, sizeof f.cache.folder, "%s/cache", home);
    if (gen_open(&f.gen, home, &err) != 0 || build(&f, "64", &k, &err) != 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    bool good = k.cached && k.cubin.regs > 0;
    kernel_free(&k);
    /* One that is not there is an error, which names what is missing. */
    good = good && build(&f, "32", &k, &err) == -1 && strstr(err.msg, "WEIR_NVRTC is /nonexistent");
    gen_close(f.gen);
    return good ? 0 : 1;
}

static void compile_errors_lead_back_to_the_template(void **state)
{
    struct fixture *f = *state;
    struct kernel k;
    struct err err = {""};
    need_nvrtc();
    gen_home_write(&f->home, "templates/axpy.cu.t",
                   "% local unused = 1\n"
                   "KERNEL(${name}, ${threads}, ${min_blocks})(float *y)\n"
                   "{\n"
                   "% for i = 0, 2 do\n"
                   "    y[${i}] = nothing_of_the_kind;\n"
                   "% end\n"
                   "    y[0] = nor_this;\n"
                   "}\n");
    assert_int_equal(build(f, "64", &k, &err), -1);
    assert_non_null(strstr(err.msg, "templates/axpy.cu.t:5: identifier \"nothing_of_the_kind\" is undefined"));
    assert_null(strchr(err.msg, '\n'));
    gen_home_write(&f->home, "templates/axpy.cu.t",
                   "KERNEL(${name}, ${threads}, ${min_blocks})(float *y)\n{\n    asm(\"nonsense;\");\n}\n");
    assert_int_equal(build(f, "64", &k, &err), -1);
    assert_non_null(strstr(err.msg, "nonsense"));
    assert_null(strchr(err.msg, '\n'));
}

static void spills_and_shared_memory_are_reported(void **state)
{
    struct fixture *f = *state;
    struct kernel k;
    need_nvrtc();
    gen_home_write(&f->home, "templates/axpy.cu.t",
                   "KERNEL(${name}, 1024, 2)(float *y)\n"
                   "{\n"
                   "    __shared__ float held[256];\n"
                   "    float a[64];\n"
                   "    for (int i = 0; i < 64; i++) a[i] = y[i * 7];\n"
                   "    held[tid() & 255] = a[0];\n"
                   "    __syncthreads();\n"
                   "    for (int r = 0; r < 9; r++)\n"
                   "        for (int i = 0; i < 64; i++) a[i] = a[i] * a[(i * 5 + 3) % 64] + held[i + r];\n"
                   "    for (int i = 0; i < 64; i++) y[i * 7] = a[i];\n"
                   "}\n");
    check_build(f, "64", &k);
    assert_int_equal(k.cubin.smem, 1024);
    assert_int_equal(k.cubin.regs, 32);
    assert_true(k.cubin.spill_store > 0 && k.cubin.spill_load > 0);
    kernel_free(&k);
}

static void *compile_some(void *arg)
{
    const char *const *source = arg;
    for (int i = 0; i < 3; i++) {
        struct cubin c;
        struct err err = {""};
        bool bad = strstr(*source, "bad") != NULL;
        int rc = nvrtc_compile(*source, "t.cu", i % 2 ? "sm_80" : "sm_90a", &c, NULL, &err);
        if ((rc == 0) == bad || (bad && !strstr(err.msg, "t.cu:1: identifier \"bad\" is undefined")))
            return arg;
        cubin_free(&c);
    }
    return NULL;
}

static void threads_compile_at_once(void **state)
{
    static const char *const source[4] = {
        "extern \"C\" __global__ void a(float *p) { p[threadIdx.x] *= 2; }",
        "extern \"C\" __global__ void b(float *p) { p[0] = bad; }",
        "extern \"C\" __global__ void c(int *p) { p[threadIdx.x] += blockIdx.x; }",
        "extern \"C\" __global__ void d(double *p) { p[1] = p[0] / 3; }",
    };
    pthread_t thread[4];
    need_nvrtc();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, compile_some, (void *)&source[i]), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        if (failed)
            fail_msg("thread %d", i);
    }
}

static void unknown_target_is_refused(void **state)
{
    struct cubin c;
    struct err err = {""};
    char *log = NULL;
    need_nvrtc();
    assert_int_equal(nvrtc_compile("", "x.cu", "sm_42", &c, &log, &err), -1);
    assert_non_null(strstr(err.msg, "sm_42"));
    free(log);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "shipped"))
        return shipped(argv[2]);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(sha256_of_known_texts),
        T(second_build_comes_from_the_cache),
        T(key_is_the_text_without_its_header),
        T(damaged_entries_are_rebuilt),
        T(many_processes_share_the_folder),
        T(unusable_folder_costs_a_warning_only),
        T(read_only_folder),
        T(full_disk_leaves_nothing_behind),
        T(shipped_entries_need_no_nvrtc),
        T(compile_errors_lead_back_to_the_template),
        T(spills_and_shared_memory_are_reported),
        T(threads_compile_at_once),
        T(unknown_target_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
