/* weir bench: how fast this machine is, each row beside its limit. Every kind of bench is a file of its own. */
#include <stdio.h>
#include <string.h>

#include "../tuner/bench.h"
#include "cmd.h"

static const struct kind {
    const char *name;
    cmd_fn *run;
    const char *what;
} kinds[] = {
    {"decode", bench_decode, "one token through attention and its scores on the GPU"},
    {"prefill", bench_prefill, "a chunk through attention, its scores and the cascade on the GPU; causal attention"},
    {"matvec", bench_matvec, "one token times matrices of each type on the GPU"},
    {"update", bench_update, "a chunk's way down the cascade on the GPU"},
    {"stream", bench_stream, "a prompt of 1M tokens through one layer's attention, scores and cascade on the GPU"},
    {"model", bench_model, "a whole model on the CPU: prompt and decoding"},
    {0, 0, 0},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: weir bench KIND [options]     (weir bench KIND --help says more)\n\n");
    for (const struct kind *k = kinds; k->name; k++)
        fprintf(to, "  %-10s %s\n", k->name, k->what);
}

int cmd_bench(int argc, char **argv, struct err *err)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        usage(stdout);
        return CMD_OK;
    }
    for (const struct kind *k = kinds; argc > 1 && k->name; k++)
        if (!strcmp(argv[1], k->name)) {
            int status = k->run(argc - 1, argv + 1, err);
            if (status == CMD_FAILED || (status == CMD_USAGE && err->msg[0]))
                err_prefix(err, "%s", k->name);
            return status;
        }
    if (argc > 1)
        err_set(err, "unknown kind '%s'; weir bench --help lists them", argv[1]);
    else
        usage(stderr);
    return CMD_USAGE;
}
