/* What tuning leaves on disk and others send: wisdom files, trial logs, T4 results. The first byte says which. What is read, written
 * and read again is equal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "gen_home.h"
#include "tuner/formats.h"
#include "tuner/wisdom_write.h"

static struct {
    struct gen *gen;
    struct tune_space space;
    struct trial trial[2]; /* of the space: a correct one with every field, a failed one */
    char folder[64], in[96], out[96], again[96];
} here;

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void clean_up(void)
{
    tune_space_close(&here.space);
    gen_close(here.gen);
    unlink(here.in);
    unlink(here.out);
    unlink(here.again);
    rmdir(here.folder);
}

static void fill_trials(void)
{
    struct trial *t = here.trial;
    for (int i = 0; i < 2; i++) {
        snprintf(t[i].gpu, sizeof t[i].gpu, "%s", here.space.gpu.name);
        snprintf(t[i].revision, sizeof t[i].revision, "%s", tune_space_revision(&here.space, here.space.valid[0]));
        t[i].problem = here.space.problem;
        tune_space_config(&here.space, here.space.valid[i], &t[i].config);
        t[i].compile_ms = 210.5;
        t[i].at = 1795539000 + i;
    }
    t[0].ms = t[0].run_ms[0] = 0.25;
    t[0].run_ms[1] = 0.5;
    t[0].spread_ms = 0.001;
    t[0].nruns = 2;
    t[0].check_ms = 3.25;
    t[0].error = 0.125;
    t[0].regs = 64;
    t[0].spills = 8;
    t[0].stack = 16;
    t[0].smem = 4096;
    t[0].blocks_per_sm = 2;
    t[1].validity = TRIAL_COMPILE;
    snprintf(t[1].message, sizeof t[1].message, "no \"regs\"");
}

/* A folder, in memory where there is such a file system, and a space that T4 files are of. */
static void set_up(void)
{
    struct err err = {""};
    struct tune_problem p = {.kernel = "attn_decode"};
    if (here.gen)
        return;
    snprintf(here.folder, sizeof here.folder, "%s/weir-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(here.folder) && gen_open(&here.gen, NULL, &err) == 0);
    snprintf(here.in, sizeof here.in, "%s/in", here.folder);
    snprintf(here.out, sizeof here.out, "%s/out", here.folder);
    snprintf(here.again, sizeof here.again, "%s/again", here.folder);
    must(pairs_parse(&p.shape, "d=128 g=4 t=bf16", &err) == 0 &&
         pairs_parse(&p.sizes, "keys=16457 kv_heads=8", &err) == 0 &&
         tune_space_open(&here.space, here.gen, "h200", &p, NULL, &err) == 0 && here.space.nvalid >= 2);
    fill_trials();
    atexit(clean_up);
}

static void write_whole(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    must(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

/* ---- seeds ------------------------------------------------------------------------------------------------------------------ */

static const char wisdom_seed[] =
    "w{\"weir_wisdom\":1,\"sm\":90,\"gpu\":\"h200\",\"title\":\"NVIDIA H200\",\"driver\":\"13.0\",\"nvrtc\":\"13.0\","
    "\"model\":\"m\",\"entries\":["
    "{\"kernel\":\"k\",\"shape\":{\"d\":\"128\",\"t\":\"bf16\"},\"sizes\":{\"tokens\":\"4096\"},\"config\":{\"bm\":"
    "\"128\",\"bn\":\"64\"},\"ms\":3.31,\"spread_ms\":0.02,\"trials\":612,\"measured\":\"2026-11-24\","
    "\"step\":\"m W=1\",\"step_ms\":1.7},"
    "{\"kernel\":\"k\",\"shape\":{},\"sizes\":{},\"config\":{},\"ms\":9.8e0,\"predicted\":\"grid\",\"why\":\"\\u00e4\"}"
    "]}";

/* Fields that are not what they should be: nothing that is needed, numbers too small and too large, times without a result. */
#define PROBLEM "\"kernel\":\"k\",\"gpu\":\"g\",\"revision\":\"r\",\"shape\":{},\"sizes\":{}"
static const char *const odd_seeds[] = {
    "w{\"weir_wisdom\":1,\"sm\":90,\"gpu\":\"\",\"entries\":[]}",
    "w{\"weir_wisdom\":1,\"sm\":90,\"gpu\":\"g\",\"entries\":[{\"kernel\":\"k\",\"shape\":{},\"sizes\":{},"
    "\"config\":{},\"ms\":1,\"spread_ms\":1,\"trials\":3,\"predicted\":\"p\"}]}",
    "j{" PROBLEM ",\"config\":{},\"invalidity\":\"correct\",\"ms\":1e-9}\n",
    "j{" PROBLEM ",\"config\":{},\"invalidity\":\"correct\",\"ms\":1,\"runs\":[1e999,1e300]}\n",
    "j{" PROBLEM ",\"config\":{},\"invalidity\":\"timeout\",\"ms\":5,\"runs\":[5],\"at\":1e14}\n{\"kernel\"",
    "t{\"weir\":{" PROBLEM "},\"results\":[{\"timestamp\":\"0009-01-01T00:00:00Z\",\"configuration\":{\"a\":64.5},"
    "\"invalidity\":\"runtime\",\"times\":{\"runtimes\":[1e999]},\"measurements\":[{\"name\":\"time\",\"value\":2}]}]}",
};
enum { ODD_SEEDS = sizeof odd_seeds / sizeof *odd_seeds };

static void put_journal(struct bytes *b)
{
    bytes_put(b, "j", 1);
    for (int i = 0; i < 2; i++) {
        struct err err = {""};
        char *line = NULL;
        must(trial_write(&here.trial[i], &line, &err) == 0);
        bytes_put(b, line, strlen(line));
        bytes_put(b, "\n", 1);
        free(line);
    }
}

static void put_t4(struct bytes *b)
{
    struct trials t = {.fd = -1, .n = 2, .trial = here.trial};
    struct err err = {""};
    must(t4_write(&t, &here.space, here.out, &err) == 0);
    char *text = gen_home_read(here.out);
    must(text != NULL);
    bytes_put(b, "t", 1);
    bytes_put(b, text, strlen(text));
    free(text);
}

struct bytes fuzz_seed(int i)
{
    struct bytes b = {0};
    set_up();
    if (i == 0)
        bytes_put(&b, wisdom_seed, sizeof wisdom_seed - 1);
    else if (i == 1)
        put_journal(&b);
    else if (i == 2)
        put_t4(&b);
    else if (i < 3 + ODD_SEEDS)
        bytes_put(&b, odd_seeds[i - 3], strlen(odd_seeds[i - 3]));
    return b;
}

/* ---- equality ---------------------------------------------------------------------------------------------------------------- */

/* Files hold times to the nanosecond, other numbers to 15 digits and more. */
static bool same_number(double a, double b)
{
    return isfinite(a) && fabs(a - b) <= 6e-7 + 1e-14 * fabs(a);
}

static bool same_entry(const struct wisdom_entry *a, const struct wisdom_entry *b)
{
    return !strcmp(a->kernel, b->kernel) && pairs_equal(&a->shape, &b->shape) && pairs_equal(&a->sizes, &b->sizes) &&
           pairs_equal(&a->config, &b->config) && same_number(a->ms, b->ms) &&
           same_number(a->spread_ms, b->spread_ms) && a->trials == b->trials && !strcmp(a->measured, b->measured) &&
           !strcmp(a->step, b->step) && same_number(a->step_ms, b->step_ms) && !strcmp(a->predicted, b->predicted) &&
           !strcmp(a->why, b->why);
}

static bool same_trial(const struct trial *a, const struct trial *b)
{
    bool same = !strcmp(a->gpu, b->gpu) && !strcmp(a->revision, b->revision) &&
                tune_problem_equal(&a->problem, &b->problem) && pairs_equal(&a->config, &b->config) &&
                a->validity == b->validity && same_number(a->ms, b->ms) && same_number(a->spread_ms, b->spread_ms) &&
                a->nruns == b->nruns && same_number(a->compile_ms, b->compile_ms) &&
                same_number(a->check_ms, b->check_ms) && same_number(a->error, b->error) && a->regs == b->regs &&
                a->spills == b->spills && a->stack == b->stack && a->smem == b->smem &&
                a->blocks_per_sm == b->blocks_per_sm && a->at == b->at && !strcmp(a->message, b->message);
    for (int i = 0; same && i < a->nruns; i++)
        same = same_number(a->run_ms[i], b->run_ms[i]);
    return same;
}

/* ---- one input -------------------------------------------------------------------------------------------------------------- */

static void wisdom(const char *text, size_t len)
{
    struct wisdom_file f, g;
    struct err err = {""};
    if (wisdom_file_parse(text, len, "in", &f, &err) != 0) {
        must(err.msg[0] && !f.entry);
        return;
    }
    /* Writing puts the entries in order. */
    must(wisdom_file_write(&f, here.out, &err) == 0 && wisdom_file_read(here.out, &g, &err) == 0);
    must(!strcmp(f.gpu, g.gpu) && !strcmp(f.title, g.title) && !strcmp(f.driver, g.driver) &&
         !strcmp(f.nvrtc, g.nvrtc) && !strcmp(f.model, g.model) && f.sm == g.sm && f.nentries == g.nentries);
    for (int i = 0; i < f.nentries; i++)
        must(same_entry(&f.entry[i], &g.entry[i]));
    must(wisdom_file_merge(&g, &f, &err) == 0 && g.nentries == f.nentries);
    wisdom_file_free(&f);
    wisdom_file_free(&g);
}

/* The date of the entry that a trial makes is one. */
static void entry_of(const struct trial *t)
{
    struct wisdom_entry e;
    wisdom_entry_of_trial(&e, t, 1);
    must(strlen(e.measured) == 10);
}

static void trial_comes_back(const struct trial *t)
{
    struct trial back;
    struct err err = {""};
    char *line = NULL;
    must(trial_write(t, &line, &err) == 0 && trial_read(line, strlen(line), &back, &err) == 0);
    must(same_trial(t, &back) && !strchr(line, '\n'));
    free(line);
    entry_of(t);
}

/* Whatever a journal holds, a trial can be added after it. */
static void journal(const char *text, size_t len)
{
    struct trials t;
    struct err err = {""};
    write_whole(here.in, text, len);
    must(trials_open(&t, here.in, true, &err) == 0);
    for (int i = 0; i < t.n; i++)
        trial_comes_back(&t.trial[i]);
    int n = t.n;
    must(trials_add(&t, &here.trial[0], &err) == 0 && t.n > n && t.ends_whole);
    must(same_trial(&here.trial[0], &t.trial[t.n - 1]));
    trials_close(&t);
}

static char *text_of(const char *path)
{
    char *text = gen_home_read(path);
    must(text != NULL);
    return text;
}

/* T4 holds the counts of a compiled kernel only. */
static struct trial as_t4(const struct trial *t)
{
    struct trial held = *t;
    if (held.regs == 0)
        held.spills = held.stack = held.smem = held.blocks_per_sm = 0;
    return held;
}

static void t4(const char *text, size_t len)
{
    struct trials t, u;
    struct err err = {""};
    write_whole(here.in, text, len);
    if (t4_read(here.in, &t, &err) != 0) {
        must(err.msg[0] && !t.trial);
        return;
    }
    for (int i = 0; i < t.n; i++)
        entry_of(&t.trial[i]);
    const struct trial **slot = calloc((size_t)here.space.all.nconfigs, sizeof *slot);
    must(slot != NULL);
    trials_of_space(&t, &here.space, true, slot);
    if (t4_write(&t, &here.space, here.out, &err) == 0) { /* else none is of the space */
        must(t4_read(here.out, &u, &err) == 0);
        for (int i = 0; i < u.n; i++) {
            int config = tune_space_find(&here.space, &u.trial[i].config);
            must(config >= 0 && slot[config]);
            struct trial want = as_t4(slot[config]);
            want.config = u.trial[i].config; /* the space's own parameters, in its order */
            must(same_trial(&want, &u.trial[i]));
        }
        must(t4_write(&u, &here.space, here.again, &err) == 0);
        char *a = text_of(here.out), *b = text_of(here.again);
        must(!strcmp(a, b));
        free(a);
        free(b);
        trials_close(&u);
    }
    free(slot);
    trials_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    set_up();
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    if (data[0] == 'w')
        wisdom(text, size - 1);
    else if (data[0] == 'j')
        journal(text, size - 1);
    else
        t4(text, size - 1);
    return 0;
}
