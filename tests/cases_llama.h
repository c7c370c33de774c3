#ifndef TESTS_CASES_LLAMA_H
#define TESTS_CASES_LLAMA_H

/* The kernels of the forward pass beside attention, on any device (device_kit.h). */
void llama_embed(void **state);
void llama_dequantise(void **state);
void llama_rms_norm(void **state);
void llama_swiglu(void **state);
void llama_add_bias(void **state);
void llama_likelihood(void **state);
void llama_matvec_every_type(void **state);
void llama_matvec_plain(void **state);
void llama_matvec_quants(void **state);
void llama_matvec_quants_of_256(void **state);
void llama_matvec_shapes(void **state);
void llama_matvec_nan(void **state);

#define LLAMA_CASES(test)                                                                                              \
    test(llama_embed), test(llama_dequantise), test(llama_rms_norm), test(llama_swiglu), test(llama_add_bias),         \
        test(llama_likelihood), test(llama_matvec_every_type), test(llama_matvec_plain), test(llama_matvec_quants),    \
        test(llama_matvec_quants_of_256), test(llama_matvec_shapes), test(llama_matvec_nan)

#endif
