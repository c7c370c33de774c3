/* What a chunk runs beside attention and matrix products. All of it moves memory, and a config changes little but how much is under way. */
#include <math.h>

#include "predict_private.h"
#include "runtime/llama_grid.h"

/* A row a block, which is in registers before its sum is known. */
int predict_norm(struct predict_job *job, struct err *err)
{
    double tokens, n = (double)predict_param(job, "n", 4096);
    if (predict_size(job, "tokens", &tokens, err) != 0)
        return -1;
    predict_traffic(job, tokens, 16 * ceil(n / 4 / job->in->spec->threads), 2);
    return 0;
}

/* A thread takes eight elements of a row, all at once: `bytes` are read of them. */
static int pieces(struct predict_job *job, const char *row, double bytes, struct err *err)
{
    double tokens, n;
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, row, &n, err))
        return -1;
    predict_traffic(job, ceil(tokens * n / 8 / job->in->spec->threads), bytes, 1);
    return 0;
}

int predict_swiglu(struct predict_job *job, struct err *err)
{
    return pieces(job, "ffn", 32, err);
}

int predict_bias(struct predict_job *job, struct err *err)
{
    return pieces(job, "n", 16, err);
}

/* Bytes of eight weights. */
static double eight(const struct predict_job *job)
{
    return 8 * (double)predict_param(job, "block_bytes", 2) / (double)predict_param(job, "block", 1);
}

/* A thread takes eight weights after eight. */
int predict_dequantise(struct predict_job *job, struct err *err)
{
    double elements;
    if (predict_size(job, "elements", &elements, err) != 0)
        return -1;
    double blocks = fmax(1, llama_grid_dequantise(job->in->spec, (int64_t)elements, job->in->gpu->sms));
    predict_traffic(job, blocks, eight(job) + 16, 1);
    return 0;
}

int predict_embed(struct predict_job *job, struct err *err)
{
    double tokens, n = (double)predict_param(job, "n", 4096);
    if (predict_size(job, "tokens", &tokens, err) != 0)
        return -1;
    predict_traffic(job, tokens, eight(job) + 32, 1 + ceil(n / 8 / job->in->spec->threads));
    return 0;
}

/* A row a block, launch after launch over the pieces of the vocabulary. */
int predict_likelihood(struct predict_job *job, struct err *err)
{
    double tokens, vocab, u = (double)predict_param(job, "u", 1);
    if (predict_size(job, "tokens", &tokens, err) || predict_size(job, "vocab", &vocab, err))
        return -1;
    double wide = fmax(4, llama_vocab_piece((int)vocab)),
           rows = fmin(tokens, fmax(1, llama_vocab_rows((int)vocab, (int)tokens)));
    double launches = ceil(vocab / wide) * ceil(tokens / rows);
    predict_traffic(job, rows, 16 * u, launches * (2 + ceil(wide / (4 * u * job->in->spec->threads))));
    return 0;
}

/* All blocks read a span of logits after another; the last one reads what they left and sorts what is in the list. */
int predict_sample(struct predict_job *job, struct err *err)
{
    double vocab, span = (double)predict_param(job, "span", 1024), threads = job->in->spec->threads;
    if (predict_size(job, "vocab", &vocab, err) != 0)
        return -1;
    double blocks = fmax(1, llama_grid_sample(job->in->spec, (int)vocab, job->in->gpu->sms));
    predict_traffic(job, blocks, 4, 2 + ceil(vocab / (blocks * span)) * ceil(span / threads) + vocab / threads / 8);
    return 0;
}
