#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emu/text.h"
#include "emu_fixture.h"

/* That the emulator names each kind of mistake, of a kernel written by hand and of whoever calls the device. */

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
    struct emu_fixture *f = *state;
    struct device_kernel *k = emu_load(f, "bf16", "mistakes", mistakes);
    unsigned in[64] = {0};
    devptr pin = emu_put(&f->dev, in, sizeof in);
    int zero = 0;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            bool endless = expected[i].which >= 26 && expected[i].which <= 28;
            int which = expected[i].which;
            devptr out = emu_put(&f->dev, NULL, 256);
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
    devptr out = emu_put(&f->dev, NULL, 256);
    emu_must_launch(&f->dev, k, 3, 64, 512, (void *[]){&none, &pin, &out, &zero});
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
    struct emu_fixture *f = *state;
    struct device_kernel *k = emu_load(f, "bf16", "meeting", meeting);
    unsigned zero = 0, out[64];
    for (int which = 0; which < 6; which++)
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            devptr pout = emu_put(&f->dev, NULL, 4 * sizeof out), count = emu_put(&f->dev, &zero, sizeof zero);
            struct launch l = {{3, 1, 1}, 64, 512, (void *[]){&which, &pout, &count}, false};
            struct err err = {""};
            emu_set_schedule(&f->dev, s, 7);
            int rc = f->dev.launch(&f->dev, k, &l, &err);
            if (which < 3 ? rc != 0 : rc == 0 || !strstr(err.msg, "which another block of this launch writes"))
                fail_msg("way %d in schedule %d: %s", which, s, rc ? err.msg : "no race was found");
            if (rc == 0) {
                emu_get(&f->dev, out, pout, sizeof out);
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
    struct emu_fixture *f = *state;
    struct device *dev = &f->dev;
    struct device_kernel *k = emu_load(f, "bf16", "mistakes", mistakes), *none;
    char bytes[64] = {0};
    struct err err = {""};
    devptr p = emu_put(dev, bytes, sizeof bytes);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mistakes, emu_fixture_open, emu_fixture_close),
        cmocka_unit_test_setup_teardown(test_blocks_meet, emu_fixture_open, emu_fixture_close),
        cmocka_unit_test_setup_teardown(test_host_side, emu_fixture_open, emu_fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
