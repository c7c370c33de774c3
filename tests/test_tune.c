/* The tuner without a GPU: the process that measures on an emulated device whose clock is made up, hangs and crashes in it; where a
 * search ends; the trial log under a kill and two writers. */
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
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "emu/emu.h"
#include "sanitized.h"
#include "scratch.h"
#include "tuner/bench.h"
#include "tuner/formats.h"
#include "tuner/tune.h"

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

/* A device on which everything takes the same, but no two times alike: 1 ms, a tenth more or less. */
static int elapsed_noise(struct device *dev, int a, int b, float *ms, struct err *err)
{
    static uint32_t state = 7;
    state = state * 1664525 + 1013904223;
    *ms = 0.9f + 0.2f * (float)(state >> 8) / (1 << 24);
    return 0;
}

static int open_noisy(struct bench *b, struct err *err)
{
    int status = open_emulated(b, err);
    b->dev.launch = real_launch;
    b->dev.elapsed = elapsed_noise;
    return status;
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

/* A search of stream_copy's space on a device that is none. */
struct rig {
    struct gen *gen;
    struct tune_space space;
    struct meter meter;
    struct trials log;
    double predicted[64]; /* [space.nvalid]: nothing is foretold */
};

/* Everything but the meter. */
static void rig_space(struct rig *rig, const char *sizes)
{
    struct err err = {""};
    struct tune_problem what = problem_of("stream_copy", "t=bf16", sizes);
    *rig = (struct rig){.gen = open_gen()};
    if (tune_space_open(&rig->space, rig->gen, "a100", &what, NULL, &err) != 0)
        fail_msg("%s", err.msg);
}

static void rig_log(struct rig *rig, const char *name)
{
    struct err err = {""};
    if (trials_open(&rig->log, in_scratch(name).text, true, &err) != 0)
        fail_msg("%s", err.msg);
}

static void rig_open(struct rig *rig, const char *sizes, const char *log, int (*device)(struct bench *, struct err *),
                     int seconds)
{
    struct err err = {""};
    rig_space(rig, sizes);
    if (meter_device_open_with(&rig->meter, NULL, device, seconds, &err) != 0)
        fail_msg("%s", err.msg);
    rig_log(rig, log);
}

static void rig_run(struct rig *rig, struct tune *t, struct tune_state *r)
{
    struct err err = {""};
    t->meter = &rig->meter;
    t->trials = &rig->log;
    if (tune_run(t, &rig->space, rig->predicted, r, &err) != 0)
        fail_msg("%s", err.msg);
}

static void rig_close(struct rig *rig)
{
    trials_close(&rig->log);
    rig->meter.close(&rig->meter);
    tune_space_close(&rig->space);
    gen_close(rig->gen);
}

static void hangs_and_crashes_are_trials(void **state)
{
    struct rig rig;
    struct tune_state r;
    int counts[6] = {0};
    rig_open(&rig, "n=8000", "hang.jsonl", open_emulated, SANITIZED ? 20 : 4);
    struct tune t = {.search = SEARCH_EXHAUSTIVE};
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, rig.space.nvalid);
    for (int i = 0; i < rig.log.n; i++)
        counts[rig.log.trial[i].validity]++;
    assert_int_equal(counts[TRIAL_TIMEOUT], 4); /* four values of u for each number of warps */
    assert_int_equal(counts[TRIAL_RUNTIME], 4);
    assert_int_equal(counts[TRIAL_CORRECT], 4);
    assert_true(strstr(rig.log.trial[0].message, "killed") || strstr(rig.log.trial[0].message, "signal"));
    struct pairs best;
    tune_space_config(&rig.space, r.best, &best);
    assert_int_equal(pairs_long(&best, "wp", 0), 16);
    assert_int_equal(pairs_long(&best, "u", 0), 8); /* the fewest blocks */
    /* A rerun has nothing to do. */
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, 0);
    assert_int_equal(r.known, rig.space.nvalid);
    rig_close(&rig);
}

/* What is measured late is no faster for the best having been lucky: times do not feed on the least of those before. */
static void noise_does_not_add_up(void **state)
{
    struct rig rig;
    struct tune_state r;
    double sum = 0;
    rig_open(&rig, "n=2000", "noise.jsonl", open_noisy, 30);
    struct tune t = {.search = SEARCH_EXHAUSTIVE};
    rig_run(&rig, &t, &r);
    assert_int_equal(rig.log.n, rig.space.nvalid);
    for (int i = 0; i < rig.log.n; i++) {
        assert_int_equal(rig.log.trial[i].validity, TRIAL_CORRECT);
        sum += rig.log.trial[i].ms;
    }
    if (r.best_ms < 0.9 || fabs(sum / rig.log.n - 1) > 0.04)
        fail_msg("the best takes %.3f ms, all of them %.3f; each takes 1", r.best_ms, sum / rig.log.n);
    rig_close(&rig);
}

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    interrupted = 1;
}

/* After the third trial the signal comes, while the next one is under way. */
static void interrupt_soon(void *user, const struct tune_state *now)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    if (now->trials == 3)
        setitimer(ITIMER_REAL, &soon, NULL);
}

static void an_interrupt_keeps_everything(void **state)
{
    struct rig rig;
    struct tune_state r;
    struct sigaction act = {.sa_handler = interrupt};
    sigaction(SIGALRM, &act, NULL);
    rig_open(&rig, "n=2000", "interrupt.jsonl", open_noisy, 30);
    struct tune t = {.stop = &interrupted, .progress = interrupt_soon};
    rig_run(&rig, &t, &r);
    assert_true(r.stopped);
    assert_in_range(r.trials, 3, rig.space.nvalid - 1);
    assert_int_equal(rig.log.n, r.trials);
    for (int i = 0; i < rig.log.n; i++)
        assert_int_equal(rig.log.trial[i].validity, TRIAL_CORRECT);
    int made = r.trials;
    interrupted = 0;
    t.progress = NULL;
    rig_run(&rig, &t, &r);
    assert_int_equal(r.known, made);
    assert_int_equal(r.trials, rig.space.nvalid - made);
    rig_close(&rig);
}

/* ------------------------------------------------------------------------------------------------ a table of times */

/* Opens a meter on a T4 file with a trial of each config: 1 ms, and `steps` times 0 to 6 more. */
static void rig_table(struct rig *rig, const char *name, int steps)
{
    struct err err = {""};
    struct trials made = {.fd = -1};
    struct trial table[64];
    const struct scratch_path file = in_scratch(name);
    for (int i = 0; i < rig->space.nvalid; i++) {
        table[i] = (struct trial){
            .gpu = "a100-80", .revision = "of old", .problem = rig->space.problem, .ms = 1 + steps * ((i * 5) % 7)};
        tune_space_config(&rig->space, rig->space.valid[i], &table[i].config);
    }
    made.trial = table;
    made.n = rig->space.nvalid;
    if (t4_write(&made, &rig->space, file.text, &err) != 0 || meter_table_open(&rig->meter, file.text, &err) != 0)
        fail_msg("%s", err.msg);
}

/* A T4 file stands for a GPU as a log does; what is taken from it counts as measured when the search comes back. */
static void t4_stands_for_a_gpu(void **state)
{
    struct rig rig;
    struct tune_state r;
    rig_space(&rig, "n=8000");
    rig_table(&rig, "table.json", 1);
    rig_log(&rig, "replayed.jsonl");
    struct tune t = {.search = SEARCH_RANDOM, .seed = 3, .max_trials = rig.space.nvalid - 2};
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, rig.space.nvalid - 2);
    t.max_trials = 0;
    rig_run(&rig, &t, &r);
    assert_int_equal(r.known, rig.space.nvalid - 2);
    assert_int_equal(r.trials, 2);
    assert_true(r.best_ms == 1);
    /* Of another text nothing is known. */
    snprintf(rig.log.trial[0].revision, sizeof rig.log.trial[0].revision, "other");
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, 1);
    rig_close(&rig);
}

/* A search ends when so many trials brought nothing, also when it is taken up again. */
static void patience_ends_a_search(void **state)
{
    struct rig rig;
    struct tune_state r;
    (void)state;
    rig_space(&rig, "n=8000");
    rig_table(&rig, "flat.json", 0);
    rig_log(&rig, "patience.jsonl");
    struct tune t = {.search = SEARCH_GUIDED, .seed = 3, .patience = 3};
    assert_true(rig.space.nvalid > 8 && rig.space.nvalid < 20);
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, 1 + 3);
    rig_run(&rig, &t, &r);
    assert_int_equal(r.known, 4);
    assert_int_equal(r.trials, 0);
    t.patience = 5;
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, 2);
    t.patience = 0;
    rig_run(&rig, &t, &r);
    assert_int_equal(r.trials, rig.space.nvalid - 6);
    rig_close(&rig);
}

/* ------------------------------------------------------------------------------------------------ the trial log */

static struct trial a_trial(int wp, double ms)
{
    struct trial t = {
        .gpu = "a100-80", .revision = "r", .problem = problem_of("stream_copy", "t=bf16", "n=8000"), .ms = ms};
    pairs_put_long(&t.config, "wp", wp, NULL);
    return t;
}

/* Writers that are killed at any moment cost their unfinished trial at most; two at once cost none. */
static void log_survives_kills_and_writers(void **state)
{
    struct trials log;
    struct err err = {""};
    const struct scratch_path kept = in_scratch("kill.jsonl");
    const char *path = kept.text;
    for (int round = 0; round < 6; round++) {
        pid_t child[2];
        for (int c = 0; c < 2; c++)
            if ((child[c] = fork()) == 0) {
                struct trial t = a_trial(c, 1 + round);
                if (trials_open(&log, path, true, &err) != 0)
                    _exit(1);
                for (int i = 0; round || i < 50; i++)
                    if (trials_add(&log, &t, &err) != 0)
                        _exit(1);
                _exit(0);
            }
        usleep(30000);
        for (int c = 0; c < 2; c++) {
            int status;
            if (round)
                kill(child[c], SIGKILL);
            waitpid(child[c], &status, 0);
            assert_true(round || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        }
        if (trials_open(&log, path, false, &err) != 0)
            fail_msg("%s", err.msg);
        assert_true(log.n >= 100);
        assert_true(log.damaged <= 2 * round);
        trials_close(&log);
    }
    /* What a kill leaves of a line is no trial, and the next one stands on a line of its own. */
    FILE *f = fopen(path, "w");
    fputs("{\"kernel\":\"stream_co", f);
    fclose(f);
    struct trial t = a_trial(4, 2);
    if (trials_open(&log, path, true, &err) != 0 || trials_add(&log, &t, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(log.n, 1);
    assert_int_equal(log.damaged, 1);
    assert_true(pairs_equal(&log.trial[0].config, &t.config));
    trials_close(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hangs_and_crashes_are_trials),  cmocka_unit_test(noise_does_not_add_up),
        cmocka_unit_test(an_interrupt_keeps_everything), cmocka_unit_test(t4_stands_for_a_gpu),
        cmocka_unit_test(patience_ends_a_search),        cmocka_unit_test(log_survives_kills_and_writers),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
