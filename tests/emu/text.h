#ifndef WEIR_EMU_TEXT_H
#define WEIR_EMU_TEXT_H

/* Kernel texts for tests of the emulator. */

#include "../../gen/gen.h"

/* A hand-written kernel behind the host's prelude ("fp16" or "bf16"). The caller frees it; a failure fails the test. */
char *emu_text_around(struct gen *g, const char *type, const char *body);

/* `text` with the n-th occurrence (from 0) of `from` replaced by `to`; fails the test when it is not there, so that a change
 * of a template shows. The caller frees it. */
char *emu_text_mutate(const char *text, const char *from, int n, const char *to);

#endif
