/* A fuzz target without libFuzzer: a test that runs every seed and a fixed number of mutations of each, the same each time.
 * With --write-seeds DIR it writes the seeds as files, for libFuzzer to begin with. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sanitized.h"
#include "fuzz.h"

enum { MUTATIONS = 20000, MOST_EDITS = 4 };

/* Numbers that lengths and counts go wrong at. */
static const uint64_t edge[] = {
    0,          1,          2,          31,          32,        127,        255,        256,           0xffff,
    0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, INT64_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};

static void edit(struct bytes *b, uint64_t *seed)
{
    if (b->size == 0)
        return;
    size_t at = (size_t)(random_uniform(seed) * (double)b->size), left = b->size - at;
    size_t n = 1 + (size_t)(random_uniform(seed) * (double)(left < 16 ? left : 16));
    n = n > left ? left : n;
    uint64_t v = edge[random_int(seed, 0, (int)(sizeof edge / sizeof *edge) - 1)];
    switch (random_int(seed, 0, 6)) {
    case 0:
        b->data[at] ^= (unsigned char)(1 << random_int(seed, 0, 7));
        break;
    case 1:
        b->data[at] = (unsigned char)random_int(seed, 0, 255);
        break;
    case 2:
        memcpy(b->data + at, &v, left < 4 ? left : 4);
        break;
    case 3:
        memcpy(b->data + at, &v, left < 8 ? left : 8);
        break;
    case 4:
        b->size = at;
        break;
    case 5: /* cut a piece out */
        memmove(b->data + at, b->data + at + n, left - n);
        b->size -= n;
        break;
    default: /* double a piece */
        for (size_t i = 0; i < n; i++)
            bytes_put(b, "", 1);
        memmove(b->data + at + n, b->data + at, left);
        break;
    }
}

/* In a block of exactly its size, so that AddressSanitizer sees a read past it. */
static void run(const struct bytes *b)
{
    unsigned char *p = malloc(b->size ? b->size : 1);
    assert_non_null(p);
    if (b->size)
        memcpy(p, b->data, b->size);
    LLVMFuzzerTestOneInput(p, b->size);
    free(p);
}

static void seeds_and_mutations(void **state)
{
    for (int i = 0;; i++) {
        struct bytes original = fuzz_seed(i);
        if (!original.data)
            break;
        run(&original);
        uint64_t seed = (uint64_t)i;
        for (int k = 0; k < MUTATIONS; k += sanitized_step(8)) {
            struct bytes b = {0};
            bytes_put(&b, original.data, original.size);
            for (int edits = random_int(&seed, 1, MOST_EDITS); edits > 0; edits--)
                edit(&b, &seed);
            run(&b);
            free(b.data);
        }
        free(original.data);
    }
}

static int write_seeds(const char *dir)
{
    for (int i = 0;; i++) {
        struct bytes b = fuzz_seed(i);
        if (!b.data)
            return 0;
        char path[4096];
        snprintf(path, sizeof path, "%s/seed%d", dir, i);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(b.data, 1, b.size, f) != b.size || fclose(f) != 0) {
            fprintf(stderr, "cannot write %s\n", path);
            return 1;
        }
        free(b.data);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--write-seeds"))
        return write_seeds(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds_and_mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
