#include "formats.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/aside.h"

static int write_text(const char *path, const char *text, struct err *err)
{
    struct aside file;
    if (aside_open(&file, path, err) != 0)
        return -1;
    fwrite(text, 1, strlen(text), file.f);
    fputc('\n', file.f);
    return aside_keep(&file, false, err);
}

/* Prints and deletes the document. Kernel Tuner takes a cache file for closed by its last three characters, so nothing is put between. */
static int write_json(cJSON *doc, const char *path, struct err *err)
{
    char *text = doc ? cJSON_PrintUnformatted(doc) : NULL;
    int status = text ? write_text(path, text, err) : err_set(err, "%s: out of memory", path);
    cJSON_free(text);
    cJSON_Delete(doc);
    return status;
}

static void add_pairs(cJSON *o, const char *field, const struct pairs *p)
{
    cJSON *table = cJSON_AddObjectToObject(o, field);
    for (int i = 0; i < p->n; i++)
        cJSON_AddStringToObject(table, p->at[i].name, p->at[i].value);
}

/* The tile as numbers. */
static void add_tile(cJSON *o, const struct tune_space *s, int config)
{
    for (int i = 0; i < s->all.ntile; i++)
        cJSON_AddNumberToObject(o, s->all.tile[i], (double)s->all.config[config].value[i]);
}

/* Calls add for every config that has a trial, in the order of the space. Returns how many there are, -1 on an error. */
static int each_trial(const struct trials *t, const struct tune_space *s, cJSON *to,
                      void (*add)(cJSON *to, const struct tune_space *s, int config, const struct trial *trial),
                      struct err *err)
{
    const struct trial **slot = err_calloc((size_t)s->all.nconfigs + 1, sizeof *slot, "trials", err);
    int n = 0;
    if (!slot)
        return -1;
    trials_of_space(t, s, true, slot);
    for (int i = 0; i < s->all.nconfigs; i++)
        if (slot[i]) {
            add(to, s, i, slot[i]);
            n++;
        }
    free(slot);
    if (!n) {
        char text[PROBLEM_TEXT_MAX];
        tune_problem_text(&s->problem, text);
        return err_set(err, "%s has no trials on %s", text, s->gpu.name);
    }
    return n;
}

/* ------------------------------------------------------------------------------------------------ T4 */

static const struct {
    const char *name, *unit;
    size_t at; /* of an int in struct trial */
} counts[] = {
    {"registers", "", offsetof(struct trial, regs)},
    {"spills", "bytes", offsetof(struct trial, spills)},
    {"stack", "bytes", offsetof(struct trial, stack)},
    {"shared_memory", "bytes", offsetof(struct trial, smem)},
    {"blocks_per_sm", "", offsetof(struct trial, blocks_per_sm)},
};
enum { COUNTS = sizeof counts / sizeof *counts };

static void add_measurement(cJSON *list, const char *name, double value, const char *unit)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "name", name);
    cJSON_AddNumberToObject(m, "value", value);
    cJSON_AddStringToObject(m, "unit", unit);
    cJSON_AddItemToArray(list, m);
}

static void add_words(cJSON *list, const char *name, const char *words)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "name", name);
    cJSON_AddStringToObject(m, "value", words);
    cJSON_AddStringToObject(m, "unit", "");
    cJSON_AddItemToArray(list, m);
}

static void add_result(cJSON *results, const struct tune_space *s, int config, const struct trial *t)
{
    cJSON *r = cJSON_CreateObject();
    char stamp[32];
    time_t at = (time_t)t->at;
    struct tm day;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &day));
    cJSON_AddStringToObject(r, "timestamp", stamp);
    add_tile(cJSON_AddObjectToObject(r, "configuration"), s, config);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(r, "objectives"), cJSON_CreateString("time"));
    cJSON *times = cJSON_AddObjectToObject(r, "times");
    cJSON_AddNumberToObject(times, "compilation_time", t->compile_ms);
    cJSON_AddNumberToObject(times, "validation", t->check_ms);
    cJSON_AddNumberToObject(times, "framework", 0);
    cJSON_AddNumberToObject(times, "search_algorithm", 0);
    cJSON *runs = cJSON_AddArrayToObject(times, "runtimes");
    for (int i = 0; i < t->nruns; i++)
        cJSON_AddItemToArray(runs, cJSON_CreateNumber(t->run_ms[i]));
    cJSON_AddStringToObject(r, "invalidity", trial_validity_name(t->validity));
    cJSON_AddNumberToObject(r, "correctness", t->validity == TRIAL_CORRECT);
    cJSON *list = cJSON_AddArrayToObject(r, "measurements");
    if (t->validity == TRIAL_CORRECT) {
        add_measurement(list, "time", t->ms, "ms");
        add_measurement(list, "spread", t->spread_ms, "ms");
        if (isfinite(t->error))
            add_measurement(list, "error", t->error, "bound");
    }
    for (int i = 0; i < COUNTS; i++) {
        int value;
        memcpy(&value, (const char *)t + counts[i].at, sizeof value);
        if (t->regs > 0)
            add_measurement(list, counts[i].name, value, counts[i].unit);
    }
    add_words(list, "revision", t->revision);
    if (t->message[0])
        add_words(list, "message", t->message);
    cJSON_AddItemToArray(results, r);
}

int t4_write(const struct trials *t, const struct tune_space *s, const char *path, struct err *err)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "schema_version", "1.0.0");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(doc, "metadata"), "timeunit", "milliseconds");
    cJSON *head = cJSON_AddObjectToObject(doc, "weir");
    cJSON_AddStringToObject(head, "kernel", s->problem.kernel);
    cJSON_AddStringToObject(head, "gpu", s->gpu.name);
    add_pairs(head, "shape", &s->problem.shape);
    add_pairs(head, "sizes", &s->problem.sizes);
    if (each_trial(t, s, cJSON_AddArrayToObject(doc, "results"), add_result, err) < 0) {
        cJSON_Delete(doc);
        return -1;
    }
    return write_json(doc, path, err);
}

/* ------------------------------------------------------------------------------------------------ the cache file */

static void add_cached(cJSON *cache, const struct tune_space *s, int config, const struct trial *t)
{
    char key[256] = "";
    size_t len = 0;
    for (int i = 0; i < s->all.ntile && len < sizeof key; i++)
        len += (size_t)snprintf(key + len, sizeof key - len, "%s%ld", i ? "," : "", s->all.config[config].value[i]);
    cJSON *o = cJSON_AddObjectToObject(cache, key);
    add_tile(o, s, config);
    cJSON *runs = cJSON_CreateArray();
    double spent = 0;
    for (int i = 0; i < t->nruns; i++) {
        cJSON_AddItemToArray(runs, cJSON_CreateNumber(t->run_ms[i]));
        spent += t->run_ms[i];
    }
    if (t->validity == TRIAL_CORRECT)
        cJSON_AddNumberToObject(o, "time", t->ms);
    else
        cJSON_AddStringToObject(o, "time",
                                t->validity == TRIAL_COMPILE       ? "CompilationFailedConfig"
                                : t->validity == TRIAL_CONSTRAINTS ? "InvalidConfig"
                                                                   : "RuntimeFailedConfig");
    cJSON_AddItemToObject(o, "times", runs);
    cJSON_AddNumberToObject(o, "compile_time", t->compile_ms);
    cJSON_AddNumberToObject(o, "verification_time", t->check_ms);
    cJSON_AddNumberToObject(o, "benchmark_time", spent);
}

/* Each tile parameter with its values. */
static void add_values(cJSON *o, const struct tune_space *s)
{
    for (int i = 0; i < s->all.ntile; i++) {
        cJSON *list = cJSON_AddArrayToObject(o, s->all.tile[i]);
        for (int k = 0; k < s->all.nconfigs; k++) {
            double v = (double)s->all.config[k].value[i];
            const cJSON *seen = NULL;
            cJSON_ArrayForEach(seen, list)
            {
                if (seen->valuedouble >= v)
                    break;
            }
            /* Values come in rising order, the last parameter fastest, so one that is not above all of them is there. */
            if (!seen)
                cJSON_AddItemToArray(list, cJSON_CreateNumber(v));
        }
    }
}

int kernel_tuner_cache_write(const struct trials *t, const struct tune_space *s, const char *path, struct err *err)
{
    cJSON *doc = cJSON_CreateObject();
    char kernel[PROBLEM_TEXT_MAX];
    tune_problem_text(&s->problem, kernel);
    cJSON_AddStringToObject(doc, "device_name", s->gpu.title);
    cJSON_AddStringToObject(doc, "kernel_name", kernel);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(doc, "problem_size"), cJSON_CreateNumber(1));
    cJSON *keys = cJSON_AddArrayToObject(doc, "tune_params_keys");
    for (int i = 0; i < s->all.ntile; i++)
        cJSON_AddItemToArray(keys, cJSON_CreateString(s->all.tile[i]));
    add_values(cJSON_AddObjectToObject(doc, "tune_params"), s);
    cJSON_AddStringToObject(doc, "objective", "time");
    if (each_trial(t, s, cJSON_AddObjectToObject(doc, "cache"), add_cached, err) < 0) {
        cJSON_Delete(doc);
        return -1;
    }
    return write_json(doc, path, err);
}

/* ------------------------------------------------------------------------------------------------ T1 */

int t1_write(const struct tune_space *s, const char *path, struct err *err)
{
    cJSON *data = cJSON_CreateObject();
    char *json = NULL, *text = NULL;
    cJSON_AddStringToObject(data, "kernel", s->problem.kernel);
    cJSON_AddStringToObject(data, "gpu", s->gpu_arg);
    cJSON_AddStringToObject(data, "title", s->gpu.title);
    add_pairs(data, "shape", &s->problem.shape);
    add_pairs(data, "sizes", &s->problem.sizes);
    add_values(cJSON_AddObjectToObject(data, "values"), s);
    json = cJSON_PrintUnformatted(data);
    int status =
        json ? gen_text(s->gen, "gen/t1.lua", "t1", json, &text, err) : err_set(err, "%s: out of memory", path);
    if (status == 0)
        status = write_text(path, text, err);
    cJSON_free(json);
    cJSON_Delete(data);
    free(text);
    return status;
}
