/* conv_mma and stem for f16: one translation unit a type, so that they compile side by side. */
#include "engine/cuda/conv_mma.cuh"
#include "engine/cuda/kernels.h"
#include "engine/cuda/stem.cuh"
#include "engine/cuda/variants.h"

#define VARIANT(...) PQ_CU_VARIANT(MMA_F16, __VA_ARGS__)

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

extern "C" pq_cu_stem_kernel pq_cu_stem_f16(int n) { return stem_for<MMA_F16>(n); }
