/* The tuner without a GPU: the process that measures on an emulated device whose clock is made up, hangs and crashes in it; search over
 * simulated times; the trial log under a kill and two writers. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "emu/emu.h"
#include "tuner/bench.h"
#include "tuner/tune.h"

static char folder[] = "/tmp/weir-tune-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void path_in(char path[200], const char *name)
{
    snprintf(path, 200, "%s/%s", folder, name);
}

/* ------------------------------------------------------------------------------------------------ a device that is none */

static int (*real_launch)(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err);
static unsigned blocks, at_mark[16]; /* of the last launch; of the last before each mark */

/* Blocks of 128 threads hang, those of 256 crash, 512 is fast. */
static int bad_launch(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err)
{
    blocks = l->grid[0];
    if (l->block == 128)
        pause();
    if (l->block == 256)
        abort();
    return real_launch(dev, k, l, err);
}

static int mark(struct device *dev, int i, struct err *err)
{
    at_mark[i] = blocks;
    return 0;
}

static int elapsed(struct device *dev, int a, int b, float *ms, struct err *err)
{
    *ms = 1.0f + (float)at_mark[b] / 1000;
    return 0;
}

static int open_emulated(struct bench *b, struct err *err)
{
    if (device_emu_open(&b->dev, &(struct emu_options){.only_faults = true}, err) != 0 ||
        gen_open(&b->gen, NULL, err) != 0 || gen_gpu(b->gen, "sm_80", &b->gpu, err) != 0)
        return -1;
    real_launch = b->dev.launch;
    b->dev.launch = bad_launch;
    b->dev.mark = mark;
    b->dev.elapsed = elapsed;
    b->dev.facts.l2_bytes = 1 << 20;
    return 0;
}

static struct tune_problem problem_of(const char *kernel, const char *shape, const char *sizes)
{
    struct tune_problem p = {0};
    struct err err = {""};
    snprintf(p.kernel, sizeof p.kernel, "%s", kernel);
    if (pairs_parse(&p.shape, shape, &err) != 0 || pairs_parse(&p.sizes, sizes, &err) != 0)
        fail_msg("%s", err.msg);
    return p;
}

static struct gen *open_gen(void)
{
    struct gen *g;
    struct err err = {""};
    if (gen_open(&g, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    return g;
}

static void hangs_and_crashes_are_trials(void **state)
{
    struct err err = {""};
    struct gen *g = open_gen();
    struct tune_problem what = problem_of("stream_copy", "t=bf16", "n=20000");
    struct tune_space s;
    struct meter m;
    struct trials log;
    struct tune_state r;
    char path[200];
    double predicted[64] = {0};
    int counts[6] = {0};
    path_in(path, "hang.jsonl");
    if (tune_space_open(&s, g, "a100", &what, NULL, &err) != 0 ||
        meter_device_open_with(&m, NULL, open_emulated, 1.5, &err) != 0 || trials_open(&log, path, true, &err) != 0)
        fail_msg("%s", err.msg);
    struct tune t = {.meter = &m, .trials = &log, .search = SEARCH_EXHAUSTIVE};
    if (tune_run(&t, &s, predicted, &r, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(r.trials, s.nvalid);
    for (int i = 0; i < log.n; i++)
        counts[log.trial[i].validity]++;
    assert_int_equal(counts[TRIAL_TIMEOUT], 4); /* four values of u for each number of warps */
    assert_int_equal(counts[TRIAL_RUNTIME], 4);
    assert_int_equal(counts[TRIAL_CORRECT], 4);
    assert_true(strstr(log.trial[0].message, "killed") || strstr(log.trial[0].message, "signal"));
    struct pairs best;
    tune_space_config(&s, r.best, &best);
    assert_int_equal(pairs_long(&best, "wp", 0), 16);
    assert_int_equal(pairs_long(&best, "u", 0), 8); /* the fewest blocks */
    /* A rerun has nothing to do. */
    if (tune_run(&t, &s, predicted, &r, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(r.trials, 0);
    assert_int_equal(r.known, s.nvalid);
    trials_close(&log);
    m.close(&m);
    tune_space_close(&s);
    gen_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hangs_and_crashes_are_trials),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
