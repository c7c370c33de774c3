/* A driver for machines without a GPU, part 1: every call that the program looks up exists, and fails. */
#include "runtime/cuda_api.h"

#define STUB(name, symbol, args)                                                                                       \
    __attribute__((weak)) int stub_##name args __asm__(symbol);                                                        \
    int stub_##name args                                                                                               \
    {                                                                                                                  \
        return 801; /* CUDA_ERROR_NOT_SUPPORTED */                                                                     \
    }
CUDA_CALLS(STUB)
