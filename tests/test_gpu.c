/* Every kernel's cases on this machine's GPU. Where there is none, each is counted as skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_copy.h"
#include "cases_decode.h"
#include "cases_prefill.h"
#include "cases_update.h"
#include "device_kit.h"

static int setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    struct err err = {""};
    if (gen_open(&k->gen, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    kernel_cache_default(&k->cache);
    if (device_cuda_open(&k->dev, 0, &err) != 0) {
        snprintf(k->no_device, sizeof k->no_device, "%s", err.msg);
        printf("skipped: %s\n", k->no_device);
    }
    *state = k;
    return 0;
}

static int teardown(void **state)
{
    struct kit *k = *state;
    if (!k->no_device[0])
        k->dev.close(&k->dev);
    gen_close(k->gen);
    free(k);
    return 0;
}

/* test_gpu [PATTERN]: only the cases whose names match, "update_*". */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        DECODE_CASES(cmocka_unit_test),
        PREFILL_CASES(cmocka_unit_test),
        UPDATE_CASES(cmocka_unit_test),
        COPY_CASES(cmocka_unit_test),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
