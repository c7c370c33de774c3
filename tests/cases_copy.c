#include "cases_copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_kit.h"

/* One piece, a block less one, a block, a block and one, several. */
void copy_every_length(void **state)
{
    struct kit *kit = KIT(state);
    struct kernel k;
    kit_kernel(kit, &k, "stream_copy", "");
    int block = (int)(k.gen.threads * (unsigned)gen_value(&k.gen, "u"));
    int lengths[] = {1, block - 1, block, block + 1, 3 * block + 77};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        long long n = lengths[i];
        size_t bytes = (size_t)n * 16;
        uint64_t *in = malloc(bytes), *out = malloc(bytes);
        for (long long j = 0; j < 2 * n; j++)
            in[j] = kit_random(kit);
        devptr from = kit_put(kit, in, bytes), to = kit_put(kit, NULL, bytes);
        kit_launch(kit, &k, (unsigned)((n + block - 1) / block), 1, 1, (void *[]){&from, &to, &n});
        kit_get(kit, out, to, bytes);
        assert_memory_equal(in, out, bytes);
        kit_release(kit, from);
        kit_release(kit, to);
        free(in);
        free(out);
    }
    kernel_free(&k);
}
