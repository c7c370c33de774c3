/* The kernels as they ship: default tiles of every head dimension spill no registers on the GPUs that the templates were written for,
 * and shapes and tiles outside what a kernel can do are refused by name, before anything is rendered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emu/parallel.h"
#include "runtime/kernel.h"

static const char *const gpus[] = {"a100", "a6000", "h200"}; /* sm_80, sm_86, sm_90 */
static const char *const dims[] = {"64", "80", "96", "128", "256"};
static const struct shape {
    const char *kernel;
    struct gen_param also; /* the value that leaves the fewest registers */
    int first;             /* of the dimensions: smaller ones are far from the limit */
} shapes[] = {{"attn_prefill", {"t", "bf16"}, 0},
              {"attn_prefill_wgmma", {"t", "bf16"}, 0},
              {"attn_scores", {"t", "bf16"}, 0},
              {"attn_decode", {"g", "8"}, 4}};

enum { GPUS = sizeof gpus / sizeof *gpus, DIMS = sizeof dims / sizeof *dims, SHAPES = sizeof shapes / sizeof *shapes };

/* One kernel, compiled or out of the cubin cache. */
static int compile(int i, void *arg, struct err *err)
{
    const struct shape *s = &shapes[i / DIMS / GPUS];
    const struct gen_param params[] = {{"d", dims[i / GPUS % DIMS]}, s->also};
    if (i / GPUS % DIMS < s->first || (!strcmp(s->kernel, "attn_prefill_wgmma") &&
                                       (strcmp(gpus[i % GPUS], "h200") != 0 ||
                                        (strcmp(dims[i / GPUS % DIMS], "64") && strcmp(dims[i / GPUS % DIMS], "128")))))
        return 0;
    struct kernel_cache cache;
    struct kernel k;
    struct gen *g;
    kernel_cache_default(&cache);
    if (gen_open(&g, NULL, err) != 0)
        return -1;
    int rc = kernel_build(g, &cache, s->kernel, gpus[i % GPUS], params, 2, &k, err);
    int spills = rc == 0 ? k.cubin.spill_store + k.cubin.spill_load : 0;
    if (spills)
        rc = err_set(err, "%s spills %d bytes", k.gen.name, spills);
    kernel_free(&k);
    gen_close(g);
    return rc;
}

static void defaults_spill_nothing(void **state)
{
    enum { JOBS = SHAPES * DIMS * GPUS };
    struct err errs[JOBS];
    struct nvrtc_info info;
    int failed;
    if (nvrtc_find(&info, NULL, NULL) != 0)
        skip();
    failed = parallel_run(JOBS, compile, NULL, errs);
    for (int i = 0; i < JOBS; i++)
        if (errs[i].msg[0])
            print_error("%s\n", errs[i].msg);
    assert_int_equal(failed, 0);
}

static void refused_by_name(void **state)
{
    static const struct {
        const char *kernel, *gpu;
        struct gen_param param[5]; /* up to the first without a name */
        const char *says;
    } cases[] = {
        {"attn_prefill", "a100", {{"d", "72"}}, "restriction 'd': d = 72 is not one of 64, 80, 96, 128, 256"},
        {"attn_decode", "a100", {{"d", "128"}, {"g", "17"}}, "restriction 'g': g = 17 is not in 1..16"},
        {"attn_decode", "a100", {{"d", "128"}, {"g", "0"}}, "restriction 'g'"},
        {"cascade_update", "a100", {{"d", "128"}, {"b", "0"}}, "restriction 'b'"},
        {"attn_scores", "a100", {{"d", "128"}, {"t", "fp8"}}, "restriction 't'"},
        {"attn_prefill", "a6000", {{"d", "128"}, {"bn", "64"}, {"st", "4"}, {"mb", "1"}}, "restriction 'smem'"},
        {"attn_prefill", "a100", {{"d", "128"}, {"bm", "64"}, {"wp", "8"}}, "restriction 'warp_rows'"},
        {"attn_prefill", "a100", {{"d", "256"}, {"bm", "128"}}, "restriction 'registers'"},
        {"attn_prefill_wgmma", "a100", {{"d", "128"}, {"wg", "1"}, {"bn", "64"}}, "restriction 'hopper'"},
        {"attn_prefill_wgmma", "h200", {{"d", "80"}}, "restriction 'panels'"},
        {"attn_prefill_wgmma", "h200", {{"d", "128"}, {"bn", "176"}, {"mb", "2"}}, "restriction 'smem'"},
        {"attn_scores", "a6000", {{"d", "256"}, {"bq", "128"}, {"mb", "1"}}, "restriction 'smem'"},
    };
    struct gen *g;
    struct err err = {""};
    if (gen_open(&g, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gen_kernel k = {0};
        int n = 0;
        while (n < 5 && cases[i].param[n].name)
            n++;
        if (gen_render(g, cases[i].kernel, cases[i].gpu, cases[i].param, n, &k, &err) == 0)
            fail_msg("%s was rendered", k.name);
        if (!strstr(err.msg, cases[i].kernel) || !strstr(err.msg, cases[i].says) || strchr(err.msg, '\n'))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, cases[i].says);
        assert_null(k.source);
        gen_kernel_free(&k);
    }
    gen_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_spill_nothing), cmocka_unit_test(refused_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
