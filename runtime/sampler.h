#ifndef WEIR_SAMPLER_H
#define WEIR_SAMPLER_H

/* Picks the next token from logits. The steps and their order are those that llama.cpp's users know: repetition penalty, top-k,
 * top-p, min-p, temperature, then a random draw. The same seed, options and logits give the same tokens on every machine whose
 * exp() agrees. */

#include <stdint.h>

#include "err.h"

struct sampler_params {
    double temperature;    /* 0: the likeliest token, always ("greedy") */
    int top_k;             /* only the k likeliest; 0: all */
    double top_p;          /* only the fewest that together have at least this probability; 1: all */
    double min_p;          /* only those at least this probable beside the likeliest; 0: all */
    double repeat_penalty; /* logits of recent tokens are divided by it (multiplied where negative); 1: none */
    int repeat_last;       /* how many tokens are recent; 0: none */
    uint64_t seed;
};

/* llama.cpp's: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalty (over 64 tokens), seed 0. */
struct sampler_params sampler_defaults(void);

/* Returns 0, or -1 with *err naming option and value. */
int sampler_check(const struct sampler_params *p, struct err *err);

struct sampler; /* opaque; one stream of tokens */

/* vocab: number of logits. */
int sampler_open(struct sampler **out, const struct sampler_params *p, int vocab, struct err *err);
void sampler_close(struct sampler *s);

/* Tells the sampler of a token of the text, for the repetition penalty: those of the prompt (the last ones suffice), and each one that
 * was picked and fed. An id outside the vocabulary is ignored. */
void sampler_accept(struct sampler *s, int32_t id);

/* Picks a token; logits [vocab] fp32 are left as they are. NaN counts as minus infinity; of equal logits the lowest id comes first. */
int32_t sampler_pick(struct sampler *s, const float *logits);

/* What a sampler is between two picks, so that a stream can be saved and go on with the very tokens that it would have had. */
struct sampler_state {
    struct sampler_params p;
    uint64_t random; /* counter of the random numbers */
    int nrecent;     /* <= p.repeat_last */
    int32_t *recent; /* [nrecent] oldest first, owned; free() it */
};

/* A copy of the state. Returns 0, or -1 when memory is out. */
int sampler_save(const struct sampler *s, struct sampler_state *out, struct err *err);
/* Puts a sampler, which may have been opened with other parameters, where the saved one was. Its random numbers go on only where it
 * has the same seed. */
void sampler_restore(struct sampler *s, const struct sampler_state *from);
/* Forgets the text, and begins the random numbers anew. */
void sampler_reset(struct sampler *s);

#endif
