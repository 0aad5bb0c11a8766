/* conv_mma for f16: one translation unit a type, so that they compile side by side. */
#include "engine/cuda/conv_mma.cuh"
#include "engine/cuda/kernels.h"
#include "engine/cuda/variants.h"

#define VARIANT(bm, bn, wm, wn, wk, row, stages)                                                   \
    {KERNEL((conv_mma<MMA_F16, bm, bn, wm, wn, wk, row, stages>)),                                 \
     bm,                                                                                           \
     bn,                                                                                           \
     wk,                                                                                           \
     row,                                                                                          \
     stages,                                                                                       \
     PQ_CU_CONV_THREADS(bm, bn, wm, wn, wk),                                                       \
     PQ_CU_CONV_SMEM(bm, bn, wk, row, stages)},

static const pq_cu_variant variants[] = {PQ_CU_TENSOR_VARIANTS(VARIANT)
#ifdef PQ_CU_GROUPS
                                             PQ_CU_GROUP_VARIANTS(VARIANT)
#endif
};

extern "C" const pq_cu_variant *pq_cu_variants_f16(int *n)
{
    *n = (int)(sizeof variants / sizeof *variants);
    return variants;
}
