#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emu/emu.h"
#include "emu/half.h"
#include "emu/text.h"

/* The emulator must be able to fail: errors planted in the emitted text of real kernels, each of which it has to report or to
 * show in the result. */

enum { D = 64, G = 3, KV = 2, H = G * KV, ROWS = 96, SPLITS = 2, STRIDE = ROWS + 1, POSITIONS = 128 };

struct attn_run {
    int row, len, shift, pos;
};
struct attn_step {
    int T, held, nruns, rows;
    struct attn_run run[34];
};

/* What attn_decode writes. */
struct result {
    float logits[H][STRIDE], o[H][SPLITS][D];
    float ml[H][SPLITS][2];
};

struct fixture {
    struct gen *gen;
    struct gen_kernel kernel;
    char *text;
    struct device dev;
    uint16_t q[H][D], k[KV][ROWS][D], v[KV][ROWS][D], k_new[KV][D], v_new[KV][D];
    float rot[POSITIONS][D / 2][2];
    struct attn_step step;
    struct result good;
};

static void fill(uint16_t *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = float_to_bf16((float)(seed >> 8) * 0x1p-23f - 1.0f);
    }
}

static devptr put(struct device *dev, const void *data, size_t bytes)
{
    devptr p;
    struct err err = {""};
    if (dev->alloc(dev, bytes, &p, &err) != 0 || (data && dev->upload(dev, p, data, bytes, &err) != 0))
        fail_msg("%s", err.msg);
    return p;
}

/* One token over runs of ragged length; the last run ends with the cache. */
static int run_decode(struct fixture *f, struct result *r, struct err *err)
{
    struct device *dev = &f->dev;
    struct device_kernel *k = NULL;
    int rows = ROWS, stride = STRIDE, rc = -1;
    if (dev->load(dev, f->text, strlen(f->text), f->kernel.name, f->kernel.smem, &k, err) != 0)
        return -1;
    devptr in[] = {put(dev, f->q, sizeof f->q),         put(dev, f->k, sizeof f->k),
                   put(dev, f->v, sizeof f->v),         put(dev, f->k_new, sizeof f->k_new),
                   put(dev, f->v_new, sizeof f->v_new), put(dev, &f->step, sizeof f->step),
                   put(dev, f->rot, sizeof f->rot)};
    memset(r, 0, sizeof *r);
    devptr logits = put(dev, r->logits, sizeof r->logits), o = put(dev, NULL, sizeof r->o),
           ml = put(dev, NULL, sizeof r->ml);
    void *args[] = {&in[0], &in[1], &in[2], &in[3], &in[4], &in[5], &in[6], &logits, &o, &ml, &rows, &stride};
    struct launch l = {.grid = {SPLITS, KV, 1}, .block = f->kernel.threads, .smem = f->kernel.smem, .args = args};
    if (dev->launch(dev, k, &l, err) == 0 && dev->download(dev, r->logits, logits, sizeof r->logits, err) == 0 &&
        dev->download(dev, r->o, o, sizeof r->o, err) == 0 && dev->download(dev, r->ml, ml, sizeof r->ml, err) == 0)
        rc = 0;
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
        dev->release(dev, in[i]);
    dev->release(dev, logits);
    dev->release(dev, o);
    dev->release(dev, ml);
    dev->unload(dev, k);
    return rc;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct gen_param p[] = {{"d", "64"}, {"g", "3"}, {"t", "bf16"}, {"bn", "16"}, {"wp", "2"}, {"st", "2"}};
    const int lens[] = {5, 16, 1, 33, 20};
    struct err err = {""};
    fill(f->q[0], H * D, 1);
    fill(f->k[0][0], KV * ROWS * D, 2);
    fill(f->v[0][0], KV * ROWS * D, 3);
    fill(f->k_new[0], KV * D, 4);
    fill(f->v_new[0], KV * D, 5);
    for (int i = 0; i < POSITIONS; i++)
        for (int j = 0; j < D / 2; j++) {
            f->rot[i][j][0] = (float)cos(i * pow(1e4, -2.0 * j / D));
            f->rot[i][j][1] = (float)sin(i * pow(1e4, -2.0 * j / D));
        }
    f->step = (struct attn_step){.T = 1, .rows = ROWS, .nruns = 5};
    for (int i = 0, row = 2; i < 5; i++) {
        struct attn_run run = {i == 4 ? ROWS - lens[i] : row, lens[i], i, f->step.held};
        f->step.run[i] = run;
        f->step.held += lens[i];
        row += lens[i] + 3;
    }
    if (gen_open(&f->gen, NULL, &err) != 0 || gen_render(f->gen, "attn_decode", "a100", p, 6, &f->kernel, &err) != 0 ||
        gen_host_text(f->gen, &f->kernel, &f->text, &err) != 0 || device_emu_open(&f->dev, NULL, &err) != 0 ||
        run_decode(f, &f->good, &err) != 0)
        fail_msg("%s", err.msg);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->dev.close(&f->dev);
    free(f->text);
    gen_kernel_free(&f->kernel);
    gen_close(f->gen);
    free(f);
    return 0;
}

/* Whether results differ by more than another order of sums could explain. NaN differs from all. */
static bool differs(const struct result *a, const struct result *b)
{
    const float *x = (const float *)a, *y = (const float *)b;
    for (size_t i = 0; i < sizeof *a / sizeof *x; i++)
        if (!(fabsf(x[i] - y[i]) <= 1e-4f * (1.0f + fabsf(y[i]))))
            return true;
    return false;
}

/* Each as the text stands, and what is put in its place. */
static const struct plant {
    const char *what, *from;
    int nth;
    const char *to;
    const char *word; /* that the report has; NULL: it may also be the result that is wrong */
} plants[] = {
    {"the barrier before the tiles of a split are counted", "sync_block();", 0, "", "of shared memory"},
    {"the barrier behind that count", "sync_block();", 1, "", NULL},
    {"the barrier before the queries are read", "sync_block();", 2, "", NULL},
    {"the barrier before the tiles' place is used again", "cp_async_wait(0);\n    sync_block();", 0,
     "cp_async_wait(0);", "of shared memory"},
    {"the barrier before the warps' parts are added", "sync_block();", 4, "", NULL},
    {"a barrier that only one warp comes to", "cp_async_wait(0);\n    sync_block();", 0,
     "cp_async_wait(0);\n    sync_block();\n    if (w == 0) sync_block();", "sync_block"},
    {"a thread that leaves early", "sync_block();", 0, "if (tid() == 5) return; sync_block();", "exited"},
    {"no wait for the copies", "cp_async_wait(0);\n        sync_warp();", 0, "sync_warp();", "cp.async"},
    {"a wait for one group too few", "cp_async_wait(0);\n        sync_warp();", 0, "cp_async_wait(1); sync_warp();",
     "cp.async"},
    {"no sync_warp behind the wait", "cp_async_wait(0);\n        sync_warp();", 0, "cp_async_wait(0);", "race"},
    {"an edge of the loaded tile off by one", "k + from, key < n);", 0, "k + key * 64 + at, key <= n);",
     "device memory"},
    {"an edge of the masked tile off by one", "key < n ? *x", 0, "key <= n ? *x", NULL},
    {"keys with the padding of another head dimension", "lane() % 8) * 72", 0, "lane() % 8) * 80", NULL},
    {"the halves of a key fragment exchanged", "lane() / 8 % 2 * 8", 0, "(lane() / 8 + 1) % 2 * 8", NULL},
    {"values that are not transposed", "ldmatrix_x4_trans", 0, "ldmatrix_x4", NULL},
    {"one step of a row's sum left out", "l[h] += shfl_xor_f(l[h], 2);", 0, "", NULL},
    {"a collective that half of the lanes skip", "top[h] = max_f(top[h], shfl_xor_f(top[h], 2));", 0,
     "if (c < 2) top[h] = max_f(top[h], shfl_xor_f(top[h], 2));", "divergent"},
    {"a stage more than there is room for", "ahead_stage == 1 ? 0", 1, "ahead_stage == 2 ? 0", NULL},
    {"the running maximum not kept", "m[h] = top[h];", 0, "", NULL},
    {"a store to every row, not only to real heads", "if (key < n && r + 8 * h < 3)", 0, "if (key < n)", NULL},
};

static void test_plants(void **state)
{
    struct fixture *f = *state;
    struct result r;
    for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++) {
        const struct plant *p = &plants[i];
        uint64_t before = emu_get_stats(&f->dev).planted;
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            struct err err = {""};
            emu_plant(&f->dev, p->from, p->nth, p->to);
            emu_set_schedule(&f->dev, s, 1);
            int rc = run_decode(f, &r, &err);
            if (emu_get_stats(&f->dev).planted == before)
                fail_msg("'%s' is not in the kernel any more; plant the error elsewhere", p->from);
            if (rc == 0 && (p->word || !differs(&r, &f->good)))
                fail_msg("not found in schedule %d: %s", s, p->what);
            if (rc != 0 && p->word && !strstr(err.msg, p->word))
                fail_msg("%s: '%s' is not in: %s", p->what, p->word, err.msg);
        }
    }
    emu_plant(&f->dev, NULL, 0, NULL);
}

static void test_without_plants(void **state)
{
    struct fixture *f = *state;
    struct result r;
    for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++)
        for (uint64_t seed = 1; seed <= (s == EMU_RANDOM ? 10 : 1); seed++) {
            struct err err = {""};
            emu_set_schedule(&f->dev, s, seed);
            if (run_decode(f, &r, &err) != 0)
                fail_msg("%s", err.msg);
            assert_memory_equal(&r, &f->good, sizeof r);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_without_plants, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plants, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
