#ifndef WEIR_KEEP_H
#define WEIR_KEEP_H

/* --save and --load: streams that outlive the program, for run and chat. */

#include "generate.h"

struct keep {
    const char *save, *load; /* files, or NULL */
    struct stream_file file; /* with --load, from keep_parse on */
    struct option table[3];  /* ends with a NULL name */
};

/* Fills in the table, which must stay where it is. */
void keep_init(struct keep *k);
void keep_close(struct keep *k);

/* options_parse for a command with a stream. With --load, what the options do not say about cascade and sampling is as the file has
 * it. Returns OPTIONS_GO or an exit status. */
int keep_parse(struct keep *k, struct options *set, struct cascade_options *c, struct generate_options *g, int argc,
               char **argv, struct err *err);

/* session_begin, or, with --load, a session whose stream is where the file has it. Finds out, too, whether --save can write where it
 * is to. Returns an exit status. */
int keep_begin(const struct keep *k, struct session *s, const struct session_options *o, struct cascade_options *c,
               const struct generate_options *g, struct err *err);

/* With --save, writes the stream. 0, or -1 with *err. */
int keep_save(const struct keep *k, struct session *s, struct err *err);

#endif
