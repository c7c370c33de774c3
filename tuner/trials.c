#include "trials.h"

#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_PIECE = 1 << 20 };

static const char *const validity_names[] = {"correct", "compile", "runtime", "correctness", "constraints", "timeout"};

const char *trial_validity_name(enum trial_validity v)
{
    return validity_names[v];
}

int trial_validity_of(const char *name)
{
    for (size_t i = 0; i < sizeof validity_names / sizeof *validity_names; i++)
        if (!strcmp(validity_names[i], name))
            return (int)i;
    return -1;
}

/* ------------------------------------------------------------------------------------------------ one line */

static void add_pairs(cJSON *o, const char *field, const struct pairs *p)
{
    cJSON *table = cJSON_AddObjectToObject(o, field);
    for (int i = 0; i < p->n; i++)
        cJSON_AddStringToObject(table, p->at[i].name, p->at[i].value);
}

/* Milliseconds to the nanosecond. */
static double rounded(double ms)
{
    return round(ms * 1e6) / 1e6;
}

int trial_write(const struct trial *t, char **line, struct err *err)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kernel", t->problem.kernel);
    cJSON_AddStringToObject(o, "gpu", t->gpu);
    cJSON_AddStringToObject(o, "revision", t->revision);
    add_pairs(o, "shape", &t->problem.shape);
    add_pairs(o, "sizes", &t->problem.sizes);
    add_pairs(o, "config", &t->config);
    cJSON_AddStringToObject(o, "invalidity", trial_validity_name(t->validity));
    if (t->validity == TRIAL_CORRECT) {
        cJSON_AddNumberToObject(o, "ms", rounded(t->ms));
        cJSON_AddNumberToObject(o, "spread_ms", rounded(t->spread_ms));
        cJSON *runs = cJSON_AddArrayToObject(o, "runs");
        for (int i = 0; i < t->nruns; i++)
            cJSON_AddItemToArray(runs, cJSON_CreateNumber(rounded(t->run_ms[i])));
    }
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"compile_ms", rounded(t->compile_ms)},
                   {"check_ms", rounded(t->check_ms)},
                   {"error", t->error},
                   {"regs", t->regs},
                   {"spills", t->spills},
                   {"stack", t->stack},
                   {"smem", t->smem},
                   {"blocks_per_sm", t->blocks_per_sm},
                   {"at", (double)t->at}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value != 0 && isfinite(numbers[i].value))
            cJSON_AddNumberToObject(o, numbers[i].name, numbers[i].value);
    if (t->message[0])
        cJSON_AddStringToObject(o, "message", t->message);
    *line = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return *line ? 0 : err_set(err, "out of memory for a trial");
}

static int get_text(const cJSON *o, const char *field, char *out, size_t size)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, field);
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= size)
        return -1;
    strcpy(out, v->valuestring);
    return 0;
}

static double number_of(const cJSON *v)
{
    return cJSON_IsNumber(v) && isfinite(v->valuedouble) && fabs(v->valuedouble) < 1e15 ? v->valuedouble : 0;
}

static double get_number(const cJSON *o, const char *field)
{
    return number_of(cJSON_GetObjectItemCaseSensitive(o, field));
}

static int get_int(const cJSON *o, const char *field)
{
    double v = get_number(o, field);
    return v > 0 && v < 2e9 ? (int)v : 0;
}

static int get_pairs(const cJSON *o, const char *field, struct pairs *out)
{
    const cJSON *table = cJSON_GetObjectItemCaseSensitive(o, field), *v;
    if (!cJSON_IsObject(table))
        return -1;
    cJSON_ArrayForEach(v,
                       table) if (!cJSON_IsString(v) || pairs_put(out, v->string, v->valuestring, NULL) != 0) return -1;
    return 0;
}

long trial_at(double seconds)
{
    return seconds > 0 && seconds < 253402300800.0 ? (long)seconds : 0;
}

/* How long it took: only a correct one has that. */
static int get_times(const cJSON *o, struct trial *t)
{
    const cJSON *v;
    t->ms = rounded(get_number(o, "ms"));
    t->spread_ms = get_number(o, "spread_ms");
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(o, "runs"))
    {
        double ms = rounded(number_of(v));
        if (ms > 0 && t->nruns < TRIAL_RUNS_MAX)
            t->run_ms[t->nruns++] = ms;
    }
    return t->ms > 0 ? 0 : -1;
}

static int get_trial(const cJSON *o, struct trial *t)
{
    char validity[16];
    if (get_text(o, "kernel", t->problem.kernel, sizeof t->problem.kernel) ||
        get_text(o, "gpu", t->gpu, sizeof t->gpu) || get_text(o, "revision", t->revision, sizeof t->revision) ||
        get_pairs(o, "shape", &t->problem.shape) || get_pairs(o, "sizes", &t->problem.sizes) ||
        get_pairs(o, "config", &t->config) || get_text(o, "invalidity", validity, sizeof validity) ||
        trial_validity_of(validity) < 0)
        return -1;
    t->validity = (enum trial_validity)trial_validity_of(validity);
    if (t->validity == TRIAL_CORRECT && get_times(o, t) != 0)
        return -1;
    t->compile_ms = get_number(o, "compile_ms");
    t->check_ms = get_number(o, "check_ms");
    t->error = get_number(o, "error");
    t->regs = get_int(o, "regs");
    t->spills = get_int(o, "spills");
    t->stack = get_int(o, "stack");
    t->smem = get_int(o, "smem");
    t->blocks_per_sm = get_int(o, "blocks_per_sm");
    t->at = trial_at(get_number(o, "at"));
    if (cJSON_GetObjectItemCaseSensitive(o, "message") && get_text(o, "message", t->message, sizeof t->message) != 0)
        return -1;
    return 0;
}

int trial_read(const char *line, size_t len, struct trial *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    cJSON *o = cJSON_ParseWithLength(line, len);
    int status = o ? get_trial(o, out) : -1;
    cJSON_Delete(o);
    return status == 0 ? 0 : err_set(err, "is no trial");
}

/* ------------------------------------------------------------------------------------------------ the journal */

static int keep(struct trials *t, const struct trial *trial, struct err *err)
{
    if (t->n == t->room) {
        int room = t->room ? 2 * t->room : 256;
        struct trial *grown = realloc(t->trial, (size_t)room * sizeof *grown);
        if (!grown)
            return err_set(err, "out of memory for %d trials", room);
        t->trial = grown;
        t->room = room;
    }
    t->trial[t->n++] = *trial;
    return 0;
}

/* Takes the whole lines of text in; returns how many bytes they are. */
static size_t take_lines(struct trials *t, const char *text, size_t len, struct err *err, int *status)
{
    size_t used = 0;
    const char *end;
    while (*status == 0 && (end = memchr(text + used, '\n', len - used))) {
        struct trial trial;
        size_t line = (size_t)(end - text) - used;
        if (line > 0 && trial_read(text + used, line, &trial, NULL) != 0)
            t->damaged++;
        else if (line > 0)
            *status = keep(t, &trial, err);
        used += line + 1;
    }
    return used;
}

int trials_refresh(struct trials *t, struct err *err)
{
    int fd = open(t->path, O_RDONLY | O_CLOEXEC), status = 0;
    size_t room = READ_PIECE, held = 0;
    char *text = fd >= 0 ? err_alloc(room, 1, "the trial log", err) : NULL;
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set(err, "%s: %s", t->path, strerror(errno));
    for (ssize_t n = 1; text && status == 0 && n > 0;) {
        if (held == room) { /* a line longer than a piece */
            char *grown = realloc(text, room * 2);
            if (!grown)
                break;
            text = grown;
            room *= 2;
        }
        n = pread(fd, text + held, room - held, t->read_to + (long)held);
        if (n < 0)
            status = err_set(err, "%s: %s", t->path, strerror(errno));
        held += n > 0 ? (size_t)n : 0;
        size_t used = take_lines(t, text, held, err, &status);
        memmove(text, text + used, held - used);
        held -= used;
        t->read_to += (long)used;
    }
    t->ends_whole = held == 0;
    if (!text && status == 0)
        status = -1;
    free(text);
    close(fd);
    return status;
}

static void make_folders(const char *path)
{
    char part[600];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        mkdir(part, 0777); /* what cannot be made shows when the file is opened */
    }
}

int trials_open(struct trials *t, const char *path, bool write, struct err *err)
{
    memset(t, 0, sizeof *t);
    t->fd = -1;
    t->ends_whole = true;
    if (strlen(path) >= sizeof t->path)
        return err_set(err, "%.200s: too long a path", path);
    strcpy(t->path, path);
    if (write) {
        make_folders(path);
        t->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (t->fd < 0)
            return err_set(err, "%s: %s", path, strerror(errno));
    }
    if (trials_refresh(t, err) != 0) {
        trials_close(t);
        return -1;
    }
    return 0;
}

void trials_close(struct trials *t)
{
    if (t->fd >= 0)
        close(t->fd);
    free(t->trial);
    memset(t, 0, sizeof *t);
    t->fd = -1;
}

int trials_add(struct trials *t, const struct trial *trial, struct err *err)
{
    char *line = NULL, *whole = NULL;
    if (trial_write(trial, &line, err) != 0)
        return -1;
    size_t n = strlen(line);
    int status = -1;
    /* After what a kill left of a line, a new line begins: one write, so that two tuners' trials do not mix. */
    if ((whole = err_alloc(n + 3, 1, "a trial", err))) {
        size_t len = (size_t)snprintf(whole, n + 3, "%s%s\n", t->ends_whole ? "" : "\n", line);
        if (write(t->fd, whole, len) != (ssize_t)len)
            err_set(err, "%s: %s", t->path, errno ? strerror(errno) : "a trial was cut; is the disk full?");
        else
            status = trials_refresh(t, err);
    }
    free(line);
    free(whole);
    return status;
}

/* ------------------------------------------------------------------------------------------------ look-up */

static bool of_space(const struct trial *t, const struct tune_space *s)
{
    return !strcmp(t->gpu, s->gpu.name) && tune_problem_equal(&t->problem, &s->problem);
}

/* The config that a trial of the space is of, -1 where it is none, or of another text than it has now. */
static int config_of(const struct trial *t, const struct tune_space *s, bool any_revision)
{
    int config = of_space(t, s) ? tune_space_find(s, &t->config) : -1;
    if (config >= 0 && !any_revision &&
        (s->all.config[config].broken[0] || strcmp(t->revision, tune_space_revision(s, config)) != 0))
        return -1;
    return config;
}

const struct trial *trials_find(const struct trials *t, const struct tune_space *s, int config)
{
    for (int i = t->n - 1; i >= 0; i--)
        if (of_space(&t->trial[i], s) && config_of(&t->trial[i], s, false) == config)
            return &t->trial[i];
    return NULL;
}

void trials_of_space(const struct trials *t, const struct tune_space *s, bool any_revision, const struct trial **slot)
{
    memset(slot, 0, (size_t)s->all.nconfigs * sizeof *slot);
    for (int i = 0; i < t->n; i++) {
        int config = config_of(&t->trial[i], s, any_revision);
        if (config >= 0)
            slot[config] = &t->trial[i];
    }
}
