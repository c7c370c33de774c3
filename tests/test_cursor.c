#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "runtime/cursor.h"

static const unsigned char bytes[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x00, 0x00, 0x80,
                                      0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0xbf, 0xff};

static void numbers_are_little_endian_at_any_alignment(void **state)
{
    struct cursor c = cursor_over(bytes, sizeof bytes);
    assert_int_equal(cursor_u8(&c), 0x01);
    assert_int_equal(cursor_u16(&c), 0x0302);
    assert_int_equal(cursor_u32(&c), 0x07060504);
    assert_int_equal(cursor_u8(&c), 0x08);
    assert_true(cursor_f32(&c) == 1.0f);
    assert_true(cursor_f64(&c) == -1.5);
    assert_int_equal(cursor_left(&c), 1);
    assert_int_equal(cursor_u8(&c), 0xff);
    assert_int_equal(cursor_left(&c), 0);
    assert_false(c.bad);
    c = cursor_over(bytes, sizeof bytes);
    assert_true(cursor_u64(&c) == 0x0807060504030201u);
}

static void an_error_sticks(void **state)
{
    struct cursor c = cursor_over(bytes, 5);
    cursor_u32(&c);
    assert_int_equal(cursor_u16(&c), 0);
    assert_true(c.bad);
    assert_int_equal(c.pos, 4);
    assert_int_equal(cursor_u8(&c), 0); /* would have fitted */
    assert_null(cursor_bytes(&c, 0));
    assert_int_equal(cursor_left(&c), 0);
}

static void lengths_that_wrap_do_not_fit(void **state)
{
    struct cursor c = cursor_over(bytes, sizeof bytes);
    assert_null(cursor_bytes(&c, UINT64_MAX));
    assert_true(c.bad);
    c = cursor_over(bytes, sizeof bytes);
    cursor_skip(&c, (uint64_t)1 << 61, 8); /* the product is 2^64 */
    assert_true(c.bad);
    c = cursor_over(bytes, sizeof bytes);
    cursor_skip(&c, 5, 4);
    assert_false(c.bad);
    assert_int_equal(cursor_left(&c), 1);
    cursor_skip(&c, UINT64_MAX, 0);
    assert_false(c.bad);
}

static void no_bytes_at_all(void **state)
{
    struct cursor c = cursor_over(bytes, 0);
    assert_non_null(cursor_bytes(&c, 0));
    assert_int_equal(cursor_u8(&c), 0);
    assert_true(c.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_little_endian_at_any_alignment),
        cmocka_unit_test(an_error_sticks),
        cmocka_unit_test(lengths_that_wrap_do_not_fit),
        cmocka_unit_test(no_bytes_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
