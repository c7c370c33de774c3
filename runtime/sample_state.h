#ifndef WEIR_SAMPLE_STATE_H
#define WEIR_SAMPLE_STATE_H

/* What the kernel `sample` reads and keeps, in device memory: the options of sampler.h and the state of one stream of tokens. The
 * host writes it before the first token (sample_state_make), and then only to change something. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler.h"

/* As the kernel has it (templates/sample.cu.t). */
struct sample_state {
    double temperature, top_p;
    double log_min_p; /* log(min_p); minus infinity where min_p is 0 */
    uint64_t random;  /* of the next draw */
    float penalty;
    int32_t top_k;                      /* 0: all */
    int32_t repeat_last, nrecent, next; /* the ring `recent`: its size, tokens held, slot that is written next */
    uint32_t arrived;                   /* blocks that have left their part; 0 between launches */
};

/* A state with no recent tokens. */
void sample_state_make(struct sample_state *s, const struct sampler_params *p);

/* sampler_accept on the host's copies of state and ring [repeat_last]. */
void sample_state_accept(struct sample_state *s, int32_t *recent, int32_t id, int vocab);

/* What a sampler's next pick starts from, for the kernel; recent [room] gets its ring. false where the ring is larger than that. */
bool sampler_device_state(const struct sampler *s, struct sample_state *out, int32_t *recent, int room);

/* The kernel picked a token, and its state's counter of random numbers came to `random`: leaves the sampler as sampler_pick would
 * have. */
void sampler_picked(struct sampler *s, uint64_t random);

#endif
