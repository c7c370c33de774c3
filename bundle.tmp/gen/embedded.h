#ifndef WEIR_EMBEDDED_H
#define WEIR_EMBEDDED_H

#include <stddef.h>

/* The Lua files and templates that were built into the binary (gen/embed.lua writes the table). */
struct embedded_file {
    const char *path; /* "gen/template.lua"; NULL ends the table */
    const char *text; /* NUL-terminated */
    size_t len;
};
extern const struct embedded_file embedded_files[];

#endif
