#ifndef WEIR_NVRTC_H
#define WEIR_NVRTC_H

/* Run-time compilation. The library is opened when it is first needed; nothing outside nvrtc.c knows of its calls. All of it may
 * be called from several threads at once. */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "err.h"

struct nvrtc_info {
    char path[PATH_MAX]; /* the library's file; its soname alone when the system's loader found it */
    int major, minor;
};

/* Finds NVRTC: WEIR_NVRTC (file or folder), lib/ and .deps/ beside the binary or up to two folders above it, CUDA_HOME, the usual
 * places of a CUDA toolkit, the system's loader. memo: a file that remembers the version of each library seen, so that a caller
 * who needs only the version need not open 100 MB; or NULL. -1 with one line where there is none. */
int nvrtc_find(struct nvrtc_info *info, const char *memo, struct err *err);

/* Compute capabilities that it compiles for: writes at most max, returns how many there are, 0 where it cannot say. */
int nvrtc_archs(int *archs, int max);

/* Flags of every compilation, part of the cache's key. */
extern const char nvrtc_flags[];

/* A compiled kernel and what ptxas said of it. Free with cubin_free. */
struct cubin {
    unsigned char *image; /* [bytes], owned */
    size_t bytes;
    int regs;        /* registers a thread */
    int stack;       /* bytes of stack a thread: arrays that did not fit registers */
    int spill_store; /* bytes a thread */
    int spill_load;
    int smem; /* static shared memory a block, bytes */
};

/* Compiles CUDA C text for "sm_80", "sm_90a". name stands for the file where the text has no #line. -1 with the first message of
 * the compiler as "file:line: message"; *log, if log is not NULL, then holds all of them (the caller frees, NULL if none). */
int nvrtc_compile(const char *source, const char *name, const char *arch, struct cubin *out, char **log,
                  struct err *err);
void cubin_free(struct cubin *c);

#endif
