#include "step.h"

void attn_step_make(struct attn_step *step, const struct cascade_params *p, const struct cascade_state *s, int T)
{
    struct cascade_run run[CASCADE_MAX_RUNS];
    *step = (struct attn_step){.T = T, .held = cascade_held(p, s), .rows = cascade_rows(p)};
    step->nruns = cascade_runs(p, s, run);
    int pos = 0;
    for (int i = 0; i < step->nruns; i++) {
        int shift = p->positions == POSITIONS_ORIGINAL ? step->held : run[i].shift;
        step->run[i] = (struct attn_run){.row = run[i].row, .len = run[i].len, .shift = shift, .pos = pos};
        pos += run[i].len;
    }
}
