#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__) && !defined(__ILP32__)
#define HAVE_FAST_SWITCH 1
#else
#define HAVE_FAST_SWITCH 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifdef UNDER_ASAN
#include <sanitizer/asan_interface.h>
#endif

struct fibers {
    int count, running;
    bool fast;
    unsigned char *stacks; /* [count][FIBER_STACK + guard] */
    size_t pitch, bytes;
    void *scheduler_sp;
    void **sp; /* [count] */
    ucontext_t scheduler_context;
    ucontext_t *context; /* [count], NULL with the fast switch */
};

#if HAVE_FAST_SWITCH
/* Saves the callee-saved registers of the System V ABI on the old stack, its pointer in *save, and takes the new one up where
 * it left off. The floating-point control words are the same for all fibers. */
void emu_switch(void **save, void *load);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl emu_switch\n"
        ".type emu_switch, @function\n"
        "emu_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size emu_switch, .-emu_switch\n");
#endif

int fibers_open(struct fibers **out, int count, bool ucontext, struct err *err)
{
    struct fibers *f = err_calloc(1, sizeof *f, "fibers", err);
    if (!f)
        return -1;
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    f->count = count;
    f->fast = HAVE_FAST_SWITCH && !ucontext;
    f->pitch = FIBER_STACK + guard;
    f->bytes = f->pitch * (size_t)count;
    f->stacks = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stacks == MAP_FAILED) {
        f->stacks = NULL;
        err_set(err, "no address space for the stacks of %d fibers", count);
        goto fail;
    }
    for (int i = 0; i < count; i++)
        mprotect(f->stacks + f->pitch * (size_t)i, guard, PROT_NONE);
    f->sp = err_calloc((size_t)count, sizeof *f->sp, "fibers", err);
    if (!f->sp)
        goto fail;
    if (!f->fast) {
        f->context = err_calloc((size_t)count, sizeof *f->context, "fibers", err);
        if (!f->context)
            goto fail;
    }
    *out = f;
    return 0;
fail:
    fibers_close(f);
    return -1;
}

void fibers_close(struct fibers *f)
{
    if (!f)
        return;
    if (f->stacks)
        munmap(f->stacks, f->bytes);
    free(f->sp);
    free(f->context);
    free(f);
}

void fiber_start(struct fibers *f, int i, void (*entry)(void))
{
    unsigned char *low = f->stacks + f->pitch * (size_t)i + (f->pitch - FIBER_STACK);
#ifdef UNDER_ASAN
    ASAN_UNPOISON_MEMORY_REGION(low, FIBER_STACK); /* what a fiber that was given up had poisoned */
#endif
    if (f->fast) {
        /* Staggered, so that the tops of all stacks do not fall into the same sets of the first-level cache. */
        void **top = (void **)(void *)(low + FIBER_STACK - (size_t)(i % 16) * 256);
        *--top = NULL; /* where entry() would return to; keeps the stack aligned as after a call */
        *--top = (void *)(uintptr_t)entry;
        for (int r = 0; r < 6; r++)
            *--top = NULL;
        f->sp[i] = top;
        return;
    }
    getcontext(&f->context[i]);
    f->context[i].uc_stack.ss_sp = low;
    f->context[i].uc_stack.ss_size = FIBER_STACK;
    f->context[i].uc_link = NULL;
    makecontext(&f->context[i], entry, 0);
}

void fiber_resume(struct fibers *f, int i)
{
    f->running = i;
#if HAVE_FAST_SWITCH
    if (f->fast) {
        emu_switch(&f->scheduler_sp, f->sp[i]);
        return;
    }
#endif
    swapcontext(&f->scheduler_context, &f->context[i]);
}

void fiber_yield(struct fibers *f)
{
#if HAVE_FAST_SWITCH
    if (f->fast) {
        emu_switch(&f->sp[f->running], f->scheduler_sp);
        return;
    }
#endif
    swapcontext(&f->context[f->running], &f->scheduler_context);
}

void fibers_range(const struct fibers *f, const unsigned char **lo, size_t *bytes)
{
    *lo = f->stacks;
    *bytes = f->bytes;
}
