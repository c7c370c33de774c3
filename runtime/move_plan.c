#include "move_plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int align16(size_t bytes)
{
    return (int)((bytes + 15) / 16 * 16);
}

/* Number of a span slot among those of all rings. */
static int slot_number(const struct cascade_params *p, int sub, int slot)
{
    return sub * (p->window / p->subcaches / p->span) + (sub > 0) + slot;
}

int move_planner_init(struct move_planner *m, const struct cascade_params *p, struct err *err)
{
    memset(m, 0, sizeof *m);
    m->params = *p;
    int held = p->window / p->subcaches / p->span;
    int64_t completed = ((int64_t)p->stride + p->span - 1) / p->span;
    int spans = completed < held ? (int)completed : held; /* that one part completes, at most */
    int sinks = p->sinks < p->stride ? p->sinks : p->stride;
    int candidates = spans * (p->subcaches - 1);
    int slots = p->subcaches * held + 1; /* ring 0 has one more */
    m->most_nodes = candidates + spans + 1 + (sinks + p->span - 1) / p->span;
    m->room = (size_t)align16(sizeof(struct move_plan)) +
              (size_t)align16(((size_t)m->most_nodes + 1) * sizeof(int32_t)) +
              (size_t)m->most_nodes * sizeof(struct move_node) + (size_t)candidates * sizeof(struct move_candidate);
    m->plan = err_calloc(1, m->room, "the move plan", err);
    m->draft = err_alloc((size_t)m->most_nodes, sizeof *m->draft, "the move plan", err);
    m->reader = err_alloc((size_t)m->most_nodes, sizeof *m->reader, "the move plan", err);
    m->writer = err_alloc((size_t)slots, sizeof *m->writer, "the move plan", err);
    if (!m->plan || !m->draft || !m->reader || !m->writer) {
        move_planner_free(m);
        return -1;
    }
    for (int i = 0; i < slots; i++)
        m->writer[i] = -1;
    return 0;
}

void move_planner_free(struct move_planner *m)
{
    free(m->plan);
    free(m->draft);
    free(m->reader);
    free(m->writer);
    memset(m, 0, sizeof *m);
}

/* Adds the nodes that place the part's tokens; returns how many nodes there are then. */
static int draft_tokens(struct move_planner *m, const struct cascade_plan *part, int chunk_token, int n)
{
    const struct cascade_params *p = &m->params;
    for (int i = 0; i < part->tokens;) {
        int64_t t = part->before.t + i;
        int row = cascade_token_row(p, part, i), left = part->tokens - i;
        struct move_node *node = &m->draft[n++];
        if (t < p->sinks) {
            int count = p->sinks - row < p->span ? p->sinks - row : p->span;
            *node = (struct move_node){
                .row = row, .first = chunk_token + i, .angle = row, .to = count < left ? count : left};
        } else {
            int at = row - p->sinks, from = at % p->span, slot = at / p->span;
            int count = p->span - from < left ? p->span - from : left;
            *node = (struct move_node){.row = row - from,
                                       .first = chunk_token + i - from,
                                       .angle = at - from,
                                       .from = from,
                                       .to = from + count};
            m->writer[slot_number(p, 0, slot)] = n - 1;
        }
        i += node->to - node->from;
    }
    return n;
}

struct layout {
    struct move_node *node;
    struct move_candidate *candidate;
    int nodes, candidates;
};

/* Lays a node out, then the trees of those that overwrite what it reads. Sub-caches fall with the depth, so it is small. */
static void lay_out(struct move_planner *m, const struct cascade_plan *part, int draft, struct layout *out)
{
    const struct cascade_params *p = &m->params;
    struct move_node *node = &out->node[out->nodes++];
    *node = m->draft[draft];
    if (node->count == 0)
        return;
    const struct cascade_group *g = &part->group[draft];
    node->first = out->candidates;
    int to = node->row - cascade_ring_row(p, g->sub);
    for (int k = g->first; k < g->first + g->count; k++) {
        int row = cascade_source_row(p, part, g, k);
        int turn = to - (row - cascade_ring_row(p, g->sub - 1));
        out->candidate[out->candidates++] = (struct move_candidate){.row = row, .turn = turn};
    }
    for (int k = g->first; k < g->first + g->count; k++) {
        int over = m->writer[slot_number(p, g->sub - 1, part->source[k])];
        if (over >= 0)
            lay_out(m, part, over, out);
    }
}

void move_plan_make(struct move_planner *m, const struct cascade_plan *part, int chunk_token)
{
    const struct cascade_params *p = &m->params;
    for (int i = 0; i < part->ngroups; i++) {
        const struct cascade_group *g = &part->group[i];
        m->draft[i] = (struct move_node){.row = cascade_group_row(p, g), .count = g->count, .holder = g->holder};
        m->writer[slot_number(p, g->sub, g->slot)] = i;
    }
    int n = draft_tokens(m, part, chunk_token, part->ngroups);
    assert(n <= m->most_nodes);
    for (int i = 0; i < n; i++)
        m->reader[i] = -1;
    for (int i = 0; i < part->ngroups; i++)
        for (int k = part->group[i].first; k < part->group[i].first + part->group[i].count; k++) {
            int over = m->writer[slot_number(p, part->group[i].sub - 1, part->source[k])];
            if (over >= 0)
                m->reader[over] = i;
        }
    int trees = 0;
    for (int i = 0; i < n; i++)
        trees += m->reader[i] < 0;

    struct move_plan *plan = m->plan;
    *plan = (struct move_plan){.first_token = part->before.t - chunk_token, .trees = trees, .nodes = n};
    plan->candidates = part->nsources;
    plan->tree_at = align16(sizeof *plan);
    plan->node_at = plan->tree_at + align16(((size_t)trees + 1) * sizeof(int32_t));
    plan->candidate_at = plan->node_at + n * (int)sizeof(struct move_node);
    m->bytes = (size_t)plan->candidate_at + (size_t)plan->candidates * sizeof(struct move_candidate);
    assert(m->bytes <= m->room);
    int32_t *tree = (int32_t *)((char *)plan + plan->tree_at);
    struct layout out = {.node = (struct move_node *)((char *)plan + plan->node_at),
                         .candidate = (struct move_candidate *)((char *)plan + plan->candidate_at)};
    for (int i = 0; i < n; i++)
        if (m->reader[i] < 0) {
            *tree++ = out.nodes;
            lay_out(m, part, i, &out);
        }
    *tree = out.nodes;
    assert(out.nodes == n && out.candidates == plan->candidates);

    for (int i = 0; i < part->ngroups; i++)
        m->writer[slot_number(p, part->group[i].sub, part->group[i].slot)] = -1;
    for (int i = part->ngroups; i < n; i++)
        if (m->draft[i].row >= p->sinks)
            m->writer[slot_number(p, 0, (m->draft[i].row - p->sinks) / p->span)] = -1;
}
