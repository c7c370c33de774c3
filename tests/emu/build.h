#ifndef WEIR_EMU_BUILD_H
#define WEIR_EMU_BUILD_H

#include <stddef.h>

#include "../../runtime/err.h"

/* A kernel compiled by the system's C compiler and loaded. */
struct built {
    char path[512]; /* shared object in the cache */
    void *handle;
    void (*entry)(void **args); /* unpacks args and calls the kernel */
    const unsigned char *code;  /* loaded range */
    size_t code_bytes;
    unsigned max_threads; /* of its KERNEL(...) head */
};

/* Compiles the host text of one kernel into `cache` unless the same text was compiled there before by the same compiler. Safe
 * with several processes at once. Fills out->path and max_threads. An error shows the compiler's first messages. */
int build_compile(const char *text, const char *symbol, const char *cc, const char *cache, struct built *out,
                  struct err *err);
int build_load(struct built *b, struct err *err);
void build_unload(struct built *b);

/* Line of the kernel's text (behind the prelude) that an address in loaded code belongs to, by addr2line where that is
 * installed; 0 when it is not known. */
int build_line(const struct built *b, const void *pc);

#endif
