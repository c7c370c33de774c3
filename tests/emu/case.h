#ifndef WEIR_EMU_CASE_H
#define WEIR_EMU_CASE_H

/* A kernel's test case (a cmocka test whose state is a struct kit) run in the emulator, in a process that may be spared. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "emu.h"

struct emu_case {
    const char *name;
    CMUnitTestFunction run;
    enum emu_schedule schedule;
    uint64_t seed;
    int sm;
    bool only_faults;    /* not looking for races */
    const char *tile_of; /* with other tiles, see struct kit; NULL: defaults */
    char tile[96];
    int only_d;
    /* An error that is planted, see emu_plant; NULL: none. One that fits no text fails the case with PLANT_FITS_NOT. */
    const char *plant_in, *plant, *plant_by;
    int plant_nth;
};

#define PLANT_FITS_NOT "the planted error fits no text"

extern const char *const emu_schedule_names[3];

/* Runs it, and keeps what cmocka prints to itself: 0, or -1 with the message of the failed assertion. Also fails when ldmatrix met
 * a bank conflict. To be called in a forked process (parallel.h): it takes stdout and stderr over, and cmocka's state. */
int emu_case_run(struct emu_case *c, struct err *err);

#endif
