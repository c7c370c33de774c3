/* The CUDA backend: the next token is picked where the logits are, and only its number and the sampler's state come back. */
#include <stddef.h>

#include "backend_cuda.h"
#include "llama_grid.h"

int cuda_pick(struct cuda_backend *c, struct sampler *s, int row, int32_t *id, struct err *err)
{
    struct device *dev = &c->dev;
    struct cuda_pick *pick = c->pick;
    if (row < 0 || row >= c->ended)
        return err_set(err, "a token after row %d was asked for; the last chunk had %d", row, c->ended);
    /* Nothing of the pick before is under way: its token was waited for. */
    if (!sampler_device_state(s, &pick->state, pick->recent, CUDA_RECENT))
        return 1; /* more recent tokens than there is room for */
    if (!c->has_logits && cuda_prompt_logits(c, row, 1, err) != 0)
        return -1;
    const struct gen_kernel *g = &cuda_kernels_get(c->kernels, c->kernel[CK_SAMPLE])->gen;
    devptr state = c->pick_at, token = state + offsetof(struct cuda_pick, token),
           recent = state + offsetof(struct cuda_pick, recent);
    int vocab = c->shape->vocab;
    size_t bytes = offsetof(struct cuda_pick, recent) + (size_t)pick->state.nrecent * sizeof *pick->recent;
    if (dev->upload_async(dev, state, pick, bytes, err) != 0 ||
        cuda_run(c, c->kernel[CK_SAMPLE], llama_grid_sample(g, vocab, dev->facts.sms), 1, 1, false,
                 (void *[]){&token, &c->logits, &state, &recent, &c->pick_work, &vocab}, err) != 0 ||
        dev->download_async(dev, pick, state, offsetof(struct cuda_pick, recent), err) != 0 || dev->sync(dev, err) != 0)
        return -1;
    *id = pick->token;
    sampler_picked(s, pick->state.random);
    return 0;
}
