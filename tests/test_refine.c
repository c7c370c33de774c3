/* The last stage of tuning: its descent over steps whose times are made up, and what it tries. test_refine_step.c: real steps. */
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

#include "refine_trials.h"
#include "scratch.h"
#include "tuner/refine.h"

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
    (void)state;
    if (gen_open(&g, NULL, &err) != 0 || tune_space_open(&s, g, "h200", &what, NULL, &err) != 0 ||
        trials_open(&log, in_scratch("log.jsonl").text, true, &err) != 0)
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_launch_need_not_make_the_best_step),
        cmocka_unit_test(a_second_round_looks_again),
        cmocka_unit_test(noise_is_no_gain),
        cmocka_unit_test(what_fails_is_left_out),
        cmocka_unit_test(a_stop_keeps_what_was_found),
        cmocka_unit_test(leaders_of_each_kind_are_tried),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
