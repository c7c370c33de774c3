/* Rotary factors against cosines and sines in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "gguf_writer.h"
#include "runtime/rope.h"

static void test_turn(void **state)
{
    (void)state;
    static const int64_t positions[] = {0,     1,      -1,     2,       255,      256,      -256,      4097,      65535,
                                        65536, 131071, -70000, 1000003, 16777215, 16777216, -16777217, 3000000000};
    struct tiny_model t = tiny_model_defaults();
    struct model m;
    struct bytes file;
    struct err err;
    struct rope r;
    float cs[2 * 32];
    t.head_dim = 64;
    t.rope_dim = 48;
    tiny_model_open(&t, &m, &file);
    assert_int_equal(rope_open(&r, &m, &err), 0);
    assert_int_equal(r.pairs, 32);
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        rope_turn(&r, positions[i], cs);
        for (int p = 0; p < 32; p++) {
            double angle = p < 24 ? (double)positions[i] * model_rope_freq(&m, p) : 0;
            /* the angle itself is known to 2^-53 of its size, and rounded to fp32 at the end */
            double bound = 6e-8 + 4e-16 * fabs(angle);
            assert_true(fabs((double)cs[2 * p] - cos(angle)) <= bound);
            assert_true(fabs((double)cs[2 * p + 1] - sin(angle)) <= bound);
        }
    }
    rope_close(&r);
    rope_close(&r);
    model_close(&m);
    free(file.data);
}

static void test_interleave(void **state)
{
    (void)state;
    struct rope r = {.pairs = 4, .turning = 3};
    float x[8] = {0, 1, 2, 10, 11, 12, 6, 7}, room[8];
    static const float right[8] = {0, 10, 1, 11, 2, 12, 6, 7};
    rope_interleave(&r, x, room);
    assert_memory_equal(x, right, sizeof x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turn),
        cmocka_unit_test(test_interleave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
