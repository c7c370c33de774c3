/* How wisdom's lines reach a command's user. */
#include <stdio.h>
#include <stdlib.h>

#include "cmd.h"

bool cmd_verbose(void)
{
    const char *verbose = getenv("WEIR_VERBOSE");
    return verbose && verbose[0] && verbose[0] != '0';
}

void cmd_say(bool warning, const char *line)
{
    if (warning)
        fprintf(stderr, "weir: warning: %s\n", line);
    else if (cmd_verbose())
        fprintf(stderr, "wisdom: %s\n", line);
}
