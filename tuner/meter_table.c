/* A simulated GPU: times from trials that were made earlier. */
#include "formats.h"
#include "meter.h"

#include <stdlib.h>
#include <string.h>

struct table_meter {
    struct trials trials;
    const struct tune_space *space; /* whose trials slot[] holds */
    const struct trial **slot;      /* [space->all.nconfigs], owned */
};

static int table_ahead(struct meter *m, const struct tune_space *s, const int *config, int n, struct compiled *slots,
                       struct err *err)
{
    return 0;
}

static int look_up_space(struct table_meter *t, const struct tune_space *s, struct err *err)
{
    free(t->slot);
    t->space = NULL;
    t->slot = err_calloc((size_t)s->all.nconfigs + 1, sizeof *t->slot, "the simulated times", err);
    if (!t->slot)
        return -1;
    trials_of_space(&t->trials, s, true, t->slot);
    t->space = s;
    return 0;
}

static int table_measure(struct meter *m, const struct tune_space *s, int config, const struct meter_standing *now,
                         struct compiled *slots, struct trial *out, struct err *err)
{
    struct table_meter *t = m->state;
    if (t->space != s && look_up_space(t, s, err) != 0)
        return -1;
    meter_begin_trial(s, config, out);
    if (t->slot[config]) {
        struct trial again = *t->slot[config]; /* a trial of the text that there is: a rerun need not make it again */
        memcpy(again.revision, out->revision, sizeof again.revision);
        again.config = out->config;
        *out = again;
    } else {
        out->validity = TRIAL_CONSTRAINTS;
        snprintf(out->message, sizeof out->message, "the simulated times do not hold it");
    }
    struct compiled *c = &slots[config];
    *c = (struct compiled){COMPILE_DONE, out->validity,      out->regs,       out->spills, out->stack,
                           out->smem,    out->blocks_per_sm, out->compile_ms, ""};
    return 0;
}

static void table_leave(struct meter *m)
{
    struct table_meter *t = m->state;
    t->space = NULL;
}

static void table_close(struct meter *m)
{
    struct table_meter *t = m->state;
    if (t) {
        trials_close(&t->trials);
        free(t->slot);
    }
    free(t);
    memset(m, 0, sizeof *m);
}

int meter_table_open(struct meter *m, const char *path, struct err *err)
{
    struct table_meter *t = err_calloc(1, sizeof *t, "the meter", err);
    *m = (struct meter){t, {{0}, 0, 0, 0, 0, 0, 0, 0, 0}, 1, table_ahead, table_measure, table_leave, table_close};
    if (t && trials_load(&t->trials, path, err) == 0) {
        if (t->trials.n > 0)
            return 0;
        err_set(err, "%s: holds no trials to simulate a GPU with", path);
    }
    table_close(m);
    return -1;
}
