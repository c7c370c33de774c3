/* Saved streams of the CUDA backend, on the device `emu`: they go on bit for bit there, and those of the CPU can be taken over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu/emu.h"
#include "runtime/backend_cuda.h"
#include "runtime/llama.h"
#include "runtime/stream_file.h"
#include "scratch.h"

enum { READ = 90, MORE = 9 };

static struct cascade_params cascade(enum cascade_policy policy)
{
    struct cascade_params p = cascade_defaults();
    p.sinks = 4, p.subcaches = 3, p.window = 48, p.span = 4, p.stride = 24;
    p.policy = policy;
    return p;
}

static void open_model(struct model *m, struct bytes *file)
{
    struct tiny_model t = tiny_model_defaults();
    t.heads = 2, t.kv_heads = 2, t.head_dim = 64;
    t.type = t.embed_type = QUANT_BF16;
    tiny_model_open(&t, m, file);
}

static void open_emu(struct backend *be, const struct model *m, const struct cascade_params *p)
{
    struct device dev;
    struct err err = {""};
    if (device_emu_open(&dev, &(struct emu_options){.only_faults = true, .sm = 90}, &err) != 0 ||
        backend_cuda_open_on(be, &dev, m, p, &(struct backend_options){.threads = 1}, &err) != 0)
        fail_msg("%s", err.msg);
}

static void feed(struct backend *be, const struct model *m, const struct cascade_params *p, int from, int n, bool one)
{
    struct cascade_params steps = *p;
    struct err err = {""};
    int32_t tokens[READ + MORE];
    for (int i = 0; i < READ + MORE; i++)
        tokens[i] = (i * 37 + i * i) % m->shape.vocab;
    steps.stride = one ? 1 : p->stride;
    if (llama_feed(be, m, &steps, tokens + from, (size_t)n, NULL, NULL, &err) != 0)
        fail_msg("%s", err.msg);
}

static void save(struct backend *be, const struct model *m, const struct cascade_params *p, const char *path)
{
    struct err err = {""};
    struct stream_head h = {.layers = m->shape.layers,
                            .kv_heads = m->shape.kv_heads,
                            .head_dim = m->shape.head_dim,
                            .vocab = m->shape.vocab,
                            .cache_type = be->cache_type,
                            .cascade = *p,
                            .seen = be->seen(be),
                            .sampler.p = sampler_defaults()};
    if (stream_file_write(path, &h, be, &err) != 0)
        fail_msg("%s", err.msg);
}

static void load(struct backend *be, const char *path)
{
    struct err err = {""};
    struct stream_file f;
    if (stream_file_open(&f, path, &err) != 0 || stream_file_load(&f, be, &err) != 0)
        fail_msg("%s", err.msg);
    stream_file_close(&f);
}

static void a_stream_goes_on(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct cascade_params p = cascade(i ? POLICY_HOMOGENEOUS : POLICY_INDEPENDENT);
        struct model m;
        struct bytes file;
        struct backend one, two;
        open_model(&m, &file);
        open_emu(&one, &m, &p);
        open_emu(&two, &m, &p);
        feed(&one, &m, &p, 0, READ, false);
        save(&one, &m, &p, in_scratch("saved").text);
        feed(&two, &m, &p, 0, 30, false); /* what was there before is gone */
        load(&two, in_scratch("saved").text);
        assert_int_equal(two.seen(&two), READ);
        feed(&one, &m, &p, READ, MORE, true);
        feed(&two, &m, &p, READ, MORE, true);
        save(&one, &m, &p, in_scratch("one").text);
        save(&two, &m, &p, in_scratch("two").text);
        same_files(in_scratch("one").text, in_scratch("two").text, "saved twice");
        one.close(&one);
        two.close(&two);
        model_close(&m);
        free(file.data);
    }
}

/* Loads the same file into both; the cache must agree to the rounding of its type, with keys turned alike. */
static void the_cpu_s_streams_are_taken_over(void **state)
{
    (void)state;
    struct cascade_params p = cascade(POLICY_INDEPENDENT);
    struct model m;
    struct bytes file;
    struct backend cpu, emu;
    struct err err = {""};
    open_model(&m, &file);
    assert_int_equal(backend_cpu_open(&cpu, &m, &p, &(struct backend_options){.threads = 1}, &err), 0);
    open_emu(&emu, &m, &p);
    feed(&cpu, &m, &p, 0, READ, false);
    save(&cpu, &m, &p, in_scratch("cpu").text);
    load(&emu, in_scratch("cpu").text);
    float a[288], b[288];
    feed(&cpu, &m, &p, READ, 1, true);
    feed(&emu, &m, &p, READ, 1, true);
    assert_int_equal(cpu.logits(&cpu, 0, 1, a, &err), 0);
    assert_int_equal(emu.logits(&emu, 0, 1, b, &err), 0);
    double most = 0, off = 0;
    for (int i = 0; i < 288; i++) {
        most = fmax(most, fabs((double)a[i]));
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    }
    if (!(off < 0.05 * most)) /* bf16 activations and cache */
        fail_msg("logits are %g off, the largest is %g", off, most);
    int64_t x[64], y[64];
    assert_true(cascade_rows(&p) <= 64);
    assert_int_equal(cpu.origins(&cpu, 1, 1, x, &err), 0);
    assert_int_equal(emu.origins(&emu, 1, 1, y, &err), 0);
    struct cascade_state s;
    struct cascade_run run[CASCADE_MAX_RUNS];
    cascade_state_at(&p, READ + 1, &s);
    int runs = cascade_runs(&p, &s, run);
    for (int i = 0; i < runs; i++)
        assert_memory_equal(x + run[i].row, y + run[i].row, (size_t)run[i].len * sizeof *x);
    cpu.close(&cpu);
    emu.close(&emu);
    model_close(&m);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_goes_on),
        cmocka_unit_test(the_cpu_s_streams_are_taken_over),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
