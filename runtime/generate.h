#ifndef WEIR_GENERATE_H
#define WEIR_GENERATE_H

/* Sampling token after token into the cache, with the text printed as it comes. Shared by run and chat. */

#include "sampler.h"
#include "session.h"

/* The options of sampling, the same for run and chat. */
struct generate_options {
    struct sampler_params sampler;
    int64_t seed;
    bool greedy, ignore_end;
    int64_t most;            /* tokens at most, -n */
    struct option table[12]; /* ends with a NULL name */
};

/* Fills in the defaults and the table that options_parse reads into *o, which must stay where it is. */
void generate_options_init(struct generate_options *o, int64_t most);
/* Takes the sampling of a saved stream; options that are parsed later win. */
void generate_options_adopt(struct generate_options *o, const struct sampler_params *p);
/* After parsing: 0, or -1 with *err naming option and value (a usage error). */
int generate_options_finish(struct generate_options *o, struct err *err);

enum generate_end { GENERATE_LIMIT, GENERATE_END_TOKEN, GENERATE_INTERRUPTED };

/* One text that is being generated. */
struct generation {
    struct session *s;
    const struct generate_options *options;
    FILE *echo;       /* bytes go here as they come; NULL for none */
    bool keep;        /* collect text and ids below */
    char *text;       /* [len], owned, not NUL-terminated */
    size_t len, room; /* bytes */
    struct ids ids;
    int64_t tokens; /* generated, the end token not counted */
    double seconds;
    enum generate_end end;
    int32_t end_token; /* with GENERATE_END_TOKEN: it was sampled and not fed */
};

/* Samples from where the stream stands, feeds each token, and ends after options->most tokens, before an end token, or when the user
 * interrupts. Afterwards the cache holds all tokens that were printed. */
int generate(struct generation *g, struct err *err);
void generation_free(struct generation *g);

/* Bytes as a text that JSON can hold: what is not UTF-8, and NUL, becomes U+FFFD. The caller frees; NULL when memory is out. */
char *json_text(const char *bytes, size_t len);

/* The last line of run and chat, to stderr: tokens that were read and generated, in so many seconds, and the cache. */
void generate_summary(const struct session *s, int64_t read, double read_seconds, int64_t made, double made_seconds);

/* Tokens per second, 0 where nothing was done. */
double generate_rate(int64_t tokens, double seconds);

#endif
