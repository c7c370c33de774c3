/* The last stage of tuning without a GPU: its descent over steps whose times are made up, what it tries, and the process that measures
 * steps, on an emulated device whose clock is made up, with tiles that crash and tiles that give other logits. */
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
#include "runtime/cmd_tune_step.h"
#include "tuner/refine.h"
#include "tuner/tune_shapes.h"

static struct pairs tile(const char *text)
{
    struct pairs p;
    struct err err = {""};
    if (pairs_parse(&p, text, &err) != 0)
        fail_msg("%s", err.msg);
    return p;
}

/* ------------------------------------------------------------------------------------------------ steps that are made up */

enum { TILES = 3, FAILS = -1, BLIND = -2 /* looks 5 % faster alone in the step, and is not in the whole */ };

/* A step of two kernels and one that it does not launch. Kernel 0's fastest launch, tile 2, leaves no room for kernel 1. */
struct made_up {
    double ms[2][TILES]; /* of the tiles "x=0" .. in the step */
    double crowded;      /* more where kernel 0 has tile 2 */
    double together;     /* less where both have tile 1 */
    double noise;        /* the spread of pairs */
    int exchanged, kept, last, last_tile, stop_after;
    volatile sig_atomic_t stop;
    struct pairs first[2];
};

static int number(const struct pairs *p)
{
    return (int)pairs_long(p, "x", 0);
}

static double step_ms(const struct made_up *s, int a, int b)
{
    return s->ms[0][a] + s->ms[1][b] + (a == 2 ? s->crowded : 0) - (a == 1 && b == 1 ? s->together : 0);
}

static int made_up_exchange(struct step_meter *m, int i, const struct pairs *with, struct step_time *out,
                            struct err *err)
{
    struct made_up *s = m->state;
    int now[2] = {number(&m->kernel[0].tile), number(&m->kernel[1].tile)};
    memset(out, 0, sizeof *out);
    assert_true(i < 2); /* the third is not launched */
    s->last = i;
    s->last_tile = number(with);
    if (s->stop_after && ++s->exchanged >= s->stop_after)
        s->stop = 1;
    if (s->ms[i][number(with)] == FAILS) {
        snprintf(out->failed, sizeof out->failed, "too much of it");
        return 0;
    }
    out->base_ms = step_ms(s, now[0], now[1]);
    now[i] = number(with);
    out->ms = step_ms(s, now[0], now[1]);
    out->ratio = s->ms[i][number(with)] == BLIND ? 0.95 : out->ms / out->base_ms;
    out->spread = s->noise;
    return 0;
}

static int made_up_keep(struct step_meter *m, struct err *err)
{
    struct made_up *s = m->state;
    pairs_put_long(&m->kernel[s->last].tile, "x", s->last_tile, NULL);
    s->kept++;
    return 0;
}

static int made_up_whole(struct step_meter *m, struct step_time *out, struct err *err)
{
    const struct made_up *s = m->state;
    int now[2];
    *out = (struct step_time){.base_ms = step_ms(s, number(&s->first[0]), number(&s->first[1]))};
    for (int i = 0; i < 2; i++) {
        int x = number(&m->kernel[i].tile);
        now[i] = s->ms[i][x] == BLIND ? number(&s->first[i]) : x;
    }
    out->ms = step_ms(s, now[0], now[1]);
    out->ratio = out->ms / out->base_ms;
    out->spread = s->noise;
    return 0;
}

struct play {
    struct made_up s;
    struct step_kernel kernel[3];
    struct step_meter m;
    struct refine r;
};

/* Both kernels begin with the tiles a and b; all tiles of both are to be tried, the fastest launch first, which is the last tile. */
static void play(struct play *p, int a, int b)
{
    struct err err = {""};
    int first[2] = {a, b};
    for (int i = 0; i < 3; i++) {
        struct refine_kernel *k = &p->r.kernel[i];
        snprintf(p->kernel[i].problem.kernel, sizeof p->kernel[i].problem.kernel, "kernel%d", i);
        p->kernel[i].launched = i < 2;
        pairs_put_long(&p->kernel[i].tile, "x", i < 2 ? first[i] : 0, NULL);
        k->before = p->kernel[i].tile;
        for (k->n = 0; k->n < TILES; k->n++) {
            k->tile[k->n] = (struct refine_tile){.ms = 0.1 + 0.01 * k->n};
            pairs_put_long(&k->tile[k->n].config, "x", TILES - 1 - k->n, NULL);
        }
        if (i < 2)
            p->s.first[i] = p->kernel[i].tile;
    }
    p->m = (struct step_meter){&p->s, p->kernel, 3, made_up_exchange, made_up_keep, made_up_whole, NULL};
    p->r.stop = &p->s.stop;
    if (refine_step(&p->r, &p->m, &err) != 0)
        fail_msg("%s", err.msg);
}

static void assert_tiles(const struct play *p, int a, int b)
{
    assert_int_equal(number(&p->kernel[0].tile), a);
    assert_int_equal(number(&p->kernel[1].tile), b);
}

/* The chains' best, tiles 2 and 2, are what the search left; in the step another tile of kernel 0 is better. */
static void the_best_launch_need_not_make_the_best_step(void **state)
{
    struct play p = {.s = {.ms = {{1, 0.98, 0.9}, {0.7, 0.6, 0.5}}, .crowded = 0.3}};
    struct wisdom_entry e;
    (void)state;
    play(&p, 2, 2);
    assert_tiles(&p, 1, 2);
    assert_int_equal(p.r.exchanged, 1);
    assert_true(fabs(p.r.base_ms - 1.7) < 1e-9 && fabs(p.r.ms - 1.48) < 1e-9);
    assert_true(p.r.kernel[0].tried >= 2 && p.r.kernel[1].tried == 2);
    assert_int_equal(p.r.kernel[2].tried, 0);

    /* Both have been measured in the step, the one that stayed too. */
    assert_true(refine_entry(&p.r, &p.m, 0, "a model", &e));
    assert_string_equal(e.step, "a model");
    assert_true(fabs(e.step_ms - 1.48) < 1e-9 && fabs(e.ms - 0.11) < 1e-9);
    assert_int_equal(number(&e.config), 1);
    assert_true(refine_entry(&p.r, &p.m, 1, "a model", &e));
    assert_int_equal(number(&e.config), 2);
    assert_false(refine_entry(&p.r, &p.m, 2, "a model", &e));
}

/* Kernel 0's tile 1 is better once kernel 1, which comes later, has tile 1: the second round finds it. */
static void a_second_round_looks_again(void **state)
{
    (void)state;
    struct play p = {.s = {.ms = {{1, 1.001, 2}, {0.7, 0.5, 0.6}}, .together = 0.1}};
    play(&p, 0, 0);
    assert_tiles(&p, 1, 1);
    assert_int_equal(p.r.kernel[0].tried, 4); /* 2, 1; 1, 0: tile 2 was too far behind to be looked at again */
}

static void noise_is_no_gain(void **state)
{
    struct play p = {.s = {.ms = {{1, 0.999, 0.999}, {1, 0.999, 0.999}}}};
    (void)state;
    play(&p, 0, 0);
    assert_tiles(&p, 0, 0); /* less than 0.3 % of the step */
    p = (struct play){.s = {.ms = {{1, 0.98, 0.98}, {1, 1, 1}}, .noise = 0.03}};
    play(&p, 0, 0);
    assert_tiles(&p, 0, 0); /* less than half the spread */
    assert_int_equal(p.r.exchanged, 0);
    assert_true(fabs(p.r.ms - p.r.base_ms) < 1e-12);
    p = (struct play){.s = {.ms = {{1, BLIND, BLIND}, {1, 1, 1}}}};
    play(&p, 0, 0);
    assert_true(p.s.kept > 0);
    assert_tiles(&p, 0, 0); /* the whole is no faster */
}

static void what_fails_is_left_out(void **state)
{
    struct play p = {.s = {.ms = {{1, 0.9, FAILS}, {FAILS, 1, FAILS}}}};
    (void)state;
    play(&p, 0, 1);
    assert_tiles(&p, 1, 1);
    assert_int_equal(p.r.kernel[0].failed, 1); /* once, in two rounds */
    assert_int_equal(p.r.kernel[1].failed, 2);
    assert_string_equal(p.r.kernel[1].failure, "too much of it");
}

static void a_stop_keeps_what_was_found(void **state)
{
    struct play p = {.s = {.ms = {{1, 0.95, 0.9}, {1, 0.9, 0.8}}, .stop_after = 1}};
    (void)state;
    play(&p, 0, 0);
    assert_tiles(&p, 2, 0);
    assert_true(p.r.stopped);
    assert_int_equal(p.r.exchanged, 1);
}

/* ------------------------------------------------------------------------------------------------ what is tried */

static char folder[] = "/tmp/weir-refine-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void put_trial(struct trials *to, const struct tune_space *s, const char *config, double ms, int blocks,
                      enum trial_validity validity, const char *revision)
{
    struct err err = {""};
    struct trial t = {.problem = s->problem, .config = tile(config), .ms = ms, .blocks_per_sm = blocks};
    int c = tune_space_find(s, &t.config);
    if (c < 0 || s->all.config[c].broken[0])
        fail_msg("%s is no config", config);
    t.validity = validity;
    snprintf(t.gpu, sizeof t.gpu, "%s", s->gpu.name);
    snprintf(t.revision, sizeof t.revision, "%s", revision ? revision : tune_space_revision(s, c));
    if (trials_add(to, &t, &err) != 0)
        fail_msg("%s", err.msg);
}

static void assert_tried(const struct refine_kernel *k, int i, const char *config)
{
    char got[PAIRS_TEXT_MAX];
    struct pairs want = tile(config);
    pairs_text(&k->tile[i].config, got);
    if (i >= k->n || !pairs_equal(&k->tile[i].config, &want))
        fail_msg("tile %d of %d is %s instead of %s", i, k->n, got, config);
}

/* stream_copy: tiles wp (warps) and u, the default wp=8 u=4. */
static void leaders_of_each_kind_are_tried(void **state)
{
    struct tune_problem what = {.kernel = "stream_copy", .shape = tile("t=bf16"), .sizes = tile("n=8000")};
    struct tune_space s;
    struct trials log;
    struct gen *g;
    struct refine_kernel k;
    struct err err = {""};
    char path[80];
    (void)state;
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    if (gen_open(&g, NULL, &err) != 0 || tune_space_open(&s, g, "h200", &what, NULL, &err) != 0 ||
        trials_open(&log, path, true, &err) != 0)
        fail_msg("%s", err.msg);
    struct pairs usual;
    char text[PAIRS_TEXT_MAX];
    tune_space_config(&s, s.by_default, &usual);
    pairs_text(&usual, text);
    assert_string_equal(text, "wp=8 u=4");
    put_trial(&log, &s, "wp=4 u=1", 0.100, 8, TRIAL_CORRECT, NULL);
    put_trial(&log, &s, "wp=4 u=2", 0.101, 8, TRIAL_CORRECT, NULL);
    put_trial(&log, &s, "wp=16 u=1", 0.102, 4, TRIAL_CORRECT, NULL);
    put_trial(&log, &s, "wp=4 u=8", 0.050, 8, TRIAL_CORRECT, "another text"); /* says nothing of what there is now */
    put_trial(&log, &s, "wp=16 u=2", 0.090, 4, TRIAL_CORRECTNESS, NULL);
    put_trial(&log, &s, "wp=8 u=1", 0.140, 8, TRIAL_CORRECT, NULL); /* too slow */
    put_trial(&log, &s, "wp=8 u=2", 0.150, 8, TRIAL_CORRECT, NULL); /* too slow, but what there is */
    put_trial(&log, &s, "wp=8 u=4", 0.160, 8, TRIAL_CORRECT, NULL); /* the default */
    struct pairs present = tile("wp=8 u=2"), elsewhere = tile("wp=16 u=8");
    if (refine_candidates(&k, &log, &s, &present, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(k.n, 5);
    assert_tried(&k, 0, "wp=4 u=1");
    assert_tried(&k, 1, "wp=16 u=1"); /* the first with blocks of its kind */
    assert_tried(&k, 2, "wp=4 u=2");
    assert_tried(&k, 3, "wp=8 u=2");
    assert_tried(&k, 4, "wp=8 u=4");
    assert_true(pairs_equal(&k.before, &present));
    if (refine_candidates(&k, &log, &s, &elsewhere, &err) != 0) /* a tile without a trial */
        fail_msg("%s", err.msg);
    assert_int_equal(k.n, 4);
    trials_close(&log);
    tune_space_close(&s);
    gen_close(g);
}

/* ------------------------------------------------------------------------------------------------ steps on an emulated device */

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
    assert_int_equal(n, 6); /* five products, attn_decode */
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
    char model[80], log[80], wisdom[80];
    (void)state;
    snprintf(model, sizeof model, "%s/tiny.gguf", folder);
    snprintf(log, sizeof log, "%s/step.jsonl", folder);
    snprintf(wisdom, sizeof wisdom, "%s/wisdom.json", folder);
    tiny_model_file(&t, model);
    if (gen_open(&s.gen, NULL, &err) != 0 || model_open(&m, model, &err) != 0 ||
        tune_session_gpu(&s, "h200", &err) != 0)
        fail_msg("%s", err.msg);
    tune_session_paths(&s, log, wisdom, true, false);
    if (tune_session_log(&s, &err) != 0)
        fail_msg("%s", err.msg);
    int n = tune_step_problems(&m, &cascade.p, "bf16", all, &err);
    assert_int_equal(n, 6);
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
    if (tune_session_measure(&s, log, &err) != 0)
        fail_msg("%s", err.msg);
    const struct tune_steps steps = {.session = &s,
                                     .cascade = &cascade,
                                     .model = model,
                                     .wisdom = wisdom,
                                     .asked = true,
                                     .show = &show,
                                     .stop = &stop,
                                     .open_device = open_clocked};
    if (cmd_tune_steps(&steps, &err) != 0 || wisdom_file_read(wisdom, &found, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(found.nentries, 2);
    for (int i = 0; i < 2; i++) {
        bool product = !strcmp(found.entry[i].kernel, "matvec");
        assert_true(product || !strcmp(found.entry[i].kernel, "attn_decode"));
        assert_int_equal(pairs_long(&found.entry[i].config, "wp", 0), 4); /* no more 8; and no 2 */
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
        cmocka_unit_test(the_best_launch_need_not_make_the_best_step),
        cmocka_unit_test(a_second_round_looks_again),
        cmocka_unit_test(noise_is_no_gain),
        cmocka_unit_test(what_fails_is_left_out),
        cmocka_unit_test(a_stop_keeps_what_was_found),
        cmocka_unit_test(leaders_of_each_kind_are_tried),
        cmocka_unit_test(tiles_are_exchanged_in_a_real_step),
        cmocka_unit_test(what_a_step_finds_is_wisdom),
        cmocka_unit_test(a_model_that_cannot_be_opened_is_an_error),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
