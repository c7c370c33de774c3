#ifndef WEIR_MOVE_PLAN_H
#define WEIR_MOVE_PLAN_H

/* An insertion plan (cascade.h) as the kernel cascade_update carries it out: the host's side of templates/move_plan.cu.t. */

#include <stddef.h>

#include "cascade.h"

struct move_plan {
    int64_t first_token; /* number in the text of the chunk's token 0 */
    int32_t trees, nodes, candidates;
    int32_t tree_at, node_at, candidate_at; /* bytes from the head on */
};
struct move_node {
    int32_t row, count, first, holder, angle, from, to, unused;
};
struct move_candidate {
    int32_t row, turn;
};

/* A plan of one token is one wave of at most so many trees: the token, and the span that leaves sub-cache 0 with all that gives
 * way to it. */
enum { MOVE_TREES_DECODE = 2 };

/* Makes move plans for one set of parameters, in a buffer of its own. */
struct move_planner {
    void *buffer; /* for each wave a head, its trees, nodes and candidates; owned */
    size_t bytes; /* of it in use */
    size_t room;  /* its size: what a device buffer must hold */
    int waves;    /* the launches that carry the plan out, in this order */
    struct {
        int at;    /* where in the buffer its struct move_plan is */
        int trees; /* in it */
    } wave[CASCADE_MAX_SUBCACHES + 1];
    int most_nodes; /* of any plan for chunks of up to the stride; no wave has more nodes or trees */
    struct cascade_params params;
    struct move_draft *draft; /* [most_nodes], owned: nodes before they are put in order */
    int32_t *writer;          /* [slots] the draft that writes a slot, -1 for none; owned */
};

/* Room for the largest plan of a chunk of up to p->stride tokens; *p is copied. -1 when memory is out. */
int move_planner_init(struct move_planner *m, const struct cascade_params *p, struct err *err);
void move_planner_free(struct move_planner *m);

/* Lays the plan of one part out in m->buffer. `chunk_token` is the number in its chunk of the part's first token: 0, but for the
 * later parts of a chunk longer than a sub-cache. */
void move_plan_make(struct move_planner *m, const struct cascade_plan *part, int chunk_token);

#endif
