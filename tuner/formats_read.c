/* T4 files back into trials. */
#include "formats.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_LARGEST = 256 << 20 };

static char *read_all(const char *path, struct err *err)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    long size = 0;
    if (!f) {
        err_set(err, "%s: cannot be opened", path);
        return NULL;
    }
    if (fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0 || size > FILE_LARGEST || fseek(f, 0, SEEK_SET) != 0)
        err_set(err, "%s: no file of results, or a larger one than %d MB", path, FILE_LARGEST >> 20);
    else if ((text = err_alloc((size_t)size + 1, 1, path, err))) {
        size_t n = fread(text, 1, (size_t)size, f);
        text[n] = 0;
    }
    fclose(f);
    return text;
}

static const char *text_of(const cJSON *o, const char *field)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, field);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static int read_pairs(const cJSON *table, struct pairs *out)
{
    const cJSON *v;
    if (!cJSON_IsObject(table))
        return -1;
    cJSON_ArrayForEach(v, table)
    {
        char number[32];
        const char *value = v->valuestring;
        if (cJSON_IsNumber(v)) {
            if (!(fabs(v->valuedouble) < 1e15) || v->valuedouble != floor(v->valuedouble))
                return -1;
            snprintf(number, sizeof number, "%.0f", v->valuedouble);
            value = number;
        } else if (!cJSON_IsString(v)) {
            return -1;
        }
        if (pairs_put(out, v->string, value, NULL) != 0)
            return -1;
    }
    return 0;
}

static int copy_text(char *out, size_t size, const char *text)
{
    return text && strlen(text) < size ? (strcpy(out, text), 0) : -1;
}

/* What all trials of the file share. */
static int read_head(const cJSON *doc, struct trial *t)
{
    const cJSON *head = cJSON_GetObjectItemCaseSensitive(doc, "weir");
    return copy_text(t->problem.kernel, sizeof t->problem.kernel, text_of(head, "kernel")) ||
                   copy_text(t->gpu, sizeof t->gpu, text_of(head, "gpu")) ||
                   read_pairs(cJSON_GetObjectItemCaseSensitive(head, "shape"), &t->problem.shape) ||
                   read_pairs(cJSON_GetObjectItemCaseSensitive(head, "sizes"), &t->problem.sizes)
               ? -1
               : 0;
}

static int whole(double v)
{
    return v > 0 && v < 2e9 ? (int)v : 0;
}

static void read_measurement(const cJSON *m, struct trial *t)
{
    const char *name = text_of(m, "name"), *text = text_of(m, "value");
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(m, "value");
    double v = cJSON_IsNumber(value) && isfinite(value->valuedouble) ? value->valuedouble : 0;
    const struct {
        const char *name;
        int *slot;
    } counts[] = {{"registers", &t->regs},
                  {"spills", &t->spills},
                  {"stack", &t->stack},
                  {"shared_memory", &t->smem},
                  {"blocks_per_sm", &t->blocks_per_sm}};
    if (!name)
        return;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!strcmp(name, counts[i].name))
            *counts[i].slot = whole(v);
    bool correct = t->validity == TRIAL_CORRECT; /* others have no time */
    if (!strcmp(name, "time") && correct)
        t->ms = v;
    else if (!strcmp(name, "spread") && correct)
        t->spread_ms = v;
    else if (!strcmp(name, "error") && correct)
        t->error = v;
    else if (!strcmp(name, "revision") && text)
        copy_text(t->revision, sizeof t->revision, text);
    else if (!strcmp(name, "message") && text)
        snprintf(t->message, sizeof t->message, "%s", text);
}

static double number_of(const cJSON *o, const char *field)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, field);
    return cJSON_IsNumber(v) && isfinite(v->valuedouble) ? v->valuedouble : 0;
}

static int read_result(const cJSON *r, struct trial *t)
{
    const char *validity = text_of(r, "invalidity"), *stamp = text_of(r, "timestamp");
    const cJSON *times = cJSON_GetObjectItemCaseSensitive(r, "times"), *v;
    int known = validity ? trial_validity_of(validity) : -1;
    struct tm day = {0};
    if (known < 0 || read_pairs(cJSON_GetObjectItemCaseSensitive(r, "configuration"), &t->config) != 0)
        return -1;
    t->validity = (enum trial_validity)known;
    t->compile_ms = number_of(times, "compilation_time");
    t->check_ms = number_of(times, "validation");
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(times, "runtimes"))
    {
        if (cJSON_IsNumber(v) && isfinite(v->valuedouble) && t->nruns < TRIAL_RUNS_MAX)
            t->run_ms[t->nruns++] = v->valuedouble;
    }
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(r, "measurements"))
    {
        read_measurement(v, t);
    }
    if (stamp && strptime(stamp, "%Y-%m-%dT%H:%M:%SZ", &day))
        t->at = trial_at((double)timegm(&day));
    return t->validity == TRIAL_CORRECT && !(t->ms > 0) ? -1 : 0;
}

int t4_read(const char *path, struct trials *out, struct err *err)
{
    struct trial shared = {0};
    const cJSON *r;
    int status = -1;
    memset(out, 0, sizeof *out);
    out->fd = -1;
    char *text = read_all(path, err);
    if (!text)
        return -1;
    cJSON *doc = cJSON_Parse(text);
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(doc, "results");
    if (!doc) {
        const char *at = cJSON_GetErrorPtr();
        err_set(err, "%s: damaged JSON at byte %ld", path, at ? (long)(at - text) : 0L);
    } else if (read_head(doc, &shared) != 0)
        err_set(err, "%s: \"weir\" does not say kernel, gpu, shape and sizes; results of another program?", path);
    else if (!cJSON_IsArray(results))
        err_set(err, "%s: \"results\" is no list", path);
    else if ((out->trial = err_calloc((size_t)cJSON_GetArraySize(results) + 1, sizeof *out->trial, path, err))) {
        snprintf(out->path, sizeof out->path, "%s", path);
        out->room = cJSON_GetArraySize(results);
        status = 0;
        cJSON_ArrayForEach(r, results)
        {
            out->trial[out->n] = shared;
            if (read_result(r, &out->trial[out->n]) != 0) {
                status = err_set(err, "%s: result %d has no configuration, invalidity or time that can be read", path,
                                 out->n + 1);
                break;
            }
            out->n++;
        }
    }
    cJSON_Delete(doc);
    free(text);
    if (status != 0)
        trials_close(out);
    return status;
}

int trials_load(struct trials *out, const char *path, struct err *err)
{
    const char *dot = strrchr(path, '.');
    return dot && !strcmp(dot, ".json") ? t4_read(path, out, err) : trials_open(out, path, false, err);
}
