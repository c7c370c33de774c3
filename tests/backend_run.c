#include "backend_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_writer.h"
#include "runtime/llama.h"

void repeating_tokens(int32_t *tokens, size_t n, int vocab, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = i > 20 && random_int(&seed, 0, 2) == 0 ? tokens[random_int(&seed, 0, (int)i - 1)]
                                                           : random_int(&seed, 0, vocab - 1);
}

/* A text on its way through the backend. */
struct feed {
    struct oracle_llama *out;
    const struct model *m;
    const int32_t *tokens; /* [n] */
    size_t n, done;
    float *logits; /* [vocab] */
    struct err *err;
};

static double nats_of(const float *logits, int vocab, int32_t token)
{
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < vocab; i++)
        largest = fmax(largest, (double)logits[i]);
    for (int i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - largest);
    return largest + log(sum) - (double)logits[token];
}

/* The backend's own likelihoods of n tokens behind `row`, beside those from its logits. */
static int check_likelihoods(struct feed *f, struct backend *be, int row, int n, const int32_t *token)
{
    int vocab = f->m->shape.vocab, rc = -1;
    float *nats = err_calloc((size_t)n, sizeof *nats, "likelihoods", f->err),
          *logits = err_calloc((size_t)n * (size_t)vocab, sizeof *logits, "logits", f->err);
    if (nats && logits)
        rc = be->likelihoods(be, row, n, token, nats, f->err) || be->logits(be, row, n, logits, f->err) ? -1 : 0;
    for (int i = 0; i < n && rc == 0; i++) {
        double want = nats_of(logits + (size_t)i * (size_t)vocab, vocab, token[i]);
        if (!(fabs((double)nats[i] - want) <= 1e-5 * (1 + fabs(want))))
            rc =
                err_set(f->err, "row %d: a likelihood of %.7f, and by the logits %.7f", row + i, (double)nats[i], want);
    }
    free(nats);
    free(logits);
    return rc;
}

static int take_chunk(void *user, struct backend *be, const int32_t *tokens, int T)
{
    struct feed *f = user;
    int vocab = f->m->shape.vocab;
    for (int row = 0; row < T; row++, f->done++) {
        if (be->logits(be, row, 1, f->logits, f->err) < 0)
            return -1;
        if (f->done + 1 < f->n)
            f->out->nll[f->done] = nats_of(f->logits, vocab, f->tokens[f->done + 1]);
    }
    for (int i = 0; i < vocab; i++)
        f->out->last[i] = (double)f->logits[i];
    const int32_t *next = f->tokens + (f->done - (size_t)T) + 1;
    int n = f->done < f->n ? T : T - 1, part = n / 3; /* the last one of the text foretells nothing */
    if (part > 0 && check_likelihoods(f, be, 0, part, next) != 0)
        return -1;
    return n > part ? check_likelihoods(f, be, part, n - part, next + part) : 0;
}

/* What layer and head hold, from rows to order of position. */
static int take_cache(struct oracle_llama *out, struct backend *be, const struct cascade_params *p, int layer, int head,
                      int64_t *origin, float *score, struct err *err)
{
    struct cascade_state s;
    struct cascade_run run[CASCADE_MAX_RUNS];
    cascade_state_at(p, be->seen(be), &s);
    if (be->origins(be, layer, head, origin, err) < 0 || be->scores(be, layer, head, score, err) < 0)
        return -1;
    size_t at = ((size_t)layer * (size_t)out->cascades + (size_t)head) * (size_t)out->held;
    int runs = cascade_runs(p, &s, run);
    for (int i = 0; i < runs; i++)
        for (int row = run[i].row; row < run[i].row + run[i].len; row++, at++) {
            out->kept[at] = origin[row];
            out->score[at] = (double)score[row];
        }
    return 0;
}

int backend_run(struct oracle_llama *out, struct backend *be, const struct model *m, const struct cascade_params *p,
                const int32_t *tokens, size_t n, struct err *err)
{
    size_t vocab = (size_t)m->shape.vocab, rows = (size_t)cascade_rows(p);
    int rc = -1;
    struct cascade_state s;
    cascade_state_at(p, (int64_t)n, &s);
    *out = (struct oracle_llama){.layers = m->shape.layers, .closest = INFINITY, .held = cascade_held(p, &s)};
    out->cascades = p->policy == POLICY_HOMOGENEOUS ? 1 : m->shape.kv_heads;
    size_t places = (size_t)(out->layers * out->cascades) * (size_t)out->held;
    struct feed f = {.out = out, .m = m, .tokens = tokens, .n = n, .err = err};
    f.logits = err_calloc(vocab, sizeof *f.logits, "logits", err);
    int64_t *origin = err_calloc(rows, sizeof *origin, "token numbers", err);
    float *score = err_calloc(rows, sizeof *score, "scores", err);
    out->nll = err_calloc(n, sizeof *out->nll, "likelihoods", err);
    out->last = err_calloc(vocab, sizeof *out->last, "logits", err);
    out->kept = err_calloc(places, sizeof *out->kept, "token numbers", err);
    out->score = err_calloc(places, sizeof *out->score, "scores", err);
    if (!f.logits || !origin || !score || !out->nll || !out->last || !out->kept || !out->score)
        goto done;
    if (llama_feed(be, m, p, tokens, n, take_chunk, &f, err) != 0)
        goto done;
    for (int layer = 0; layer < out->layers; layer++)
        for (int head = 0; head < out->cascades; head++)
            if (take_cache(out, be, p, layer, head, origin, score, err) < 0)
                goto done;
    rc = 0;
done:
    free(f.logits);
    free(origin);
    free(score);
    if (rc != 0)
        oracle_llama_free(out);
    return rc;
}

int backend_run_cpu(struct oracle_llama *out, const struct model *m, const struct cascade_params *p,
                    const int32_t *tokens, size_t n, int threads, struct err *err)
{
    struct backend be;
    if (backend_cpu_open(&be, m, p, &(struct backend_options){.threads = threads}, err) < 0)
        return -1;
    int rc = backend_run(out, &be, m, p, tokens, n, err);
    be.close(&be);
    return rc;
}

struct llama_difference llama_compare(const struct oracle_llama *a, const struct oracle_llama *b, size_t n)
{
    struct llama_difference d = {0};
    double mean_a = 0, mean_b = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        double gap = fabs(a->nll[i] - b->nll[i]);
        if (!(gap <= d.nll)) { /* a NaN counts */
            d.nll = isnan(gap) ? INFINITY : gap;
            d.at = i;
        }
        mean_a += a->nll[i] / (double)(n - 1);
        mean_b += b->nll[i] / (double)(n - 1);
    }
    d.mean_nll = fabs(mean_a - mean_b);
    size_t held = (size_t)a->held, caches = (size_t)(a->layers * a->cascades);
    for (size_t i = 0; i < caches; i++) {
        double largest = 0;
        for (size_t j = i * held; j < (i + 1) * held; j++)
            largest = fmax(largest, fabs(a->score[j]));
        for (size_t j = i * held; j < (i + 1) * held; j++) {
            d.kept += a->kept[j] != b->kept[j];
            d.score = fmax(d.score, fabs(a->score[j] - b->score[j]) / largest);
        }
    }
    return d;
}
