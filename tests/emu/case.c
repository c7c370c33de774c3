#include "case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../device_kit.h"

const char *const emu_schedule_names[3] = {"forward", "reverse", "random"};

static bool planting; /* of the case that runs */

static int setup(void **state)
{
    const struct emu_case *c = *state;
    struct kit *k = calloc(1, sizeof *k);
    struct emu_options o = {.schedule = c->schedule, .seed = c->seed, .sm = c->sm, .only_faults = c->only_faults};
    struct err err = {""};
    k->emulated = true;
    k->tile_of = c->tile_of;
    k->tile = c->tile_of ? c->tile : NULL;
    k->only_d = c->only_d;
    if (gen_open(&k->gen, NULL, &err) != 0 || device_emu_open(&k->dev, &o, &err) != 0)
        fail_msg("%s", err.msg);
    emu_plant(&k->dev, c->plant_in, c->plant, c->plant_nth, c->plant_by);
    planting = c->plant != NULL;
    *state = k;
    return 0;
}

static int teardown(void **state)
{
    struct kit *k = *state;
    struct emu_stats s = emu_get_stats(&k->dev);
    k->dev.close(&k->dev);
    gen_close(k->gen);
    free(k);
    if (planting && s.planted == 0)
        fail_msg(PLANT_FITS_NOT);
    if (s.ldmatrix_conflicts)
        fail_msg("bank conflicts: %llu more passes than the %llu that ldmatrix needs",
                 (unsigned long long)s.ldmatrix_conflicts, (unsigned long long)s.ldmatrix_rows);
    return 0;
}

int emu_case_run(struct emu_case *c, struct err *err)
{
    struct CMUnitTest one[] = {cmocka_unit_test_prestate_setup_teardown(c->run, setup, teardown, c)};
    char text[4096], *message;
    FILE *log = tmpfile();
    if (!log)
        return err_set(err, "no temporary file");
    fflush(NULL);
    dup2(fileno(log), 1);
    dup2(fileno(log), 2);
    int failed = cmocka_run_group_tests_name(c->name, one, NULL, NULL);
    fflush(NULL);
    rewind(log);
    text[fread(text, 1, sizeof text - 1, log)] = 0;
    fclose(log);
    if (failed == 0)
        return 0;
    message = strstr(text, "ERROR: ");
    message = message ? message + strlen("ERROR: ") : text;
    message[strcspn(message, "\n")] = 0;
    return err_set(err, "%s, %s schedule%s%s: %s", c->name, emu_schedule_names[c->schedule], c->tile_of ? ", " : "",
                   c->tile_of ? c->tile : "", message);
}
