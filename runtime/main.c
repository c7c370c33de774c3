/* weir: generates, compiles, tunes and runs cascade attention. This file picks the command; only it prints errors. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "timeline.h"

static const struct command {
    const char *name;
    cmd_fn *run;
    const char *what;
} commands[] = {
    {"doctor", cmd_doctor, "what this machine has, and what will run on it"},
    {"gen", cmd_gen, "render kernels, compile them for any GPU"},
    {"tune", cmd_tune, "find the best tile of each kernel for a GPU"},
    {"bench", cmd_bench, "how fast this machine is, beside its limits"},
    {"run", cmd_run, "continue a text of any length"},
    {"chat", cmd_chat, "a conversation in constant memory"},
    {"eval", cmd_eval, "perplexity of a text, retrieval of a pass key"},
    {"trace", cmd_trace, "what the cascade keeps, for given scores"},
    {"tokenize", cmd_tokenize, "token ids of a text"},
    {0, 0, 0},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: weir COMMAND [options]     (weir COMMAND --help says more)\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(to, "  %-10s %s\n", c->name, c->what);
}

static void show_time(const char *line)
{
    fprintf(stderr, "time: %s\n", line);
}

int main(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "help")) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? CMD_USAGE : CMD_OK;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        usage(stdout);
        return CMD_OK;
    }
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(argv[1], c->name)) {
            struct err err = {""};
            if (cmd_verbose())
                timeline_begin();
            int status = c->run(argc - 1, argv + 1, &err);
            timeline("end");
            timeline_show(show_time);
            if (status != CMD_OK && err.msg[0])
                fprintf(stderr, "weir %s: %s\n", c->name, err.msg);
            return status;
        }
    fprintf(stderr, "weir: unknown command '%s'; weir help lists them\n", argv[1]);
    return CMD_USAGE;
}
