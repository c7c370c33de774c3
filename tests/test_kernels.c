/* Every kernel's cases in the emulator (tests/emu): the text that a GPU would get, on this machine's CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cases_decode.h"
#include "cases_prefill.h"
#include "cases_update.h"
#include "device_kit.h"
#include "emu/emu.h"

static int setup(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    struct err err = {""};
    k->emulated = true;
    if (gen_open(&k->gen, NULL, &err) != 0 || device_emu_open(&k->dev, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    emu_set_schedule(&k->dev, EMU_RANDOM, 1);
    *state = k;
    return 0;
}

static int teardown(void **state)
{
    struct kit *k = *state;
    k->dev.close(&k->dev);
    gen_close(k->gen);
    free(k);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DECODE_CASES(cmocka_unit_test),
        PREFILL_CASES(cmocka_unit_test),
        UPDATE_CASES(cmocka_unit_test),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
