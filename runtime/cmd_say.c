/* How wisdom's lines reach a command's user. */
#include <stdio.h>
#include <stdlib.h>

#include "cmd.h"

void cmd_say(bool warning, const char *line)
{
    const char *verbose = getenv("WEIR_VERBOSE");
    if (warning)
        fprintf(stderr, "weir: warning: %s\n", line);
    else if (verbose && verbose[0] && verbose[0] != '0')
        fprintf(stderr, "wisdom: %s\n", line);
}
