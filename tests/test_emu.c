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

/* The emulator itself, with kernels written by hand: what the collectives compute, and that each kind of mistake is named. */

struct fixture {
    struct gen *gen;
    struct device dev;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct emu_options o = {.seconds = 0.3};
    struct err err = {""};
    if (gen_open(&f->gen, NULL, &err) != 0 || device_emu_open(&f->dev, &o, &err) != 0)
        fail_msg("%s", err.msg);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->dev.close(&f->dev);
    gen_close(f->gen);
    free(f);
    return 0;
}

static struct device_kernel *load(struct fixture *f, const char *type, const char *symbol, const char *body)
{
    struct device_kernel *k;
    struct err err = {""};
    char *text = emu_text_around(f->gen, type, body);
    if (f->dev.load(&f->dev, text, strlen(text), symbol, 96 * 1024, &k, &err) != 0)
        fail_msg("%s", err.msg);
    free(text);
    return k;
}

static devptr put(struct device *dev, const void *data, size_t bytes)
{
    devptr p;
    struct err err = {""};
    if (dev->alloc(dev, bytes, &p, &err) != 0 || (data && dev->upload(dev, p, data, bytes, &err) != 0))
        fail_msg("%s", err.msg);
    return p;
}

static void get(struct device *dev, void *out, devptr p, size_t bytes)
{
    struct err err = {""};
    if (dev->download(dev, out, p, bytes, &err) != 0)
        fail_msg("%s", err.msg);
}

static void must_launch(struct device *dev, struct device_kernel *k, unsigned grid, unsigned threads, unsigned smem,
                        void **args)
{
    struct launch l = {{grid, 1, 1}, threads, smem, args, false};
    struct err err = {""};
    if (dev->launch(dev, k, &l, &err) != 0)
        fail_msg("%s", err.msg);
}

/* --- conversions ----------------------------------------------------------------------------------------------------- */

static void test_half_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        bool nan16 = (h & 0x7fff) > 0x7c00, nanbf = (h & 0x7fff) > 0x7f80;
        if (!nan16)
            assert_int_equal(float_to_fp16(fp16_to_float((uint16_t)h)), h);
        if (!nanbf)
            assert_int_equal(float_to_bf16(bf16_to_float((uint16_t)h)), h);
        if ((h & 0x7fff) >= 0x7bff)
            continue;
        /* Halfway to the next one: to the even of both; a little to either side: to the nearer. */
        float a = fp16_to_float((uint16_t)h), b = fp16_to_float((uint16_t)(h + 1)), middle = (a + b) / 2;
        uint32_t bits = float_to_bits(middle);
        assert_int_equal(float_to_fp16(middle), h % 2 ? h + 1 : h);
        assert_int_equal(float_to_fp16(bits_to_float(bits - 1)), h);
        assert_int_equal(float_to_fp16(bits_to_float(bits + 1)), h + 1);
    }
    assert_int_equal(float_to_fp16(65519.0f), 0x7bff);
    assert_int_equal(float_to_fp16(65520.0f), 0x7c00);
    assert_int_equal(float_to_fp16(1e-9f), 0);
    assert_true(fp16_to_float(float_to_fp16(bits_to_float(0x7fc00000))) != 0);
    assert_int_equal(float_to_bf16(bits_to_float(0x3f808000)), 0x3f80);
    assert_int_equal(float_to_bf16(bits_to_float(0x3f818000)), 0x3f82);
    assert_int_equal(float_to_bf16(bits_to_float(0x3f808001)), 0x3f81);
}

/* --- collectives ------------------------------------------------------------------------------------------------------- */

static const char collectives[] =
    "KERNEL(collectives, 64, 1)(unsigned *out)\n"
    "{\n"
    "    unsigned *mine = out + tid() * 10, v = 1000u + (unsigned)tid();\n"
    "    mine[0] = shfl_u(v, 5);\n"
    "    mine[1] = shfl_xor_u(v, 3);\n"
    "    mine[2] = shfl_up_u(v, 2);\n"
    "    mine[3] = shfl_down_u(v, 4);\n"
    "    mine[4] = ballot(lane() % 3 == 0);\n"
    "    mine[5] = any_warp(lane() == 7) + 2u * any_warp(false) + 4u * all_warp(true) + 8u * all_warp(lane() != 7);\n"
    "    mine[6] = (unsigned)shfl_xor_f((float)tid() * 0.5f, 1);\n"
    "    mine[7] = (unsigned)(warp() * 100 + lane());\n"
    "    mine[8] = pack2(1.0f, -2.0f);\n"
    "    mine[9] = (unsigned)(unpack2(pack2(3.0f, 4.0f)).y * max_f(NEG_INF, 2.0f) * exp2_f(3.0f) * log2_f(8.0f));\n"
    "}\n";

static void test_collectives(void **state)
{
    struct fixture *f = *state;
    unsigned out[64][10];
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct device_kernel *k = load(f, bf16 ? "bf16" : "fp16", "collectives", collectives);
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            devptr p = put(&f->dev, NULL, sizeof out);
            emu_set_schedule(&f->dev, s, 1);
            must_launch(&f->dev, k, 1, 64, 0, (void *[]){&p});
            get(&f->dev, out, p, sizeof out);
            f->dev.release(&f->dev, p);
            for (unsigned t = 0; t < 64; t++) {
                unsigned lane = t % 32, base = 1000 + t - lane;
                assert_int_equal(out[t][0], base + 5);
                assert_int_equal(out[t][1], base + (lane ^ 3));
                assert_int_equal(out[t][2], base + (lane >= 2 ? lane - 2 : lane));
                assert_int_equal(out[t][3], base + (lane < 28 ? lane + 4 : lane));
                assert_int_equal(out[t][4], 0x49249249);
                assert_int_equal(out[t][5], 5);
                assert_int_equal(out[t][6], (t ^ 1) / 2);
                assert_int_equal(out[t][7], t / 32 * 100 + lane);
                assert_int_equal(out[t][8], bf16 ? 0xc0003f80 : 0xc0003c00);
                assert_int_equal(out[t][9], 4 * 2 * 8 * 3);
            }
        }
        f->dev.unload(&f->dev, k);
    }
}

/* c = a b^T + c0 of small integers, a and b^T through ldmatrix, b once more through ldmatrix_trans. */
static const char product[] =
    "KERNEL(product, 32, 1)(const half_t *a, const half_t *bt, const half_t *b, float *c)\n"
    "{\n"
    "    half_t *s = (half_t *)smem(); /* a [16][16], then b^T [8][16], then b [16][8] */\n"
    "    cp_async16(s + lane() * 8, a + lane() * 8);\n"
    "    cp_async_commit();\n"
    "    cp_async16_zfill(s + 256 + lane() * 8, lane() < 16 ? bt + lane() * 8 : b + (lane() - 16) * 8, true);\n"
    "    cp_async_commit();\n"
    "    cp_async_wait(0);\n"
    "    sync_warp();\n"
    "    unsigned fa[4], fb[2], fb2[2];\n"
    "    ldmatrix_x4(fa, s + lane() % 16 * 16 + lane() / 16 * 8);\n"
    "    ldmatrix_x2(fb, s + 256 + lane() % 8 * 16 + lane() / 8 % 2 * 8);\n"
    "    ldmatrix_x2_trans(fb2, s + 384 + lane() % 16 * 8);\n"
    "    for (int way = 0; way < 2; way++) {\n"
    "        float acc[4] = {0.5f, 0.5f, 0.5f, 0.5f};\n"
    "        mma_m16n8k16(acc, fa, way ? fb2 : fb);\n"
    "        for (int i = 0; i < 4; i++)\n"
    "            c[way * 128 + (lane() / 4 + i / 2 * 8) * 8 + lane() % 4 * 2 + i % 2] = acc[i];\n"
    "    }\n"
    "}\n";

static void test_product(void **state)
{
    struct fixture *f = *state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct device_kernel *k = load(f, bf16 ? "bf16" : "fp16", "product", product);
        uint16_t a[16][16], bt[8][16], b[16][8];
        float c[2][16][8];
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++) {
                float x = (float)(i * 3 - j * j % 7), y = (float)(i * j % 11 - 4);
                a[i][j] = bf16 ? float_to_bf16(x) : float_to_fp16(x);
                if (j < 8)
                    b[i][j] = bt[j][i] = bf16 ? float_to_bf16(y) : float_to_fp16(y);
            }
        devptr pa = put(&f->dev, a, sizeof a), pbt = put(&f->dev, bt, sizeof bt), pb = put(&f->dev, b, sizeof b);
        devptr pc = put(&f->dev, NULL, sizeof c);
        must_launch(&f->dev, k, 1, 32, 1024, (void *[]){&pa, &pbt, &pb, &pc});
        get(&f->dev, c, pc, sizeof c);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                float sum = 0.5f;
                for (int n = 0; n < 16; n++)
                    sum += (float)(i * 3 - n * n % 7) * (float)(n * j % 11 - 4);
                assert_true(c[0][i][j] == sum && c[1][i][j] == sum);
            }
        f->dev.unload(&f->dev, k);
    }
}

/* Blocks turn 64 numbers round through shared memory; two halves of the block meet at barriers of their own on the way. */
static const char barriers[] =
    "KERNEL(barriers, 128, 1)(const unsigned *in, unsigned *out, unsigned *count, int last)\n"
    "{\n"
    "    unsigned *s = (unsigned *)smem();\n"
    "    int half = tid() / 64, i = tid() % 64;\n"
    "    s[half * 64 + i] = in[bid_x() * 128 + tid()];\n"
    "    sync_named(1 + half, 64);\n"
    "    unsigned v = s[half * 64 + 63 - i];\n"
    "    sync_block();\n"
    "    s[tid()] = v;\n"
    "    sync_block();\n"
    "    out[bid_x() * 128 + tid()] = s[127 - tid()];\n"
    "    fence_device();\n"
    "    sync_block();\n"
    "    if (tid() == 0)\n"
    "        s[0] = atomic_add_u(count, 1);\n"
    "    sync_block();\n"
    "    if (s[0] != (unsigned)nbid_x() - 1)\n"
    "        return;\n"
    "    fence_device();\n"
    "    if (tid() == 0)\n"
    "        out[last] = out[0] + out[(nbid_x() - 1) * 128];\n"
    "}\n";

static void check_barriers(struct device *dev, struct device_kernel *k)
{
    unsigned in[5 * 128], out[5 * 128 + 1], zero = 0;
    for (unsigned i = 0; i < 5 * 128; i++)
        in[i] = i * i;
    devptr pin = put(dev, in, sizeof in), pout = put(dev, NULL, sizeof out), count = put(dev, &zero, sizeof zero);
    int last = 5 * 128;
    must_launch(dev, k, 5, 128, 512, (void *[]){&pin, &pout, &count, &last});
    get(dev, out, pout, sizeof out);
    for (unsigned i = 0; i < 5 * 128; i++)
        assert_int_equal(out[i], in[i / 128 * 128 + (i + 64) % 128]);
    assert_int_equal(out[last], out[0] + out[4 * 128]);
    dev->release(dev, pin);
    dev->release(dev, pout);
    dev->release(dev, count);
}

static void test_barriers(void **state)
{
    struct fixture *f = *state;
    struct device_kernel *k = load(f, "bf16", "barriers", barriers);
    for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++)
        for (uint64_t seed = 0; seed < (s == EMU_RANDOM ? 20 : 1); seed++) {
            emu_set_schedule(&f->dev, s, seed);
            check_barriers(&f->dev, k);
        }
    f->dev.unload(&f->dev, k);
}

static void test_ucontext(void **state)
{
    struct fixture *f = *state;
    struct fixture g = {.gen = f->gen};
    struct emu_options o = {.ucontext = true};
    struct err err = {""};
    assert_int_equal(device_emu_open(&g.dev, &o, &err), 0);
    struct device_kernel *k = load(&g, "bf16", "barriers", barriers);
    check_barriers(&g.dev, k);
    g.dev.unload(&g.dev, k);
    g.dev.close(&g.dev);
}

/* --- mistakes ------------------------------------------------------------------------------------------------------------ */

/* in [64] is written, out [64] is not; shared memory has 512 bytes, 64 threads. */
static const char mistakes[] =
    "DEVICE unsigned *s_u(void) { return (unsigned *)smem(); }\n"
    "KERNEL(mistakes, 64, 1)(int which, const unsigned *in, unsigned *out, int zero)\n"
    "{\n"
    "    unsigned *s = s_u();\n"
    "    int local[4] = {0, 1, 2, 3};\n"
    "    switch (which) {\n"
    "    case 0: if (tid() < 40) sync_block(); break;\n"
    "    case 1: if (tid() < 32) sync_block(); break;\n"
    "    case 2: if (lane() < 16) out[0] = shfl_u(1, 0); else out[1] = ballot(true); break;\n"
    "    case 3: if (tid() == 3) return; out[tid()] = shfl_u(1, 0); break;\n"
    "    case 4: if (warp() == 0) sync_named(1, 64); else sync_block(); break;\n"
    "    case 5: sync_named(2, 96); break;\n"
    "    case 6: s[tid() + 65] = 1; break;\n"
    "    case 7: s[tid() - 1] = 1; break;\n"
    "    case 8: s[tid()] = 1; out[tid()] = s[tid() ^ 32]; break;\n"
    "    case 9: s[tid()] = 1; out[tid()] = s[tid() ^ 1]; break;\n"
    "    case 35: s[tid()] = 0; sync_block(); s[tid()] = 1; out[tid()] = s[tid() ^ 1]; break;\n"
    "    case 36: s[tid()] = 0; sync_block(); if (warp() == 0) out[tid()] = s[tid() + 32]; else s[tid()] = 1; break;\n"
    "    case 10: s[0] = (unsigned)tid(); break;\n"
    "    case 11: out[tid() + 1] = 1; break;\n"
    "    case 12: out[tid()] = in[tid() + 1]; break;\n"
    "    case 13: out[tid() + 8] = out[1] + 1; break;\n"
    "    case 14: out[tid()] = s[tid()]; break;\n"
    "    case 15: if (tid() == 0) out[0] = 1; break;\n"
    "    case 16: if (tid() == 0) { cp_async16(s, in); cp_async_commit(); out[0] = s[0]; } break;\n"
    "    case 17: if (tid() == 0) { cp_async16(s, in); cp_async_commit(); cp_async_wait(1); out[0] = s[0]; } break;\n"
    "    case 18: if (tid() == 0) { cp_async16(s, in); cp_async_commit(); cp_async_wait(0); } sync_warp(); out[tid()] "
    "= s[0]; break;\n"
    "    case 19: if (tid() == 0) { out[0] = ld16((const unsigned char *)in + 8).x; } break;\n"
    "    case 20: if (tid() == 0) { out[0] = lds16(in).x; } break;\n"
    "    case 21: *(unsigned *)((unsigned char *)s + 2) = 1; break;\n"
    "    case 22: *(volatile unsigned *)(i64)(zero + 64) = 1; break;\n"
    "    case 23: out[tid()] = in[0] / (unsigned)zero; break;\n"
    "    case 24: out[tid()] = (unsigned)local[tid() + zero]; break;\n"
    "    case 25: out[tid()] = 1u << (tid() + 1); break;\n"
    "    case 26: while (!zero) in = (const unsigned *)((i64)in ^ 64); out[tid()] = in[0]; break;\n"
    "    case 27: s[tid()] = 0; while (!zero) *(volatile unsigned *)(s + tid()) += 1; break;\n"
    "    case 28: while (!zero) sync_block(); break;\n"
    "    case 29: if (warp() == 0) sync_named(1, 64); else sync_named(1, 32); break;\n"
    "    case 30: if (warp() == 0) { sync_block(); } else { out[0] = 1; sync_block(); } break;\n"
    "    case 31: out[tid()] = in[tid()]; sync_block(); ((unsigned *)in)[tid() ^ 32] = out[tid() ^ 33]; out[tid() ^ 1] "
    "= 0; break;\n"
    "    case 32: { unsigned r[4]; s[tid()] = 0; sync_warp(); ldmatrix_x4(r, s + 4 * lane()); out[tid()] = r[0]; } "
    "break;\n"
    "    case 33: { unsigned r[4]; ldmatrix_x4(r, in); out[tid()] = r[0]; } break;\n"
    "    case 34: if (tid() < 8) cp_async16(s, in); break;\n"
    "    }\n"
    "}\n";

static const struct {
    int which;
    unsigned grid;
    const char *words[4];
} expected[] = {
    {0, 1, {"kernel mistakes, block (0,0,0), thread 32 (warp 1, lane 0)", "sync_block", "lane 8", "exited"}},
    {1, 1, {"thread 0", "sync_block", "warp 1 has exited"}},
    {2, 1, {"divergent", "waits in shfl", "lane 16", "ballot"}},
    {3, 1, {"thread 0 (warp 0, lane 0)", "shfl", "lane 3", "exited"}},
    {4, 1, {"divergent", "sync_named", "warp 1", "sync_block"}},
    {5, 1, {"sync_named", "96 threads, more than come"}},
    {6, 1, {"thread 63", "writes 4 bytes at byte 512 of shared memory, which has 512", "s[tid() + 65]"}},
    {7, 1, {"thread 0", "writes 4 bytes at byte -4 of shared memory", "s[tid() - 1]"}},
    {8, 1, {"thread 0", "reads byte 128 of shared memory, which nobody has written"}},
    {9, 1, {"reads byte 4 of shared memory, which nobody has written"}},
    {10, 1, {"thread 1", "race: writes byte 0 of shared memory, which thread 0 writes"}},
    {11, 1, {"thread 63", "writes 4 bytes at byte 256 of device memory, an allocation of 256", "out[tid() + 1]"}},
    {12, 1, {"thread 63", "reads 4 bytes at byte 256 of device memory"}},
    {13, 1, {"reads byte 4 of device memory", "nobody has written"}},
    {14, 1, {"reads byte 0 of shared memory", "nobody has written"}},
    {15, 2, {"race: writes byte 0 of device memory", "another block of this launch writes"}},
    {16, 1, {"cp.async", "has not waited"}},
    {17, 1, {"cp.async", "has not waited"}},
    {18, 1, {"thread 32", "race: reads", "thread 0 writes"}},
    {19, 1, {"reads 16 bytes", "not a multiple of 16"}},
    {20, 1, {"as shared memory, which it is not"}},
    {21, 1, {"writes 4 bytes", "not a multiple of 4"}},
    {22, 1, {"writes 4 bytes at 0x40", "no address of the device"}},
    {23, 1, {"division by zero"}},
    {24, 1, {"thread 4", "array index out of bounds", "local[tid() + zero]"}},
    {25, 1, {"thread 31", "shift by more than the width"}},
    {26, 1, {"a loop without an end"}},
    {27, 1, {"does not end within 0.3 s", "(s + tid()) += 1"}},
    {28, 1, {"does not end within 0.3 s"}},
    {29, 1, {"barrier 1 for 32 threads", "64"}},
    {31, 1, {"race", "device memory", "no barrier between them"}},
    {32, 1, {"reads byte 128 of shared memory", "ldmatrix_x4"}},
    {33, 1, {"not in shared memory"}},
    {35, 1, {"thread 1 (warp 0, lane 1)", "race: writes byte 4 of shared memory, which thread 0 reads"}},
    {36, 1, {"thread 32", "race: writes byte 128 of shared memory, which thread 0 reads with no barrier"}},
    {34, 1, {"thread 1", "cp.async to it is under way"}},
};

/* The loops without an end take their time, so they run in one schedule only. */
static void test_mistakes(void **state)
{
    struct fixture *f = *state;
    struct device_kernel *k = load(f, "bf16", "mistakes", mistakes);
    unsigned in[64] = {0};
    devptr pin = put(&f->dev, in, sizeof in);
    int zero = 0;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            bool endless = expected[i].which >= 26 && expected[i].which <= 28;
            int which = expected[i].which;
            devptr out = put(&f->dev, NULL, 256);
            struct launch l = {{expected[i].grid, 1, 1}, 64, 512, (void *[]){&which, &pin, &out, &zero}, false};
            struct err err = {""};
            if (endless && s != EMU_FORWARD)
                continue;
            emu_set_schedule(&f->dev, s, 7);
            if (f->dev.launch(&f->dev, k, &l, &err) == 0)
                fail_msg("mistake %d was not found in schedule %d", which, s);
            for (int w = 0; s == EMU_FORWARD && w < 4 && expected[i].words[w]; w++)
                if (!strstr(err.msg, expected[i].words[w]))
                    fail_msg("mistake %d: '%s' is not in: %s", which, expected[i].words[w], err.msg);
            f->dev.release(&f->dev, out);
        }
    /* After all of that the device still works. */
    int none = -1;
    devptr out = put(&f->dev, NULL, 256);
    must_launch(&f->dev, k, 3, 64, 512, (void *[]){&none, &pin, &out, &zero});
    f->dev.unload(&f->dev, k);
}

/* Blocks write, meet at a counter, and the last of them reads what all wrote. */
static const char meeting[] = "KERNEL(meeting, 64, 1)(int which, unsigned *out, unsigned *count)\n"
                              "{\n"
                              "    unsigned *s = (unsigned *)smem(), sum = 0;\n"
                              "    out[(1 + bid_x()) * 64 + tid()] = 1;\n"
                              "    if (which == 1) fence_device();\n"
                              "    if (which != 3) sync_block();\n"
                              "    if (tid() == 0) {\n"
                              "        if (which != 1 && which != 2 && which != 4) fence_device();\n"
                              "        s[0] = which == 2 ? atomic_meet_u(count, 1) : atomic_add_u(count, 1);\n"
                              "        if (which != 1 && which != 2 && which != 5) fence_device();\n"
                              "    }\n"
                              "    sync_block();\n"
                              "    if (s[0] != (unsigned)nbid_x() - 1)\n"
                              "        return;\n"
                              "    if (which == 1) fence_device();\n"
                              "    for (int i = 1; i <= nbid_x(); i++)\n"
                              "        sum += out[i * 64 + (tid() ^ 33)];\n"
                              "    out[tid()] = sum;\n"
                              "}\n";

/* Right are fences of the thread that counts, fences of all threads on the far sides of the barriers, and an atomic that has its own
 * fences; wrong no barrier before it, and no fence before or behind it. */
static void test_blocks_meet(void **state)
{
    struct fixture *f = *state;
    struct device_kernel *k = load(f, "bf16", "meeting", meeting);
    unsigned zero = 0, out[64];
    for (int which = 0; which < 6; which++)
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            devptr pout = put(&f->dev, NULL, 4 * sizeof out), count = put(&f->dev, &zero, sizeof zero);
            struct launch l = {{3, 1, 1}, 64, 512, (void *[]){&which, &pout, &count}, false};
            struct err err = {""};
            emu_set_schedule(&f->dev, s, 7);
            int rc = f->dev.launch(&f->dev, k, &l, &err);
            if (which < 3 ? rc != 0 : rc == 0 || !strstr(err.msg, "which another block of this launch writes"))
                fail_msg("way %d in schedule %d: %s", which, s, rc ? err.msg : "no race was found");
            if (rc == 0) {
                get(&f->dev, out, pout, sizeof out);
                for (int i = 0; i < 64; i++)
                    assert_int_equal(out[i], 3);
            }
            f->dev.release(&f->dev, pout);
            f->dev.release(&f->dev, count);
        }
    f->dev.unload(&f->dev, k);
}

static void test_host_side(void **state)
{
    struct fixture *f = *state;
    struct device *dev = &f->dev;
    struct device_kernel *k = load(f, "bf16", "mistakes", mistakes), *none;
    char bytes[64] = {0};
    struct err err = {""};
    devptr p = put(dev, bytes, sizeof bytes);
    assert_int_equal(dev->upload(dev, p + 60, bytes, 8, &err), -1);
    assert_non_null(strstr(err.msg, "offset 60 of an allocation of 64"));
    assert_int_equal(dev->download(dev, bytes, p, 65, &err), -1);
    dev->release(dev, p);
    assert_int_equal(dev->fill(dev, p, 0, 4, &err), -1);
    assert_non_null(strstr(err.msg, "released"));
    assert_int_equal(dev->load(dev, "int x;", 6, "absent", 0, &none, &err), -1);
    assert_non_null(strstr(err.msg, "KERNEL(absent"));
    assert_int_equal(dev->load(dev, "int x;", 6, "big", 1 << 20, &none, &err), -1);
    assert_non_null(strstr(err.msg, "shared memory"));
    char *broken = emu_text_around(f->gen, "bf16", "KERNEL(broken, 32, 1)(int *p) { *p = nonsense; }\n");
    assert_int_equal(dev->load(dev, broken, strlen(broken), "broken", 0, &none, &err), -1);
    assert_non_null(strstr(err.msg, "kernel:1"));
    assert_non_null(strstr(err.msg, "nonsense"));
    free(broken);
    int which = -1;
    struct launch l = {{1, 1, 1}, 65, 0, (void *[]){&which, &p, &p, &which}, false};
    assert_int_equal(dev->launch(dev, k, &l, &err), -1);
    assert_non_null(strstr(err.msg, "65 threads"));
    l.block = 64;
    l.smem = 97 * 1024;
    assert_int_equal(dev->launch(dev, k, &l, &err), -1);
    l.smem = 0;
    l.grid[1] = 0;
    assert_int_equal(dev->launch(dev, k, &l, &err), -1);
    dev->unload(dev, k);
}

/* --- the vocabulary ---------------------------------------------------------------------------------------------------- */

static bool word_char(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Every word that the CUDA prelude defines, the host's has too. */
static void test_same_words(void **state)
{
    struct fixture *f = *state;
    struct gen_param p[] = {{"d", "64"}, {"g", "1"}};
    struct gen_kernel k;
    struct err err = {""};
    char *host;
    int words = 0;
    if (gen_render(f->gen, "attn_decode", "h200", p, 2, &k, &err) != 0 || gen_host_text(f->gen, &k, &host, &err) != 0)
        fail_msg("%s", err.msg);
    *strstr(host, "/* ---- end of prelude") = 0;
    *strstr(k.source, "/* ---- end of prelude") = 0;
    for (char *line = strtok(k.source, "\n"); line; line = strtok(NULL, "\n")) {
        char *end, *start, word[64], as_macro[80], as_function[80];
        if (strncmp(line, "DEVICE ", 7) == 0 && (end = strchr(line, '('))) {
            for (start = end; word_char(start[-1]); start--)
                ;
        } else if (strncmp(line, "#define ", 8) == 0) {
            for (start = end = line + 8; word_char(*end); end++)
                ;
        } else {
            continue;
        }
        snprintf(word, sizeof word, "%.*s", (int)(end - start), start);
        snprintf(as_macro, sizeof as_macro, "#define %s%s", word, *end == '(' ? "(" : "");
        snprintf(as_function, sizeof as_function, " %s(", word);
        const char *at = strstr(host, as_function);
        if (!strstr(host, as_macro) && !at)
            fail_msg("'%s' of prelude_cuda.cu.t is missing in prelude_host.cu.t", word);
        words++;
    }
    assert_true(words > 60);
    free(host);
    gen_kernel_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_round_trip),
        cmocka_unit_test_setup_teardown(test_collectives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_product, setup, teardown),
        cmocka_unit_test_setup_teardown(test_barriers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ucontext, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocks_meet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_words, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
