#include "pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pairs_put(struct pairs *p, const char *name, const char *value, struct err *err)
{
    struct pair *slot = NULL;
    for (int i = 0; i < p->n && !slot; i++)
        if (!strcmp(p->at[i].name, name))
            slot = &p->at[i];
    if (!name[0] || !value[0] || strlen(name) >= sizeof slot->name || strlen(value) >= sizeof slot->value)
        return err_set(err, "'%.40s=%.40s': name and value want 1 to %zu characters", name, value,
                       sizeof slot->name - 1);
    if (!slot && p->n == PAIRS_MAX)
        return err_set(err, "'%s=%s': more than %d values", name, value, PAIRS_MAX);
    if (!slot)
        slot = &p->at[p->n++];
    strcpy(slot->name, name);
    strcpy(slot->value, value);
    return 0;
}

int pairs_put_long(struct pairs *p, const char *name, long value, struct err *err)
{
    char text[24];
    snprintf(text, sizeof text, "%ld", value);
    return pairs_put(p, name, text, err);
}

int pairs_parse(struct pairs *p, const char *text, struct err *err)
{
    memset(p, 0, sizeof *p);
    for (const char *at = text + strspn(text, " ,"); *at; at += strspn(at, " ,")) {
        struct pair word;
        size_t len = strcspn(at, " ,"), name = strcspn(at, "=");
        if (name >= len || name >= sizeof word.name || len - name - 1 >= sizeof word.value)
            return err_set(err, "'%.*s' is no NAME=VALUE", (int)(len > 60 ? 60 : len), at);
        snprintf(word.name, sizeof word.name, "%.*s", (int)name, at);
        snprintf(word.value, sizeof word.value, "%.*s", (int)(len - name - 1), at + name + 1);
        if (pairs_put(p, word.name, word.value, err) != 0)
            return -1;
        at += len;
    }
    return 0;
}

const char *pairs_get(const struct pairs *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->at[i].name, name))
            return p->at[i].value;
    return NULL;
}

long pairs_long(const struct pairs *p, const char *name, long missing)
{
    const char *value = pairs_get(p, name);
    char *end = NULL;
    long v = value ? strtol(value, &end, 10) : 0;
    return value && end != value && !*end ? v : missing;
}

bool pairs_equal(const struct pairs *a, const struct pairs *b)
{
    for (int i = 0; i < a->n; i++) {
        const char *value = pairs_get(b, a->at[i].name);
        if (!value || strcmp(value, a->at[i].value))
            return false;
    }
    return a->n == b->n;
}

void pairs_text(const struct pairs *p, char text[PAIRS_TEXT_MAX])
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < p->n && used < PAIRS_TEXT_MAX; i++)
        used += (size_t)snprintf(text + used, PAIRS_TEXT_MAX - used, "%s%s=%s", i ? " " : "", p->at[i].name,
                                 p->at[i].value);
}

int pairs_params(const struct pairs *p, struct gen_param *params, int n)
{
    for (int i = 0; i < p->n; i++)
        params[n++] = (struct gen_param){p->at[i].name, p->at[i].value};
    return n;
}
