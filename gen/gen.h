#ifndef WEIR_GEN_H
#define WEIR_GEN_H

/* The C host of the Lua side: kernel specs in, CUDA C out. gen.c is the only file that knows of lua_State. */

#include <stddef.h>

#include "../runtime/err.h"

struct gen; /* a Lua state with the generator loaded; one thread at a time */

/* home: folder that holds gen/ and templates/ (`--templates`, WEIR_HOME), or NULL: beside the binary if there, else what was
 * built into it. */
int gen_open(struct gen **out, const char *home, struct err *err);
void gen_close(struct gen *g);

/* One parameter of a spec by name: shape ("d", "g", "n", "t"), tile ("bn", "st", "wp") or any other that the kernel declares. */
struct gen_param {
    const char *name, *value;
};

enum { GEN_NAME_MAX = 160 };

/* A rendered kernel. Free with gen_kernel_free. */
struct gen_kernel {
    char name[GEN_NAME_MAX];   /* canonical: file name, kernel symbol, wisdom key, test id */
    char kernel[48];           /* "attn_decode" */
    int sm;                    /* 80, 86, 89, 90 */
    char arch[16];             /* NVRTC target, "sm_80", "sm_90a" */
    char *source;              /* the whole emitted text, owned */
    size_t source_len;
    unsigned threads;          /* a block */
    unsigned smem;             /* dynamic shared memory, bytes */
    int nparams;
    struct gen_value {
        char name[24];
        long value;            /* numeric value; types are 0 fp16, 1 bf16 */
    } param[48];               /* every resolved parameter, tile and launch constants included */
};

/* Resolves defaults (wisdom comes in as params), runs the restrictions for that GPU, renders. gpu: a name or alias of gpus.lua
 * ("a6000", "a100", "h200"). -1 names the restriction that failed, or template and line. Nothing is half filled. */
int gen_render(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
               struct gen_kernel *out, struct err *err);
void gen_kernel_free(struct gen_kernel *k);

/* Value of a resolved parameter; asserts that it exists. */
long gen_value(const struct gen_kernel *k, const char *name);

/* The same text with the prelude block exchanged for the host's (for the emulator). The caller frees *text. */
int gen_host_text(struct gen *g, const struct gen_kernel *k, char **text, struct err *err);

#endif
