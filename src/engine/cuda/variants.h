/**
 * @file variants.h
 * The shapes in which conv_mma is built: X(pixels, channels, pixels a warp, channels a warp, warps
 * that share such a tile, bytes of the inner dimension a stage, stages). Small ones fill a GPU from
 * the small maps of batch 1, large ones load less per product. Which one runs a layer is measured
 * (tune.c).
 */
#define PQ_CU_TENSOR_VARIANTS(X)                                                                   \
    X(16, 32, 16, 32, 4, 256, 4)                                                                   \
    X(16, 32, 16, 32, 8, 256, 4)                                                                   \
    X(16, 64, 16, 32, 4, 256, 4)                                                                   \
    X(32, 32, 32, 32, 4, 128, 6)                                                                   \
    X(32, 32, 32, 32, 8, 256, 4)                                                                   \
    X(32, 32, 16, 32, 4, 256, 4)                                                                   \
    X(32, 64, 32, 32, 4, 256, 3)                                                                   \
    X(32, 64, 32, 32, 2, 128, 4)                                                                   \
    X(32, 64, 16, 32, 4, 256, 3)                                                                   \
    X(64, 32, 32, 32, 4, 256, 3)                                                                   \
    X(64, 32, 16, 32, 2, 128, 4)                                                                   \
    X(64, 32, 16, 32, 1, 64, 4)                                                                    \
    X(64, 64, 32, 32, 1, 128, 3)                                                                   \
    X(64, 64, 32, 32, 2, 128, 4)                                                                   \
    X(64, 64, 32, 32, 4, 256, 3)                                                                   \
    X(64, 64, 16, 32, 1, 128, 3)                                                                   \
    X(64, 96, 32, 48, 2, 128, 3)                                                                   \
    X(64, 96, 32, 48, 4, 256, 2)                                                                   \
    X(128, 32, 32, 32, 1, 64, 4)                                                                   \
    X(128, 32, 16, 32, 1, 64, 3)                                                                   \
    X(128, 32, 32, 32, 2, 128, 3)                                                                  \
    X(128, 64, 32, 32, 1, 64, 4)                                                                   \
    X(128, 64, 32, 32, 2, 128, 3)                                                                  \
    X(64, 128, 32, 32, 2, 128, 3)                                                                  \
    X(128, 128, 64, 32, 1, 64, 4)                                                                  \
    X(128, 128, 32, 64, 1, 128, 3)                                                                 \
    X(128, 128, 32, 32, 1, 64, 4)                                                                  \
    X(256, 32, 32, 32, 1, 64, 3)                                                                   \
    X(256, 64, 64, 32, 1, 64, 3)

/** Of sm_90: four warps multiply together (0 of the warps that share), a warp holds 16 pixels. */
#define PQ_CU_GROUP_VARIANTS(X)                                                                    \
    X(64, 32, 16, 32, 0, 128, 6)                                                                   \
    X(64, 64, 16, 64, 0, 128, 4)                                                                   \
    X(64, 64, 16, 64, 0, 128, 6)                                                                   \
    X(64, 96, 16, 96, 0, 128, 4)                                                                   \
    X(64, 128, 16, 128, 0, 128, 4)                                                                 \
    X(128, 32, 16, 32, 0, 64, 4)                                                                   \
    X(128, 32, 16, 32, 0, 128, 4)                                                                  \
    X(128, 64, 16, 64, 0, 64, 4)                                                                   \
    X(128, 64, 16, 64, 0, 128, 4)                                                                  \
    X(128, 96, 16, 96, 0, 128, 4)                                                                  \
    X(128, 128, 16, 128, 0, 128, 3)                                                                \
    X(128, 128, 16, 128, 0, 128, 4)                                                                \
    X(256, 32, 16, 32, 0, 64, 4)                                                                   \
    X(256, 64, 16, 64, 0, 128, 3)

#define PQ_CU_F32_VARIANTS(X)                                                                      \
    X(32, 32, 16, 16, 1, 64, 4)                                                                    \
    X(64, 64, 32, 32, 1, 64, 3)                                                                    \
    X(128, 64, 32, 32, 1, 64, 3)

/** One of them for a kind of conv_mma, as a pq_cu_variant. */
#define PQ_CU_VARIANT(kind, bm, bn, wm, wn, wk, row, stages)                                       \
    {KERNEL((conv_mma<kind, bm, bn, wm, wn, wk, row, stages>)),                                    \
     bm,                                                                                           \
     bn,                                                                                           \
     wk,                                                                                           \
     row,                                                                                          \
     stages,                                                                                       \
     PQ_CU_CONV_THREADS(bm, bn, wm, wn, wk),                                                       \
     PQ_CU_CONV_SMEM(bm, bn, wk, row, stages)},
