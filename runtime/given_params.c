#include "given_params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int given_params_add(struct given_params *p, const char *option, const char *text, struct err *err)
{
    char *copy = strdup(text), *save = NULL;
    if (!copy || p->ntexts == GIVEN_PARAMS_MAX) {
        free(copy);
        return err_set(err, "out of memory for %s", option);
    }
    p->text[p->ntexts++] = copy;
    for (char *pair = strtok_r(copy, ",", &save); pair; pair = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(pair, '=');
        if (!eq || eq == pair || !eq[1])
            return err_set(err, "%s %s: '%s' is not NAME=VALUE", option, text, pair);
        if (p->n == GIVEN_PARAMS_MAX)
            return err_set(err, "%s %s: more than %d parameters", option, text, GIVEN_PARAMS_MAX);
        *eq = 0;
        p->at[p->n++] = (struct gen_param){pair, eq + 1};
    }
    return 0;
}

void given_params_free(struct given_params *p)
{
    for (int i = 0; i < p->ntexts; i++)
        free(p->text[i]);
    *p = (struct given_params){0};
}

/* The option of the tables that an argument of `len` characters before its '=' names, or NULL. */
static const struct option *option_of(const struct option_group *group, const char *arg, size_t len)
{
    for (; group->option; group++)
        for (const struct option *o = group->option; o->name; o++)
            if ((strlen(o->name) == len && !strncmp(o->name, arg, len)) || (o->letter && !strcmp(o->letter, arg)))
                return o;
    return NULL;
}

/* Adds the parameter of "--NAME=VALUE", or of "--NAME" with its value behind it. */
static int add_option(struct given_params *p, const char *arg, const char *value, struct err *err)
{
    char pair[256];
    size_t len = strcspn(arg, "=");
    int size =
        value ? snprintf(pair, sizeof pair, "%s=%s", arg + 2, value) : snprintf(pair, sizeof pair, "%s", arg + 2);
    if (size >= (int)sizeof pair || strchr(pair, ','))
        return err_set(err, "%.40s: '%.100s' is not a value", arg, pair + len - 1);
    if (!strncmp(pair, "type=", 5))
        memmove(pair, "t", 1), memmove(pair + 1, pair + 4, strlen(pair + 4) + 1);
    return given_params_add(p, arg, pair, err);
}

int given_params_take(struct given_params *p, const struct option_group *tables, int argc, char **argv, char **rest,
                      struct err *err)
{
    int n = 0;
    bool ended = false;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i], *eq = strchr(arg, '=');
        const struct option *o = option_of(tables, arg, eq ? (size_t)(eq - arg) : strlen(arg));
        ended = ended || !strcmp(arg, "--");
        if (ended || strncmp(arg, "--", 2) != 0 || !strcmp(arg, "--help") || o) {
            rest[n++] = argv[i];
            if (o && o->kind != OPTION_FLAG && !eq && i + 1 < argc)
                rest[n++] = argv[++i]; /* its value, whatever that looks like */
            continue;
        }
        if (!eq && i + 1 == argc)
            return err_set(err, "%s: needs a value; --list shows the parameters of each kernel", arg);
        if (add_option(p, arg, eq ? NULL : argv[++i], err) != 0)
            return -1;
    }
    return n;
}

const char *given_params_value(const struct given_params *p, const char *name)
{
    for (int i = p->n - 1; i >= 0; i--)
        if (!strcmp(p->at[i].name, name))
            return p->at[i].value;
    return NULL;
}

int given_params_check(struct given_params *p, struct gen *g, const char *const *kernel, int n, struct err *err)
{
    for (int i = 0; i < p->n; i++) {
        p->kind[i] = 0;
        for (int k = 0; k < n && p->kind[i] != GEN_SHAPE; k++) {
            int kind = gen_has_param(g, kernel[k], p->at[i].name, err);
            if (kind < 0)
                return -1;
            p->kind[i] = kind > p->kind[i] ? kind : p->kind[i];
        }
        if (p->kind[i] == 0)
            return err_set(err, "no kernel has a parameter '%s'; --list shows what they have", p->at[i].name);
    }
    return 0;
}

int given_params_for(const struct given_params *p, struct gen *g, const char *kernel, struct gen_param *out, int n,
                     struct err *err)
{
    for (int i = 0; i < p->n; i++) {
        int kind = gen_has_param(g, kernel, p->at[i].name, err);
        if (kind < 0)
            return -1;
        if (kind == p->kind[i])
            out[n++] = p->at[i];
    }
    return n;
}
