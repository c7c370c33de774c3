#ifndef TESTS_DEVICE_KIT_H
#define TESTS_DEVICE_KIT_H

/* What the kernels' test cases stand on. A case is a cmocka test whose state is a struct kit: it runs on whatever device the kit
 * holds, the emulator (test_kernels.c) or a GPU (test_gpu.c). Every failing call fails the test with its one line. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gen/gen.h"
#include "runtime/cascade.h"
#include "runtime/device.h"
#include "runtime/kernel.h"

struct kit {
    struct device dev;
    struct gen *gen;
    struct kernel_cache cache;
    bool emulated;       /* small shapes then */
    uint64_t seed;       /* of the next random number */
    char no_device[640]; /* why there is none; every case is skipped then */
    /* To run a kernel's *_every_shape case with other tiles: the kernel, its tile parameters ("bn=32 wp=2"), and the only head
     * dimension to take. NULL, NULL, 0: defaults, all. */
    const char *tile_of, *tile;
    int only_d;
    const char *prefill; /* the kernel of a chunk's attention; NULL: attn_prefill */
};

/* Ends a case early where there is no device. */
#define KIT(state) kit_of(state)
struct kit *kit_of(void **state);

/* A kernel, its parameters as text: "d=128 g=4 t=bf16". Freed with kernel_free. */
void kit_kernel(struct kit *k, struct kernel *out, const char *kernel, const char *params);

/* Launches with the kernel's own block and shared memory. args: one pointer to each argument's value. */
void kit_launch(struct kit *k, struct kernel *kernel, unsigned x, unsigned y, unsigned z, void **args);

/* Device memory with the given content; filled with 0xff bytes (NaN in every float type) when data is NULL. */
devptr kit_put(struct kit *k, const void *data, size_t bytes);
void kit_get(struct kit *k, void *out, devptr p, size_t bytes);
void kit_release(struct kit *k, devptr p);

/* Random numbers; normal ones are sums of uniform ones, of variance 1. */
uint64_t kit_random(struct kit *k);
int kit_int(struct kit *k, int lo, int hi); /* inclusive */
double kit_normal(struct kit *k);

/* fp16 (type 0) and bf16 (type 1). */
uint16_t half_of(int type, double v);
double half_value(int type, uint16_t h);
double half_rounding(int type); /* largest relative error of one rounding */

/* Sums of squares for ||out - ref|| / ||ref||: a bound on each element cannot see a small error in all of them. */
struct kit_norm {
    double error, reference;
};
/* Fails where got is further than bound from want, or NaN; adds to *n. */
void kit_near(struct kit_norm *n, const char *what, int head, int at, double got, double want, double bound);
void kit_norm_check(const struct kit_norm *n, const char *what, double bound);

/* The defaults with this many sinks, and sub-caches of w tokens in spans; chunks of up to four times w. */
struct cascade_params kit_cascade(int sinks, int subcaches, int w, int span);

/* A table of angles as the kernels read it, [positions][d / 2] {cos, sin}; freq [d / 2]. The caller frees. */
float *kit_angles(int positions, int d, const double *freq);

#endif
