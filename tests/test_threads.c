/* The thread pool: every item once, whatever the threads do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "runtime/threads.h"

enum { MOST = 5000 };
struct count {
    _Atomic int of_item[MOST];
    _Atomic int busy[POOL_MAX_THREADS]; /* a thread works on one item at a time */
    int threads;
    _Atomic int wrong;
};

static void count_item(void *context, int item, int thread)
{
    struct count *c = context;
    if (thread < 0 || thread >= c->threads || atomic_fetch_add(&c->busy[thread], 1) != 0)
        atomic_fetch_add(&c->wrong, 1);
    atomic_fetch_add(&c->of_item[item], 1);
    atomic_fetch_sub(&c->busy[thread], 1);
}

static void test_each_item_once(void **state)
{
    (void)state;
    static struct count c;
    for (int threads = 1; threads <= 7; threads += 2) {
        struct pool *p;
        struct err err;
        assert_int_equal(pool_open(&p, threads, &err), 0);
        assert_int_equal(pool_threads(p), threads);
        for (int round = 0; round < 3000; round++) {
            int items = round % 50 == 0 ? MOST : round % 9;
            memset(&c, 0, sizeof c);
            c.threads = threads;
            pool_run(p, items, count_item, &c);
            assert_int_equal(c.wrong, 0);
            for (int i = 0; i < MOST; i++)
                if (c.of_item[i] != (i < items))
                    fail_msg("item %d of %d was done %d times", i, items, c.of_item[i]);
            if (round % 1000 == 7) { /* long enough for the idle threads to fall asleep */
                struct timespec t = {.tv_nsec = 2000000};
                nanosleep(&t, NULL);
            }
        }
        pool_close(p);
    }
}

/* What one item wrote, the caller sees, and so do the items of the next loop. */
static void square_item(void *context, int item, int thread)
{
    (void)thread;
    int64_t *x = context;
    x[item] = (int64_t)item * item;
}

static void sum_item(void *context, int item, int thread)
{
    (void)thread;
    int64_t *x = context;
    for (int i = 0; i < 100; i++)
        x[1000 + item] += x[i];
}

static void test_results_are_seen(void **state)
{
    (void)state;
    struct pool *p;
    struct err err;
    assert_int_equal(pool_open(&p, 4, &err), 0);
    for (int round = 0; round < 2000; round++) {
        int64_t x[1100] = {0};
        pool_run(p, 100, square_item, x);
        pool_run(p, 100, sum_item, x);
        for (int i = 0; i < 100; i++)
            assert_true(x[1000 + i] == 328350);
    }
    pool_close(p);
}

static void test_bounds(void **state)
{
    (void)state;
    struct pool *p;
    struct err err;
    assert_int_equal(pool_open(&p, -1, &err), -1);
    assert_null(p);
    assert_int_equal(pool_open(&p, POOL_MAX_THREADS + 1, &err), -1);
    assert_int_equal(pool_open(&p, 0, &err), 0);
    assert_int_equal(pool_threads(p), pool_cores());
    pool_run(p, 0, count_item, NULL);
    pool_close(p);
    pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_item_once),
        cmocka_unit_test(test_results_are_seen),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
