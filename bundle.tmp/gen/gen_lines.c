/* #line directives for the compiler, from the place of every emitted line. Nothing here knows of Lua. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gen.h"

/* Where the text stands between two lines: a directive is safe only outside comments, macro definitions and open parentheses
 * (inside the arguments of a macro it is undefined). */
struct scan {
    bool comment, continued;
    int depth; /* open parentheses */
};

/* Moves over one line, its end not included. Literals do not span lines. */
static void scan_line(struct scan *s, const char *p, const char *end)
{
    if (p < end && *p == '}')
        s->depth = 0; /* a function ended: whatever was miscounted inside it is forgotten */
    s->continued = p < end && end[-1] == '\\';
    char quote = 0;
    for (; p < end; p++) {
        bool two = p + 1 < end;
        if (s->comment) {
            if (two && p[0] == '*' && p[1] == '/') {
                s->comment = false;
                p++;
            }
        } else if (quote) {
            if (*p == '\\')
                p++;
            else if (*p == quote)
                quote = 0;
        } else if (two && p[0] == '/' && p[1] == '*') {
            s->comment = true;
            p++;
        } else if (two && p[0] == '/' && p[1] == '/') {
            return;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
        } else if (*p == '(') {
            s->depth++;
        } else if (*p == ')' && s->depth > 0) {
            s->depth--;
        }
    }
}

int gen_lined_text(const struct gen_kernel *k, char **text, struct err *err)
{
    size_t size = 0;
    FILE *f = open_memstream(text, &size);
    if (!f)
        return err_set(err, "out of memory for the text of %s", k->name);
    struct scan scan = {0};
    struct gen_place next = {-1, 0}; /* what the compiler takes the coming line for */
    const char *p = k->source;
    for (int i = 0; *p; i++) {
        const char *end = strchr(p, '\n');
        if (!end)
            end = p + strlen(p);
        if (i < k->nlines && k->place[i].file >= 0) {
            struct gen_place at = k->place[i];
            bool safe = !scan.comment && !scan.continued && scan.depth == 0;
            if (safe && (at.file != next.file || at.line != next.line)) {
                fprintf(f, "#line %d \"%s\"\n", at.line, k->file[at.file]);
                next = at;
            }
        }
        fwrite(p, 1, (size_t)(end - p), f);
        fputc('\n', f);
        scan_line(&scan, p, end);
        next.line++;
        p = *end ? end + 1 : end;
    }
    if (fclose(f) != 0) {
        free(*text);
        *text = NULL;
        return err_set(err, "out of memory for the text of %s", k->name);
    }
    return 0;
}
