#ifndef WEIR_CUBLAS_API_H
#define WEIR_CUBLAS_API_H

/* The part of cuBLASLt that is used here, declared by hand: the library is opened at run time, and no CUDA header is needed to
 * build. Names and numbers are those of cublasLt.h; they have not changed since CUDA 11. */

#include <stddef.h>
#include <stdint.h>

#include "cuda_api.h"

enum { /* cudaDataType, cublasComputeType_t, cublasOperation_t */
       CUBLAS_R_32F = 0,
       CUBLAS_R_16F = 2,
       CUBLAS_R_16BF = 14,
       CUBLAS_COMPUTE_32F = 68,
       CUBLAS_OP_T = 1,
};

enum { /* attributes */
       CUBLASLT_DESC_TRANSA = 3,
       CUBLASLT_PREF_MAX_WORKSPACE_BYTES = 1,
};

typedef struct cublaslt *cublaslt;
typedef struct cublaslt_desc *cublaslt_desc;
typedef struct cublaslt_layout *cublaslt_layout;
typedef struct cublaslt_preference *cublaslt_preference;

struct cublaslt_algo {
    uint64_t data[8];
};
struct cublaslt_heuristic { /* cublasLtMatmulHeuristicResult_t */
    struct cublaslt_algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

/* Every call: our name, the library's symbol, its arguments. All return a cublasStatus_t, 0 for success. */
/* clang-format off */
#define CUBLAS_CALLS(X) \
    X(create, "cublasLtCreate", (cublaslt *lt)) \
    X(destroy, "cublasLtDestroy", (cublaslt lt)) \
    X(desc_create, "cublasLtMatmulDescCreate", (cublaslt_desc *desc, int compute, int scale)) \
    X(desc_destroy, "cublasLtMatmulDescDestroy", (cublaslt_desc desc)) \
    X(desc_set, "cublasLtMatmulDescSetAttribute", (cublaslt_desc desc, int attribute, const void *value, size_t bytes)) \
    X(layout_create, "cublasLtMatrixLayoutCreate", \
      (cublaslt_layout *layout, int type, uint64_t rows, uint64_t columns, int64_t leading)) \
    X(layout_destroy, "cublasLtMatrixLayoutDestroy", (cublaslt_layout layout)) \
    X(preference_create, "cublasLtMatmulPreferenceCreate", (cublaslt_preference *preference)) \
    X(preference_destroy, "cublasLtMatmulPreferenceDestroy", (cublaslt_preference preference)) \
    X(preference_set, "cublasLtMatmulPreferenceSetAttribute", \
      (cublaslt_preference preference, int attribute, const void *value, size_t bytes)) \
    X(choose, "cublasLtMatmulAlgoGetHeuristic", \
      (cublaslt lt, cublaslt_desc desc, cublaslt_layout a, cublaslt_layout b, cublaslt_layout c, cublaslt_layout d, \
       cublaslt_preference preference, int wanted, struct cublaslt_heuristic *found, int *count)) \
    X(product, "cublasLtMatmul", \
      (cublaslt lt, cublaslt_desc desc, const void *alpha, cu_deviceptr a, cublaslt_layout la, cu_deviceptr b, \
       cublaslt_layout lb, const void *beta, cu_deviceptr c, cublaslt_layout lc, cu_deviceptr d, cublaslt_layout ld, \
       const struct cublaslt_algo *algo, cu_deviceptr workspace, size_t workspace_bytes, cu_stream stream))
/* clang-format on */

struct cublas_api {
#define CUBLAS_CALL_SLOT(name, symbol, args) int(*name) args;
    CUBLAS_CALLS(CUBLAS_CALL_SLOT)
#undef CUBLAS_CALL_SLOT
};

/* Opens cuBLASLt once for the process: WEIR_LIBCUBLAS (the file libcublasLt or a folder with it), else lib/ and .deps/ beside the binary,
 * the usual places of a CUDA toolkit, the system's loader, Python's packages. -1 with one line where there is none. Thread-safe;
 * *api stays valid. */
int cublas_api_open(const struct cublas_api **api, struct err *err);

#endif
