#ifndef WEIR_EMU_TEXT_H
#define WEIR_EMU_TEXT_H

/* Hand-written kernels for tests of the emulator. */

#include "../../gen/gen.h"

/* The kernel `body` behind the host's prelude ("fp16" or "bf16"). The caller frees it; a failure fails the test. */
char *emu_text_around(struct gen *g, const char *type, const char *body);

#endif
