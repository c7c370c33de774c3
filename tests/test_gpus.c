/* GPU facts, files that describe a GPU, tuning spaces, bytes and operations, occupancy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gen_home.h"
#include "runtime/occupancy.h"

static void facts_of_the_known(void **state)
{
    static const struct {
        const char *name, *is;
        int sm, sms, smem_kb;
    } cases[] = {
        {"a100", "a100-80", 80, 108, 163},  {"A100-40", "a100-40", 80, 108, 163}, {"a6000", "a6000", 86, 84, 99},
        {"rtx3090", "rtx3090", 86, 82, 99}, {"4090", "rtx4090", 89, 128, 99},     {"l40s", "l40s", 89, 142, 99},
        {"h100", "h100", 90, 132, 227},     {"h200", "h200", 90, 132, 227},       {"sm_86", "sm_86", 86, 0, 99},
        {"sm_120", "sm_120", 120, 0, 99},
    };
    struct gen_fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gen_gpu gpu;
        struct err err = {""};
        assert_int_equal(gen_gpu(f->gen, cases[i].name, &gpu, &err), 0);
        assert_string_equal(gpu.name, cases[i].is);
        assert_int_equal(gpu.sm, cases[i].sm);
        assert_int_equal(gpu.sms, cases[i].sms);
        assert_int_equal(gpu.smem_per_block, cases[i].smem_kb * 1024);
        /* Where a GPU is known by name, so are its rates, and where they come from. */
        if (gpu.sms) {
            assert_true(gpu.dram_gbs > 500 && gpu.tensor_tflops > gpu.fp32_tflops && gpu.l2_bytes > 1e6 &&
                        gpu.memory_bytes > 1e10);
            assert_non_null(strstr(gpu.source, "NVIDIA"));
        }
    }
}

static void names_of_devices(void **state)
{
    static const struct {
        const char *title;
        int sm;
        const char *name;
    } cases[] = {
        {"NVIDIA H200", 90, "h200"},
        {"NVIDIA H100 80GB HBM3", 90, "h100"},
        {"NVIDIA H100 PCIe", 90, "h100-pcie"},
        {"NVIDIA A100-SXM4-80GB", 80, "a100-80"},
        {"NVIDIA A100-PCIE-40GB", 80, "a100-40"},
        {"NVIDIA RTX A6000", 86, "a6000"},
        {"NVIDIA GeForce RTX 3090", 86, "rtx3090"},
        {"NVIDIA GeForce RTX 3090 Ti", 86, "sm_86"},
        {"NVIDIA GeForce RTX 4090", 89, "rtx4090"},
        {"NVIDIA L40S", 89, "l40s"},
        {"emu", 80, "sm_80"},
        {"something new", 121, "sm_120"},
        {"(%w+)*[", 90, "sm_90"},
    };
    struct gen_fixture *f = *state;
    char name[GEN_GPU_MAX];
    struct err err = {""};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(gen_gpu_name(f->gen, cases[i].title, cases[i].sm, name, &err), 0);
        assert_string_equal(name, cases[i].name);
    }
    assert_int_equal(gen_gpu_name(f->gen, "Tesla V100", 70, name, &err), -1);
    assert_string_equal(
        err.msg,
        "Tesla V100 has compute capability 7.0; weir's kernels want one of sm 80, 86, 87, 89, 90, 100, 103, 120");
}

static int described(struct gen_fixture *f, const char *name, const char *text, struct gen_gpu *gpu, struct err *err)
{
    char path[128];
    gen_home_write(&f->home, name, text);
    snprintf(path, sizeof path, "%s/%s", f->home.path, name);
    return gen_gpu(f->gen, path, gpu, err);
}

static void described_gpus(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_gpu gpu;
    struct err err = {""};
    assert_int_equal(
        described(f, "g.json", "{\"sm\": 86, \"sms\": 46, \"dram_gbs\": 448.5, \"title\": \"RTX 3070\"}", &gpu, &err),
        0);
    assert_int_equal(gpu.sms, 46);
    assert_int_equal(gpu.smem_per_block, 99 * 1024);
    assert_true(gpu.dram_gbs == 448.5);
    assert_string_equal(gpu.title, "RTX 3070");
    assert_string_equal(gpu.name, "sm_86");
    assert_int_equal(described(f, "g.lua", "return { sm = 90, sms = 10 * 12 }", &gpu, &err), 0);
    assert_int_equal(gpu.sms, 120);
    /* And it renders for it, under the name of its sm. */
    struct gen_kernel k;
    char path[128];
    const struct gen_param p[] = {{"n", "8"}};
    snprintf(path, sizeof path, "%s/g.lua", f->home.path);
    assert_int_equal(gen_render(f->gen, "axpy", path, p, 1, &k, &err), 0);
    assert_string_equal(k.name, "axpy__n8_bf16__wp8_st2__sm90");
    gen_kernel_free(&k);
}

static void bad_descriptions(void **state)
{
    static const struct {
        const char *name, *text, *says;
    } cases[] = {
        {"g.json", "", "g.json: is not a JSON object"},
        {"g.json", "[1]", "g.json: is not a JSON object"},
        {"g.json", "{\"sm\": 86,", "g.json: is not a JSON object"},
        {"g.json", "{}", "g.json: sm is nil; known: 80"},
        {"g.json", "{\"sm\": 42}", "g.json: sm is 42; known: 80"},
        {"g.json", "{\"sm\": 86.5}", "g.json: sm is 86.5"},
        {"g.json", "{\"sm\": \"86\"}", "field 'sm' wants a number"},
        {"g.json", "{\"sm\": 86, \"sms\": -4}", "field 'sms' is -4"},
        {"g.json", "{\"sm\": 86, \"sms\": 1e300}", "field 'sms' is 1e+300"},
        {"g.json", "{\"sm\": 86, \"sms\": 411111111116}", "which no GPU has"},
        {"g.json", "{\"sm\": 86, \"sms\": 1.5}", "a whole number is needed"},
        {"g.json", "{\"sm\": 86, \"sms\": null}", "field 'sms' wants a whole number"},
        {"g.json", "{\"sm\": 86, \"smem_per_block\": 1}", "unknown field 'smem_per_block'"},
        {"g.json", "{\"sm\": 86, \"title\": \"\\u0000\"}", ""},
        {"g.lua", "", "g.lua: holds no table"},
        {"g.lua", "return 3", "g.lua: holds no table"},
        {"g.lua", "return { sm = }", "g.lua:1:"},
        {"g.lua", "while true do end", "g.lua:1: gave up"},
        {"g.lua", "return { sm = os.time() }", "g.lua:1:"},
        {"g.lua", "return { sm = 86, [1] = 2 }", "unknown field '1'"},
        {"g.lua", "return { sm = 86, sms = 0/0 }", "field 'sms' is"},
        {"g.lua", "return setmetatable({}, {})", "g.lua:1:"},
        {"g.lua", "\x1bLua", "g.lua"},
    };
    struct gen_fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gen_gpu gpu;
        struct err err = {""};
        int rc = described(f, cases[i].name, cases[i].text, &gpu, &err);
        if (cases[i].says[0] && (rc != -1 || !strstr(err.msg, cases[i].says)))
            fail_msg("case %zu: '%s' is wanted, but it says: %s", i, cases[i].says, err.msg);
        if (strchr(err.msg, '\n'))
            fail_msg("case %zu: more than a line: %s", i, err.msg);
    }
    struct gen_gpu gpu;
    struct err err = {""};
    assert_int_equal(gen_gpu(f->gen, f->home.path, &gpu, &err), -1); /* a folder */
    assert_int_equal(gen_gpu(f->gen, "absent.json", &gpu, &err), -1);
    assert_string_equal(err.msg, "absent.json: cannot be read");
}

static void spaces(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_space s;
    struct err err = {""};
    const struct gen_param p[] = {{"n", "160"}, {"wp", "4"}};
    assert_int_equal(gen_space(f->gen, "axpy", "a6000", p, 1, &s, &err), 0);
    assert_int_equal(s.ntile, 2);
    assert_string_equal(s.tile[0], "wp");
    assert_int_equal(s.nconfigs, 16);
    /* 64 stages of wp rows of 640 bytes: 40 KB at wp = 1, 160 KB at wp = 4. */
    assert_true(s.config[3].value[0] == 1 && s.config[3].value[1] == 64 && s.config[3].broken[0] == 0);
    assert_true(s.config[11].value[0] == 4 && s.config[11].value[1] == 64);
    assert_string_equal(s.config[11].broken, "smem");
    gen_space_free(&s);
    assert_int_equal(gen_space(f->gen, "axpy", "a6000", p, 2, &s, &err), 0);
    assert_int_equal(s.nconfigs, 4);
    gen_space_free(&s);
    assert_int_equal(gen_space(f->gen, "axpy", "a6000", NULL, 0, &s, &err), -1);
    assert_non_null(strstr(err.msg, "needs n"));
}

static void work(void **state)
{
    struct gen_fixture *f = *state;
    struct gen_kernel k;
    struct err err = {""};
    double bytes, flops;
    const struct gen_param p[] = {{"n", "100"}, {"t", "fp16"}}, rows[] = {{"rows", "1000000000"}},
                           wrong[] = {{"rows", "2"}, {"cols", "3"}};
    assert_int_equal(gen_render(f->gen, "axpy", "a100", p, 2, &k, &err), 0);
    assert_int_equal(gen_work(f->gen, &k, rows, 1, &bytes, &flops, &err), 0);
    assert_true(bytes == 3.0 * 1e9 * 400 && flops == 2.0 * 1e9 * 100);
    assert_int_equal(gen_work(f->gen, &k, NULL, 0, &bytes, &flops, &err), -1);
    assert_non_null(strstr(err.msg, "need the size 'rows'"));
    assert_int_equal(gen_work(f->gen, &k, wrong, 2, &bytes, &flops, &err), -1);
    assert_non_null(strstr(err.msg, "no size 'cols'"));
    gen_kernel_free(&k);
}

/* Against figures of the CUDA Occupancy Calculator. */
static void occupancy(void **state)
{
    static const struct {
        const char *gpu;
        unsigned threads, smem;
        int regs, blocks, percent;
        const char *limit;
    } cases[] = {
        {"a100", 256, 0, 32, 8, 100, "threads"},
        {"a100", 256, 0, 128, 2, 25, "registers"},
        {"a100", 128, 0, 255, 2, 12, "registers"},
        {"a100", 128, 0, 168, 3, 18, "registers"},
        {"a100", 32, 0, 16, 32, 50, "blocks"},
        {"a6000", 256, 0, 32, 6, 100, "threads"},
        {"a100", 128, 80 * 1024, 32, 2, 12, "shared memory"},
        {"a6000", 128, 99 * 1024, 32, 1, 8, "shared memory"},
        {"h200", 128, 227 * 1024, 32, 1, 6, "shared memory"},
        {"h200", 1024, 0, 65, 0, 0, "registers"},
    };
    struct gen_fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gen_gpu gpu;
        struct err err = {""};
        struct gen_kernel k = {.threads = cases[i].threads, .smem = cases[i].smem};
        struct cubin c = {.regs = cases[i].regs};
        assert_int_equal(gen_gpu(f->gen, cases[i].gpu, &gpu, &err), 0);
        struct occupancy o = occupancy_of(&gpu, &k, &c);
        if (o.blocks != cases[i].blocks || o.percent != cases[i].percent || strcmp(o.limit, cases[i].limit) != 0)
            fail_msg("case %zu: %d blocks, %d %%, %s", i, o.blocks, o.percent, o.limit);
    }
}

/* What is built in: every declared kernel lists, and every GPU. */
static void lists(void **state)
{
    struct gen *g;
    struct err err = {""};
    char *text, *json;
    assert_int_equal(gen_open(&g, NULL, &err), 0);
    assert_int_equal(gen_list(g, 0, &text, &err), 0);
    assert_int_equal(gen_list(g, 1, &json, &err), 0);
    assert_non_null(strstr(text, "attn_decode: "));
    assert_non_null(strstr(text, "  h200 "));
    assert_ptr_equal(strstr(json, "{\"kernels\":[{\"name\":\""), json);
    free(text);
    free(json);
    gen_close(g);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, gen_fixture_open, gen_fixture_close)
    const struct CMUnitTest tests[] = {
        T(facts_of_the_known),
        T(names_of_devices),
        T(described_gpus),
        T(bad_descriptions),
        T(spaces),
        T(work),
        T(occupancy),
        T(lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
