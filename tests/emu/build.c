#include "build.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Kernels are compiled with the compiler's instrumentation for data races and bounds, but without its runtime libraries: the
 * calls that it puts before every access end in the emulator (api.h). */
static const char *const flags[] = {
    "-std=gnu11",
    "-O1",
    "-g1",
    "-gdwarf-4",
    "-fPIC",
    "-shared",
    "-nostdlib",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fsanitize=thread",
    "-fsanitize=bounds,shift,integer-divide-by-zero",
    /* What would be an error in CUDA C++ too; mere warnings differ from compiler to compiler. */
    "-w",
    "-Werror=implicit-function-declaration",
    "-Werror=implicit-int",
    "-Werror=int-conversion",
    "-Werror=incompatible-pointer-types",
    "-Werror=return-type",
};
enum { NFLAGS = sizeof flags / sizeof flags[0] };

/* Written behind the kernel's text; the entry's body follows it. */
static const char trailer[] =
    "\n#line 1 \"emu entry\"\n"
    "extern const unsigned char *emu_stack_lo;\n"
    "extern unsigned long emu_stack_bytes;\n"
    "extern void emu_read(const void *, unsigned long, const void *);\n"
    "extern void emu_write(const void *, unsigned long, const void *);\n"
    "extern void emu_fault(const char *, unsigned);\n"
    "#define EMU_HOOK __attribute__((visibility(\"hidden\"), no_sanitize(\"thread\", \"undefined\"))) void\n"
    "#define EMU_DEVICE(p) ((unsigned long)(p) - (unsigned long)emu_stack_lo >= emu_stack_bytes)\n"
    "/* Names by __asm__, since compilers know these functions and their types. */\n"
    "#define EMU_ACCESS(n) \\\n"
    "    EMU_HOOK emu_hook_read##n(void *p) __asm__(\"__tsan_read\" #n); \\\n"
    "    EMU_HOOK emu_hook_write##n(void *p) __asm__(\"__tsan_write\" #n); \\\n"
    "    EMU_HOOK emu_hook_read##n(void *p) { if (EMU_DEVICE(p)) emu_read(p, n, __builtin_return_address(0)); } \\\n"
    "    EMU_HOOK emu_hook_write##n(void *p) { if (EMU_DEVICE(p)) emu_write(p, n, __builtin_return_address(0)); }\n"
    "EMU_ACCESS(1) EMU_ACCESS(2) EMU_ACCESS(4) EMU_ACCESS(8) EMU_ACCESS(16)\n"
    "#define EMU_RANGE(what) \\\n"
    "    EMU_HOOK emu_hook_##what##s(void *p, unsigned long n) __asm__(\"__tsan_\" #what \"_range\"); \\\n"
    "    EMU_HOOK emu_hook_##what##s(void *p, unsigned long n) \\\n"
    "    { \\\n"
    "        char *c = p; \\\n"
    "        for (unsigned long step; EMU_DEVICE(c) && n > 0; c += step, n -= step) { \\\n"
    "            for (step = 16; step > n || ((unsigned long)c & (step - 1)); step /= 2) \\\n"
    "                ; \\\n"
    "            emu_##what(c, step, __builtin_return_address(0)); \\\n"
    "        } \\\n"
    "    }\n"
    "EMU_RANGE(read) EMU_RANGE(write)\n"
    "#define EMU_UNALIGNED(n) \\\n"
    "    EMU_HOOK emu_hook_unaligned_read##n(void *p) __asm__(\"__tsan_unaligned_read\" #n); \\\n"
    "    EMU_HOOK emu_hook_unaligned_write##n(void *p) __asm__(\"__tsan_unaligned_write\" #n); \\\n"
    "    EMU_HOOK emu_hook_unaligned_read##n(void *p) { emu_hook_reads(p, n); } \\\n"
    "    EMU_HOOK emu_hook_unaligned_write##n(void *p) { emu_hook_writes(p, n); }\n"
    "EMU_UNALIGNED(2) EMU_UNALIGNED(4) EMU_UNALIGNED(8) EMU_UNALIGNED(16)\n"
    "EMU_HOOK emu_hook_init(void) __asm__(\"__tsan_init\");\n"
    "EMU_HOOK emu_hook_enter(void *pc) __asm__(\"__tsan_func_entry\");\n"
    "EMU_HOOK emu_hook_leave(void *pc) __asm__(\"__tsan_func_exit\");\n"
    "EMU_HOOK emu_hook_init(void) {}\n"
    "EMU_HOOK emu_hook_enter(void *pc) {}\n"
    "EMU_HOOK emu_hook_leave(void *pc) {}\n"
    "struct emu_where { const char *file; unsigned line, column; };\n"
    "EMU_HOOK emu_hook_bounds(struct emu_where *w, void *i) __asm__(\"__ubsan_handle_out_of_bounds\");\n"
    "EMU_HOOK emu_hook_bounds(struct emu_where *w, void *i) { emu_fault(\"array index out of bounds\", w->line); }\n"
    "EMU_HOOK emu_hook_shift(struct emu_where *w, void *a, void *b) __asm__(\"__ubsan_handle_shift_out_of_bounds\");\n"
    "EMU_HOOK emu_hook_shift(struct emu_where *w, void *a, void *b) { emu_fault(\"shift by more than the width\", "
    "w->line); }\n"
    "EMU_HOOK emu_hook_divide(struct emu_where *w, void *a, void *b) __asm__(\"__ubsan_handle_divrem_overflow\");\n"
    "EMU_HOOK emu_hook_divide(struct emu_where *w, void *a, void *b) { emu_fault(\"integer division by zero\", "
    "w->line); }\n"
    "__attribute__((no_sanitize(\"thread\", \"undefined\"))) void emu_entry(void **args);\n"
    "__attribute__((no_sanitize(\"thread\", \"undefined\"))) void emu_entry(void **args)\n"
    "{\n";

static const char prelude_end[] = "/* ---- end of prelude ---- */";

struct text { /* a growing string */
    char *s;
    size_t len, cap;
};

static int text_add(struct text *t, const char *s, size_t n, struct err *err)
{
    if (t->len + n + 1 > t->cap) {
        size_t cap = 2 * (t->len + n + 1);
        char *grown = realloc(t->s, cap);
        if (!grown)
            return err_set(err, "out of memory: %zu bytes of kernel text", cap);
        t->s = grown;
        t->cap = cap;
    }
    memcpy(t->s + t->len, s, n);
    t->len += n;
    t->s[t->len] = 0;
    return 0;
}

static int text_puts(struct text *t, const char *s, struct err *err)
{
    return text_add(t, s, strlen(s), err);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The parameter list of KERNEL(symbol, threads, ...) (...): [*from, *to) without its brackets. -1 where there is none. */
static int find_kernel(const char *text, const char *symbol, unsigned *threads, const char **from, const char **to)
{
    size_t n = strlen(symbol);
    for (const char *p = text; (p = strstr(p, "KERNEL(")) != NULL;) {
        p += strlen("KERNEL(");
        if ((p - text > 7 && is_word(p[-8])) || strncmp(p, symbol, n) != 0 || p[n] != ',')
            continue;
        *threads = (unsigned)strtoul(p + n + 1, NULL, 10);
        const char *open = strchr(p, ')');
        open = open ? strchr(open, '(') : NULL;
        const char *close = open ? strchr(open, ')') : NULL;
        if (!close)
            return -1;
        *from = open + 1;
        *to = close;
        return 0;
    }
    return -1;
}

/* One parameter's declaration with const and restrict left out, so that it can be filled; its name is the last word. */
static int add_parameter(struct text *body, struct text *call, const char *s, const char *end, int index,
                         struct err *err)
{
    char declaration[256], name[64], line[256];
    size_t n = 0, name_from = 0, name_len = 0;
    while (s < end && n + 2 < sizeof declaration) {
        if (!is_word(*s)) {
            declaration[n++] = *s++;
            continue;
        }
        const char *w = s;
        while (s < end && is_word(*s))
            s++;
        size_t len = (size_t)(s - w);
        bool skip = (len == 5 && memcmp(w, "const", 5) == 0) || (len == 8 && memcmp(w, "RESTRICT", 8) == 0) ||
                    (len == 8 && memcmp(w, "restrict", 8) == 0);
        if (skip || n + len + 2 >= sizeof declaration)
            continue;
        name_from = n;
        name_len = len;
        memcpy(declaration + n, w, len);
        n += len;
    }
    declaration[n] = 0;
    if (name_len == 0 || name_len >= sizeof name)
        return err_set(err, "emu: parameter %d of the kernel has no name", index);
    memcpy(name, declaration + name_from, name_len);
    name[name_len] = 0;
    snprintf(line, sizeof line, "; __builtin_memcpy(&%s, args[%d], sizeof %s);\n", name, index, name);
    if (text_puts(body, declaration, err) != 0 || text_puts(body, line, err) != 0)
        return -1;
    return index && text_puts(call, ", ", err) != 0 ? -1 : text_puts(call, name, err);
}

/* The kernel's text with the callers of the emulator and an entry that takes arguments as a launch gives them. */
static int whole_source(const char *text, const char *symbol, unsigned *threads, struct text *out, struct err *err)
{
    const char *from, *to;
    struct text call = {0};
    int rc = -1;
    if (find_kernel(text, symbol, threads, &from, &to) != 0)
        return err_set(err, "emu: no KERNEL(%s, ...) in the source", symbol);
    const char *end = strstr(text, prelude_end);
    if (!end)
        return err_set(err, "emu: the source of %s has no prelude block", symbol);
    size_t head = (size_t)(end - text) + strlen(prelude_end);
    /* Lines are counted from behind the prelude, where the reader looks. */
    if (text_add(out, text, head, err) != 0 || text_puts(out, "\n#line 1 \"kernel\"", err) != 0 ||
        text_puts(out, text + head, err) != 0 || text_puts(out, trailer, err) != 0 ||
        text_puts(&call, symbol, err) != 0 || text_puts(&call, "(", err) != 0)
        goto done;
    while (from < to && isspace((unsigned char)*from))
        from++;
    int index = 0;
    if (strncmp(from, "void)", 5) != 0)
        while (from < to) {
            const char *comma = memchr(from, ',', (size_t)(to - from));
            if (add_parameter(out, &call, from, comma ? comma : to, index++, err) != 0)
                goto done;
            from = comma ? comma + 1 : to;
        }
    if (text_puts(out, call.s, err) != 0 || text_puts(out, ");\n}\n", err) != 0)
        goto done;
    rc = 0;
done:
    free(call.s);
    return rc;
}

static uint64_t hash(const char *s, size_t n, uint64_t h) /* FNV-1a, finished as splitmix64 */
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    return h ^ (h >> 31);
}

/* First line of the compiler's --version; asked once. */
static const char *compiler_version(const char *cc)
{
    static char of[256], version[256];
    if (strcmp(of, cc) == 0)
        return version;
    char command[300];
    snprintf(command, sizeof command, "%.250s --version 2>/dev/null", cc);
    FILE *f = popen(command, "r");
    if (!f || !fgets(version, sizeof version, f))
        version[0] = 0;
    if (f)
        pclose(f);
    snprintf(of, sizeof of, "%s", cc);
    return version;
}

static int make_folders(const char *path, struct err *err)
{
    char part[512];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != 0)
            continue;
        bool last = *p == 0;
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return err_set(err, "emu: cannot make the folder %s: %s", part, strerror(errno));
        if (last)
            return 0;
        *p = '/';
    }
}

static int write_file(const char *path, const char *s, size_t n, struct err *err)
{
    FILE *f = fopen(path, "w");
    bool ok = f && fwrite(s, 1, n, f) == n;
    if (f && fclose(f) != 0)
        ok = false;
    return ok ? 0 : err_set(err, "emu: cannot write %s: %s", path, strerror(errno));
}

/* cc flags -o object source, messages into log. Exit status, or -1. */
static int run_compiler(const char *cc, const char *object, const char *source, const char *log)
{
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (fd >= 0) {
            dup2(fd, 1);
            dup2(fd, 2);
        }
        /* The shell splits $CC, which may hold options. */
        const char *argv[NFLAGS + 9] = {"sh", "-c", "exec $0 \"$@\"", cc};
        int n = 4;
        for (int i = 0; i < NFLAGS; i++)
            argv[n++] = flags[i];
        argv[n++] = "-o";
        argv[n++] = object;
        argv[n++] = source;
        execv("/bin/sh", (char *const *)argv);
        _exit(127);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The first error lines of a compiler's log. */
static int compiler_error(const char *cc, const char *symbol, const char *log, struct err *err)
{
    char line[300], all[440] = "";
    FILE *f = fopen(log, "r");
    while (f && fgets(line, sizeof line, f) && strlen(all) + 80 < sizeof all)
        if (strstr(line, "error") || strstr(line, "not found"))
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.200s", all[0] ? "; " : "", line);
    if (f)
        fclose(f);
    for (char *p = all; *p; p++)
        if (*p == '\n')
            *p = ' ';
    return err_set(err, "emu: '%.40s' refuses %.160s: %s", cc, symbol, all[0] ? all : log);
}

int build_compile(const char *text, const char *symbol, const char *cc, const char *cache, struct built *out,
                  struct err *err)
{
    char source[600], object[600], log[600];
    struct text whole = {0};
    int rc = -1;
    memset(out, 0, sizeof *out);
    if (whole_source(text, symbol, &out->max_threads, &whole, err) != 0)
        goto done;
    uint64_t a = hash(whole.s, whole.len, 0xcbf29ce484222325u), b = hash(whole.s, whole.len, 0x9ae16a3b2f90404fu);
    const char *version = compiler_version(cc);
    b = hash(cc, strlen(cc), hash(version, strlen(version), b));
    for (int i = 0; i < NFLAGS; i++)
        b = hash(flags[i], strlen(flags[i]), b);
    snprintf(out->path, sizeof out->path, "%.400s/%.40s-%016llx%016llx.so", cache, symbol, (unsigned long long)a,
             (unsigned long long)b);
    if (access(out->path, R_OK) == 0) {
        rc = 0;
        goto done;
    }
    if (make_folders(cache, err) != 0)
        goto done;
    snprintf(source, sizeof source, "%.500s.%ld.c", out->path, (long)getpid());
    snprintf(object, sizeof object, "%.500s.%ld.tmp", out->path, (long)getpid());
    snprintf(log, sizeof log, "%.500s.%ld.log", out->path, (long)getpid());
    if (write_file(source, whole.s, whole.len, err) != 0)
        goto done;
    if (run_compiler(cc, object, source, log) != 0)
        compiler_error(cc, symbol, log, err);
    else if (rename(object, out->path) != 0)
        err_set(err, "emu: cannot rename %s: %s", object, strerror(errno));
    else
        rc = 0;
    unlink(source);
    unlink(object);
    unlink(log);
done:
    free(whole.s);
    return rc;
}

static int find_range(struct dl_phdr_info *info, size_t size, void *data)
{
    struct built *b = data;
    (void)size;
    if (!info->dlpi_name || strcmp(info->dlpi_name, b->path) != 0)
        return 0;
    uintptr_t end = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            uintptr_t e = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
            end = e > end ? e : end;
        }
    b->code = (const unsigned char *)info->dlpi_addr;
    b->code_bytes = end - info->dlpi_addr;
    return 1;
}

int build_load(struct built *b, struct err *err)
{
    char path[PATH_MAX];
    if (!realpath(b->path, path) || strlen(path) >= sizeof b->path)
        return err_set(err, "emu: cannot find %s", b->path);
    memcpy(b->path, path, strlen(path) + 1);
    b->handle = dlopen(b->path, RTLD_NOW | RTLD_LOCAL);
    if (!b->handle)
        return err_set(err, "emu: %s (was the test linked with -rdynamic?)", dlerror());
    void *entry = dlsym(b->handle, "emu_entry");
    memcpy(&b->entry, &entry, sizeof entry);
    dl_iterate_phdr(find_range, b);
    return 0;
}

void build_unload(struct built *b)
{
    if (b->handle)
        dlclose(b->handle);
    b->handle = NULL;
}

int build_line(const struct built *b, const void *pc)
{
    char command[700], line[1200];
    int number = 0;
    /* The return address stands behind the call; the call itself is what belongs to the line. */
    snprintf(command, sizeof command, "addr2line -e '%s' 0x%zx 2>/dev/null", b->path,
             (size_t)((const unsigned char *)pc - b->code) - 1);
    FILE *f = popen(command, "r");
    if (!f)
        return 0;
    const char *colon = fgets(line, sizeof line, f) ? strrchr(line, ':') : NULL;
    if (colon && colon - line >= 6 && memcmp(colon - 6, "kernel", 6) == 0)
        number = atoi(colon + 1);
    pclose(f);
    return number;
}
