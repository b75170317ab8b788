/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.h - the part of the driver's interface that the plugin uses: maps of matrices, for copies of
 * tiles by the hardware. */
#ifndef RR_EMUL_CUDA_H
#define RR_EMUL_CUDA_H

#include <stdint.h>

typedef uint64_t cuuint64_t;
typedef uint32_t cuuint32_t;
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_UINT8 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };
enum CUresult { CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE };

struct alignas(64) CUtensorMap {
    const unsigned char *base;
    cuuint64_t size[2], stride; /* bytes of a row, rows, bytes from row to row */
    cuuint32_t box[2];
};

extern "C" CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type,
                                           cuuint32_t rank, void *base, const cuuint64_t *size,
                                           const cuuint64_t *stride, const cuuint32_t *box,
                                           const cuuint32_t *step, CUtensorMapInterleave interleave,
                                           CUtensorMapSwizzle swizzle,
                                           CUtensorMapL2promotion promotion,
                                           CUtensorMapFloatOOBfill fill);
#endif
