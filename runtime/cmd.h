#ifndef WEIR_CMD_H
#define WEIR_CMD_H

#include <stdbool.h>

#include "err.h"

/* Exit status of a command. */
enum { CMD_OK = 0, CMD_FAILED = 1, CMD_USAGE = 2 };

/* One command of the program, in a file cmd_<name>.c of its own. argv[0] is the command's name. Returns an exit status; on
 * CMD_FAILED and CMD_USAGE *err holds the one line that main prints. Results go to stdout, progress to stderr. */
typedef int cmd_fn(int argc, char **argv, struct err *err);

/* A wisdom_say for commands: warnings, and with WEIR_VERBOSE every look-up, on stderr. */
void cmd_say(bool warning, const char *line);
/* Whether WEIR_VERBOSE asks for more. */
bool cmd_verbose(void);

/* Prints a JSON value as one line on stdout, and deletes it. */
struct cJSON;
void cmd_print_json(struct cJSON *top);

cmd_fn cmd_doctor, cmd_gen, cmd_tune, cmd_run, cmd_chat, cmd_bench, cmd_eval, cmd_trace, cmd_tokenize;

#endif
