#ifndef TESTS_EMU_FIXTURE_H
#define TESTS_EMU_FIXTURE_H

/* An emulated device of their own for tests with kernels written by hand. What goes wrong fails the test. */

#include "emu/emu.h"

struct emu_fixture {
    struct gen *gen;
    struct device dev; /* a launch that takes 0.3 s is ended */
};

/* Set-up and tear-down of a test: *state is the fixture. */
int emu_fixture_open(void **state);
int emu_fixture_close(void **state);

/* A kernel of that body behind the prelude for a data type; the caller unloads it. */
struct device_kernel *emu_load(struct emu_fixture *f, const char *type, const char *symbol, const char *body);

/* Memory of the device with a copy of data in it, or unwritten with NULL; and a copy of some back. */
devptr emu_put(struct device *dev, const void *data, size_t bytes);
void emu_get(struct device *dev, void *out, devptr p, size_t bytes);

/* A launch of `grid` blocks that must end well. */
void emu_must_launch(struct device *dev, struct device_kernel *k, unsigned grid, unsigned threads, unsigned smem,
                     void **args);

#endif
