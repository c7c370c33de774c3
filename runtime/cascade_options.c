#include "cascade_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cascade_options_init(struct cascade_options *o)
{
    struct cascade_params *p = &o->p;
    memset(o, 0, sizeof *o);
    *p = cascade_defaults();
    o->schedule = "pow2";
    /* The words of a choice stand in the order of their enum. */
    const struct option rows[] = {
        {"--window", "-W", OPTION_INT, &p->window, "W",
         "tokens kept by all sub-caches together (2048, less if the model's context is short)", 1, INT32_MAX,
         &o->window_given},
        {"--subcaches", "-N", OPTION_INT, &p->subcaches, "N",
         "steps of the cascade, 1 to 16; 1 is a sliding window (4)", 1, CASCADE_MAX_SUBCACHES, &o->subcaches_given},
        {"--sinks", "-S", OPTION_INT, &p->sinks, "S", "first tokens, kept for ever (64)", 0, INT32_MAX, NULL},
        {"--stride", "-T", OPTION_INT, &p->stride, "T", "tokens that are processed at a time (1024)", 1, INT32_MAX,
         NULL},
        {"--span", "-B", OPTION_INT, &p->span, "B",
         "neighbouring tokens that stay or go together (16, less for a small window)", 1, INT32_MAX, &o->span_given},
        {"--span-score", NULL, OPTION_CHOICE, &p->span_score, "max|mean",
         "a span's score, from those of its tokens (max)", 0, 0, NULL},
        {"--ema", NULL, OPTION_REAL, &p->ema, "G", "decay of the scores a token, 0 to 1 (0.9999)", 0, 0, NULL},
        {"--head-reduction", NULL, OPTION_CHOICE, &p->reduction, "mean|max|median",
         "how query heads share one score (mean)", 0, 0, &o->reduction_given},
        {"--head-policy", NULL, OPTION_CHOICE, &p->policy, "independent|homogeneous",
         "key heads keep tokens of their own, or all the same (independent)", 0, 0, NULL},
        {"--schedule", NULL, OPTION_TEXT, &o->schedule, "L",
         "pow2, pow3, pow4, iplus1 or a list like 1,2,4,8: sub-cache i accepts each L[i]-th span (pow2)", 0, 0, NULL},
        {"--eager-fill", NULL, OPTION_ONOFF, &p->eager, NULL, "keep everything until the window is full (on)", 0, 0,
         NULL},
        {"--positions", NULL, OPTION_CHOICE, &p->positions, "cache|original",
         "count positions in the cache or in the text (cache)", 0, 0, NULL},
        {"--select", NULL, OPTION_CHOICE, &p->select, "score|newest|oldest|random",
         "who stays; all but score are for comparison (score)", 0, 0, NULL},
        {"--preset", NULL, OPTION_CHOICE, &o->preset, "none|paper|streaming",
         "paper: --span 1 --head-reduction max; streaming: --subcaches 1; options beside it win", 0, 0, NULL},
        {0},
    };
    _Static_assert(sizeof rows <= sizeof o->table, "the table is too small");
    memcpy(o->table, rows, sizeof rows);
}

void cascade_options_without_attention(struct cascade_options *o)
{
    static const char *const attention[] = {"--ema", "--head-reduction", "--head-policy", "--positions"};
    struct option *to = o->table;
    for (const struct option *from = o->table; from->name; from++) {
        bool drop = false;
        for (size_t i = 0; i < sizeof attention / sizeof *attention; i++)
            drop |= !strcmp(from->name, attention[i]);
        if (!drop)
            *to++ = *from;
    }
    *to = (struct option){0};
}

static int64_t power(int64_t base, int exponent)
{
    int64_t r = 1;
    for (int i = 0; i < exponent; i++)
        r *= base; /* at most 4^15 */
    return r;
}

static int read_schedule(const char *text, struct cascade_params *p, struct err *err)
{
    if (!strncmp(text, "pow", 3) && text[3] >= '2' && text[3] <= '4' && !text[4]) {
        for (int i = 0; i < p->subcaches; i++)
            p->every[i] = power(text[3] - '0', i);
        return 0;
    }
    if (!strcmp(text, "iplus1")) {
        for (int i = 0; i < p->subcaches; i++)
            p->every[i] = i + 1;
        return 0;
    }
    const char *at = text;
    int n = 0;
    for (;; n++) {
        char *end;
        errno = 0;
        long long v = strtoll(at, &end, 10);
        if (end == at || errno || v < 1 || (*end && *end != ','))
            return err_set(
                err,
                "--schedule %s: must be pow2, pow3, pow4, iplus1 or a list of whole numbers from 1 on, like 1,2,4,8",
                text);
        if (n < p->subcaches)
            p->every[n] = v;
        if (!*end)
            break;
        at = end + 1;
    }
    if (n + 1 != p->subcaches)
        return err_set(err, "--schedule %s: has %d numbers for --subcaches %d", text, n + 1, p->subcaches);
    return 0;
}

/* The default, or the largest window that the trained context holds together with sinks and a chunk; half the context where
 * these two leave less than a quarter. A sub-cache gets a multiple of 16 tokens where it can, so that spans divide it. */
static int default_window(const struct cascade_params *p, int ctx_train)
{
    int64_t room = p->window;
    if (ctx_train > 0 && (int64_t)p->sinks + p->window + p->stride > ctx_train) {
        int64_t left = (int64_t)ctx_train - p->sinks - p->stride, half = ctx_train / 2;
        left = left < half / 2 ? half : left;
        room = left < room ? left : room;
    }
    int each = (int)(room / p->subcaches);
    if (each >= 16)
        each -= each % 16;
    return (each < 1 ? 1 : each) * p->subcaches;
}

int cascade_options_finish(struct cascade_options *o, int ctx_train, struct err *err)
{
    struct cascade_params *p = &o->p;
    if (o->preset == PRESET_PAPER) {
        if (!o->reduction_given)
            p->reduction = REDUCE_MAX;
        if (!o->span_given)
            p->span = 1;
    }
    if (o->preset == PRESET_STREAMING && !o->subcaches_given)
        p->subcaches = 1;
    if (o->schedule && read_schedule(o->schedule, p, err))
        return -1;
    if (!o->window_given)
        p->window = default_window(p, ctx_train);
    if (!o->span_given && o->preset != PRESET_PAPER) {
        int w = p->window / p->subcaches;
        while (p->span > 1 && (w % p->span != 0 || p->span > w / 32))
            p->span /= 2;
    }
    return cascade_check(p, err);
}

void cascade_options_adopt(struct cascade_options *o, const struct cascade_params *p)
{
    o->p = *p;
    o->schedule = NULL;
    o->window_given = o->subcaches_given = o->span_given = o->reduction_given = true;
}

void cascade_options_copy(struct cascade_options *to, const struct cascade_options *from)
{
    struct cascade_options fresh = *from;
    cascade_options_init(to);
    memcpy(fresh.table, to->table, sizeof fresh.table);
    *to = fresh;
}

const char *cascade_select_name(enum cascade_select s)
{
    static const char *const names[] = {"score", "newest", "oldest", "random"};
    return names[s];
}

const char *cascade_reduction_name(enum cascade_reduction r)
{
    static const char *const names[] = {"mean", "max", "median"};
    return names[r];
}

void cascade_describe(const struct cascade_params *p, char *out, size_t room)
{
    const struct cascade_params usual = cascade_defaults();
    FILE *f = fmemopen(out, room, "w");
    if (!f) {
        snprintf(out, room, "N=%d W=%d B=%d", p->subcaches, p->window, p->span);
        return;
    }
    fprintf(f, "N=%d W=%d B=%d T=%d", p->subcaches, p->window, p->span, p->stride);
    if (p->subcaches > 1)
        fprintf(f, " %s",
                p->select == SELECT_SCORE ? cascade_reduction_name(p->reduction) : cascade_select_name(p->select));
    if (p->sinks != usual.sinks)
        fprintf(f, " S=%d", p->sinks);
    if (p->ema != usual.ema)
        fprintf(f, " ema=%g", p->ema);
    if (p->span_score != usual.span_score)
        fprintf(f, " span-score=mean");
    if (p->policy != usual.policy)
        fprintf(f, " homogeneous");
    if (p->positions != usual.positions)
        fprintf(f, " original-positions");
    if (p->eager != usual.eager)
        fprintf(f, " eager-fill=off");
    if (memcmp(p->every, usual.every, (size_t)p->subcaches * sizeof *p->every) != 0)
        for (int i = 0; i < p->subcaches; i++)
            fprintf(f, "%s%lld", i ? "," : " schedule=", (long long)p->every[i]);
    fclose(f);
    out[room - 1] = 0;
}
