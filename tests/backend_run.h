#ifndef TESTS_BACKEND_RUN_H
#define TESTS_BACKEND_RUN_H

/* What a backend makes of a text, in the oracle's terms, and how far the two are apart. */

#include "oracle_llama.h"
#include "runtime/backend.h"

/* n random tokens of a vocabulary, some of them over again, so that some keys are looked for again. */
void repeating_tokens(int32_t *tokens, size_t n, int vocab, uint64_t seed);

/* Feeds n tokens to an open backend (empty stream) in chunks of p->stride and fills *out as oracle_llama_run does; `closest`
 * stays infinite. Freed by oracle_llama_free. Returns 0, or -1 with *err. */
int backend_run(struct oracle_llama *out, struct backend *be, const struct model *m, const struct cascade_params *p,
                const int32_t *tokens, size_t n, struct err *err);

/* The same on the CPU backend, opened and closed. */
int backend_run_cpu(struct oracle_llama *out, const struct model *m, const struct cascade_params *p,
                    const int32_t *tokens, size_t n, int threads, struct err *err);

struct llama_difference {
    double nll;      /* largest, nats a token */
    size_t at;       /* the token after which it is */
    double mean_nll; /* of the means of both, absolute */
    size_t kept;     /* places of all caches that hold another token */
    double score;    /* largest of a score, relative to the largest score of its cache */
};

/* Both over the same n tokens, model and parameters. */
struct llama_difference llama_compare(const struct oracle_llama *a, const struct oracle_llama *b, size_t n);

#endif
