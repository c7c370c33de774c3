#include "move_plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Slots are written in trees (templates/move_plan.cu.t). With many sub-caches there are few trees, and large ones: a chunk of 256
 * spans makes two of 255 nodes where N = 8. They are cut every so many levels, and what hangs below a cut waits for the next
 * wave, so that many blocks can work on trees of at most this size. */
enum { TREE_NODES = 40 };

struct move_draft {
    struct move_node node;
    int32_t reader; /* the draft that reads what this one overwrites, -1 for none: the node above it in the tree */
    int32_t depth;  /* nodes above it */
    int32_t root;   /* of its tree when cut */
    int32_t size;   /* of a root: nodes in its tree */
};

static size_t align16(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
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
    size_t nodes = (size_t)m->most_nodes, waves = sizeof m->wave / sizeof *m->wave;
    m->room = waves * (align16(sizeof(struct move_plan)) + 4 * sizeof(int32_t) + 16) + nodes * sizeof(int32_t) +
              nodes * sizeof(struct move_node) + (size_t)candidates * sizeof(struct move_candidate);
    m->buffer = err_calloc(1, m->room, "the move plan", err);
    m->draft = err_alloc(nodes, sizeof *m->draft, "the move plan", err);
    m->writer = err_alloc((size_t)slots, sizeof *m->writer, "the move plan", err);
    if (!m->buffer || !m->draft || !m->writer) {
        move_planner_free(m);
        return -1;
    }
    for (int i = 0; i < slots; i++)
        m->writer[i] = -1;
    return 0;
}

void move_planner_free(struct move_planner *m)
{
    free(m->buffer);
    free(m->draft);
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
        struct move_node *node = &m->draft[n++].node;
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

/* All nodes, each with the one that reads what it overwrites. Groups come by sub-cache, the last one first, so a reader stands
 * before those who overwrite what it reads. Returns how many there are. */
static int draft_nodes(struct move_planner *m, const struct cascade_plan *part, int chunk_token)
{
    const struct cascade_params *p = &m->params;
    for (int i = 0; i < part->ngroups; i++) {
        const struct cascade_group *g = &part->group[i];
        m->draft[i].node = (struct move_node){.row = cascade_group_row(p, g), .count = g->count, .holder = g->holder};
        m->writer[slot_number(p, g->sub, g->slot)] = i;
    }
    int n = draft_tokens(m, part, chunk_token, part->ngroups);
    assert(n <= m->most_nodes);
    for (int i = 0; i < n; i++)
        m->draft[i].reader = -1;
    for (int i = 0; i < part->ngroups; i++)
        for (int k = part->group[i].first; k < part->group[i].first + part->group[i].count; k++) {
            int over = m->writer[slot_number(p, part->group[i].sub - 1, part->source[k])];
            if (over >= 0)
                m->draft[over].reader = i;
        }
    for (int i = 0; i < n; i++)
        m->draft[i].depth = m->draft[i].reader < 0 ? 0 : m->draft[m->draft[i].reader].depth + 1;
    return n;
}

/* Nodes of the largest tree when trees are cut every `levels` levels. */
static int largest_tree(struct move_draft *draft, int n, int levels)
{
    int most = 0;
    for (int i = 0; i < n; i++) {
        draft[i].size = 0;
        draft[i].root = draft[i].depth % levels == 0 ? i : draft[draft[i].reader].root;
        struct move_draft *root = &draft[draft[i].root];
        most = ++root->size > most ? root->size : most;
    }
    return most;
}

struct layout {
    struct move_node *node;
    struct move_candidate *candidate;
    int nodes, candidates, levels;
};

/* Lays a node out, then the trees of those that overwrite what it reads. Sub-caches fall with the depth, so it is small. */
static void lay_out(struct move_planner *m, const struct cascade_plan *part, int draft, struct layout *out)
{
    const struct cascade_params *p = &m->params;
    struct move_node *node = &out->node[out->nodes++];
    *node = m->draft[draft].node;
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
        if (over >= 0 && m->draft[over].depth % out->levels != 0)
            lay_out(m, part, over, out);
    }
}

/* One wave, at m->bytes of the buffer: the trees whose roots have that depth. */
static void lay_out_wave(struct move_planner *m, const struct cascade_plan *part, int n, int depth, int levels)
{
    struct move_plan *head = (struct move_plan *)((char *)m->buffer + m->bytes);
    *head = (struct move_plan){0};
    for (int i = 0; i < n; i++) {
        const struct move_draft *d = &m->draft[i];
        bool here = d->depth >= depth && d->depth < depth + levels;
        head->trees += d->depth == depth;
        head->nodes += here;
        head->candidates += here ? d->node.count : 0;
    }
    head->tree_at = (int32_t)align16(sizeof *head);
    head->node_at = head->tree_at + (int32_t)align16(((size_t)head->trees + 1) * sizeof(int32_t));
    head->candidate_at = head->node_at + head->nodes * (int32_t)sizeof(struct move_node);
    int32_t *tree = (int32_t *)((char *)head + head->tree_at);
    struct layout out = {.node = (struct move_node *)((char *)head + head->node_at),
                         .candidate = (struct move_candidate *)((char *)head + head->candidate_at),
                         .levels = levels};
    for (int i = 0; i < n; i++)
        if (m->draft[i].depth == depth) {
            *tree++ = out.nodes;
            lay_out(m, part, i, &out);
        }
    *tree = out.nodes;
    assert(out.nodes == head->nodes && out.candidates == head->candidates);
    m->wave[m->waves].at = (int)m->bytes;
    m->wave[m->waves++].trees = head->trees;
    m->bytes += align16((size_t)head->candidate_at + (size_t)head->candidates * sizeof(struct move_candidate));
    assert(m->bytes <= m->room);
}

void move_plan_make(struct move_planner *m, const struct cascade_plan *part, int chunk_token)
{
    const struct cascade_params *p = &m->params;
    int n = draft_nodes(m, part, chunk_token), levels = p->subcaches, deepest = 0;
    while (levels > 1 && largest_tree(m->draft, n, levels) > TREE_NODES)
        levels--;
    for (int i = 0; i < n; i++)
        deepest = m->draft[i].depth > deepest ? m->draft[i].depth : deepest;
    m->bytes = 0;
    m->waves = 0;
    for (int depth = 0; depth <= deepest; depth += levels) {
        struct move_plan *head = (struct move_plan *)((char *)m->buffer + m->bytes);
        lay_out_wave(m, part, n, depth, levels);
        head->first_token = part->before.t - chunk_token;
    }
    for (int i = 0; i < part->ngroups; i++)
        m->writer[slot_number(p, part->group[i].sub, part->group[i].slot)] = -1;
    for (int i = part->ngroups; i < n; i++)
        if (m->draft[i].node.row >= p->sinks)
            m->writer[slot_number(p, 0, (m->draft[i].node.row - p->sinks) / p->span)] = -1;
}
