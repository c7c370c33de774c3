#include "nvrtc.h"

#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The part of NVRTC's interface that is used here (nvrtc.h of CUDA 12 and 13). */
typedef struct program *nvrtc_program;
enum { NVRTC_SUCCESS = 0, NVRTC_INVALID_OPTION = 5, NVRTC_COMPILATION = 6, NVRTC_BUILTIN_OPERATION_FAILURE = 7 };

static struct {
    void *handle;
    struct nvrtc_info info;
    const char *(*error_string)(int);
    int (*version)(int *, int *);
    int (*archs_count)(int *);
    int (*archs)(int *);
    int (*create)(nvrtc_program *, const char *, const char *, int, const char *const *, const char *const *);
    int (*destroy)(nvrtc_program *);
    int (*compile)(nvrtc_program, int, const char *const *);
    int (*cubin_size)(nvrtc_program, size_t *);
    int (*cubin)(nvrtc_program, char *);
    int (*log_size)(nvrtc_program, size_t *);
    int (*log)(nvrtc_program, char *);
} rtc;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the opening */

#define FLAG_STD  "--std=c++17"
#define FLAG_INFO "--ptxas-options=-v"
const char nvrtc_flags[] = FLAG_STD " " FLAG_INFO;

/* The highest libnvrtc.so.N of a folder (a glob pattern), or -1. */
static int look_in(const char *folder, char path[PATH_MAX])
{
    char pattern[PATH_MAX];
    int best = -1;
    glob_t found;
    if (snprintf(pattern, sizeof pattern, "%s/libnvrtc.so*", folder) >= (int)sizeof pattern)
        return -1;
    if (glob(pattern, 0, NULL, &found) != 0)
        return -1;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *version = strstr(strrchr(found.gl_pathv[i], '/'), ".so") + 3;
        int n = *version == '.' ? atoi(version + 1) : 0;
        if (n > best && strlen(found.gl_pathv[i]) < PATH_MAX) {
            best = n;
            strcpy(path, found.gl_pathv[i]);
        }
    }
    globfree(&found);
    return best;
}

static bool look_beside_binary(char path[PATH_MAX])
{
    static const char *const places[] = {"lib", ".deps/nvrtc/nvidia/*/lib"};
    char exe[PATH_MAX], folder[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(exe, '/');
        if (!slash)
            return false;
        *slash = 0;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            snprintf(folder, sizeof folder, "%s/%s", exe, places[i]);
            if (look_in(folder, path) >= 0)
                return true;
        }
    }
    return false;
}

static bool look_in_toolkits(char path[PATH_MAX])
{
    static const char *const folders[] = {
        "/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", "/opt/cuda/lib64",
        "/usr/lib/*-linux-gnu",  "/usr/lib/cuda/lib64",     "/usr/lib64",
    };
    static const char *const names[] = {"CUDA_HOME", "CUDA_PATH"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *home = getenv(names[i]);
        char folder[PATH_MAX];
        if (home && snprintf(folder, sizeof folder, "%s/lib64", home) < (int)sizeof folder &&
            look_in(folder, path) >= 0)
            return true;
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (look_in(folders[i], path) >= 0)
            return true;
    return false;
}

/* Writes the library's file into path; "" where only the system's loader may know. */
static int locate(char path[PATH_MAX], struct err *err)
{
    const char *wanted = getenv("WEIR_NVRTC");
    struct stat st;
    path[0] = 0;
    if (wanted && wanted[0]) {
        if (stat(wanted, &st) != 0 || strlen(wanted) >= PATH_MAX)
            return err_set(err, "WEIR_NVRTC is %.300s, which is not there", wanted);
        if (!S_ISDIR(st.st_mode))
            strcpy(path, wanted);
        else if (look_in(wanted, path) < 0)
            return err_set(err, "WEIR_NVRTC is %.300s, a folder without libnvrtc.so", wanted);
        return 0;
    }
    if (!look_beside_binary(path) && !look_in_toolkits(path))
        path[0] = 0;
    return 0;
}

static int open_file(const char *path)
{
    static const char *const sonames[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    if (path[0]) {
        rtc.handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
        snprintf(rtc.info.path, sizeof rtc.info.path, "%s", path);
    }
    for (size_t i = 0; !path[0] && !rtc.handle && i < sizeof sonames / sizeof *sonames; i++) {
        rtc.handle = dlopen(sonames[i], RTLD_LAZY | RTLD_LOCAL);
        snprintf(rtc.info.path, sizeof rtc.info.path, "%s", sonames[i]);
    }
    return rtc.handle ? 0 : -1;
}

/* NVRTC opens its builtins by bare name when it compiles. Out of the wheel it has no path of its own to find them by, so the
 * file beside it is loaded first; where there is none, NVRTC says so when it compiles. */
static void open_builtins(void)
{
    char path[sizeof rtc.info.path + 64];
    const char *slash = strrchr(rtc.info.path, '/');
    if (!slash)
        return;
    snprintf(path, sizeof path, "%.*s/libnvrtc-builtins.so.%d.%d", (int)(slash - rtc.info.path), rtc.info.path,
             rtc.info.major, rtc.info.minor);
    dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
}

/* Opens the library once for the process. The lock is held. */
static int open_library(struct err *err)
{
    char path[PATH_MAX];
    if (rtc.handle)
        return 0;
    if (locate(path, err) != 0)
        return -1;
    if (open_file(path) != 0) {
        if (path[0])
            return err_set(err, "%.300s cannot be opened as NVRTC: %.200s", path, dlerror());
        return err_set(err, "NVRTC is not here; make deps gets it, or set WEIR_NVRTC to libnvrtc.so.13");
    }
    const struct {
        void *slot;
        const char *name;
    } calls[] = {
        {&rtc.error_string, "nvrtcGetErrorString"},
        {&rtc.version, "nvrtcVersion"},
        {&rtc.archs_count, "nvrtcGetNumSupportedArchs"},
        {&rtc.archs, "nvrtcGetSupportedArchs"},
        {&rtc.create, "nvrtcCreateProgram"},
        {&rtc.destroy, "nvrtcDestroyProgram"},
        {&rtc.compile, "nvrtcCompileProgram"},
        {&rtc.cubin_size, "nvrtcGetCUBINSize"},
        {&rtc.cubin, "nvrtcGetCUBIN"},
        {&rtc.log_size, "nvrtcGetProgramLogSize"},
        {&rtc.log, "nvrtcGetProgramLog"},
    };
    const char *missing = NULL;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *p = dlsym(rtc.handle, calls[i].name);
        memcpy(calls[i].slot, &p, sizeof p);
        missing = p ? missing : calls[i].name;
    }
    if (missing || rtc.version(&rtc.info.major, &rtc.info.minor) != NVRTC_SUCCESS) {
        dlclose(rtc.handle);
        rtc.handle = NULL;
        return err_set(err, "%.300s is no NVRTC of CUDA 11.8 or newer: it lacks %s", rtc.info.path,
                       missing ? missing : "a version");
    }
    open_builtins();
    return 0;
}

/* A library's line in the memo: "13.0 <bytes> <time of change> <path>". */
static void memo_line(char *line, size_t size, const struct nvrtc_info *info, const struct stat *st)
{
    snprintf(line, size, "%d.%d %lld %lld.%09ld %s\n", info->major, info->minor, (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, info->path);
}

/* Looks info->path up; true with its version filled in. */
static bool memo_read(const char *memo, struct nvrtc_info *info, const struct stat *st)
{
    char line[PATH_MAX + 128], want[PATH_MAX + 128];
    bool found = false;
    FILE *f = memo ? fopen(memo, "re") : NULL;
    while (f && !found && fgets(line, sizeof line, f))
        if (sscanf(line, "%d.%d ", &info->major, &info->minor) == 2) {
            memo_line(want, sizeof want, info, st);
            found = !strcmp(line, want);
        }
    if (f)
        fclose(f);
    return found;
}

/* Appends a line; one short write, so that several processes do not mix. False where the memo cannot be written. */
static bool memo_write(const char *memo, const struct nvrtc_info *info, const struct stat *st)
{
    char line[PATH_MAX + 128];
    FILE *f = fopen(memo, "ae");
    if (!f)
        return false;
    memo_line(line, sizeof line, info, st);
    bool good = fputs(line, f) >= 0;
    return fclose(f) == 0 && good;
}

/* Notes the open library, once: the folder of the memo may come to be only when the first cubin is written. */
static void note_version(const char *memo)
{
    static bool noted;
    struct nvrtc_info known = rtc.info;
    struct stat st;
    if (memo && !noted && stat(rtc.info.path, &st) == 0)
        noted = memo_read(memo, &known, &st) || memo_write(memo, &rtc.info, &st);
}

int nvrtc_find(struct nvrtc_info *info, const char *memo, struct err *err)
{
    struct stat st;
    int rc = 0;
    memset(info, 0, sizeof *info);
    pthread_mutex_lock(&lock);
    if (!rtc.handle) {
        rc = locate(info->path, err);
        if (rc == 0 && info->path[0] && stat(info->path, &st) == 0 && memo_read(memo, info, &st))
            goto done;
    }
    if (rc == 0)
        rc = open_library(err);
    if (rc == 0) {
        *info = rtc.info;
        note_version(memo);
    }
done:
    pthread_mutex_unlock(&lock);
    return rc;
}

static int ensure_open(struct err *err)
{
    pthread_mutex_lock(&lock);
    int rc = open_library(err);
    pthread_mutex_unlock(&lock);
    return rc;
}

int nvrtc_archs(int *archs, int max)
{
    int n = 0, all[64];
    if (ensure_open(NULL) != 0 || rtc.archs_count(&n) != NVRTC_SUCCESS || n > 64 || rtc.archs(all) != NVRTC_SUCCESS)
        return 0;
    memcpy(archs, all, (size_t)(n < max ? n : max) * sizeof *archs);
    return n;
}

/* The number before `what` in a line of ptxas, or 0. */
static int number_before(const char *line, const char *end, const char *what)
{
    const char *p = memmem(line, (size_t)(end - line), what, strlen(what));
    if (!p)
        return 0;
    while (p > line && p[-1] == ' ')
        p--;
    const char *last = p;
    while (p > line && p[-1] >= '0' && p[-1] <= '9')
        p--;
    return p < last ? atoi(p) : 0;
}

/* Registers, spills and shared memory from the lines that --ptxas-options=-v puts into the log. */
static void read_ptxas(const char *log, struct cubin *c)
{
    for (const char *p = log; *p;) {
        const char *end = strchr(p, '\n');
        if (!end)
            end = p + strlen(p);
        int regs = number_before(p, end, "registers"), stack = number_before(p, end, "bytes stack frame");
        c->regs = regs > c->regs ? regs : c->regs;
        c->stack = stack > c->stack ? stack : c->stack;
        c->spill_store += number_before(p, end, "bytes spill stores");
        c->spill_load += number_before(p, end, "bytes spill loads");
        c->smem += number_before(p, end, "bytes smem");
        p = *end ? end + 1 : end;
    }
}

/* The first error of a log, in the form "file:line: message"; the front end writes "file(line): error: message". */
static int first_message(const char *log, const char *name, struct err *err)
{
    const char *at = strstr(log, "error");
    if (!at)
        return err_set(err, "%s: NVRTC refused it and did not say why", name);
    const char *line = at;
    while (line > log && line[-1] != '\n')
        line--;
    int n = (int)strcspn(line, "\n"), more = -1;
    for (const char *p = log; (p = strstr(p, "error:")); p++)
        more++;
    char rest[48] = "";
    if (more > 0)
        snprintf(rest, sizeof rest, " (and %d more)", more);
    const char *open = memchr(line, '(', (size_t)n),
               *close = open ? memmem(open, (size_t)(line + n - open), "): error: ", 10) : NULL;
    if (close)
        return err_set(err, "%.*s:%.*s: %.*s%s", (int)(open - line), line, (int)(close - open - 1), open + 1,
                       (int)(line + n - close - 10), close + 10, rest);
    return err_set(err, "%s: %.*s%s", name, n, line, rest);
}

int nvrtc_compile(const char *source, const char *name, const char *arch, struct cubin *out, char **log,
                  struct err *err)
{
    char target[48];
    const char *options[] = {target, FLAG_STD, FLAG_INFO};
    nvrtc_program program = NULL;
    char *text = NULL;
    size_t bytes = 0;
    int rc = -1, status;
    memset(out, 0, sizeof *out);
    if (log)
        *log = NULL;
    if (ensure_open(err) != 0)
        return -1;
    snprintf(target, sizeof target, "--gpu-architecture=%s", arch);
    status = rtc.create(&program, source, name, 0, NULL, NULL);
    if (status != NVRTC_SUCCESS) {
        err_set(err, "%s: NVRTC does not take it: %s", name, rtc.error_string(status));
        goto done;
    }
    status = rtc.compile(program, sizeof options / sizeof *options, options);
    if (rtc.log_size(program, &bytes) == NVRTC_SUCCESS && (text = err_calloc(bytes + 1, 1, "the compiler's log", err)))
        rtc.log(program, text);
    if (!text)
        goto done;
    if (status == NVRTC_COMPILATION) {
        first_message(text, name, err);
        goto done;
    }
    if (status == NVRTC_INVALID_OPTION) {
        err_set(err, "NVRTC %d.%d (%.300s) does not compile for %s", rtc.info.major, rtc.info.minor, rtc.info.path,
                arch);
        goto done;
    }
    if (status == NVRTC_BUILTIN_OPERATION_FAILURE) {
        err_set(err, "%s: NVRTC does not find its libnvrtc-builtins, which belongs beside %.300s", name, rtc.info.path);
        goto done;
    }
    if (status != NVRTC_SUCCESS || rtc.cubin_size(program, &out->bytes) != NVRTC_SUCCESS || out->bytes == 0) {
        err_set(err, "%s: NVRTC fails: %s", name, rtc.error_string(status));
        goto done;
    }
    out->image = err_alloc(out->bytes, 1, "a compiled kernel", err);
    if (!out->image)
        goto done;
    status = rtc.cubin(program, (char *)out->image);
    if (status != NVRTC_SUCCESS) {
        err_set(err, "%s: NVRTC gives no cubin: %s", name, rtc.error_string(status));
        goto done;
    }
    read_ptxas(text, out);
    rc = 0;
done:
    if (rc != 0)
        cubin_free(out);
    if (log && rc != 0)
        *log = text;
    else
        free(text);
    if (program)
        rtc.destroy(&program);
    return rc;
}

void cubin_free(struct cubin *c)
{
    free(c->image);
    memset(c, 0, sizeof *c);
}
