/** @file kernels.h  The kernels as the host sees them: addresses for cudaLaunchKernelExC, each
 * taking one parameter struct of shared.h by value. */
#ifndef PQ_ENGINE_CUDA_KERNELS_H
#define PQ_ENGINE_CUDA_KERNELS_H

#include "engine/cuda/shared.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One shape of conv_mma; wk 0: by wgmma. */
typedef struct pq_cu_variant {
    const void *kernel;
    int bm, bn, wk, row, stages, threads, smem;
} pq_cu_variant;

enum { PQ_CU_KIND_F16, PQ_CU_KIND_S8, PQ_CU_KIND_F32, PQ_CU_KINDS };

/** Variants of a kind, in the order of variants.h; *n of them. */
const pq_cu_variant *pq_cu_variants_f16(int *n);
const pq_cu_variant *pq_cu_variants_s8(int *n);
const pq_cu_variant *pq_cu_variants_f32(int *n);

/** pq_cu_stem: a block rows x cols pixels of an image. */
typedef struct pq_cu_stem_kernel {
    const void *kernel;
    int rows, cols, threads, smem;
} pq_cu_stem_kernel;

/** For n output channels, at most PQ_CU_STEM_CHANNELS. */
pq_cu_stem_kernel pq_cu_stem_f16(int n);
pq_cu_stem_kernel pq_cu_stem_s8(int n);

/** The others: threads a block, and what one thread does. */
typedef struct pq_cu_kernels {
    const void *depthwise; /* pq_cu_conv: 8 channels of a pixel */
    const void *direct;    /* pq_cu_conv: 8 channels of a pixel, any groups, any form */
    const void *rows;      /* pq_cu_rows: 8 channels of a pixel */
    const void *pool;      /* pq_cu_pool: 8 channels of a pixel */
    const void *spp;       /* pq_cu_spp: a block of PQ_CU_SPP_THREADS 8 channels of an image */
    const void *image;     /* pq_cu_image: a pixel */
    const void *map;       /* pq_cu_map: an element */
    const void *reduce;    /* pq_cu_reduce: a row */
    const void *resize;    /* pq_cu_resize: an element */
    const void *decode;    /* pq_cu_decode: 8 classes of an anchor; behind those 16 an anchor */
} pq_cu_kernels;

enum { PQ_CU_THREADS = 128, PQ_CU_SPP_THREADS = 512 };

const pq_cu_kernels *pq_cu_kernels_get(void);

/** Around the network. */
typedef struct pq_cu_detect_kernels {
    const void *prepare;  /* pq_cu_prepare: a pixel */
    const void *collect;  /* pq_cu_suppress: a class of an anchor */
    const void *suppress; /* pq_cu_suppress: a block of PQ_CU_SUPPRESS_THREADS an image */
} pq_cu_detect_kernels;

const pq_cu_detect_kernels *pq_cu_detect_kernels_get(void);

#ifdef __cplusplus
}
#endif
#endif
