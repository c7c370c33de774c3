#ifndef WEIR_KERNEL_H
#define WEIR_KERNEL_H

/* From a spec to a kernel that can be launched: render, compile or take from the cubin cache on disk, load. The CUDA backend, the
 * tuner, `weir gen` and the tests all come through here. */

#include <stdbool.h>

#include "../gen/gen.h"
#include "device.h"
#include "nvrtc.h"

/* The cubin cache: one file an entry under <folder>/cubin, named by what it was made from (text without its header comment, target,
 * flags) and by the NVRTC that made it. Entries are written aside and renamed, and carry a checksum: several processes may share
 * the folder, and a damaged entry is built again. */
struct kernel_cache {
    char folder[512];  /* "": no cache */
    char shipped[512]; /* another such folder that is read where `folder` lacks an entry, and never written; "": none */
};

/* WEIR_CACHE, else XDG_CACHE_HOME/weir, else ~/.cache/weir; no cache where none of these is set. Shipped: WEIR_SHIPPED, else the
 * folder `shipped` beside the program, if it is there. Creates nothing. */
void kernel_cache_default(struct kernel_cache *c);

enum { KERNEL_KEY_MAX = 80 };

struct kernel {
    struct gen_kernel gen;      /* name, text, launch, parameters */
    struct cubin cubin;         /* empty when loaded from source (emu) */
    char key[KERNEL_KEY_MAX];   /* of the cubin's entry in the cache */
    bool cached;                /* the cubin came from the cache, or was shipped */
    double render_ms, cubin_ms; /* time it took to render, and to compile or read the cubin */
    char warning[320];          /* the cache could not be used, or an entry was damaged; "" if all went well. Nobody has
                                     * printed it yet; the kernel is good all the same. */
    struct device *device;      /* where it is loaded, or NULL */
    struct device_kernel *loaded; /* what device->launch takes */
};

/* Renders and compiles, with no device. gpu and params are those of gen_render. Free with kernel_free. */
int kernel_build(struct gen *g, const struct kernel_cache *cache, const char *kernel, const char *gpu,
                 const struct gen_param *params, int nparams, struct kernel *out, struct err *err);

/* Writes the cubin of a kernel that was built into another cache folder, which a machine without NVRTC can use (as its `shipped` or
 * its cache). -1 with one line where it cannot be written. */
int kernel_ship(const struct kernel *k, const struct kernel_cache *to, struct err *err);

/* Loads what kernel_build made on a device (not one that wants source); *k stays the caller's to free also where it fails. */
int kernel_load(struct kernel *k, struct device *dev, struct err *err);

/* kernel_build for the device's own GPU, loaded on it. A device that wants source gets the emitted text with the host's prelude
 * (gen_host_text), and nothing is compiled or cached here. Tile parameters that are not given take their defaults; wisdom comes in
 * as params. */
int kernel_get(struct gen *g, const struct kernel_cache *cache, struct device *dev, const char *kernel,
               const struct gen_param *params, int nparams, struct kernel *out, struct err *err);
void kernel_free(struct kernel *k);

#endif
