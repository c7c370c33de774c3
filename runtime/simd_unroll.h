#ifndef WEIR_SIMD_UNROLL_H
#define WEIR_SIMD_UNROLL_H

/* For functions whose constant arguments must be seen, and loops whose vectors must end up in registers. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#endif
