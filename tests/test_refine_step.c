/* The last stage of tuning without a GPU: the process that measures steps, on an emulated device whose clock is made up, with tiles that
 * crash and tiles that give other logits, from a trial log to wisdom. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "emu/emu.h"
#include "gguf_writer.h"
#include "graph_device.h"
#include "refine_trials.h"
#include "runtime/cmd_tune_step.h"
#include "scratch.h"
#include "tuner/refine.h"
#include "tuner/tune_shapes.h"

static struct {
    struct device inner;
    struct {
        struct device_kernel *kernel;
        char symbol[160];
    } known[128];
    int kernels;
    double ms, at_mark[16]; /* since it was opened */
} clocked;

static int clocked_load(struct device *dev, const void *image, size_t bytes, const char *symbol, unsigned smem_max,
                        struct device_kernel **out, struct err *err)
{
    if (clocked.inner.load(dev, image, bytes, symbol, smem_max, out, err) != 0)
        return -1;
    if (clocked.kernels == 128)
        abort();
    clocked.known[clocked.kernels].kernel = *out;
    snprintf(clocked.known[clocked.kernels++].symbol, sizeof clocked.known[0].symbol, "%s", symbol);
    return 0;
}

static const char *symbol_of(const struct device_kernel *k)
{
    for (int i = clocked.kernels - 1; i >= 0; i--)
        if (clocked.known[i].kernel == k)
            return clocked.known[i].symbol;
    abort();
}

/* A launch is a millisecond, of the vocabulary's product more with many warps; of that, 16 warps crash, and 2 leave out what they
 * should write. */
static int clocked_launch(struct device *dev, struct device_kernel *k, const struct launch *l, struct err *err)
{
    bool product = strstr(symbol_of(k), "matvec") && strstr(symbol_of(k), "f32");
    clocked.ms += product ? 1 + (double)l->block / 64 : 1;
    if (product && l->block == 32 * 16)
        abort();
    return product && l->block == 32 * 2 ? 0 : clocked.inner.launch(dev, k, l, err);
}

static int clocked_mark(struct device *dev, int i, struct err *err)
{
    clocked.at_mark[i] = clocked.ms;
    return 0;
}

static int clocked_elapsed(struct device *dev, int a, int b, float *ms, struct err *err)
{
    *ms = (float)(clocked.at_mark[b] - clocked.at_mark[a]);
    return 0;
}

static int open_clocked(struct device *dev, struct err *err)
{
    if (device_emu_open(dev, &(struct emu_options){.only_faults = true, .sm = 90}, err) != 0)
        return -1;
    clocked.inner = *dev;
    dev->load = clocked_load;
    dev->launch = clocked_launch;
    dev->mark = clocked_mark;
    dev->elapsed = clocked_elapsed;
    graph_device_wrap(dev);
    return 0;
}

static void exchange(struct step_meter *m, int i, const char *with, struct step_time *t)
{
    struct err err = {""};
    struct pairs p = tile(with);
    if (m->exchange(m, i, &p, t, &err) != 0)
        fail_msg("%s", err.msg);
}

/* A tiny model with heads of 64 elements, and a cascade that it fills soon. */
static struct tiny_model tiny(struct cascade_options *o)
{
    struct tiny_model t = tiny_model_defaults();
    struct err err = {""};
    t.layers = 1;
    t.heads = 2;
    t.kv_heads = 1;
    t.head_dim = 64;
    t.type = t.embed_type = QUANT_BF16;
    cascade_options_init(o);
    o->p.sinks = 4;
    o->p.subcaches = 3;
    o->p.window = 48;
    o->p.span = 4;
    o->p.stride = 24;
    o->window_given = o->span_given = o->subcaches_given = true;
    if (cascade_options_finish(o, 0, &err) != 0)
        fail_msg("%s", err.msg);
    return t;
}

static void tiles_are_exchanged_in_a_real_step(void **state)
{
    struct cascade_options cascade;
    struct tiny_model t = tiny(&cascade);
    struct cascade_params p = cascade.p;
    struct tune_problem all[TUNE_PROBLEMS_MAX];
    struct step_kernel kernel[STEP_KERNELS_MAX] = {0};
    struct step_meter m;
    struct step_time time;
    struct model model;
    struct bytes file;
    struct err err = {""};
    int product = -1, attention = -1, launched = 0;
    (void)state;
    tiny_model_open(&t, &model, &file);
    int n = tune_step_problems(&model, &p, "bf16", all, &err);
    assert_int_equal(n, 7); /* five products, attn_decode, its scores */
    for (int i = 0; i < n; i++)
        kernel[i].problem = all[i];
    const struct backend_options options = {.half = BACKEND_HALF_BF16, .threads = 1};
    const struct step_model what = {.model = &model, .p = &p, .o = &options, .open_device = open_clocked};
    if (step_meter_device_open(&m, &what, kernel, n, &err) != 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < n; i++) {
        const char *to = pairs_get(&kernel[i].problem.shape, "to");
        product = to && !strcmp(to, "f32") ? i : product;
        attention = !strcmp(kernel[i].problem.kernel, "attn_decode") ? i : attention;
        launched += kernel[i].launched;
        assert_int_equal(kernel[i].launched, kernel[i].tile.n > 0);
    }
    assert_int_equal(launched, n);
    assert_true(product >= 0 && attention >= 0);
    assert_int_equal(pairs_long(&kernel[product].tile, "wp", 0), 8);

    exchange(&m, product, "wp=4", &time); /* two milliseconds less */
    assert_string_equal(time.failed, "");
    assert_true(fabs(time.base_ms - time.ms - 2) < 1e-3 && time.spread < 1e-6);
    assert_true(fabs(time.ratio - time.ms / time.base_ms) < 1e-6);
    assert_int_equal(pairs_long(&kernel[product].tile, "wp", 0), 8); /* it does not stay by itself */
    double before = time.base_ms;
    exchange(&m, product, "wp=2", &time);
    assert_non_null(strstr(time.failed, "logits"));
    exchange(&m, product, "wp=5", &time);
    assert_non_null(strstr(time.failed, "wp"));
    assert_int_equal(m.keep(&m, &err), -1); /* of one that failed */
    exchange(&m, product, "wp=4", &time);
    assert_int_equal(m.keep(&m, &err), 0);
    assert_int_equal(pairs_long(&kernel[product].tile, "wp", 0), 4);
    exchange(&m, attention, "wp=2", &time); /* another kernel, from there; the clock has nothing for it */
    assert_string_equal(time.failed, "");
    assert_true(fabs(time.base_ms - (before - 2)) < 1e-3);
    assert_int_equal(m.keep(&m, &err), 0);
    if (m.whole(&m, &time, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(fabs(time.base_ms - before) < 1e-3 && fabs(time.ms - (before - 2)) < 1e-3);

    exchange(&m, product, "wp=16", &time); /* takes its process with it */
    assert_non_null(strstr(time.failed, "signal"));
    exchange(&m, product, "wp=8", &time); /* a new one stands where that one did */
    assert_string_equal(time.failed, "");
    assert_true(fabs(time.base_ms - (before - 2)) < 1e-3 && fabs(time.ms - before) < 1e-3);
    if (m.whole(&m, &time, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(fabs(time.base_ms - before) < 1e-3 && fabs(time.ms - (before - 2)) < 1e-3);
    m.close(&m);
    model_close(&model);
    free(file.data);
}

/* weir tune --step only, from a trial log to wisdom: the vocabulary's product gets another tile, attn_decode, tried as well, keeps its own,
 * what has one tile in the log is left alone. */
static void what_a_step_finds_is_wisdom(void **state)
{
    struct cascade_options cascade;
    struct tiny_model t = tiny(&cascade);
    struct tune_session s = {0};
    struct tune_show show = {0};
    struct tune_problem all[TUNE_PROBLEMS_MAX];
    struct wisdom_file found;
    struct model m;
    struct err err = {""};
    volatile sig_atomic_t stop = 0;
    const struct scratch_path model = in_scratch("tiny.gguf"), log = in_scratch("step.jsonl"),
                              wisdom = in_scratch("wisdom.json");
    (void)state;
    tiny_model_file(&t, model.text);
    if (gen_open(&s.gen, NULL, &err) != 0 || model_open(&m, model.text, &err) != 0 ||
        tune_session_gpu(&s, "h200", &err) != 0)
        fail_msg("%s", err.msg);
    tune_session_paths(&s, log.text, wisdom.text, true, false);
    if (tune_session_log(&s, &err) != 0)
        fail_msg("%s", err.msg);
    int n = tune_step_problems(&m, &cascade.p, "bf16", all, &err);
    assert_int_equal(n, 7);
    for (int i = 0; i < n; i++) {
        struct tune_space space;
        struct pairs usual;
        char text[PAIRS_TEXT_MAX];
        const char *to = pairs_get(&all[i].shape, "to");
        bool product = to && !strcmp(to, "f32"), attention = !strcmp(all[i].kernel, "attn_decode");
        if (tune_space_open(&space, s.gen, s.gpu, &all[i], NULL, &err) != 0)
            fail_msg("%s", err.msg);
        tune_space_config(&space, space.by_default, &usual);
        pairs_text(&usual, text);
        put_trial(&s.trials, &space, text, 0.010, 1, TRIAL_CORRECT, NULL);
        if (product || attention) {
            pairs_put(&usual, "wp", product ? "4" : "2", &err);
            pairs_text(&usual, text);
            put_trial(&s.trials, &space, text, 0.011, 2, TRIAL_CORRECT, NULL);
        }
        tune_space_close(&space);
    }
    model_close(&m);
    if (tune_session_measure(&s, log.text, &err) != 0)
        fail_msg("%s", err.msg);
    const struct tune_steps steps = {.session = &s,
                                     .cascade = &cascade,
                                     .model = model.text,
                                     .wisdom = wisdom.text,
                                     .asked = true,
                                     .show = &show,
                                     .stop = &stop,
                                     .open_device = open_clocked};
    if (cmd_tune_steps(&steps, &err) != 0 || wisdom_file_read(wisdom.text, &found, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(found.nentries, 2);
    for (int i = 0; i < 2; i++) {
        bool product = !strcmp(found.entry[i].kernel, "matvec");
        assert_true(product || !strcmp(found.entry[i].kernel, "attn_decode"));
        assert_int_equal(pairs_long(&found.entry[i].config, "wp", 0), product ? 4 : 8); /* no more 8; and no 2 */
        assert_string_equal(found.entry[i].step, "tiny.gguf W=48");
        assert_true(fabs(found.entry[i].ms - (product ? 0.011 : 0.010)) < 1e-9);
        assert_true(found.entry[i].step_ms > 1);
    }
    wisdom_file_free(&found);
    tune_session_close(&s);
    gen_close(s.gen);
}

static void a_model_that_cannot_be_opened_is_an_error(void **state)
{
    struct tiny_model t = tiny_model_defaults(); /* heads of 16 elements */
    struct cascade_params p = cascade_defaults();
    struct step_kernel kernel[1] = {0};
    struct step_meter m;
    struct model model;
    struct bytes file;
    struct err err = {""};
    (void)state;
    tiny_model_open(&t, &model, &file);
    const struct step_model what = {.model = &model, .p = &p, .open_device = open_clocked};
    assert_int_equal(step_meter_device_open(&m, &what, kernel, 1, &err), -1);
    assert_non_null(strstr(err.msg, "heads of 16 elements"));
    model_close(&model);
    free(file.data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_are_exchanged_in_a_real_step),
        cmocka_unit_test(what_a_step_finds_is_wisdom),
        cmocka_unit_test(a_model_that_cannot_be_opened_is_an_error),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
