#include "sample_state.h"

#include <math.h>

void sample_state_make(struct sample_state *s, const struct sampler_params *p)
{
    *s = (struct sample_state){
        .temperature = p->temperature,
        .top_p = p->top_p,
        .log_min_p = p->min_p > 0 ? log(p->min_p) : -INFINITY,
        .random = p->seed,
        .penalty = (float)p->repeat_penalty,
        .top_k = p->top_k,
        .repeat_last = p->repeat_last,
    };
}

void sample_state_accept(struct sample_state *s, int32_t *recent, int32_t id, int vocab)
{
    if (s->repeat_last == 0 || id < 0 || id >= vocab)
        return;
    recent[s->next] = id;
    s->next = (s->next + 1) % s->repeat_last;
    s->nrecent += s->nrecent < s->repeat_last;
}
