#include "weave.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory.h"
#include "model.h"

struct weave {
    pthread_mutex_t mutex;
    const struct simd *simd; /* that has woven, or found that it cannot; NULL before */
    struct weave_model model;
    unsigned char *memory; /* [bytes], of mmap */
    size_t bytes;
};

int weave_open(struct weave **out, struct err *err)
{
    if (!(*out = err_calloc(1, sizeof **out, "woven weights", err)))
        return -1;
    pthread_mutex_init(&(*out)->mutex, NULL);
    return 0;
}

static void release(struct weave *w)
{
    if (w->memory)
        munmap(w->memory, w->bytes);
    free(w->model.layer);
    w->memory = NULL;
    w->model = (struct weave_model){0};
}

void weave_close(struct weave *w)
{
    if (!w)
        return;
    release(w);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

/* A matrix that is to be woven, and where to. */
struct piece {
    const struct tensor *from;
    unsigned char *to;
};

struct job {
    const struct model *m;
    const struct simd_woven *simd;
    struct piece *piece; /* [pieces] */
    size_t pieces, bytes;
};

/* Takes a matrix into the job, or, where the job has no room yet, only counts it. */
static const unsigned char *take(struct job *j, unsigned char *memory, const struct tensor *t)
{
    if (!j->simd->has(t->type) || t->ne[1] % SIMD_WOVEN_ROWS || t->repeats)
        return NULL;
    unsigned char *to = memory ? memory + j->bytes : NULL;
    if (j->piece)
        j->piece[j->pieces] = (struct piece){t, to};
    j->pieces++;
    j->bytes += (t->bytes + 63) / 64 * 64;
    return to;
}

static void take_all(struct job *j, unsigned char *memory, struct weave_model *w)
{
    j->pieces = j->bytes = 0;
    for (int i = 0; i < j->m->shape.layers; i++) {
        const struct model_layer *l = &j->m->layer[i];
        struct weave_layer none, *to = w ? &w->layer[i] : &none;
        to->wq = take(j, memory, l->wq);
        to->wk = take(j, memory, l->wk);
        to->wv = take(j, memory, l->wv);
        to->wo = take(j, memory, l->wo);
        to->gate = take(j, memory, l->gate);
        to->up = take(j, memory, l->up);
        to->down = take(j, memory, l->down);
    }
    const unsigned char *output = take(j, memory, j->m->output);
    if (w)
        w->output = output;
}

/* One matrix; its pages of the file go as they have been read, so that both forms are never in memory together. */
static void weave_item(void *context, int item, int thread)
{
    struct job *j = context;
    const struct piece *p = &j->piece[item];
    size_t row = p->from->bytes / (size_t)p->from->ne[1];
    for (size_t at = 0; at < p->from->bytes; at += SIMD_WOVEN_ROWS * row)
        j->simd->weave(p->from->type, (const unsigned char *)p->from->data + at, row, p->to + at);
    gguf_forget(j->m->gguf, p->from->data, p->from->bytes);
}

static void weave_all(struct weave *w, const struct model *m, struct pool *pool)
{
    struct err ignored;
    struct job j = {.m = m, .simd = w->simd->woven};
    take_all(&j, NULL, NULL);
    if (!j.pieces || memory_check(j.bytes, "weights", &ignored) < 0)
        return;
    void *memory = mmap(NULL, j.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return;
    w->memory = memory;
    w->bytes = j.bytes;
    (void)madvise(memory, j.bytes, MADV_HUGEPAGE);
    j.piece = err_alloc(j.pieces, sizeof *j.piece, "weights", &ignored);
    w->model.layer = err_calloc((size_t)m->shape.layers, sizeof *w->model.layer, "weights", &ignored);
    if (j.piece && w->model.layer) {
        take_all(&j, memory, &w->model);
        pool_run(pool, (int)j.pieces, weave_item, &j);
    } else {
        release(w);
    }
    free(j.piece);
}

const struct weave_model *weave_model(const struct model *m, const struct simd *simd, struct pool *pool)
{
    struct weave *w = m->weave;
    if (!w || !simd->woven)
        return NULL;
    pthread_mutex_lock(&w->mutex);
    if (!w->simd) {
        w->simd = simd;
        weave_all(w, m, pool);
    }
    pthread_mutex_unlock(&w->mutex);
    return w->simd == simd && w->memory ? &w->model : NULL;
}
