#include "report.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/aside.h"
#include "validate.h"

struct report {
    struct gen *gen;
    cJSON *root, *studies; /* what tuner/report.lua gets; studies is part of root */
};

/* One study in the making. */
struct study {
    const struct tune_space *space;
    const struct predict_space *predicted;
    const struct trial **slot; /* [all.nconfigs] */
    int measured;              /* trials of this space */
    bool simulated; /* enough of them have a prediction from the machine code, so that one scatter has one kind */
    cJSON *json;
};

static int out_of_memory(struct err *err)
{
    return err_set(err, "out of memory for the report");
}

int report_open(struct report **out, struct gen *g, struct err *err)
{
    struct report *r = err_calloc(1, sizeof *r, "the report", err);
    char made[16];
    time_t now = time(NULL);
    struct tm day;
    if (!r)
        return -1;
    strftime(made, sizeof made, "%Y-%m-%d", gmtime_r(&now, &day));
    r->gen = g;
    r->root = cJSON_CreateObject();
    r->studies = r->root ? cJSON_AddArrayToObject(r->root, "studies") : NULL;
    if (!r->studies || !cJSON_AddStringToObject(r->root, "made", made) ||
        !cJSON_AddStringToObject(r->root, "model", predict_model)) {
        report_close(r);
        return out_of_memory(err);
    }
    *out = r;
    return 0;
}

void report_close(struct report *r)
{
    if (!r)
        return;
    cJSON_Delete(r->root);
    free(r);
}

/* ["name", "12 KB"] */
static void add_fact(cJSON *facts, const char *name, const char *format, double value)
{
    char text[64];
    const char *pair[2] = {name, text};
    snprintf(text, sizeof text, format, value);
    cJSON_AddItemToArray(facts, cJSON_CreateStringArray(pair, 2));
}

static void add_head(const struct study *y)
{
    const struct tune_space *s = y->space;
    const struct gen_gpu *gpu = &s->gpu;
    char shape[PAIRS_TEXT_MAX], sizes[PAIRS_TEXT_MAX];
    pairs_text(&s->problem.shape, shape);
    pairs_text(&s->problem.sizes, sizes);
    cJSON_AddStringToObject(y->json, "gpu", gpu->name);
    cJSON_AddStringToObject(y->json, "title", gpu->title);
    cJSON_AddStringToObject(y->json, "kernel", s->problem.kernel);
    cJSON_AddStringToObject(y->json, "shape", shape);
    cJSON_AddStringToObject(y->json, "sizes", sizes);
    cJSON_AddBoolToObject(y->json, "measured", y->measured > 0);
    cJSON_AddNumberToObject(y->json, "total", s->all.nconfigs);
    cJSON_AddNumberToObject(y->json, "valid", s->nvalid);
    cJSON *facts = cJSON_AddArrayToObject(y->json, "facts"), *cuts = cJSON_AddArrayToObject(y->json, "cuts"),
          *tile = cJSON_AddArrayToObject(y->json, "tile");
    add_fact(facts, "SMs", "%.0f", gpu->sms);
    add_fact(facts, "shared memory a block", "%.0f KB", gpu->smem_per_block / 1024.0);
    add_fact(facts, "threads an SM", "%.0f", gpu->threads_per_sm);
    add_fact(facts, "tensor", "%.0f TFLOP/s", gpu->tensor_tflops);
    add_fact(facts, "memory", "%.0f GB/s", gpu->dram_gbs);
    for (int i = 0; i < s->ncuts; i++) {
        cJSON *cut = cJSON_CreateArray();
        cJSON_AddItemToArray(cut, cJSON_CreateString(s->cut[i].name));
        cJSON_AddItemToArray(cut, cJSON_CreateNumber(s->cut[i].configs));
        cJSON_AddItemToArray(cuts, cut);
    }
    for (int i = 0; i < s->all.ntile; i++)
        cJSON_AddItemToArray(tile, cJSON_CreateString(s->all.tile[i]));
    double tensor = gpu->tensor_tflops > 0 ? s->flops / gpu->tensor_tflops / 1e9 : 0,
           bus = gpu->dram_gbs > 0 ? s->bytes / gpu->dram_gbs / 1e6 : 0;
    cJSON_AddNumberToObject(y->json, "limit_ms", fmax(tensor, bus));
}

/* {"c": [..]} of a config of space->all. */
static cJSON *config_json(const struct tune_space *s, int config)
{
    cJSON *json = cJSON_CreateObject(), *values = cJSON_AddArrayToObject(json, "c");
    for (int i = 0; i < s->all.ntile; i++)
        cJSON_AddItemToArray(values, cJSON_CreateNumber((double)s->all.config[config].value[i]));
    return json;
}

/* Of the kind that the study compares; 0: none. */
static double predicted_ms(const struct study *y, int index)
{
    return y->simulated ? y->predicted->sim[index].ms : y->predicted->all[index].ms;
}

static void add_occupancy(cJSON *json, const struct study *y, int config, int blocks)
{
    struct gen_kernel spec;
    cJSON_AddNumberToObject(json, "blocks", blocks);
    if (blocks > 0 && tune_space_spec(y->space, config, &spec, NULL) == 0)
        cJSON_AddNumberToObject(json, "percent", 100.0 * blocks * spec.threads / y->space->gpu.threads_per_sm);
}

static void add_trial(const struct study *y, cJSON *trials, const struct trial *t, int config, int index)
{
    cJSON *json = config_json(y->space, config);
    cJSON_AddStringToObject(json, "v", trial_validity_name(t->validity));
    if (t->validity == TRIAL_CORRECT) {
        cJSON_AddNumberToObject(json, "ms", t->ms);
        cJSON_AddNumberToObject(json, "spread", t->spread_ms);
    }
    if (t->regs > 0) {
        cJSON_AddNumberToObject(json, "regs", t->regs);
        cJSON_AddNumberToObject(json, "spills", t->spills);
        add_occupancy(json, y, config, t->blocks_per_sm);
    }
    if (index >= 0 && predicted_ms(y, index) > 0)
        cJSON_AddNumberToObject(json, "predicted", predicted_ms(y, index));
    if (t->message[0])
        cJSON_AddStringToObject(json, "message", t->message);
    cJSON_AddItemToArray(trials, json);
}

/* A prediction in the place of a trial. */
static void add_prediction(const struct study *y, cJSON *trials, int index)
{
    const struct prediction *p = &y->predicted->all[index];
    int config = y->space->valid[index];
    cJSON *json = config_json(y->space, config);
    cJSON_AddStringToObject(json, "v", p->ms > 0 ? "correct" : "constraints");
    if (p->ms > 0) {
        cJSON_AddNumberToObject(json, "ms", p->ms);
        add_occupancy(json, y, config, p->blocks_per_sm);
    }
    cJSON_AddItemToArray(trials, json);
}

static void add_pick(const struct study *y)
{
    int index = y->predicted->pick;
    const struct prediction *p = predict_space_of(y->predicted, index);
    if (y->measured || !(p->ms > 0))
        return;
    cJSON *json = config_json(y->space, y->space->valid[index]);
    cJSON_AddNumberToObject(json, "ms", p->ms);
    cJSON_AddStringToObject(json, "limit", p->limit);
    cJSON_AddStringToObject(json, "why", p->why);
    cJSON_AddItemToObject(y->json, "pick", json);
}

static int by_address(const void *a, const void *b)
{
    const struct trial *x = *(const struct trial *const *)a, *y = *(const struct trial *const *)b;
    return (x > y) - (x < y);
}

/* index[config of all] -> index into valid, -1. */
static int *index_valid(const struct tune_space *s, struct err *err)
{
    int *index = err_alloc((size_t)s->all.nconfigs + 1, sizeof *index, "the report", err);
    for (int i = 0; index && i < s->all.nconfigs; i++)
        index[i] = -1;
    for (int i = 0; index && i < s->nvalid; i++)
        index[s->valid[i]] = i;
    return index;
}

static int add_trials(const struct study *y, struct err *err)
{
    const struct tune_space *s = y->space;
    cJSON *trials = cJSON_AddArrayToObject(y->json, "trials");
    if (!y->measured) {
        for (int i = 0; i < s->nvalid; i++)
            add_prediction(y, trials, i);
        return 0;
    }
    int *index = index_valid(s, err), n = 0;
    const struct trial **row = err_alloc((size_t)y->measured, sizeof *row, "the report", err);
    double *time = err_calloc(2 * (size_t)s->nvalid + 1, sizeof *time, "the report", err);
    int status = -1;
    if (!index || !row || !time)
        goto done;
    for (int i = 0; i < s->all.nconfigs; i++)
        if (y->slot[i])
            row[n++] = y->slot[i];
    qsort(row, (size_t)n, sizeof *row, by_address);
    for (int i = 0; i < n; i++) {
        int config = tune_space_find(s, &row[i]->config), at = index[config];
        add_trial(y, trials, row[i], config, at);
        if (at >= 0 && row[i]->validity == TRIAL_CORRECT) {
            time[at] = row[i]->ms;
            time[s->nvalid + at] = predicted_ms(y, at);
        }
    }
    struct validation v;
    if (validate(time, time + s->nvalid, s->nvalid, &v, NULL) == 0) {
        cJSON *worth = cJSON_AddObjectToObject(y->json, "worth");
        cJSON_AddNumberToObject(worth, "spearman", v.spearman);
        cJSON_AddNumberToObject(worth, "regret", v.regret);
        cJSON_AddNumberToObject(worth, "best_rank", v.best_rank);
    }
    status = 0;
done:
    free(index);
    free(row);
    free(time);
    return status;
}

static void count_measured(struct study *y)
{
    int simulated = 0;
    for (int i = 0; i < y->space->all.nconfigs; i++)
        y->measured += y->slot[i] != NULL;
    for (int i = 0; i < y->space->nvalid; i++)
        simulated += y->slot[y->space->valid[i]] && y->predicted->sim[i].ms > 0;
    y->simulated = y->measured && 2 * simulated >= y->measured;
}

int report_add(struct report *r, const struct tune_space *s, const struct trials *trials,
               const struct predict_space *predicted, struct err *err)
{
    struct predict_space own = {0};
    struct study y = {.space = s, .predicted = predicted ? predicted : &own};
    int status = -1;
    y.slot = err_calloc((size_t)s->all.nconfigs + 1, sizeof *y.slot, "the report", err);
    if (!y.slot || (!predicted && predict_space(s, 0, NULL, NULL, &own, err) != 0))
        goto done;
    if (trials)
        trials_of_space(trials, s, true, y.slot);
    count_measured(&y);
    y.json = cJSON_CreateObject();
    if (!y.json) {
        out_of_memory(err);
        goto done;
    }
    add_head(&y);
    add_pick(&y);
    status = add_trials(&y, err);
    if (status == 0)
        cJSON_AddItemToArray(r->studies, y.json);
    else
        cJSON_Delete(y.json);
done:
    free(y.slot);
    predict_space_free(&own);
    return status;
}

int report_write(struct report *r, const char *path, struct err *err)
{
    struct aside file;
    char *html = NULL, *json = NULL;
    int status = -1;
    if (!cJSON_GetArraySize(r->studies))
        return err_set(err, "%s: there is nothing to report", path);
    json = cJSON_PrintUnformatted(r->root);
    if (!json) {
        out_of_memory(err);
        goto done;
    }
    if (gen_text(r->gen, "tuner/report.lua", "page", json, &html, err) != 0 || aside_open(&file, path, err) != 0)
        goto done;
    fwrite(html, 1, strlen(html), file.f);
    status = aside_keep(&file, false, err);
done:
    cJSON_free(json);
    free(html);
    return status;
}
