#ifndef WEIR_GEN_H
#define WEIR_GEN_H

/* The C host of the Lua side: kernel specs in, CUDA C out. Only gen/gen*.c know of lua_State. */

#include <stddef.h>

#include "../runtime/err.h"

struct gen; /* a Lua state with the generator loaded; one thread at a time */

/* home: folder that holds gen/ and templates/ (`--templates`), or NULL: WEIR_HOME, else the binary's folder or its parent if
 * they are there. A file that the folder does not have is the one that was built into the binary. -1 when home is given and
 * holds neither gen/ nor templates/. */
int gen_open(struct gen **out, const char *home, struct err *err);
void gen_close(struct gen *g);

/* The folder that files are taken from before the built-in ones; "" where there is none. */
const char *gen_home(const struct gen *g);

/* One parameter of a spec by name: shape ("d", "g", "n", "t"), tile ("bn", "st", "wp") or any other that the kernel declares. */
struct gen_param {
    const char *name, *value;
};

enum { GEN_NAME_MAX = 160, GEN_PARAMS_MAX = 48, GEN_GPU_MAX = 256 };

/* Where a line of emitted text came from. */
struct gen_place {
    int file; /* index into gen_kernel.file, -1: no template wrote this line */
    int line; /* from 1 */
};

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
    struct gen_place *place; /* [nlines] where each line of source came from, owned */
    char file[8][64];        /* "templates/attn_decode.cu.t" */
};

/* Resolves defaults (wisdom comes in as params), runs the restrictions for that GPU, renders. gpu: a name or alias of gpus.lua
 * ("a6000", "a100", "h200"). -1 names the restriction that failed, or template and line. Nothing is half filled. */
int gen_render(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
               struct gen_kernel *out, struct err *err);
void gen_kernel_free(struct gen_kernel *k);

/* gen_render without the text: source, place and file stay empty. For everyone who walks a space and needs no source. */
int gen_resolve(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
                struct gen_kernel *out, struct err *err);

/* Resolves and runs the restrictions only: 0 where gen_render could fail by nothing but a template's own error. */
int gen_check(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
              struct err *err);

/* What of a rendered kernel decides what it does: results of a kernel hold as long as this text is the same. It has no comments, no name
 * and no function of the prelude that the kernel does not come to. The caller frees *text. */
int gen_essence(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
                char **text, struct err *err);

/* Value of a resolved parameter; asserts that it exists. */
long gen_value(const struct gen_kernel *k, const char *name);

/* Facts of a GPU (gpus.lua). What the file does not know is 0. */
struct gen_gpu {
    char name[48], title[128], source[256];
    int sm, sms;
    int smem_per_block, smem_per_sm, smem_reserved,
        smem_unit; /* bytes; smem_reserved: a block's share for the system */
    int regs_per_sm, reg_unit, threads_per_sm, blocks_per_sm;
    double dram_gbs, clock_mhz;        /* GB/s; boost clock */
    double fp32_tflops, tensor_tflops; /* tensor: dense fp16/bf16 products with fp32 sums */
    double l2_bytes, memory_bytes;
};

/* gpu: as for gen_render, so a file that describes one too. -1 lists the known names. */
int gen_gpu(struct gen *g, const char *gpu, struct gen_gpu *out, struct err *err);

/* The name for the device that its driver calls `title`: an entry of gpus.lua, else "sm_90". -1 where no kernel runs on it. */
int gen_gpu_name(struct gen *g, const char *title, int sm, char name[GEN_GPU_MAX], struct err *err);

/* Names of all kernels, in order, one a line; the caller frees *names. */
int gen_kernels(struct gen *g, char **names, struct err *err);

/* All kernels with parameters and restrictions, and all GPUs, as text or JSON; the caller frees *text. */
int gen_list(struct gen *g, int json, char **text, struct err *err);

/* What kind of parameter the kernel declares by that name: 0 where it has none. -1 if there is no such kernel. */
enum { GEN_TILE = 1, GEN_SHAPE = 2 };
int gen_has_param(struct gen *g, const char *kernel, const char *param, struct err *err);

/* The tuning space of a kernel: every combination of its tile values, in order, the last parameter fastest. */
struct gen_space {
    int ntile;
    char tile[12][24]; /* [ntile] names */
    int nconfigs;
    struct gen_config {
        long value[12];  /* [ntile] */
        char broken[32]; /* the restriction that refuses it, "" if none does */
    } * config;          /* [nconfigs], owned */
};

/* params: the shape, and tile parameters that are to be held fixed. Free with gen_space_free. */
int gen_space(struct gen *g, const char *kernel, const char *gpu, const struct gen_param *params, int nparams,
              struct gen_space *out, struct err *err);
void gen_space_free(struct gen_space *s);

/* Bytes that must be moved and operations that must be done, by the kernel's declaration, for run-time sizes (its args). */
int gen_work(struct gen *g, const struct gen_kernel *k, const struct gen_param *sizes, int nsizes, double *bytes,
             double *flops, struct err *err);

/* The text that a function of a Lua module ("tuner/report.lua", "page") makes of data, given as JSON: objects and arrays become tables.
 * The caller frees *text. */
int gen_text(struct gen *g, const char *module, const char *function, const char *json, char **text, struct err *err);

/* The same text with the prelude block exchanged for the host's (for the emulator); the rest is k->source byte for byte. The
 * caller frees *text. */
int gen_host_text(struct gen *g, const struct gen_kernel *k, char **text, struct err *err);

/* The text as the compiler gets it: k->source with a #line directive wherever a line does not follow the one before in its
 * template, so that messages name template and line. The emitted file itself has none and stays readable. The caller frees. */
int gen_lined_text(const struct gen_kernel *k, char **text, struct err *err);

#endif
