#ifndef WEIR_QUANT_H
#define WEIR_QUANT_H

#include <stddef.h>
#include <stdint.h>

/* Element types of a GGUF tensor, numbered as in the file format (ggml_type). */
enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_BF16 = 30,
};

struct quant_info {
    const char *name; /* "Q4_1" */
    int block;        /* elements a block */
    int bytes;        /* bytes a block */
};

/* Facts of a type, or NULL for a type that this program does not read. */
const struct quant_info *quant_info(uint32_t type);

/* The type of a name ("Q4_1", in small letters too), or -1: none that this program reads. */
int quant_type_named(const char *name);

/* "q4_1" for QUANT_Q4_1, as kernels call it. */
void quant_kernel_name(enum quant_type type, char name[8]);

/* Expands n elements (a multiple of the block) of a row to fp32; plain C, the reference for every faster path.
 * src need not be aligned. */
void quant_to_float(enum quant_type type, const void *src, float *dst, size_t n);

/* fp16 (half) and bf16 (bfloat) to fp32 and back. */
float quant_half_to_float(uint16_t h);
uint16_t quant_float_to_half(float f); /* round to nearest even */
float quant_bfloat_to_float(uint16_t h);
uint16_t quant_float_to_bfloat(float f); /* round to nearest even */

#endif
