#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

/* What a fuzz target tests/fuzz_<name>.c defines. `make fuzz` links it with libFuzzer; `make test` with fuzz/driver.c, which
 * runs the seeds and fixed mutations of them. */

#include <stddef.h>
#include <stdint.h>

#include "../gguf_writer.h" /* struct bytes */

/* Gives the bytes to the code under test. Always returns 0; what is wrong crashes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Well-formed input number i; data is NULL after the last one. Small: mutations should hit what matters. The caller frees. */
struct bytes fuzz_seed(int i);

#endif
