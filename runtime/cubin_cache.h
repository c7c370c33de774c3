#ifndef WEIR_CUBIN_CACHE_H
#define WEIR_CUBIN_CACHE_H

/* The files of the cubin cache (kernel.h says what it promises). */

#include "kernel.h"

enum cubin_found { CUBIN_MISSING, CUBIN_FOUND, CUBIN_DAMAGED };

/* Key of a rendered kernel: the same text, target, flags and NVRTC give the same key. nvrtc may be NULL, for cubin_cache_any. */
void cubin_cache_key(const struct gen_kernel *k, const struct nvrtc_info *nvrtc, char key[KERNEL_KEY_MAX]);

/* Reads an entry; *out is filled only where CUBIN_FOUND is returned (free with cubin_free). */
enum cubin_found cubin_cache_read(const struct kernel_cache *c, const char *key, struct cubin *out);

/* Completes a key made without an NVRTC to an entry that is there, whichever NVRTC made it (the newest version if there are
 * several). -1 where there is none. */
int cubin_cache_any(const struct kernel_cache *c, char key[KERNEL_KEY_MAX]);

/* Writes an entry, making the folders it needs. -1 with one line where that cannot be done; no part of it is left behind. */
int cubin_cache_write(const struct kernel_cache *c, const char *key, const struct cubin *cubin, struct err *err);

#endif
