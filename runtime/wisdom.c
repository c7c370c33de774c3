/* Look-up of wisdom: which files serve a GPU, and which of their entries serves a shape. */
#include "wisdom.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PARAMS_MAX = 2 * PAIRS_MAX + 16 };

int wisdom_folders(const struct gen *g, char folder[2][600])
{
    const char *given = getenv("WEIR_WISDOM");
    struct kernel_cache cache;
    int n = 0;
    if (given && given[0]) {
        snprintf(folder[0], sizeof folder[0], "%s", given);
        return 1;
    }
    if (gen_home(g)[0])
        snprintf(folder[n++], sizeof folder[0], "%s/kernels_out/wisdom", gen_home(g));
    kernel_cache_default(&cache);
    if (cache.folder[0])
        snprintf(folder[n++], sizeof folder[0], "%s/wisdom", cache.folder);
    return n;
}

static int add_file(struct wisdom *w, const char *path, struct err *err)
{
    struct wisdom_file file, *grown;
    struct err trouble = {""};
    if (wisdom_file_read(path, &file, &trouble) != 0) {
        char line[720];
        snprintf(line, sizeof line, "%s; it is left out, other wisdom or default tiles are used", trouble.msg);
        if (w->say)
            w->say(true, line);
        return 0;
    }
    if (file.sm != w->gpu.sm) {
        wisdom_file_free(&file);
        return 0;
    }
    grown = realloc(w->file, (size_t)(w->nfiles + 1) * sizeof *w->file);
    if (!grown) {
        wisdom_file_free(&file);
        return err_set(err, "out of memory for wisdom");
    }
    w->file = grown;
    w->file[w->nfiles++] = file;
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_json(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 5 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 5, ".json");
}

static int add_folder(struct wisdom *w, const char *folder, struct err *err)
{
    struct dirent **name = NULL;
    struct stat st;
    char path[900];
    int status = 0;
    if (stat(folder, &st) == 0 && S_ISREG(st.st_mode))
        return add_file(w, folder, err);
    int n = scandir(folder, &name, is_json, by_name);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, name[i]->d_name);
        if (status == 0)
            status = add_file(w, path, err);
        free(name[i]);
    }
    free(name);
    return status;
}

int wisdom_open(struct wisdom **out, struct gen *g, const char *gpu, wisdom_say *say, struct err *err)
{
    char folder[2][600];
    struct wisdom *w = err_calloc(1, sizeof *w, "wisdom", err);
    *out = NULL;
    if (!w)
        return -1;
    w->gen = g;
    w->say = say;
    int status = gen_gpu(g, gpu, &w->gpu, err), n = wisdom_folders(g, folder);
    for (int i = 0; i < n && status == 0; i++)
        status = add_folder(w, folder[i], err);
    if (status != 0) {
        wisdom_close(w);
        return -1;
    }
    *out = w;
    return 0;
}

void wisdom_close(struct wisdom *w)
{
    for (int i = 0; w && i < w->nfiles; i++)
        wisdom_file_free(&w->file[i]);
    if (w)
        free(w->file);
    free(w);
}

static bool is_word(const char *value)
{
    char *end;
    (void)strtod(value, &end);
    return *end != 0;
}

/* How far one value is from another: octaves of numbers, 1 for different words. */
static double value_distance(const char *a, const char *b)
{
    char *enda, *endb;
    double x = strtod(a, &enda), y = strtod(b, &endb);
    if (*enda || *endb)
        return strcmp(a, b) ? 1 : 0;
    return fabs(log2(fmax(x, 0.5) / fmax(y, 0.5)));
}

static double lacking(const char *name, const struct gen_param *params, int nparams, const struct pairs *sizes)
{
    for (int i = 0; i < nparams; i++)
        if (!strcmp(params[i].name, name))
            return 0;
    return sizes && pairs_get(sizes, name) ? 0 : 1;
}

/* Distance of an entry from what is wanted, 0 for the same; negative where it is too far to say anything: the shape decides more
 * than the sizes, and a shape parameter more than an octave off says nothing. What the caller does not say does not count. *other_kernel:
 * whether the entry has other weights, another output, another reduction; a data type makes no other kernel. */
static double entry_distance(const struct wisdom_entry *e, const struct gen_param *params, int nparams,
                             const struct pairs *sizes, bool *other_kernel)
{
    double sum = 0;
    *other_kernel = false;
    for (int i = 0; i < e->shape.n; i++)
        for (int j = 0; j < nparams; j++)
            if (!strcmp(params[j].name, e->shape.at[i].name)) {
                double far = value_distance(e->shape.at[i].value, params[j].value);
                if (far > 1)
                    return -1;
                sum += 3 * far;
                if (far > 0 && is_word(e->shape.at[i].value) && strcmp(params[j].name, "t") != 0)
                    *other_kernel = true;
            }
    for (int i = 0; i < e->shape.n; i++)
        sum += 0.01 * lacking(e->shape.at[i].name, params, nparams, NULL); /* a default that was not spelt out */
    for (int i = 0; sizes && i < e->sizes.n; i++) {
        const char *wanted = pairs_get(sizes, e->sizes.at[i].name);
        sum += wanted ? 0.5 * value_distance(e->sizes.at[i].value, wanted) : 0;
    }
    return sum;
}

int wisdom_rank(const struct wisdom_entry *a, const struct wisdom_entry *b)
{
    if (!a->measured[0] != !b->measured[0])
        return a->measured[0] ? 1 : -1;
    if (!a->step[0] != !b->step[0])
        return a->step[0] ? 1 : -1;
    int later = strcmp(a->measured, b->measured);
    return (later > 0) - (later < 0);
}

struct candidate {
    const struct wisdom_file *file;
    const struct wisdom_entry *entry;
    double distance;
    bool other_kernel, other_gpu;
};

static int by_worth(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->other_kernel != y->other_kernel)
        return x->other_kernel ? 1 : -1;
    if (x->other_gpu != y->other_gpu)
        return x->other_gpu ? 1 : -1;
    if (x->distance != y->distance)
        return x->distance > y->distance ? 1 : -1;
    return -wisdom_rank(x->entry, y->entry);
}

static int find_candidates(const struct wisdom *w, const char *kernel, const struct gen_param *params, int nparams,
                           const struct pairs *sizes, struct candidate **out)
{
    int n = 0, room = 0;
    for (int i = 0; i < w->nfiles; i++)
        room += w->file[i].nentries;
    *out = malloc((size_t)(room + 1) * sizeof **out);
    for (int i = 0; *out && i < w->nfiles; i++)
        for (int j = 0; j < w->file[i].nentries; j++) {
            const struct wisdom_entry *e = &w->file[i].entry[j];
            bool other = false;
            double distance = strcmp(e->kernel, kernel) ? -1 : entry_distance(e, params, nparams, sizes, &other);
            if (distance >= 0)
                (*out)[n++] = (struct candidate){.file = &w->file[i],
                                                 .entry = e,
                                                 .distance = distance,
                                                 .other_kernel = other,
                                                 .other_gpu = strcmp(w->file[i].gpu, w->gpu.name) != 0};
        }
    if (*out)
        qsort(*out, (size_t)n, sizeof **out, by_worth);
    return n;
}

/* Whether the entry's tile, under the caller's parameters, is a config of this GPU; fills found->config with what it adds. */
static bool fits(const struct wisdom *w, const char *kernel, const struct gen_param *params, int nparams,
                 const struct wisdom_entry *e, struct wisdom_found *found)
{
    struct gen_param all[PARAMS_MAX];
    int n = 0;
    memset(&found->config, 0, sizeof found->config);
    for (; n < nparams && n < PARAMS_MAX - PAIRS_MAX; n++)
        all[n] = params[n];
    for (int i = 0; i < e->config.n; i++)
        if (lacking(e->config.at[i].name, params, nparams, NULL))
            pairs_put(&found->config, e->config.at[i].name, e->config.at[i].value, NULL);
    n = pairs_params(&found->config, all, n);
    return gen_check(w->gen, kernel, w->gpu.name, all, n, NULL) == 0;
}

static void describe(const struct wisdom *w, const char *kernel, const struct candidate *c, struct wisdom_found *found)
{
    static const char *const how[] = {"same shape", "nearest shape", "another GPU of its compute capability"};
    char shape[PAIRS_TEXT_MAX], config[PAIRS_TEXT_MAX];
    const struct wisdom_entry *e = c->entry;
    pairs_text(&e->shape, shape);
    pairs_text(&found->config, config);
    snprintf(found->line, sizeof found->line, "%s on %s: %.160s, from %s %.100s (%s; %s %.60s%s%s)", kernel,
             w->gpu.name, config, c->file->gpu, shape, how[found->match], e->measured[0] ? "measured" : "predicted by",
             e->measured[0] ? e->measured : e->predicted, e->step[0] ? " in the step of " : "", e->step);
}

void wisdom_best(const struct wisdom *w, const char *kernel, const struct gen_param *params, int nparams,
                 const struct pairs *sizes, struct wisdom_found *found)
{
    struct candidate *c = NULL;
    memset(found, 0, sizeof *found);
    found->match = WISDOM_DEFAULT;
    int n = find_candidates(w, kernel, params, nparams, sizes, &c);
    for (int i = 0; i < n && found->match == WISDOM_DEFAULT; i++)
        if (fits(w, kernel, params, nparams, c[i].entry, found)) {
            found->match = c[i].other_gpu ? WISDOM_SM : c[i].distance < 0.05 ? WISDOM_SAME : WISDOM_NEAREST;
            found->measured = c[i].entry->measured[0];
            describe(w, kernel, &c[i], found);
        }
    if (found->match == WISDOM_DEFAULT) {
        memset(&found->config, 0, sizeof found->config);
        snprintf(found->line, sizeof found->line, "%s on %s: default tile, %s", kernel, w->gpu.name,
                 n ? "no wisdom near it fits this GPU" : "no wisdom for it");
    }
    free(c);
}
