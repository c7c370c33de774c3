/* weir trace, as a whole, against the oracle: random options on its command line, what it prints parsed again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "oracle_cascade.h"
#include "runtime/cmd.h"
#include "sanitized.h"

enum { CASES = 3000, MOST_TOKENS = 2000, WORDS = 24 };

/* The command's words, as a user types them. */
struct line {
    char text[WORDS][64];
    char *word[WORDS];
    int count;
};

static void say(struct line *l, const char *option, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void say(struct line *l, const char *option, const char *format, ...)
{
    va_list ap;
    assert_true(l->count + 2 <= WORDS);
    snprintf(l->text[l->count], sizeof *l->text, "%s", option);
    l->word[l->count] = l->text[l->count];
    l->count++;
    va_start(ap, format);
    vsnprintf(l->text[l->count], sizeof *l->text, format, ap);
    va_end(ap);
    l->word[l->count] = l->text[l->count];
    l->count++;
}

static void say_schedule(struct line *l, struct cascade_params *p, uint64_t *seed)
{
    static const char *const names[] = {"pow2", "pow3", "pow4", "iplus1"};
    int how = random_int(seed, 0, 4);
    char list[64] = "";
    int64_t power = 1;
    for (int i = 0; i < p->subcaches; i++, power *= how + 2) {
        p->every[i] = how < 3 ? power : how == 3 ? i + 1 : i == 0 ? 1 : p->every[i - 1] + random_int(seed, 0, 4);
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%lld", i ? "," : "", (long long)p->every[i]);
    }
    if (how < 4)
        say(l, "--schedule", "%s", names[how]);
    else
        say(l, "--schedule", "%s", list);
}

static struct cascade_params random_line(struct line *l, uint64_t *seed)
{
    struct cascade_params p = cascade_defaults();
    p.span = 1 << random_int(seed, 0, 5);
    p.subcaches = random_int(seed, 1, 8);
    p.window = p.subcaches * p.span * random_int(seed, 1, 10);
    p.sinks = random_int(seed, 0, 1) ? random_int(seed, 0, 70) : 0;
    p.stride = random_int(seed, 1, p.window);
    p.eager = random_int(seed, 0, 1);
    p.span_score = (enum cascade_span_score)random_int(seed, 0, 1);
    *l = (struct line){0};
    say(l, "trace", "--window=%d", p.window);
    say(l, "--subcaches", "%d", p.subcaches);
    say(l, "--sinks", "%d", p.sinks);
    say(l, "--span", "%d", p.span);
    say(l, random_int(seed, 0, 1) ? "--chunk" : "--stride", "%d", p.stride);
    say(l, "--eager-fill", "%s", p.eager ? "on" : "off");
    say(l, "--span-score", "%s", p.span_score == SPAN_MAX ? "max" : "mean");
    say_schedule(l, &p, seed);
    return p;
}

/* Writes n scores, gives the oracle the same, which are what the text says, in fp32. */
static void write_scores(FILE *f, struct oracle_cascade *o, int n, uint64_t *seed)
{
    int kind = random_int(seed, 0, 3);
    for (int i = 0; i < n; i++) {
        char text[40];
        if (kind == 1)
            snprintf(text, sizeof text, "%d", random_int(seed, 0, 3));
        else if (kind == 2 && random_int(seed, 0, 3) == 0)
            snprintf(text, sizeof text, "%s", random_int(seed, 0, 1) ? "nan" : random_int(seed, 0, 1) ? "-inf" : "inf");
        else if (kind == 3)
            snprintf(text, sizeof text, "%.3e", random_normal(seed));
        else
            snprintf(text, sizeof text, "%.6f", random_normal(seed));
        fprintf(f, "%s\n", text);
        oracle_cascade_insert(o, (double)strtof(text, NULL));
    }
}

/* Runs the command with stdout caught. */
static char *output_of(struct line *l, uint64_t number)
{
    struct err err = {""};
    int out = memfd_create("stdout", 0), old = dup(1);
    assert_true(out >= 0 && old >= 0);
    fflush(stdout);
    dup2(out, 1);
    int status = cmd_trace(l->count, l->word, &err);
    fflush(stdout);
    dup2(old, 1);
    close(old);
    off_t size = lseek(out, 0, SEEK_END);
    char *text = calloc((size_t)size + 1, 1);
    assert_non_null(text);
    assert_int_equal(pread(out, text, (size_t)size, 0), size);
    close(out);
    if (status != CMD_OK)
        fail_msg("case %d: status %d: %s", (int)number, status, err.msg);
    return text;
}

static void same_list(const cJSON *list, const int64_t *want, int n, uint64_t number, const char *what)
{
    bool same = cJSON_IsArray(list) && cJSON_GetArraySize(list) == n;
    const cJSON *e = same ? list->child : NULL;
    for (int i = 0; same && i < n; i++, e = e->next)
        same = cJSON_IsNumber(e) && e->valuedouble == (double)want[i];
    if (!same)
        fail_msg("case %d: %s differ from the oracle's", (int)number, what);
}

static void trace_prints_what_the_oracle_holds(void **state)
{
    for (uint64_t number = 0; number < CASES; number += (uint64_t)sanitized_step(8)) {
        uint64_t seed = number * 31 + 11;
        struct line line;
        struct cascade_params p = random_line(&line, &seed);
        struct oracle_cascade o;
        int scores = memfd_create("scores", 0), tokens = random_int(&seed, 0, MOST_TOKENS);
        FILE *f = fdopen(scores, "w");
        assert_non_null(f);
        oracle_cascade_open(&o, &p);
        write_scores(f, &o, tokens, &seed);
        fflush(f);
        say(&line, "--scores", "/proc/self/fd/%d", scores);
        char *text = output_of(&line, number);
        fclose(f);
        cJSON *json = cJSON_Parse(text);
        const cJSON *subs = cJSON_GetObjectItem(json, "subcaches"), *seen = cJSON_GetObjectItem(json, "seen");
        assert_true(cJSON_IsNumber(seen) && seen->valuedouble == tokens && cJSON_GetArraySize(subs) == p.subcaches);
        same_list(cJSON_GetObjectItem(json, "sinks"), o.sinks, o.nsinks, number, "sinks");
        same_list(cJSON_GetObjectItem(json, "pending"), o.pending, o.npending, number, "pending tokens");
        for (int i = 0; i < p.subcaches; i++)
            same_list(cJSON_GetArrayItem(subs, i), o.sub[i], o.count[i], number, "a sub-cache's tokens");
        cJSON_Delete(json);
        free(text);
        oracle_cascade_close(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(trace_prints_what_the_oracle_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
