/* weir tune --export: spaces and trials in Kernel Tuner's formats. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../tuner/formats.h"
#include "cmd.h"
#include "cmd_tune_predict.h"

/* "h200__attn_prefill__d128_bf16__tokens4096_held16448_heads32_kv_heads8" */
static void name_problem(const struct tune_space *s, char name[300])
{
    size_t len = (size_t)snprintf(name, 300, "%s__%s_", s->gpu.name, s->problem.kernel);
    const struct pairs *parts[] = {&s->problem.shape, &s->problem.sizes};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < parts[k]->n && len < 300; i++) {
            const struct pair *p = &parts[k]->at[i];
            bool word = p->value[0] < '0' || p->value[0] > '9';
            len += (size_t)snprintf(name + len, 300 - len, "_%s%s", word ? "" : p->name, p->value);
        }
        if (k == 0 && len < 300)
            len += (size_t)snprintf(name + len, 300 - len, "_");
    }
}

static int export_one(const struct tune_offline *o, const struct tune_offline_gpu *g, int problem, const char *folder,
                      int *results, struct err *err)
{
    struct tune_space s;
    char name[300], path[900];
    struct err none;
    if (tune_space_open(&s, o->gen, g->arg, &g->problem[problem], o->fixed, err) != 0)
        return -1;
    name_problem(&s, name);
    snprintf(path, sizeof path, "%s/%s.t1.json", folder, name);
    int status = t1_write(&s, path, err);
    snprintf(path, sizeof path, "%s/%s.t4.json", folder, name);
    /* A problem without trials has a space all the same. */
    if (status == 0 && g->trials.n && t4_write(&g->trials, &s, path, &none) == 0) {
        snprintf(path, sizeof path, "%s/%s.cache.json", folder, name);
        status = kernel_tuner_cache_write(&g->trials, &s, path, err);
        ++*results;
    }
    tune_space_close(&s);
    return status;
}

int cmd_tune_export(struct tune_offline *o, const char *folder, struct err *err)
{
    int spaces = 0, results = 0;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return err_set(err, "%s: cannot be made: %s", folder, strerror(errno)), CMD_FAILED;
    for (int g = 0; g < o->ngpus; g++)
        for (int i = 0; i < o->gpu[g].nproblems; i++, spaces++)
            if (export_one(o, &o->gpu[g], i, folder, &results, err) != 0)
                return CMD_FAILED;
    fprintf(stderr, "%s: %d spaces (T1), results of %d (T4, and as Kernel Tuner's cache)\n", folder, spaces, results);
    return CMD_OK;
}
