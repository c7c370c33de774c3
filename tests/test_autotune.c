/* run --autotune on a simulated GPU: it tunes what the wisdom there is lacks for a model, keeps it as the user's, and then has nothing to
 * do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/autotune.h"
#include "runtime/backend_cuda.h"
#include "runtime/model_random.h"
#include "tuner/tune_shapes.h"

static char folder[] = "/tmp/weir-autotune-XXXXXX", table[80], journal[80];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || setenv("WEIR_WISDOM", folder, 1) != 0)
        return -1;
    snprintf(table, sizeof table, "%s/table.jsonl", folder);
    snprintf(journal, sizeof journal, "%s/log.jsonl", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Times of the default and of every fourth config; the last of these is twice as fast as all others. */
static void put_space(struct trials *to, const struct tune_session *s, const struct tune_problem *p)
{
    struct tune_space space;
    struct err err = {""};
    if (tune_space_open(&space, s->gen, s->gpu, p, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < space.nvalid; i++) {
        int config = space.valid[i];
        if (i % 4 != 0 && config != space.by_default)
            continue;
        struct trial t = {.problem = *p, .ms = i + 4 < space.nvalid || i % 4 ? 0.02 : 0.01};
        snprintf(t.gpu, sizeof t.gpu, "%s", space.gpu.name);
        tune_space_config(&space, config, &t.config);
        if (trials_add(to, &t, &err) != 0)
            fail_msg("%s", err.msg);
    }
    tune_space_close(&space);
}

static void open_session(struct tune_session *s, struct gen *g)
{
    struct err err = {""};
    *s = (struct tune_session){.gen = g};
    if (tune_session_measure(s, table, &err) != 0 || tune_session_gpu(s, "h200", &err) != 0)
        fail_msg("%s", err.msg);
    tune_session_paths(s, journal, NULL, true, true);
}

/* A bench alone runs stream_copy, and a GPU with products of warpgroups no attn_prefill for these heads. */
static bool is_run(const struct tune_problem *p)
{
    return strcmp(p->kernel, "stream_copy") != 0 && strcmp(p->kernel, "attn_prefill") != 0;
}

static void tunes_what_wisdom_lacks(void **state)
{
    struct model m;
    struct cascade_params p = cascade_defaults();
    struct tune_problem all[TUNE_PROBLEMS_MAX];
    struct tune_session s = {0};
    struct trials times;
    struct gen *g;
    struct err err = {""};
    (void)state;
    if (gen_open(&g, NULL, &err) != 0 || model_random(&m, "smollm2-135m", QUANT_Q4_1, true, &err) != 0)
        fail_msg("%s", err.msg);
    assert_string_equal(backend_cuda_type(&m), "fp16");
    s.gen = g;
    if (tune_session_gpu(&s, "h200", &err) != 0 || trials_open(&times, table, true, &err) != 0)
        fail_msg("%s", err.msg);
    int n = tune_model_problems(&m, &p, NULL, all, &err), tuned = 0, products = 0;
    for (int i = 0; i < n; i++)
        products += !strcmp(all[i].kernel, "matvec");
    assert_int_equal(products, 5); /* q|k|v, output, gate|up, down, vocabulary */
    assert_true(n > products + 10);
    for (int i = 0; i < n; i++) {
        put_space(&times, &s, &all[i]);
        tuned += is_run(&all[i]);
    }
    trials_close(&times);

    int made = 0;
    for (int known = -1, starts = 0; made != known && starts < 9;
         starts++) { /* where time is short, the next start goes on */
        known = made;
        open_session(&s, g);
        if (autotune_model(&s, &m, &p, &err) != 0)
            fail_msg("%s", err.msg);
        made = s.trials.n > 0 ? s.trials.n : made;
        tune_session_close(&s);
    }
    assert_true(made >= tuned);
    assert_true(made <= tuned * TUNE_QUICK_TRIALS);

    struct wisdom *w;
    if (wisdom_open(&w, g, "h200", NULL, &err) != 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < n; i++) {
        struct gen_param params[PAIRS_MAX];
        struct wisdom_found found;
        wisdom_best(w, all[i].kernel, params, pairs_params(&all[i].shape, params, 0), &all[i].sizes, &found);
        if (is_run(&all[i]) && (found.match != WISDOM_SAME || !found.measured))
            fail_msg("%s: %s", all[i].kernel, found.line);
    }
    wisdom_close(w);

    open_session(&s, g);
    if (autotune_model(&s, &m, &p, &err) != 0) /* all is known */
        fail_msg("%s", err.msg);
    assert_int_equal(s.trials.n, 0);
    tune_session_close(&s);
    model_close(&m);
    gen_close(g);
}

/* What a chunk runs beside attention and products is tuned with the very sizes that the backend looks its tile up by. */
static void chunks_are_tuned_as_they_are_looked_up(void **state)
{
    static const char *const kernels[] = {"rms_norm", "swiglu", "likelihood", "dequantise", "embed"};
    struct cascade_params p = cascade_defaults();
    struct tune_problem some[2 * TUNE_PROBLEMS_MAX];
    struct model_kernels list;
    struct model_shape shape;
    struct pairs of_model;
    struct model m;
    struct err err = {""};
    int found = 0;
    (void)state;
    if (model_random(&m, "llama-3.2-1b", QUANT_Q4_0, true, &err) != 0 ||
        model_random_shape(&shape, "llama-3.2-1b", &err) != 0 || model_kernels(&list, &m, &p, "fp16", &err) != 0 ||
        model_sizes(&of_model, &m.shape, &p, &err) != 0)
        fail_msg("%s", err.msg);
    int n = tune_shape_problems(&shape, &p, "fp16", some, &err),
        weights = tune_weight_problems(&shape, QUANT_Q4_0, &p, NULL, some + n, &err);
    assert_int_equal(weights, 5 + 2); /* products, dequantise, embed */
    for (int i = 0; i < n + weights; i++)
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
            if (strcmp(some[i].kernel, kernels[k]) != 0)
                continue;
            int at = 0;
            while (at < list.n &&
                   (strcmp(list.at[at].kernel, kernels[k]) != 0 || !pairs_equal(&list.at[at].shape, &some[i].shape)))
                at++;
            assert_true(at < list.n);
            struct pairs sizes;
            model_kernel_sizes(&sizes, &of_model, &list.at[at].sizes);
            for (int s = 0; s < some[i].sizes.n; s++)
                assert_string_equal(pairs_get(&sizes, some[i].sizes.at[s].name), some[i].sizes.at[s].value);
            found++;
        }
    assert_int_equal(found, 5);
    const struct tune_problem *dequantise = &some[n + 5];
    assert_string_equal(dequantise->kernel,
                        "dequantise"); /* of gate|up, the largest: the vocabulary's goes in pieces */
    assert_int_equal(pairs_long(&dequantise->sizes, "elements", 0), 2 * shape.ffn * shape.hidden);
    assert_int_equal(tune_weight_problems(&shape, QUANT_BF16, &p, NULL, some, &err), 5 + 1); /* taken as they are */
    assert_int_equal(tune_step_problems(&m, &p, "fp16", some, &err), 7); /* none of them is a token's */
    int all = tune_model_problems(&m, &p, "fp16", some, &err), biases = 0;
    m.layer[0].bq = m.layer[0].attn_norm; /* a bias, whichever */
    n = tune_model_problems(&m, &p, "fp16", some, &err);
    assert_int_equal(n, all + 1);
    for (int i = 0; i < n; i++)
        if (!strcmp(some[i].kernel, "add_bias")) {
            assert_int_equal(pairs_long(&some[i].sizes, "n", 0), (shape.heads + 2 * shape.kv_heads) * shape.head_dim);
            biases++;
        }
    assert_int_equal(biases, 1);
    struct tensor *v =
        (struct tensor *)m.layer[0].wv; /* of another type: a product of its own, and one of q|k or two */
    v->type = QUANT_Q4_1;
    n = tune_model_problems(&m, &p, "fp16", some, &err);
    assert_true(n > all + 1);
    v->type = QUANT_Q4_0;
    model_close(&m);
}

static void count_row(void *user, const struct tune_state *result)
{
    (void)result;
    ++*(int *)user;
}

/* One problem with a best that is `gain` ms ahead of the default's 0.02, both with runs 0.001 apart: whether it is kept. */
static bool keeps_best(double gain)
{
    struct tune_problem p = {.kernel = "stream_copy"};
    struct tune_session s = {0};
    struct tune_space space;
    struct trials times;
    struct tune t = {.search = SEARCH_EXHAUSTIVE};
    struct wisdom_file kept;
    struct gen *g;
    struct err err = {""};
    char path[80];
    snprintf(table, sizeof table, "%s/table-%g.jsonl", folder, gain);
    snprintf(journal, sizeof journal, "%s/log-%g.jsonl", folder, gain);
    snprintf(path, sizeof path, "%s/only-%g.json", folder, gain);
    if (pairs_parse(&p.shape, "t=bf16", &err) != 0 || pairs_parse(&p.sizes, "n=1000", &err) != 0 ||
        gen_open(&g, NULL, &err) != 0 || tune_space_open(&space, g, "h200", &p, NULL, &err) != 0 ||
        trials_open(&times, table, true, &err) != 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < space.nvalid; i++) {
        bool best = space.valid[i] != space.by_default && i < 2;
        struct trial a = {.problem = p, .gpu = "h200", .ms = best ? 0.02 - gain : 0.02, .spread_ms = 0.001};
        tune_space_config(&space, space.valid[i], &a.config);
        assert_int_equal(trials_add(&times, &a, &err), 0);
    }
    struct pairs usual;
    tune_space_config(&space, space.by_default, &usual);
    trials_close(&times);
    open_session(&s, g);
    snprintf(s.wisdom, sizeof s.wisdom, "%s", path);
    int rows = 0;
    if (tune_session_log(&s, &err) != 0 || tune_session_run(&s, &t, &p, count_row, &rows, &err) != 0 ||
        wisdom_file_read(path, &kept, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(rows, 1);
    assert_int_equal(kept.nentries, 1);
    bool is_best = !pairs_equal(&kept.entry[0].config, &usual);
    wisdom_file_free(&kept);
    tune_session_close(&s);
    tune_space_close(&space);
    gen_close(g);
    return is_best;
}

static void noise_is_no_reason_to_leave_the_default(void **state)
{
    (void)state;
    assert_true(keeps_best(0.002));
    assert_false(keeps_best(0.0004));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tunes_what_wisdom_lacks),
                                       cmocka_unit_test(chunks_are_tuned_as_they_are_looked_up),
                                       cmocka_unit_test(noise_is_no_reason_to_leave_the_default)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
