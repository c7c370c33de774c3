#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/weir-test-XXXXXX";

int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

int scratch_remove(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

struct scratch_path in_scratch(const char *name)
{
    struct scratch_path p;
    int n = snprintf(p.text, sizeof p.text, name[0] ? "%s/%s" : "%s", folder, name);
    assert_true(n > 0 && n < (int)sizeof p.text);
    return p;
}

struct bytes file_read(const char *path)
{
    struct bytes b = {0};
    char block[4096];
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s cannot be read", path);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        bytes_put(&b, block, n);
    fclose(f);
    bytes_put(&b, "", 1);
    b.size--;
    return b;
}

void file_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0)
        fail_msg("%s cannot be written", path);
}

void same_files(const char *a, const char *b, const char *what)
{
    struct bytes x = file_read(a), y = file_read(b);
    if (x.size != y.size || memcmp(x.data, y.data, x.size) != 0)
        fail_msg("%s: %s and %s differ", what, a, b);
    free(x.data);
    free(y.data);
}
