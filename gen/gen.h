#ifndef WEIR_GEN_H
#define WEIR_GEN_H

/* The C host of the Lua side: kernel specs in, CUDA C out. gen.c is the only file that knows of lua_State. */

#include <stddef.h>

#include "../runtime/err.h"

struct gen; /* a Lua state with the generator loaded; one thread at a time */

/* home: folder that holds gen/ and templates/ (`--templates`), or NULL: WEIR_HOME, else the binary's folder or its parent if
 * they are there. A file that the folder does not have is the one that was built into the binary. -1 when home is given and
 * holds neither gen/ nor templates/. */
int gen_open(struct gen **out, const char *home, struct err *err);
void gen_close(struct gen *g);

/* One parameter of a spec by name: shape ("d", "g", "n", "t"), tile ("bn", "st", "wp") or any other that the kernel declares. */
struct gen_param {
    const char *name, *value;
};

enum { GEN_NAME_MAX = 160, GEN_PARAMS_MAX = 48, GEN_GPU_MAX = 256 };

/* A rendered kernel. Free with gen_kernel_free. */
struct gen_kernel {
    char name[GEN_NAME_MAX]; /* canonical: file name, kernel symbol, wisdom key, test id */
    char kernel[48];         /* "attn_decode" */
    char gpu[GEN_GPU_MAX];   /* what gen_render was given */
    int sm;                  /* 80, 86, 89, 90 */
    char arch[16];           /* NVRTC target, "sm_80", "sm_90a" */
    char *source;            /* the whole emitted text, owned */
    size_t source_len;
    unsigned threads;   /* a block */
    unsigned smem;      /* dynamic shared memory, bytes */
    int nparams, nspec; /* the first nspec are shape and tile, the rest derived, then threads, smem, min_blocks */
    struct gen_value {
        char name[24];
        long value;          /* numeric value; words by index: 0 fp16, 1 bf16 */
    } param[GEN_PARAMS_MAX]; /* every resolved parameter, tile and launch constants included */
    int nlines, nfiles;
    struct gen_place {
        int file;     /* index into file[], -1: no template wrote this line */
        int line;     /* from 1 */
    } * place;        /* [nlines] where each line of source came from, owned */
    char file[8][64]; /* "templates/attn_decode.cu.t" */
};

/* Resolves defaults (wisdom comes in as params), runs the restrictions for that GPU, renders. gpu: a name or alias of gpus.lua
 * ("a6000", "a100", "h200"). -1 names the restriction that failed, or template and line. Nothing is half filled. */
int gen_render(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
               struct gen_kernel *out, struct err *err);
void gen_kernel_free(struct gen_kernel *k);

/* Value of a resolved parameter; asserts that it exists. */
long gen_value(const struct gen_kernel *k, const char *name);

/* The same text with the prelude block exchanged for the host's (for the emulator); the rest is k->source byte for byte. The
 * caller frees *text. */
int gen_host_text(struct gen *g, const struct gen_kernel *k, char **text, struct err *err);

/* The text as the compiler gets it: k->source with a #line directive wherever a line does not follow the one before in its
 * template, so that messages name template and line. The emitted file itself has none and stays readable. The caller frees. */
int gen_lined_text(const struct gen_kernel *k, char **text, struct err *err);

#endif
