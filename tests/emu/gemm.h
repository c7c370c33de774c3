#ifndef WEIR_EMU_GEMM_H
#define WEIR_EMU_GEMM_H

#include "../../runtime/device.h"

/* What the emulator has in cuBLAS's place, by the addresses of the host: sums in fp32, in order of k. */
void emu_gemm(const struct gemm *g);

#endif
