/* The CPU backend: likelihoods of given tokens, from the logits of some rows at a time. */
#include <stdlib.h>

#include "backend_cpu.h"
#include "likelihood.h"

enum { ROWS = 16 }; /* that are held at a time: 49152 tokens of vocabulary x 1024 rows would be 200 MB */

struct rows {
    const float *logits; /* [..][vocab] */
    const int32_t *token;
    float *nats;
    int vocab;
};

static void one_row(void *context, int item, int thread)
{
    const struct rows *r = context;
    (void)thread;
    r->nats[item] = (float)likelihood_nats(r->logits + (size_t)item * (size_t)r->vocab, r->vocab, r->token[item]);
}

int cpu_likelihoods(struct backend *be, int row, int n, const int32_t *token, float *nats, struct err *err)
{
    struct cpu *c = be->state;
    int rc = 0;
    if (backend_check_tokens(token, n, c->shape->vocab, err) != 0)
        return -1;
    float *logits = err_alloc((size_t)ROWS * (size_t)c->shape->vocab, sizeof *logits, "logits", err);
    if (!logits)
        return -1;
    for (int done = 0, m; done < n && rc == 0; done += m) {
        m = n - done < ROWS ? n - done : ROWS;
        rc = be->logits(be, row + done, m, logits, err);
        if (rc == 0)
            pool_run(c->pool, m, one_row, &(struct rows){logits, token + done, nats + done, c->shape->vocab});
    }
    free(logits);
    return rc;
}
