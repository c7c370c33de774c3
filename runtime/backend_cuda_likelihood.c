/* The CUDA backend: likelihoods of given tokens, made where the logits are. Those of a whole chunk would be gigabytes, so a piece of the
 * output's weights is expanded once and multiplied with some rows at a time, in the memory that is there for logits. */
#include "backend_cuda.h"
#include "llama_grid.h"

/* One launch of the kernel: rows [done, done + rows) of those asked for, tokens [first, first + count). */
static int reduce(struct cuda_backend *c, int done, int rows, int first, int count, int row, struct err *err)
{
    int vocab = c->shape->vocab;
    devptr nats = c->nats + (devptr)done * sizeof(float), state = c->softmax + (devptr)done * 4 * sizeof(float),
           token = c->targets + (devptr)done * sizeof(int32_t);
    return cuda_run(c, c->kernel[CK_LIKELIHOOD], rows, 1, 1, false,
                    (void *[]){&nats, &state, &c->logits, &token, &first, &count, &row, &vocab}, err);
}

/* Rows [row, row + n) of a chunk, piece by piece. */
static int reduce_chunk(struct cuda_backend *c, int row, int n, struct err *err)
{
    const struct cuda_matrix *m = &c->output.part[0];
    size_t hidden = (size_t)c->shape->hidden;
    int wide = llama_vocab_piece(c->shape->vocab), most = llama_vocab_rows(c->shape->vocab, c->p.stride);
    if (cuda_norm_output(c, row, n, err) != 0)
        return -1;
    for (int first = 0; first < m->rows; first += wide) {
        int count = m->rows - first < wide ? m->rows - first : wide;
        struct gemm g = {.y = c->logits, .n = count, .k = m->inputs, .y_row = wide, .bf16 = c->bf16, .wide = true};
        if (cuda_weights_of(c, m, first, count, &g.w, err) != 0)
            return -1;
        for (int done = 0; done < n; done += g.m) {
            g.m = n - done < most ? n - done : most;
            g.x = c->xn + (devptr)done * hidden * 2;
            if (cuda_product(c, &g, err) != 0 || reduce(c, done, g.m, first, count, wide, err) != 0)
                return -1;
        }
    }
    return 0;
}

int cuda_likelihoods(struct cuda_backend *c, int row, int n, const int32_t *token, float *nats, struct err *err)
{
    struct device *dev = &c->dev;
    int vocab = c->shape->vocab, rc;
    if (row < 0 || n < 1 || n > c->ended - row)
        return err_set(err, "likelihoods after rows %d to %d were asked for; the last chunk had %d", row, row + n - 1,
                       c->ended);
    if (backend_check_tokens(token, n, vocab, err) != 0)
        return -1;
    if (dev->upload(dev, c->targets, token, (size_t)n * sizeof *token, err) != 0)
        return -1;
    if (n > 1)
        rc = reduce_chunk(c, row, n, err);
    else if (!c->has_logits && cuda_prompt_logits(c, row, 1, err) != 0)
        rc = -1;
    else
        rc = reduce(c, 0, 1, 0, vocab, vocab, err);
    return rc != 0 ? -1 : dev->download(dev, nats, c->nats, (size_t)n * sizeof *nats, err);
}
