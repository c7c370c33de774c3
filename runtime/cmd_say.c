/* How commands speak to their user: wisdom's lines, JSON. */
#include <stdio.h>
#include <stdlib.h>

#include <cJSON.h>

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

void cmd_print_json(cJSON *top)
{
    char *line = cJSON_PrintUnformatted(top);
    printf("%s\n", line ? line : "{}");
    cJSON_free(line);
    cJSON_Delete(top);
}
