/* Reading of wisdom files. They come from other machines, so nothing in them is trusted. */
#include "wisdom.h"

#include <cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 16 << 20 };

static int line_of(const char *text, const char *at)
{
    int line = 1;
    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

/* A text field that must fit, and say something where it is needed; "" where it is missing and may be. */
static int get_text(const cJSON *o, const char *field, bool needed, char *out, size_t size, struct err *err)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, field);
    out[0] = 0;
    if (!v && !needed)
        return 0;
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= size)
        return err_set(err, "'%s' is no text of less than %zu characters", field, size);
    if (!v->valuestring[0] && needed)
        return err_set(err, "'%s' is empty", field);
    strcpy(out, v->valuestring);
    return 0;
}

static int get_number(const cJSON *o, const char *field, bool needed, double *out, struct err *err)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, field);
    *out = 0;
    if (!v && !needed)
        return 0;
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || v->valuedouble < 0 || v->valuedouble > 1e9)
        return err_set(err, "'%s' is no number from 0 to 1e9", field);
    *out = v->valuedouble;
    return 0;
}

static int get_pairs(const cJSON *o, const char *field, struct pairs *out, struct err *err)
{
    const cJSON *table = cJSON_GetObjectItemCaseSensitive(o, field), *v;
    memset(out, 0, sizeof *out);
    if (!cJSON_IsObject(table))
        return err_set(err, "'%s' is no object", field);
    cJSON_ArrayForEach(v, table)
    {
        if (!cJSON_IsString(v))
            return err_set(err, "'%s': the value of '%s' is no text", field,
                           err_name(v->string, strlen(v->string)).text);
        if (pairs_put(out, v->string, v->valuestring, err) != 0)
            return err_prefix(err, "'%s'", field);
    }
    return 0;
}

static int get_entry(const cJSON *o, struct wisdom_entry *e, struct err *err)
{
    double trials;
    if (!cJSON_IsObject(o))
        return err_set(err, "is no object");
    if (get_text(o, "kernel", true, e->kernel, sizeof e->kernel, err) || get_pairs(o, "shape", &e->shape, err) ||
        get_pairs(o, "sizes", &e->sizes, err) || get_pairs(o, "config", &e->config, err) ||
        get_number(o, "ms", true, &e->ms, err) || get_number(o, "spread_ms", false, &e->spread_ms, err) ||
        get_number(o, "trials", false, &trials, err) ||
        get_text(o, "measured", false, e->measured, sizeof e->measured, err) ||
        get_text(o, "step", false, e->step, sizeof e->step, err) || get_number(o, "step_ms", false, &e->step_ms, err) ||
        get_text(o, "predicted", false, e->predicted, sizeof e->predicted, err) ||
        get_text(o, "why", false, e->why, sizeof e->why, err))
        return -1;
    e->trials = (int)trials;
    if (!e->measured[0] == !e->predicted[0])
        return err_set(err, "wants either 'measured' or 'predicted'");
    if (e->predicted[0]) /* what only the other kind has */
        e->spread_ms = e->trials = e->step[0] = 0;
    else
        e->why[0] = 0;
    if (!e->step[0])
        e->step_ms = 0;
    return 0;
}

static int get_file(const cJSON *o, struct wisdom_file *out, struct err *err)
{
    double format, sm;
    const cJSON *entries = cJSON_GetObjectItemCaseSensitive(o, "entries"), *e;
    if (!cJSON_IsObject(o) || !cJSON_GetObjectItemCaseSensitive(o, "weir_wisdom"))
        return err_set(err, "is no wisdom file: it has no 'weir_wisdom'");
    if (get_number(o, "weir_wisdom", true, &format, err) != 0)
        return -1;
    if (format != WISDOM_FORMAT)
        return err_set(err, "is of format %g; this program reads format %d: tune again", format, WISDOM_FORMAT);
    if (get_text(o, "gpu", true, out->gpu, sizeof out->gpu, err) || get_number(o, "sm", true, &sm, err) ||
        get_text(o, "title", false, out->title, sizeof out->title, err) ||
        get_text(o, "driver", false, out->driver, sizeof out->driver, err) ||
        get_text(o, "nvrtc", false, out->nvrtc, sizeof out->nvrtc, err) ||
        get_text(o, "model", false, out->model, sizeof out->model, err))
        return -1;
    out->sm = (int)sm;
    if (!cJSON_IsArray(entries))
        return err_set(err, "'entries' is no array");
    out->entry = err_calloc((size_t)cJSON_GetArraySize(entries) + 1, sizeof *out->entry, "wisdom", err);
    if (!out->entry)
        return -1;
    cJSON_ArrayForEach(e, entries)
    {
        if (get_entry(e, &out->entry[out->nentries], err) != 0)
            return err_prefix(err, "entry %d", out->nentries + 1);
        out->nentries++;
    }
    return 0;
}

int wisdom_file_parse(const char *text, size_t len, const char *name, struct wisdom_file *out, struct err *err)
{
    const char *end = NULL;
    memset(out, 0, sizeof *out);
    cJSON *o = cJSON_ParseWithLengthOpts(text, len, &end, false);
    int status = 0;
    if (!o)
        status = err_set(err, "%s:%d: is no JSON; make it again with weir tune", name, end ? line_of(text, end) : 1);
    else if (get_file(o, out, err) != 0)
        status = err_prefix(err, "%s", name);
    if (status != 0)
        wisdom_file_free(out);
    cJSON_Delete(o);
    return status;
}

int wisdom_file_read(const char *path, struct wisdom_file *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(err, "%s: %s", path, strerror(errno));
    char *text = NULL;
    int status = -1;
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (size < 0 || size > FILE_MAX_BYTES || fseek(f, 0, SEEK_SET) != 0)
        err_set(err, "%s: is no file of at most %d MB", path, FILE_MAX_BYTES >> 20);
    else if ((text = err_alloc((size_t)size + 1, 1, "a wisdom file", err))) {
        size_t n = fread(text, 1, (size_t)size, f);
        status = wisdom_file_parse(text, n, path, out, err);
    }
    free(text);
    fclose(f);
    return status;
}

void wisdom_file_free(struct wisdom_file *f)
{
    free(f->entry);
    memset(f, 0, sizeof *f);
}
