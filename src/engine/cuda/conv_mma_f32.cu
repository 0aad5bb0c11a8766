/* conv_mma for f32: one translation unit a type, so that they compile side by side. */
#include "engine/cuda/conv_mma.cuh"
#include "engine/cuda/kernels.h"
#include "engine/cuda/variants.h"

#define VARIANT(...) PQ_CU_VARIANT(MMA_F32, __VA_ARGS__)

static const pq_cu_variant variants[] = {PQ_CU_F32_VARIANTS(VARIANT)};

extern "C" const pq_cu_variant *pq_cu_variants_f32(int *n)
{
    *n = (int)(sizeof variants / sizeof *variants);
    return variants;
}
