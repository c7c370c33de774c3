/* Every kernel's cases on this machine's GPU. Where there is none, each is counted as skipped.
 *
 *   test_gpu [--small] [PATTERN]     PATTERN: the cases to run, '*' stands for anything
 *                                    --small: the emulator's shapes, for compute-sanitizer, which is a hundred times slower */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_copy.h"
#include "cases_decode.h"
#include "cases_llama.h"
#include "cases_prefill.h"
#include "cases_sample.h"
#include "cases_update.h"
#include "device_kit.h"

static bool small;

static int setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    struct err err = {""};
    k->emulated = small;
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

int main(int argc, char **argv)
{
    small = argc > 1 && strcmp(argv[1], "--small") == 0;
    if (argc > 1 + small)
        cmocka_set_test_filter(argv[1 + small]);
    const struct CMUnitTest tests[] = {
        DECODE_CASES(cmocka_unit_test), PREFILL_CASES(cmocka_unit_test), UPDATE_CASES(cmocka_unit_test),
        COPY_CASES(cmocka_unit_test),   LLAMA_CASES(cmocka_unit_test),   SAMPLE_CASES(cmocka_unit_test),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
