/* weir bench matvec: one token times the matrices of a layer, for every type of weights, as a captured decode step runs them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "matvec_chain.h"

/* A product of a model's layer, or its last one. */
static const struct product {
    const char *model, *what, *to;
    int n, rows, norm; /* rows: outputs; gate's matrix has twice as many */
} products[] = {
    {"smollm2", "q|k|v", "half", 576, 960, 1},        {"smollm2", "output", "add", 576, 576, 0},
    {"smollm2", "gate|up", "gate", 576, 1536, 1},     {"smollm2", "down", "add", 1536, 576, 0},
    {"smollm2", "vocabulary", "f32", 576, 49152, 1},  {"llama-3.1-8b", "q|k|v", "half", 4096, 6144, 1},
    {"llama-3.1-8b", "output", "add", 4096, 4096, 0}, {"llama-3.1-8b", "gate|up", "gate", 4096, 14336, 1},
    {"llama-3.1-8b", "down", "add", 14336, 4096, 0},  {"llama-3.1-8b", "vocabulary", "f32", 4096, 128256, 1},
};

static const char *const all_types = "bf16,f16,f32,q8_0,q4_0,q4_1,q5_0,q5_1,q4_k,q5_k,q6_k";

struct matvec_bench {
    struct bench b;
    const char *types, *model, *only; /* lists are separated by commas; only: of products */
    int blocks, apart;                /* blocks a multiprocessor, 0: by occupancy; launches not overlapped */
};

/* One product over so many matrices that no L2 keeps them. */
struct run {
    struct matvec_chain chain;
    struct kernel kernel;
    int blocks;
};

static int enqueue(void *user, struct err *err)
{
    struct run *r = user;
    return matvec_chain_enqueue(&r->chain, &r->kernel, false, r->blocks, err);
}

/* All that the product must move, in bytes. */
static int work_of(struct bench *b, const struct run *r, double *bytes, struct err *err)
{
    char rows[16];
    double flops;
    snprintf(rows, sizeof rows, "%d", r->chain.p.rows);
    return gen_work(b->gen, &r->kernel.gen, (struct gen_param[]){{"rows", rows}}, 1, bytes, &flops, err);
}

/* The kernel with the tile that inference would take, but for what --set gives. */
static int get_kernel(struct bench *b, const struct product *p, const char *type, struct kernel *out, struct err *err)
{
    char params[96];
    snprintf(params, sizeof params, "n=%d w=%s norm=%d to=%s t=%s", p->n, type, p->norm, p->to,
             b->type ? "bf16" : "fp16");
    b->sizes.n = 0;
    return pairs_put_long(&b->sizes, "rows", p->rows, err) != 0 ? -1 : bench_kernel(b, "matvec", params, out, err);
}

static int run_product(struct matvec_bench *c, const struct product *p, enum quant_type type, const char *type_name,
                       struct err *err)
{
    enum { LEAST_BYTES = 1 << 28 };
    struct bench *b = &c->b;
    struct run r = {.blocks = c->blocks};
    struct matvec_product product = {.type = type, .n = p->n, .rows = p->rows, .norm = p->norm != 0};
    struct bench_time t;
    char work[96], what[64];
    double bytes;
    int status = -1;
    snprintf(product.to, sizeof product.to, "%s", p->to);
    if (get_kernel(b, p, type_name, &r.kernel, err) != 0)
        return -1;
    if (!r.blocks)
        r.blocks = bench_blocks(b, &r.kernel);
    if (matvec_chain_open(&r.chain, b, &product, LEAST_BYTES, err) != 0)
        goto done;
    r.chain.apart = c->apart != 0;
    if (work_of(b, &r, &bytes, err) != 0 || bench_graph(b, enqueue, &r, &t, err) != 0)
        goto done;
    double ms = t.ms / r.chain.matrices;
    snprintf(work, sizeof work, "%s %s %d x %d", p->model, p->what, (strcmp(p->to, "gate") ? 1 : 2) * p->rows, p->n);
    snprintf(what, sizeof what, "%s: %.0f GB/s", type_name, bytes / ms / 1e6);
    bench_row(b, work, what, ms, t.spread / r.chain.matrices, bytes / b->copy_gbs / 1e6);
    status = 0;
done:
    matvec_chain_close(&r.chain);
    kernel_free(&r.kernel);
    return status;
}

/* Whether a list that is separated by commas, or NULL for everything, has the word. */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == n && strncmp(at, word, n) == 0)
            return true;
    return list == NULL;
}

/* Every word of the list is one of `known`. */
static int check_list(const char *option, const char *list, const char *known, struct err *err)
{
    char word[32];
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',') {
        snprintf(word, sizeof word, "%.*s", (int)strcspn(at, ","), at);
        if (!listed(known, word))
            return err_set(err, "%s: '%s' is none of %s", option, word, known);
    }
    return 0;
}

static int run_all(struct matvec_bench *c, struct err *err)
{
    char type[32];
    for (const char *at = c->types; *at; at += strcspn(at, ","), at += *at == ',') {
        snprintf(type, sizeof type, "%.*s", (int)strcspn(at, ","), at); /* it is one of all_types */
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
            const struct product *p = &products[i];
            if (!listed(c->model, p->model) || !listed(c->only, p->what))
                continue;
            if (p->n % 256 != 0 && strstr(type, "_k"))
                continue; /* no such rows */
            if (run_product(c, p, (enum quant_type)quant_type_named(type), type, err) != 0)
                return -1;
        }
    }
    return 0;
}

int bench_matvec(int argc, char **argv, struct err *err)
{
    struct matvec_bench c = {.types = all_types};
    struct bench *b = &c.b;
    bench_init(b);
    const struct option rows[] = {
        {"--weights", NULL, OPTION_TEXT, &c.types, "TYPE[,TYPE]", "types of the weights (all eleven)", 0, 0, NULL},
        {"--model", NULL, OPTION_TEXT, &c.model, "NAME[,NAME]", "whose shapes: smollm2, llama-3.1-8b (both)", 0, 0,
         NULL},
        {"--product", NULL, OPTION_TEXT, &c.only, "WHAT[,WHAT]", "of q|k|v, output, gate|up, down, vocabulary (all)", 0,
         0, NULL},
        {"--blocks", NULL, OPTION_INT, &c.blocks, "B", "blocks a multiprocessor (as many as fit)", 1, 32, NULL},
        {"--apart", NULL, OPTION_FLAG, &c.apart, NULL, "launches that do not overlap", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &b->type, "fp16|bf16", "data type (bf16)", 0, 0, NULL},
        {"--set", NULL, OPTION_TEXT, &b->set, "N=V[,...]", "tile parameters (those of wisdom)", 0, 0, NULL},
        {"--output", "-o", OPTION_CHOICE, &b->format, "md|csv|json", "form of the table (md)", 0, 0, NULL},
        {"--templates", NULL, OPTION_TEXT, &b->templates, "DIR", "folder with gen/ and templates/", 0, 0, NULL},
        {0},
    };
    memcpy(b->table, rows, sizeof rows);
    struct options o = {.usage = "weir bench matvec [options]",
                        .what =
                            "Times one token's products with the matrices of a layer, by type of their weights, in a\n"
                            "CUDA graph over so many matrices that no L2 keeps them.",
                        .group = {{"options", b->table}}};
    int status = options_parse(&o, argc, argv, err);
    if (status == OPTIONS_GO) {
        if (check_list("--weights", c.types, all_types, err) != 0 ||
            check_list("--model", c.model, "smollm2,llama-3.1-8b", err) != 0 ||
            check_list("--product", c.only, "q|k|v,output,gate|up,down,vocabulary", err) != 0 ||
            bench_take_set(b, err) != 0)
            status = CMD_USAGE;
        else
            status = bench_open(b, err) != 0 || wisdom_open(&b->wisdom, b->gen, b->gpu.name, cmd_say, err) != 0 ||
                             bench_copy(b, err) != 0 || run_all(&c, err) != 0
                         ? CMD_FAILED
                         : CMD_OK;
    }
    bench_end(b);
    return status;
}
