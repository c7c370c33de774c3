/* The CUDA backend, chunks of a long text: once the cache is full one chunk after another makes the same launches, and only what they
 * read differs. The second such chunk is captured in a graph, and those that follow replay it: a small model's chunks are bound by
 * launches. */
#include <string.h>

#include "backend_cuda.h"

static bool same_launches(const struct cuda_backend *c)
{
    const struct cuda_chunk *l = &c->last;
    return l->T == c->T && l->held == c->step.held && l->nmoves == c->nmoves &&
           memcmp(l->move, c->move, (size_t)c->nmoves * sizeof *c->move) == 0;
}

static void note_launches(struct cuda_backend *c)
{
    struct cuda_chunk *l = &c->last;
    l->T = c->T;
    l->held = c->step.held;
    l->nmoves = c->nmoves;
    memcpy(l->move, c->move, (size_t)c->nmoves * sizeof *c->move);
}

static void drop_graph(struct cuda_backend *c)
{
    if (c->last.graph)
        c->dev.release_graph(&c->dev, c->last.graph);
    c->last.graph = NULL;
}

int cuda_chunk_begin(struct cuda_backend *c, struct err *err)
{
    bool same = same_launches(c);
    c->chunk = CHUNK_LAUNCHED;
    if (!c->dev.capture_begin)
        return 0;
    if (same && c->last.graph) {
        c->chunk = CHUNK_REPLAYED;
    } else if (same) {
        if (c->dev.capture_begin(&c->dev, err) != 0)
            return -1;
        c->chunk = CHUNK_CAPTURED;
    } else {
        drop_graph(c);
        note_launches(c);
    }
    return 0;
}

int cuda_chunk_failed(struct cuda_backend *c)
{
    void *graph = NULL;
    if (c->chunk == CHUNK_CAPTURED && c->dev.capture_end(&c->dev, &graph, NULL) == 0)
        c->dev.release_graph(&c->dev, graph);
    c->chunk = CHUNK_LAUNCHED;
    return -1;
}

int cuda_chunk_end(struct cuda_backend *c, struct err *err)
{
    enum cuda_chunk_way way = c->chunk;
    c->chunk = CHUNK_LAUNCHED;
    if (way == CHUNK_CAPTURED && c->dev.capture_end(&c->dev, &c->last.graph, err) != 0)
        return -1;
    return way == CHUNK_LAUNCHED ? 0 : c->dev.replay(&c->dev, c->last.graph, err);
}

void cuda_chunk_close(struct cuda_backend *c)
{
    cuda_chunk_failed(c);
    drop_graph(c);
}
