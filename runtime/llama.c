#include "llama.h"

int llama_forward(struct backend *be, const struct model *m, const int32_t *tokens, int T, struct err *err)
{
    if (be->begin(be, tokens, T, err) < 0)
        return -1;
    for (int layer = 0; layer < m->shape.layers; layer++)
        if (be->attend(be, layer, err) < 0 || be->feed_forward(be, layer, err) < 0)
            return -1;
    return be->end(be, err);
}

int llama_feed(struct backend *be, const struct model *m, const struct cascade_params *p, const int32_t *tokens,
               size_t n, llama_chunk_fn fn, void *user, struct err *err)
{
    for (size_t done = 0; done < n;) {
        int T = n - done < (size_t)p->stride ? (int)(n - done) : p->stride;
        if (llama_forward(be, m, tokens + done, T, err) < 0)
            return -1;
        int status = fn ? fn(user, be, tokens + done, T) : 0;
        if (status)
            return status;
        done += (size_t)T;
    }
    return 0;
}
