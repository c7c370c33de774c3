#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emu/half.h"
#include "emu_fixture.h"
#include "gen/gen.h"

/* The emulator itself, with kernels written by hand: what the collectives compute, and that its words are those of the CUDA prelude.
 * test_emu_mistakes.c: that each kind of mistake is named. */

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
    struct emu_fixture *f = *state;
    unsigned out[64][10];
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct device_kernel *k = emu_load(f, bf16 ? "bf16" : "fp16", "collectives", collectives);
        for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++) {
            devptr p = emu_put(&f->dev, NULL, sizeof out);
            emu_set_schedule(&f->dev, s, 1);
            emu_must_launch(&f->dev, k, 1, 64, 0, (void *[]){&p});
            emu_get(&f->dev, out, p, sizeof out);
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
    struct emu_fixture *f = *state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct device_kernel *k = emu_load(f, bf16 ? "bf16" : "fp16", "product", product);
        uint16_t a[16][16], bt[8][16], b[16][8];
        float c[2][16][8];
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++) {
                float x = (float)(i * 3 - j * j % 7), y = (float)(i * j % 11 - 4);
                a[i][j] = bf16 ? float_to_bf16(x) : float_to_fp16(x);
                if (j < 8)
                    b[i][j] = bt[j][i] = bf16 ? float_to_bf16(y) : float_to_fp16(y);
            }
        devptr pa = emu_put(&f->dev, a, sizeof a), pbt = emu_put(&f->dev, bt, sizeof bt),
               pb = emu_put(&f->dev, b, sizeof b);
        devptr pc = emu_put(&f->dev, NULL, sizeof c);
        emu_must_launch(&f->dev, k, 1, 32, 1024, (void *[]){&pa, &pbt, &pb, &pc});
        emu_get(&f->dev, c, pc, sizeof c);
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
    devptr pin = emu_put(dev, in, sizeof in), pout = emu_put(dev, NULL, sizeof out),
           count = emu_put(dev, &zero, sizeof zero);
    int last = 5 * 128;
    emu_must_launch(dev, k, 5, 128, 512, (void *[]){&pin, &pout, &count, &last});
    emu_get(dev, out, pout, sizeof out);
    for (unsigned i = 0; i < 5 * 128; i++)
        assert_int_equal(out[i], in[i / 128 * 128 + (i + 64) % 128]);
    assert_int_equal(out[last], out[0] + out[4 * 128]);
    dev->release(dev, pin);
    dev->release(dev, pout);
    dev->release(dev, count);
}

static void test_barriers(void **state)
{
    struct emu_fixture *f = *state;
    struct device_kernel *k = emu_load(f, "bf16", "barriers", barriers);
    for (int s = EMU_FORWARD; s <= EMU_RANDOM; s++)
        for (uint64_t seed = 0; seed < (s == EMU_RANDOM ? 20 : 1); seed++) {
            emu_set_schedule(&f->dev, s, seed);
            check_barriers(&f->dev, k);
        }
    f->dev.unload(&f->dev, k);
}

static void test_ucontext(void **state)
{
    struct emu_fixture *f = *state;
    struct emu_fixture g = {.gen = f->gen};
    struct emu_options o = {.ucontext = true};
    struct err err = {""};
    assert_int_equal(device_emu_open(&g.dev, &o, &err), 0);
    struct device_kernel *k = emu_load(&g, "bf16", "barriers", barriers);
    check_barriers(&g.dev, k);
    g.dev.unload(&g.dev, k);
    g.dev.close(&g.dev);
}

/* --- the vocabulary ---------------------------------------------------------------------------------------------------- */

static bool word_char(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Every word that the CUDA prelude defines, the host's has too. */
static void test_same_words(void **state)
{
    struct emu_fixture *f = *state;
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
        cmocka_unit_test_setup_teardown(test_collectives, emu_fixture_open, emu_fixture_close),
        cmocka_unit_test_setup_teardown(test_product, emu_fixture_open, emu_fixture_close),
        cmocka_unit_test_setup_teardown(test_barriers, emu_fixture_open, emu_fixture_close),
        cmocka_unit_test_setup_teardown(test_ucontext, emu_fixture_open, emu_fixture_close),
        cmocka_unit_test_setup_teardown(test_same_words, emu_fixture_open, emu_fixture_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
