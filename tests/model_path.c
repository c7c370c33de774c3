#include "model_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int default_model_path(char *path, size_t room)
{
    const char *model = getenv("MODEL"), *cache = getenv("WEIR_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    const char *file = "SmolLM2-135M-Instruct.Q4_1.gguf";
    if (model && model[0])
        snprintf(path, room, "%s", model);
    else if (cache && cache[0])
        snprintf(path, room, "%s/%s", cache, file);
    else if (xdg && xdg[0])
        snprintf(path, room, "%s/weir/%s", xdg, file);
    else
        snprintf(path, room, "%s/.cache/weir/%s", home ? home : "", file);
    return access(path, R_OK);
}
