/* weir trace: what the cascade keeps of a stream whose scores are given, by the insertion functions of inference. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cascade_options.h"
#include "cmd.h"
#include "memory.h"

/* One line a score, read in blocks. */
struct score_file {
    FILE *f;
    const char *path;
    size_t line;             /* lines read so far */
    size_t at, end;          /* unread bytes of buf */
    char buf[(1 << 18) + 1]; /* one byte more for the NUL that strtod needs */
};

/* The next line without its end, NUL-terminated in the buffer; NULL at the end of the file. */
static char *next_line(struct score_file *s, struct err *err)
{
    size_t looked = 0; /* bytes behind `at` that hold no line end */
    for (;;) {
        char *start = s->buf + s->at, *nl = memchr(start + looked, '\n', s->end - s->at - looked);
        if (nl) {
            *nl = 0;
            s->at = (size_t)(nl - s->buf) + 1;
            s->line++;
            return start;
        }
        looked = s->end - s->at;
        if (looked == sizeof s->buf - 1) {
            err_set(err, "%s:%zu: the line is too long for a score", s->path, s->line + 1);
            return NULL;
        }
        memmove(s->buf, start, looked);
        s->at = 0;
        s->end = looked + fread(s->buf + looked, 1, sizeof s->buf - 1 - looked, s->f);
        if (s->end > looked)
            continue;
        if (ferror(s->f)) {
            err_set(err, "%s: %s", s->path, strerror(errno));
            return NULL;
        }
        if (looked == 0)
            return NULL;
        s->buf[s->end] = 0;
        s->at = s->end;
        s->line++;
        return s->buf;
    }
}

/* strtod, with a short cut for plain decimals: a mantissa below 2^53 over a power of ten up to 10^22 is rounded once, as
 * strtod would. */
static double read_number(const char *text, const char **end)
{
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *c = text;
    bool negative = *c == '-';
    c += negative;
    uint64_t mantissa = 0;
    int digits = 0, behind = 0;
    for (; *c >= '0' && *c <= '9'; c++, digits++)
        mantissa = mantissa * 10 + (uint64_t)(*c - '0');
    if (*c == '.')
        for (c++; *c >= '0' && *c <= '9'; c++, digits++, behind++)
            mantissa = mantissa * 10 + (uint64_t)(*c - '0');
    bool plain = digits > 0 && digits <= 19 && behind <= 22 && mantissa < (uint64_t)1 << 53 && (!*c || *c == '\r');
    if (!plain) {
        char *stop;
        double v = strtod(text, &stop);
        *end = stop;
        return v;
    }
    *end = c;
    double v = (double)mantissa / ten[behind];
    return negative ? -v : v;
}

/* Reads up to `room` scores; returns how many, or -1. */
static int read_scores(struct score_file *s, float *score, int room, struct err *err)
{
    int n = 0;
    for (; n < room; n++) {
        const char *line = next_line(s, err), *end;
        if (!line)
            return err->msg[0] ? -1 : n;
        score[n] = (float)read_number(line, &end);
        if (end == line || (*end && strcmp(end, "\r") != 0))
            return err_set(err, "%s:%zu: '%.40s' is not a score; the file holds one number a line", s->path, s->line,
                           line);
    }
    return n;
}

struct trace {
    struct cascade_state state;
    struct cascade_plan plan;
    float *score;    /* [rows] */
    int64_t *origin; /* [rows] */
    int32_t *winner; /* [most groups of a plan] */
    float *chunk;    /* [stride] */
};

static void trace_free(struct trace *t)
{
    cascade_plan_free(&t->plan);
    free(t->score);
    free(t->origin);
    free(t->winner);
    free(t->chunk);
}

static int trace_init(struct trace *t, const struct cascade_params *p, struct err *err)
{
    size_t rows = (size_t)cascade_rows(p), stride = (size_t)p->stride, groups = (size_t)(p->window / p->span);
    memset(t, 0, sizeof *t);
    if (memory_check(rows * (sizeof *t->score + sizeof *t->origin) + stride * sizeof *t->chunk + groups * 32,
                     "--window", err))
        return -1;
    cascade_state_at(p, 0, &t->state);
    t->score = err_calloc(rows, sizeof *t->score, "--window", err);
    t->origin = err_calloc(rows, sizeof *t->origin, "--window", err);
    t->winner = err_alloc(groups, sizeof *t->winner, "--window", err);
    t->chunk = err_alloc(stride, sizeof *t->chunk, "--chunk", err);
    if (t->score && t->origin && t->winner && t->chunk && cascade_plan_init(&t->plan, p, err) == 0)
        return 0;
    trace_free(t);
    return -1;
}

static void insert_chunk(struct trace *t, const struct cascade_params *p, int n, uint64_t seed)
{
    for (int done = 0; done < n; done += t->plan.tokens) {
        cascade_plan_make(&t->plan, p, &t->state, n - done);
        cascade_decide(p, &t->plan, t->score, t->origin, seed, t->winner);
        cascade_carry(p, &t->plan, t->winner, t->score, t->origin, t->chunk + done);
        t->state = t->plan.after;
    }
}

/* [a,b,...] of `len` rows from `begin` on in a ring of `rows` rows that starts at `row`. */
static void print_ring(const int64_t *origin, int row, int rows, int begin, int len)
{
    putchar('[');
    for (int j = 0; j < len; j++)
        printf("%s%lld", j ? "," : "", (long long)origin[row + (begin + j) % rows]);
    putchar(']');
}

static void print_trace(const struct trace *t, const struct cascade_params *p)
{
    printf("{\"seen\":%lld,\"sinks\":", (long long)t->state.t);
    print_ring(t->origin, 0, p->sinks + 1, 0, t->state.sinks);
    printf(",\"subcaches\":[");
    for (int i = 0; i < p->subcaches; i++) {
        printf("%s", i ? "," : "");
        print_ring(t->origin, cascade_ring_row(p, i), cascade_ring_slots(p, i) * p->span,
                   t->state.ring[i].start * p->span, t->state.ring[i].count * p->span);
    }
    printf("],\"pending\":");
    int begin = (t->state.ring[0].start + t->state.ring[0].count) * p->span;
    print_ring(t->origin, cascade_ring_row(p, 0), cascade_ring_slots(p, 0) * p->span, begin, t->state.pending);
    printf("}\n");
}

int cmd_trace(int argc, char **argv, struct err *err)
{
    struct cascade_options cascade;
    const char *path = NULL;
    int64_t seed = 0;
    cascade_options_init(&cascade);
    cascade_options_without_attention(&cascade);
    const struct option own[] = {
        {"--scores", NULL, OPTION_TEXT, &path, "FILE", "one score a line, one line a token; - is stdin", 0, 0, NULL},
        {"--chunk", NULL, OPTION_INT, &cascade.p.stride, "T", "tokens that are inserted at a time, as --stride", 1,
         INT32_MAX, NULL},
        {"--seed", NULL, OPTION_LONG, &seed, "K", "for --select random (0)", 0, 0, NULL},
        {0},
    };
    struct options o = {
        .usage = "weir trace --scores FILE [options]",
        .what =
            "Inserts tokens with the given scores into a cascade and prints, as JSON, the numbers of those that it "
            "holds:\n"
            "{\"seen\":n,\"sinks\":[..],\"subcaches\":[[..],..],\"pending\":[..]}, oldest first, sub-cache 0 first.",
        .group = {{"trace", own}, {"cascade", cascade.table}},
    };
    int status = options_parse(&o, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    if (!path) {
        err_set(err, "--scores FILE is missing");
        return CMD_USAGE;
    }
    const struct cascade_params *p = &cascade.p;
    struct trace t;
    if (cascade_options_finish(&cascade, 0, err) || trace_init(&t, p, err))
        return CMD_USAGE;

    status = CMD_FAILED;
    struct score_file *file = err_calloc(1, sizeof *file, "the file's buffer", err);
    if (!file)
        goto done;
    file->path = strcmp(path, "-") ? path : "stdin";
    file->f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!file->f) {
        err_set(err, "%s: %s", path, strerror(errno));
        goto done;
    }
    int n;
    while ((n = read_scores(file, t.chunk, p->stride, err)) > 0)
        insert_chunk(&t, p, n, (uint64_t)seed);
    if (n < 0)
        goto done;
    print_trace(&t, p);
    status = CMD_OK;
done:
    if (file && file->f && file->f != stdin)
        fclose(file->f);
    free(file);
    trace_free(&t);
    return status;
}
