#include "cases_sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_kit.h"
#include "runtime/llama_grid.h"
#include "runtime/sample_state.h"

/* Some steps of one stream on both sides; each step's logits are new, and the prompt's tokens count as recent. */
struct stream {
    struct sampler_params p;
    int vocab, steps, prompt; /* prompt: recent tokens from before */
    double spread;            /* of the logits */
    int equal;                /* logits are rounded to multiples of 1 / equal, so that many are the same; 0: not */
    int broken;               /* so many logits are NaN or infinite */
    unsigned grid;            /* 0: as inference launches it */
};

static void make_logits(struct kit *kit, const struct stream *s, float *logits)
{
    for (int i = 0; i < s->vocab; i++) {
        double v = s->spread * kit_normal(kit);
        logits[i] = (float)(s->equal ? round(v * s->equal) / s->equal : v);
    }
    for (int i = 0; i < s->broken; i++)
        logits[kit_int(kit, 0, s->vocab - 1)] = i % 3 ? NAN : -INFINITY;
}

static void stream_case(struct kit *kit, const struct stream *s)
{
    struct kernel k;
    struct sampler *sampler;
    struct sample_state state;
    struct err err = {""};
    size_t vocab = (size_t)s->vocab, ring = (size_t)s->p.repeat_last + 1;
    kit_kernel(kit, &k, "sample", "t=bf16");
    if (sampler_check(&s->p, &err) != 0 || sampler_open(&sampler, &s->p, s->vocab, &err) != 0)
        fail_msg("%s", err.msg);
    float *logits = malloc(vocab * sizeof *logits);
    int32_t *recent = calloc(ring, sizeof *recent);
    sample_state_make(&state, &s->p);
    for (int i = 0; i < s->prompt; i++) {
        int id = kit_int(kit, 0, s->vocab - 1);
        sampler_accept(sampler, id);
        sample_state_accept(&state, recent, id, s->vocab);
    }
    devptr token = kit_put(kit, NULL, 4), at = kit_put(kit, &state, sizeof state),
           held = kit_put(kit, recent, ring * sizeof *recent),
           work = kit_put(kit, NULL, llama_sample_room(s->vocab) * 4);
    unsigned grid = s->grid ? s->grid : llama_grid_sample(&k.gen, s->vocab, kit->dev.facts.sms);
    int count = s->vocab;
    for (int step = 0; step < s->steps; step++) {
        int32_t got;
        make_logits(kit, s, logits);
        devptr in = kit_put(kit, logits, vocab * sizeof *logits);
        kit_launch(kit, &k, grid, 1, 1, (void *[]){&token, &in, &at, &held, &work, &count});
        kit_get(kit, &got, token, 4);
        kit_release(kit, in);
        int32_t want = sampler_pick(sampler, logits);
        if (got != want)
            fail_msg("step %d of vocabulary %d, temperature %g, top-k %d, top-p %g, min-p %g, penalty %g over %d: %d "
                     "instead of %d",
                     step, s->vocab, s->p.temperature, s->p.top_k, s->p.top_p, s->p.min_p, s->p.repeat_penalty,
                     s->p.repeat_last, (int)got, (int)want);
        sampler_accept(sampler, want);
    }
    devptr all[] = {token, at, held, work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kit_release(kit, all[i]);
    free(logits);
    free(recent);
    sampler_close(sampler);
    kernel_free(&k);
}

void sample_greedy(void **state)
{
    struct kit *kit = KIT(state);
    struct stream s = {.p = sampler_defaults(), .vocab = 3000, .steps = 3, .spread = 3};
    s.p.temperature = 0;
    stream_case(kit, &s);
    s.equal = 1; /* many are the largest: the first is taken */
    s.vocab = 5001;
    s.broken = 40;
    stream_case(kit, &s);
    s.p.repeat_penalty = 1.7;
    s.p.repeat_last = 30;
    s.prompt = 25;
    s.vocab = 60; /* most tokens are recent, some twice; the ring runs over */
    s.steps = 9;
    s.broken = 0;
    stream_case(kit, &s);
    s.vocab = 2500;
    s.grid = 1;
    s.steps = 2;
    stream_case(kit, &s);
    s.vocab = 1;
    stream_case(kit, &s);
    s.vocab = 70;
    s.broken = 3000; /* all of them */
    stream_case(kit, &s);
    if (!kit->emulated) {
        s = (struct stream){.p = s.p, .vocab = 128256, .steps = 20, .spread = 3, .prompt = 30};
        stream_case(kit, &s);
    }
}

/* Options by chance, streams of some tokens each. A draw that lies within rounding of a boundary could differ, since the device
 * has an exp() of its own: in 53 bits that does not happen. */
void sample_options(void **state)
{
    struct kit *kit = KIT(state);
    static const int top_k[] = {0, 1, 2, 5, 40, 300, 100000}, vocab[] = {50, 700, 3000};
    static const double top_p[] = {1, 0.95, 0.5, 0.01}, min_p[] = {0, 0.05, 0.3, 1}, temperature[] = {0.3, 0.8, 1, 5};
    for (int i = 0; i < (kit->emulated ? 24 : 300); i++) {
        struct stream s = {.p = sampler_defaults(), .steps = 3, .prompt = kit_int(kit, 0, 20)};
        s.p.seed = kit_random(kit);
        s.p.top_k = top_k[kit_int(kit, 0, 6)];
        s.p.top_p = top_p[kit_int(kit, 0, 3)];
        s.p.min_p = min_p[kit_int(kit, 0, 3)];
        s.p.temperature = temperature[kit_int(kit, 0, 3)];
        s.p.repeat_penalty = i % 3 ? 1 : 1.3;
        s.p.repeat_last = kit_int(kit, 0, 30);
        s.vocab = kit->emulated ? vocab[i % 3 < 2 ? i % 3 : kit_int(kit, 0, 1)] : kit_int(kit, 1, 130000);
        s.spread = i % 5 ? 3 : 0.2;
        s.equal = i % 4 == 3 ? 2 : 0;
        s.broken = i % 7 == 6 ? 30 : 0;
        stream_case(kit, &s);
    }
}

/* So many blocks that the firsts of their warps are taken in groups, and a top-k beside the number of groups. */
void sample_large(void **state)
{
    struct kit *kit = KIT(state);
    static const int top_k[] = {40, 2, 64, 65, 300};
    for (int i = 0; i < 5; i++) {
        struct stream s = {.p = sampler_defaults(), .vocab = 20000, .steps = kit->emulated ? 1 : 20, .spread = 3};
        s.p.seed = kit_random(kit);
        s.p.top_k = top_k[i];
        s.p.top_p = 1;
        s.p.min_p = 0;
        s.p.temperature = 5;
        s.equal = i % 2 ? 0 : 4;
        stream_case(kit, &s);
    }
}

/* More candidates left than are sorted: the whole distribution, a top-k and a top-p inside it. */
void sample_wide(void **state)
{
    struct kit *kit = KIT(state);
    static const struct {
        int top_k, equal;
        double top_p, min_p;
    } wide[] = {{0, 0, 1, 0}, {0, 1, 0.9, 0}, {2500, 4, 1, 0}, {2500, 0, 0.97, 0.01}};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        struct stream s = {.p = sampler_defaults(),
                           .vocab = kit->emulated ? 2600 : 50000,
                           .steps = kit->emulated ? 1 : 8,
                           .spread = 1};
        s.p.temperature = 1.2;
        s.p.seed = kit_random(kit);
        s.p.top_k = wide[i].top_k;
        s.p.top_p = wide[i].top_p;
        s.p.min_p = wide[i].min_p;
        s.equal = wide[i].equal;
        stream_case(kit, &s);
    }
}
