#include "emu.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "api.h"
#include "build.h"
#include "gemm.h"
#include "memory.h"
#include "run.h"

#define PRELUDE_END "/* ---- end of prelude ---- */"

struct emu {
    struct run run;
    char *cache, *cc;                             /* owned */
    const char *plant_in, *plant_from, *plant_to; /* not owned */
    int plant_nth;
    unsigned char *map; /* shared memory with a guard on each side */
};
enum { MAP_BYTES = SMEM_MAX + 2 * SMEM_GUARD, SIGNAL_STACK = 64 * 1024 };

struct device_kernel {
    struct built built;
    char symbol[224];
    char *text; /* owned; NUL-terminated */
    unsigned smem_max;
};

static int emu_alloc(struct device *dev, size_t bytes, devptr *out, struct err *err)
{
    struct emu *e = dev->state;
    void *p = memory_alloc(e->run.memory, bytes, err);
    *out = (devptr)(uintptr_t)p;
    return p ? 0 : -1;
}

static void emu_release(struct device *dev, devptr p)
{
    struct emu *e = dev->state;
    if (p)
        memory_release(e->run.memory, (void *)(uintptr_t)p);
}

static int emu_upload(struct device *dev, devptr dst, const void *src, size_t bytes, struct err *err)
{
    struct emu *e = dev->state;
    void *p = (void *)(uintptr_t)dst;
    if (bytes == 0)
        return 0;
    if (memory_check_range(e->run.memory, p, bytes, "upload", err) != 0)
        return -1;
    memcpy(p, src, bytes);
    memory_mark_written(e->run.memory, p, bytes);
    return 0;
}

static int emu_download(struct device *dev, void *dst, devptr src, size_t bytes, struct err *err)
{
    struct emu *e = dev->state;
    const void *p = (const void *)(uintptr_t)src;
    if (bytes == 0)
        return 0;
    if (memory_check_range(e->run.memory, p, bytes, "download", err) != 0)
        return -1;
    memcpy(dst, p, bytes);
    return 0;
}

static int emu_fill(struct device *dev, devptr dst, unsigned char byte, size_t bytes, struct err *err)
{
    struct emu *e = dev->state;
    void *p = (void *)(uintptr_t)dst;
    if (bytes == 0)
        return 0;
    if (memory_check_range(e->run.memory, p, bytes, "fill", err) != 0)
        return -1;
    memset(p, byte, bytes);
    memory_mark_written(e->run.memory, p, bytes);
    return 0;
}

static int emu_alloc_pinned(struct device *dev, size_t bytes, void **out, struct err *err)
{
    (void)dev;
    *out = err_alloc(bytes ? bytes : 1, 1, "page-locked memory", err);
    return *out ? 0 : -1;
}

static void emu_release_pinned(struct device *dev, void *p)
{
    (void)dev;
    free(p);
}

static int emu_memory_left(struct device *dev, size_t *bytes, struct err *err)
{
    (void)err;
    *bytes = dev->facts.memory_bytes;
    return 0;
}

static int emu_gemm_open(struct device *dev, struct err *err)
{
    (void)dev;
    (void)err;
    return 0;
}

/* As a kernel would, it reads only what was written. */
static int check_read(struct emu *e, devptr p, size_t bytes, const char *what, struct err *err)
{
    if (memory_check_range(e->run.memory, (void *)(uintptr_t)p, bytes, what, err) != 0)
        return -1;
    return e->run.races ? memory_check_written(e->run.memory, (void *)(uintptr_t)p, bytes, what, err) : 0;
}

static int emu_product(struct device *dev, const struct gemm *g, struct err *err)
{
    struct emu *e = dev->state;
    size_t size = g->wide ? 4 : 2, rows = (size_t)g->m, row = (size_t)g->y_row * size, width = (size_t)g->n * size;
    if (check_read(e, g->x, rows * (size_t)g->k * 2, "left side of a product", err) != 0 ||
        check_read(e, g->w, (size_t)g->n * (size_t)g->k * 2, "right side of a product", err) != 0)
        return -1;
    for (size_t i = 0; i < rows; i++) {
        void *y = (void *)(uintptr_t)(g->y + i * row);
        if (g->add ? check_read(e, g->y + i * row, width, "sum of a product", err)
                   : memory_check_range(e->run.memory, y, width, "product", err))
            return -1;
        memory_mark_written(e->run.memory, y, width);
    }
    emu_gemm(g);
    return 0;
}

static int emu_mark(struct device *dev, int i, struct err *err)
{
    (void)dev;
    return i >= 0 && i < 16 ? 0 : err_set(err, "emu: mark %d is not in 0..15", i);
}

static const char *pick_cc(const char *cc)
{
    if (!cc || !*cc)
        cc = getenv("CC");
    return cc && *cc ? cc : "cc";
}

static const char *pick_cache(const char *cache)
{
    if (!cache || !*cache)
        cache = getenv("WEIR_EMU_CACHE");
    return cache && *cache ? cache : "build/emu-cache";
}

int emu_compile(const char *text, const char *symbol, const struct emu_options *o, struct err *err)
{
    struct built b;
    return build_compile(text, symbol, pick_cc(o ? o->cc : NULL), pick_cache(o ? o->cache : NULL), &b, err);
}

static void emu_unload(struct device *dev, struct device_kernel *k)
{
    (void)dev;
    if (!k)
        return;
    build_unload(&k->built);
    free(k->text);
    free(k);
}

/* A copy of the text, NUL-terminated, with the planted error if there is one and it fits. */
static char *copy_text(struct emu *e, const void *image, size_t bytes, const char *symbol, struct err *err)
{
    bool plant = e->plant_from && strncmp(symbol, e->plant_in, strlen(e->plant_in)) == 0;
    size_t from = plant ? strlen(e->plant_from) : 0, to = plant ? strlen(e->plant_to) : 0;
    char *text = err_alloc(bytes + to + 1, 1, "kernel text", err);
    if (!text)
        return NULL;
    memcpy(text, image, bytes);
    text[bytes] = 0;
    char *at = plant ? strstr(text, PRELUDE_END) : NULL;
    for (int i = 0; at && i <= e->plant_nth; i++)
        at = strstr(at + 1, e->plant_from);
    if (at) {
        memmove(at + to, at + from, strlen(at + from) + 1);
        memcpy(at, e->plant_to, to);
        e->run.stats.planted++;
    }
    return text;
}

static int emu_load(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                    struct device_kernel **out, struct err *err)
{
    struct emu *e = dev->state;
    struct device_kernel *k = err_calloc(1, sizeof *k, "kernel", err);
    char *text = k ? copy_text(e, image, bytes, symbol, err) : NULL;
    if (!text)
        goto fail;
    k->text = text;
    if ((int)smem_max > dev->facts.smem_per_block) {
        err_set(err, "emu: kernel %s wants %u bytes of shared memory, a block has %d", symbol, smem_max,
                dev->facts.smem_per_block);
        goto fail;
    }
    if (strstr(text, "asm volatile(")) {
        err_set(err, "emu: the source of %s has the CUDA prelude; exchange it with gen_host_text", symbol);
        goto fail;
    }
    snprintf(k->symbol, sizeof k->symbol, "%s", symbol);
    k->smem_max = smem_max;
    if (build_compile(text, symbol, e->cc, e->cache, &k->built, err) != 0 || build_load(&k->built, err) != 0)
        goto fail;
    *out = k;
    return 0;
fail:
    emu_unload(dev, k);
    return -1;
}

/* A thread did what the CPU refuses: the fiber is given up where it stands. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)context;
    if (!emu_run || emu_run->current < 0) {
        signal(sig, SIG_DFL); /* not a kernel's: let it happen again */
        return;
    }
    if (sig == SIGFPE)
        run_fail(NULL, NULL, "integer division by zero");
    run_fail(NULL, NULL, "%s at address %p", sig == SIGILL ? "trap" : "invalid access", info->si_addr);
}

/* The launch has had its time. The next access notices; a loop that makes none is left at the second call. */
static void on_time(int sig)
{
    (void)sig;
    struct run *r = emu_run;
    if (r && r->expired && r->current >= 0)
        run_fail(NULL, NULL, "a loop without an end");
    if (r)
        r->expired = true;
}

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
enum { NFAULTS = sizeof faults / sizeof faults[0] };

static int run_guarded(struct run *r)
{
    static unsigned char stack[SIGNAL_STACK];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack}, old_alt;
    struct sigaction act = {0}, time_act = {0}, old[NFAULTS], old_time;
    act.sa_sigaction = on_fault;
    act.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; /* the handler never returns, so nothing may stay blocked */
    time_act.sa_handler = on_time;
    time_act.sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESTART;
    sigaltstack(&alt, &old_alt);
    for (int i = 0; i < NFAULTS; i++)
        sigaction(faults[i], &act, &old[i]);
    sigaction(SIGVTALRM, &time_act, &old_time);
    long us = (long)(r->seconds * 1e6);
    struct itimerval limit = {{us / 1000000, us % 1000000}, {us / 1000000, us % 1000000}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_VIRTUAL, &limit, NULL);
    int rc = run_grid(r);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
    sigaction(SIGVTALRM, &old_time, NULL);
    for (int i = 0; i < NFAULTS; i++)
        sigaction(faults[i], &old[i], NULL);
    sigaltstack(&old_alt, NULL);
    return rc;
}

static int check_launch(const struct device_kernel *k, const struct launch *l, struct err *err)
{
    if (l->grid[0] == 0 || l->grid[1] == 0 || l->grid[2] == 0 || l->grid[1] > 65535 || l->grid[2] > 65535)
        return err_set(err, "emu: kernel %s cannot be launched with a grid of %ux%ux%u blocks", k->symbol, l->grid[0],
                       l->grid[1], l->grid[2]);
    if (l->block == 0 || l->block > MAX_THREADS || l->block > k->built.max_threads)
        return err_set(err, "emu: kernel %s cannot be launched with %u threads a block; it was made for %u", k->symbol,
                       l->block, k->built.max_threads);
    if (l->smem > k->smem_max)
        return err_set(err, "emu: kernel %s is launched with %u bytes of shared memory, and was loaded for %u",
                       k->symbol, l->smem, k->smem_max);
    return 0;
}

/* The run's message with the line of the kernel that it is about. */
static int explain(const struct device_kernel *k, const struct run *r, struct err *err)
{
    int line = r->at ? atoi(r->at + strlen("line ")) : r->pc ? build_line(&k->built, r->pc) : 0;
    if (line <= 0)
        return err_set(err, "emu: %s", r->message);
    const char *s = strstr(k->text, PRELUDE_END);
    for (int i = 0; s && i < line; i++) {
        s = strchr(s, '\n');
        s = s ? s + 1 : NULL;
    }
    s = s ? s + strspn(s, " ") : "";
    int n = (int)strcspn(s, "\n");
    return err_set(err, "emu: %s; line %d behind the prelude: %.*s", r->message, line, n < 120 ? n : 120, s);
}

static int emu_launch(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err)
{
    struct emu *e = dev->state;
    struct run *r = &e->run;
    if (check_launch(k, l, err) != 0)
        return -1;
    r->kernel = k->symbol;
    memcpy(r->grid, l->grid, sizeof r->grid);
    r->threads = l->block;
    r->nwarps = (int)(l->block + WARP - 1) / WARP;
    r->smem_bytes = l->smem;
    r->entry = k->built.entry;
    r->args = l->args;
    r->code = k->built.code;
    r->code_bytes = k->built.code_bytes;
    size_t reads = (size_t)(l->smem + 1) / 2 * (size_t)r->nwarps;
    if (reads > r->reads_cap) {
        free(r->reads);
        r->reads_cap = 0;
        r->reads = err_calloc(reads, sizeof *r->reads, "history of shared memory", err);
        if (!r->reads)
            return -1;
        r->reads_cap = reads;
    }
    emu_stack_lo = r->stacks;
    emu_stack_bytes = r->stack_bytes;
    if (run_guarded(r) == 0)
        return 0;
    return explain(k, r, err);
}

static int emu_sync(struct device *dev, struct err *err)
{
    (void)dev;
    (void)err;
    return 0;
}

static void emu_close(struct device *dev)
{
    struct emu *e = dev->state;
    if (!e)
        return;
    struct run *r = &e->run;
    for (int i = 0; i < MAX_THREADS; i++)
        free(r->thread[i].copies);
    fibers_close(r->fibers);
    memory_close(r->memory);
    if (e->map)
        munmap(e->map, MAP_BYTES);
    free(r->smem_state);
    free(r->smem_cell);
    free(r->smem_order);
    free(r->reads);
    free(e->cache);
    free(e->cc);
    free(e);
    dev->state = NULL;
}

static void fill_facts(struct device_facts *f, const struct emu_options *o)
{
    int sm = o->sm ? o->sm : 80;
    snprintf(f->name, sizeof f->name, "emulated sm_%d", sm);
    f->sm = sm;
    f->sms = 4;
    /* CUDA C++ Programming Guide, compute capabilities: shared memory of a block and of a multiprocessor. */
    f->smem_per_block = sm >= 90 ? 227 * 1024 : sm == 80 || sm == 87 ? 163 * 1024 : 99 * 1024;
    if (o->smem_per_block)
        f->smem_per_block = (int)o->smem_per_block;
    f->smem_per_sm = f->smem_per_block + 1024;
    f->threads_per_sm = sm == 80 || sm == 87 || sm >= 90 ? 2048 : 1536;
    f->l2_bytes = 4 << 20;
    f->memory_bytes = (size_t)16 << 30;
    f->driver = 13000;
}

int device_emu_open(struct device *dev, const struct emu_options *options, struct err *err)
{
    struct emu_options o = {0};
    struct err why = {0};
    if (options)
        o = *options;
    memset(dev, 0, sizeof *dev);
    struct emu *e = err_calloc(1, sizeof *e, "emulator", err);
    if (!e)
        return -1;
    dev->state = e;
    struct run *r = &e->run;
    r->current = -1;
    r->schedule = o.schedule;
    r->random = o.seed;
    r->seconds = o.seconds > 0 ? o.seconds : 120;
    r->races = !o.only_faults;
    fill_facts(&dev->facts, &o);
    if (dev->facts.smem_per_block > SMEM_MAX) {
        err_set(&why, "emu: %d bytes of shared memory a block are more than %d", dev->facts.smem_per_block, SMEM_MAX);
        goto fail;
    }
    e->cache = strdup(pick_cache(o.cache));
    e->cc = strdup(pick_cc(o.cc));
    r->smem_state = err_calloc(SMEM_MAX / 2, 1, "history of shared memory", &why);
    r->smem_cell = err_calloc(SMEM_MAX / 2, sizeof *r->smem_cell, "history of shared memory", &why);
    r->smem_order = err_calloc(SMEM_MAX / 2, sizeof *r->smem_order, "history of shared memory", &why);
    e->map = mmap(NULL, MAP_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (e->map == MAP_FAILED)
        e->map = NULL;
    if (!e->cache || !e->cc || !r->smem_state || !r->smem_cell || !r->smem_order || !e->map) {
        err_set(&why, "out of memory: emulator");
        goto fail;
    }
    r->smem = e->map + SMEM_GUARD;
    mprotect(r->smem, SMEM_MAX, PROT_READ | PROT_WRITE);
    if (memory_open(&r->memory, &why) != 0 || fibers_open(&r->fibers, MAX_THREADS, o.ucontext, &why) != 0)
        goto fail;
    fibers_range(r->fibers, &r->stacks, &r->stack_bytes);
    dev->kind = "emu";
    dev->wants_source = true;
    dev->alloc = emu_alloc;
    dev->release = emu_release;
    dev->upload = emu_upload;
    dev->download = emu_download;
    dev->fill = emu_fill;
    dev->load = emu_load;
    dev->unload = emu_unload;
    dev->launch = emu_launch;
    dev->sync = emu_sync;
    dev->alloc_pinned = emu_alloc_pinned;
    dev->release_pinned = emu_release_pinned;
    dev->upload_async = emu_upload;
    dev->download_async = emu_download;
    dev->memory_left = emu_memory_left;
    dev->gemm_open = emu_gemm_open;
    dev->gemm = emu_product;
    dev->mark = emu_mark;
    dev->wait = emu_mark;
    dev->close = emu_close;
    return 0;
fail:
    emu_close(dev);
    return err_set(err, "%s", why.msg);
}

void emu_set_schedule(struct device *dev, enum emu_schedule schedule, uint64_t seed)
{
    struct emu *e = dev->state;
    e->run.schedule = schedule;
    e->run.random = seed;
}

void emu_plant(struct device *dev, const char *kernel, const char *from, int n, const char *to)
{
    struct emu *e = dev->state;
    e->plant_in = kernel;
    e->plant_from = from;
    e->plant_nth = n;
    e->plant_to = to;
}

struct emu_stats emu_get_stats(const struct device *dev)
{
    const struct emu *e = dev->state;
    return e->run.stats;
}
