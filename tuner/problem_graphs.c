#include "problem_graphs.h"

static void drop(struct problem_graphs *g, struct problem *p, int slot)
{
    if (g->made[slot].graph)
        p->bench.dev.release_graph(&p->bench.dev, g->made[slot].graph);
    g->made[slot].graph = NULL;
    g->made[slot].of = NULL;
}

void problem_graphs_drop(struct problem_graphs *g, struct problem *p, const struct kernel *k)
{
    for (int i = 0; i < PROBLEM_GRAPHS; i++)
        if (!k || g->made[i].of == k->loaded)
            drop(g, p, i);
}

struct chain {
    struct problem *p;
    const struct kernel *k;
    problem_enqueue *enqueue;
};

static int enqueue_chain(void *user, struct err *err)
{
    const struct chain *c = user;
    return c->enqueue(c->p, c->k, err);
}

/* The slot with k's chain; -1: an error. */
static int find(struct problem_graphs *g, struct problem *p, const struct kernel *k, problem_enqueue *enqueue,
                struct err *err)
{
    int slot = 0;
    while (slot < PROBLEM_GRAPHS && g->made[slot].of != k->loaded)
        slot++;
    if (slot == PROBLEM_GRAPHS) {
        slot = g->oldest;
        drop(g, p, slot);
        if (device_capture(&p->bench.dev, enqueue_chain, &(struct chain){p, k, enqueue}, &g->made[slot].graph, err) !=
            0)
            return -1;
        g->made[slot].of = k->loaded;
    }
    g->oldest = (slot + 1) % PROBLEM_GRAPHS;
    return slot;
}

int problem_graphs_make(struct problem_graphs *g, struct problem *p, const struct kernel *k, problem_enqueue *enqueue,
                        struct err *err)
{
    return p->bench.dev.capture_begin && find(g, p, k, enqueue, err) < 0 ? -1 : 0;
}

int problem_graphs_launch(struct problem_graphs *g, struct problem *p, const struct kernel *k, problem_enqueue *enqueue,
                          struct err *err)
{
    struct device *dev = &p->bench.dev;
    if (!dev->capture_begin)
        return enqueue(p, k, err);
    int slot = find(g, p, k, enqueue, err);
    return slot < 0 ? -1 : dev->replay(dev, g->made[slot].graph, err);
}
