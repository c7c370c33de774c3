#include "emu_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emu/text.h"

int emu_fixture_open(void **state)
{
    struct emu_fixture *f = calloc(1, sizeof *f);
    struct emu_options o = {.seconds = 0.3};
    struct err err = {""};
    if (gen_open(&f->gen, NULL, &err) != 0 || device_emu_open(&f->dev, &o, &err) != 0)
        fail_msg("%s", err.msg);
    *state = f;
    return 0;
}

int emu_fixture_close(void **state)
{
    struct emu_fixture *f = *state;
    f->dev.close(&f->dev);
    gen_close(f->gen);
    free(f);
    return 0;
}

struct device_kernel *emu_load(struct emu_fixture *f, const char *type, const char *symbol, const char *body)
{
    struct device_kernel *k;
    struct err err = {""};
    char *text = emu_text_around(f->gen, type, body);
    if (f->dev.load(&f->dev, text, strlen(text), symbol, 96 * 1024, &k, &err) != 0)
        fail_msg("%s", err.msg);
    free(text);
    return k;
}

devptr emu_put(struct device *dev, const void *data, size_t bytes)
{
    devptr p;
    struct err err = {""};
    if (dev->alloc(dev, bytes, &p, &err) != 0 || (data && dev->upload(dev, p, data, bytes, &err) != 0))
        fail_msg("%s", err.msg);
    return p;
}

void emu_get(struct device *dev, void *out, devptr p, size_t bytes)
{
    struct err err = {""};
    if (dev->download(dev, out, p, bytes, &err) != 0)
        fail_msg("%s", err.msg);
}

void emu_must_launch(struct device *dev, struct device_kernel *k, unsigned grid, unsigned threads, unsigned smem,
                     void **args)
{
    struct launch l = {{grid, 1, 1}, threads, smem, args, false};
    struct err err = {""};
    if (dev->launch(dev, k, &l, &err) != 0)
        fail_msg("%s", err.msg);
}
