#include "wisdom_write.h"

#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/aside.h"

static bool same_key(const struct wisdom_entry *a, const struct wisdom_entry *b)
{
    return !strcmp(a->kernel, b->kernel) && pairs_equal(&a->shape, &b->shape) && pairs_equal(&a->sizes, &b->sizes);
}

/* Whether a is worth more than b, or as much. */
static bool worth_more(const struct wisdom_entry *a, const struct wisdom_entry *b)
{
    int rank = wisdom_rank(a, b);
    bool alone = a->measured[0] && !a->step[0]; /* of two steps or predictions the new one counts */
    return rank ? rank > 0 : !alone || a->ms <= b->ms;
}

int wisdom_put(struct wisdom_file *f, const struct wisdom_entry *e, struct err *err)
{
    for (int i = 0; i < f->nentries; i++)
        if (same_key(&f->entry[i], e)) {
            if (worth_more(e, &f->entry[i]))
                f->entry[i] = *e;
            return 0;
        }
    struct wisdom_entry *grown = realloc(f->entry, (size_t)(f->nentries + 1) * sizeof *grown);
    if (!grown)
        return err_set(err, "out of memory for wisdom");
    f->entry = grown;
    f->entry[f->nentries++] = *e;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const struct wisdom_entry *x = a, *y = b;
    char p[PAIRS_TEXT_MAX], q[PAIRS_TEXT_MAX];
    int order = strcmp(x->kernel, y->kernel);
    if (order)
        return order;
    pairs_text(&x->shape, p);
    pairs_text(&y->shape, q);
    if ((order = strcmp(p, q)))
        return order;
    pairs_text(&x->sizes, p);
    pairs_text(&y->sizes, q);
    return strcmp(p, q);
}

static void put_pairs(cJSON *o, const char *field, const struct pairs *p)
{
    cJSON *table = cJSON_AddObjectToObject(o, field);
    for (int i = 0; i < p->n; i++)
        cJSON_AddStringToObject(table, p->at[i].name, p->at[i].value);
}

static double rounded(double ms)
{
    return round(ms * 1e6) / 1e6;
}

/* One entry a line. */
static char *entry_text(const struct wisdom_entry *e)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kernel", e->kernel);
    put_pairs(o, "shape", &e->shape);
    put_pairs(o, "sizes", &e->sizes);
    put_pairs(o, "config", &e->config);
    cJSON_AddNumberToObject(o, "ms", rounded(e->ms));
    if (e->measured[0]) {
        cJSON_AddNumberToObject(o, "spread_ms", rounded(e->spread_ms));
        cJSON_AddNumberToObject(o, "trials", e->trials);
        cJSON_AddStringToObject(o, "measured", e->measured);
        if (e->step[0]) {
            cJSON_AddStringToObject(o, "step", e->step);
            cJSON_AddNumberToObject(o, "step_ms", rounded(e->step_ms));
        }
    } else {
        cJSON_AddStringToObject(o, "predicted", e->predicted);
        if (e->why[0])
            cJSON_AddStringToObject(o, "why", e->why);
    }
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

static char *head_text(const struct wisdom_file *f)
{
    const char *const fields[][2] = {
        {"gpu", f->gpu}, {"title", f->title}, {"driver", f->driver}, {"nvrtc", f->nvrtc}, {"model", f->model}};
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "weir_wisdom", WISDOM_FORMAT);
    cJSON_AddNumberToObject(o, "sm", f->sm);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i][1][0])
            cJSON_AddStringToObject(o, fields[i][0], fields[i][1]);
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

int wisdom_file_write(const struct wisdom_file *f, const char *path, struct err *err)
{
    struct aside a;
    char *head = head_text(f);
    if (!head)
        return err_set(err, "out of memory for wisdom");
    if (f->nentries > 0)
        qsort(f->entry, (size_t)f->nentries, sizeof *f->entry, by_key);
    if (aside_open(&a, path, err) != 0) {
        free(head);
        return -1;
    }
    fprintf(a.f, "%.*s,\n \"entries\":[", (int)strlen(head) - 1, head);
    free(head);
    for (int i = 0; i < f->nentries; i++) {
        char *text = entry_text(&f->entry[i]);
        if (!text) {
            aside_drop(&a);
            return err_set(err, "out of memory for wisdom");
        }
        fprintf(a.f, "%s\n  %s", i ? "," : "", text);
        free(text);
    }
    fprintf(a.f, "\n ]}\n");
    return aside_keep(&a, true, err);
}

int wisdom_file_merge(struct wisdom_file *a, const struct wisdom_file *b, struct err *err)
{
    if (strcmp(a->gpu, b->gpu))
        return err_set(err, "one file is of %s, the other of %s: wisdom of two GPUs does not mix", a->gpu, b->gpu);
    for (int i = 0; i < b->nentries; i++)
        if (wisdom_put(a, &b->entry[i], err) != 0)
            return -1;
    return 0;
}

static void take_head(struct wisdom_file *f, const struct wisdom_file *head)
{
    const struct {
        char *to;
        const char *from;
        size_t size;
    } fields[] = {{f->gpu, head->gpu, sizeof f->gpu},
                  {f->title, head->title, sizeof f->title},
                  {f->driver, head->driver, sizeof f->driver},
                  {f->nvrtc, head->nvrtc, sizeof f->nvrtc},
                  {f->model, head->model, sizeof f->model}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].from[0])
            memcpy(fields[i].to, fields[i].from, fields[i].size);
    f->sm = head->sm;
}

static void make_folders(const char *path)
{
    char part[600];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        mkdir(part, 0777); /* what cannot be made shows when the file is opened */
    }
}

/* The lock is a file beside it: the file itself is replaced, and a lock on it would go with it. */
static int lock(const char *path, struct err *err)
{
    char name[700];
    snprintf(name, sizeof name, "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set(err, "%s: %s", name, strerror(errno));
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(fd);
            return err_set(err, "%s: %s", name, strerror(errno));
        }
    return fd;
}

int wisdom_file_add(const char *path, const struct wisdom_file *head, const struct wisdom_entry *e, int n,
                    struct err *err)
{
    struct wisdom_file f = {0};
    make_folders(path);
    int fd = lock(path, err), status = fd < 0 ? -1 : 0;
    if (status == 0 && access(path, F_OK) == 0)
        status = wisdom_file_read(path, &f, err);
    if (status == 0 && f.nentries && strcmp(f.gpu, head->gpu))
        status = err_set(err, "%s: is of %s, not %s", path, f.gpu, head->gpu);
    take_head(&f, head);
    for (int i = 0; i < n && status == 0; i++)
        status = wisdom_put(&f, &e[i], err);
    if (status == 0)
        status = wisdom_file_write(&f, path, err);
    wisdom_file_free(&f);
    if (fd >= 0)
        close(fd); /* and with it the lock; its file stays, for whoever waits for it */
    return status;
}

void wisdom_entry_of_trial(struct wisdom_entry *e, const struct trial *best, int trials)
{
    time_t at = (time_t)best->at;
    struct tm day;
    memset(e, 0, sizeof *e);
    memcpy(e->kernel, best->problem.kernel, sizeof e->kernel);
    e->shape = best->problem.shape;
    e->sizes = best->problem.sizes;
    e->config = best->config;
    e->ms = best->ms;
    e->spread_ms = best->spread_ms;
    e->trials = trials;
    gmtime_r(&at, &day);
    strftime(e->measured, sizeof e->measured, "%Y-%m-%d", &day);
}
