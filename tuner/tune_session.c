#include "tune_session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int tune_session_measure(struct tune_session *s, const char *simulate, struct err *err)
{
    if (simulate)
        return meter_table_open(&s->meter, simulate, err);
    return meter_device_open(&s->meter, gen_home(s->gen)[0] ? gen_home(s->gen) : NULL, err);
}

int tune_session_gpu(struct tune_session *s, const char *name, struct err *err)
{
    if (name)
        snprintf(s->gpu, sizeof s->gpu, "%s", name);
    else if (gen_gpu_name(s->gen, s->meter.facts.name, s->meter.facts.sm, s->gpu, err) != 0)
        return -1;
    return gen_gpu(s->gen, s->gpu, &s->facts, err);
}

static void set_wisdom(struct tune_session *s, const char *given, bool own)
{
    char folder[2][600];
    struct stat st;
    int n = wisdom_folders(s->gen, folder), at = own && n > 0 ? n - 1 : 0;
    if (given)
        snprintf(s->wisdom, sizeof s->wisdom, "%s", given);
    else if (n && stat(folder[at], &st) == 0 && S_ISREG(st.st_mode))
        snprintf(s->wisdom, sizeof s->wisdom, "%s", folder[at]);
    else
        snprintf(s->wisdom, sizeof s->wisdom, "%s/%s.json", n ? folder[at] : ".", s->facts.name);
}

void tune_session_paths(struct tune_session *s, const char *log, const char *wisdom, bool simulated, bool own)
{
    struct kernel_cache cache;
    kernel_cache_default(&cache);
    set_wisdom(s, wisdom, own);
    if (log)
        snprintf(s->log, sizeof s->log, "%s", log);
    else
        snprintf(s->log, sizeof s->log, "%s/trials/%s%s.jsonl", cache.folder[0] ? cache.folder : ".", s->facts.name,
                 simulated ? "-simulated" : "");
}

void tune_session_head(const struct tune_session *s, struct wisdom_file *head)
{
    struct nvrtc_info nvrtc;
    int driver = s->meter.facts.driver;
    *head = (struct wisdom_file){.sm = s->facts.sm};
    snprintf(head->gpu, sizeof head->gpu, "%s", s->facts.name);
    snprintf(head->title, sizeof head->title, "%s", s->facts.title);
    if (driver)
        snprintf(head->driver, sizeof head->driver, "%d.%d", driver / 1000, driver % 1000 / 10);
    if (nvrtc_find(&nvrtc, NULL, NULL) == 0)
        snprintf(head->nvrtc, sizeof head->nvrtc, "%d.%d", nvrtc.major, nvrtc.minor);
}

int tune_session_log(struct tune_session *s, struct err *err)
{
    return trials_open(&s->trials, s->log, true, err);
}

/* The trial to be kept: the best one, but the default's where the two are no further apart than half the spread of their runs. The least
 * of hundreds of noisy times is no reason to leave it. */
static const struct trial *choose(const struct tune_session *s, const struct tune_state *r)
{
    const struct trial *best = r->best >= 0 ? trials_find(&s->trials, r->space, r->best) : NULL;
    const struct trial *usual =
        r->space->by_default >= 0 ? trials_find(&s->trials, r->space, r->space->by_default) : NULL;
    if (!best || !usual || usual->validity != TRIAL_CORRECT)
        return best;
    return usual->ms - best->ms <= fmax(best->spread_ms, usual->spread_ms) / 2 ? usual : best;
}

static int keep_best(struct tune_session *s, const struct tune_state *r, struct err *err)
{
    struct wisdom_file head;
    struct wisdom_entry e;
    const struct trial *best = choose(s, r);
    if (!best)
        return 0;
    tune_session_head(s, &head);
    wisdom_entry_of_trial(&e, best, r->trials + r->known);
    return wisdom_file_add(s->wisdom, &head, &e, 1, err);
}

static int run(struct tune_session *s, struct tune *t, const struct tune_problem *problem, bool keep,
               void (*tell)(void *user, const struct tune_state *result), void *user, struct err *err)
{
    struct tune_space space;
    struct tune_state result;
    t->meter = &s->meter;
    t->trials = &s->trials;
    if (tune_space_open(&space, s->gen, s->gpu, problem, s->fixed, err) != 0)
        return -1;
    double *predicted = err_calloc((size_t)space.nvalid + 1, sizeof *predicted, "predictions", err);
    int status = predicted ? tune_predict(&space, predicted, err) : -1;
    if (status == 0)
        status = tune_run(t, &space, predicted, &result, err);
    if (status == 0 && result.trials + result.known > 0) {
        tell(user, &result);
        status = keep ? keep_best(s, &result, err) : 0;
    }
    free(predicted);
    tune_space_close(&space);
    return status;
}

int tune_session_run(struct tune_session *s, struct tune *t, const struct tune_problem *problem,
                     void (*tell)(void *user, const struct tune_state *result), void *user, struct err *err)
{
    return run(s, t, problem, true, tell, user, err);
}

int tune_session_try(struct tune_session *s, struct tune *t, const struct tune_problem *problem,
                     void (*tell)(void *user, const struct tune_state *result), void *user, struct err *err)
{
    return run(s, t, problem, false, tell, user, err);
}

void tune_session_close(struct tune_session *s)
{
    if (s->trials.path[0])
        trials_close(&s->trials);
    if (s->meter.close)
        s->meter.close(&s->meter);
}
