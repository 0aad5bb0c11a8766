/**
 * @file variants.h
 * The shapes in which conv_mma is built: X(pixels, channels, pixels a warp, channels a warp,
 * bytes of the inner dimension a stage, stages). Small ones fill a GPU from the small maps of batch
 * 1, large ones load less per product. Which one runs a layer is measured (tune.c).
 */
#define PQ_CU_TENSOR_VARIANTS(X)                                                                   \
    X(16, 32, 16, 16, 128, 4)                                                                      \
    X(32, 32, 16, 16, 128, 4)                                                                      \
    X(32, 64, 16, 32, 128, 4)                                                                      \
    X(64, 32, 32, 16, 128, 4)                                                                      \
    X(64, 32, 16, 32, 64, 4)                                                                       \
    X(64, 64, 32, 32, 64, 4)                                                                       \
    X(64, 64, 32, 32, 128, 3)                                                                      \
    X(64, 96, 32, 48, 128, 3)                                                                      \
    X(128, 32, 32, 32, 64, 4)                                                                      \
    X(128, 64, 64, 32, 64, 4)                                                                      \
    X(128, 64, 32, 32, 128, 3)                                                                     \
    X(128, 96, 64, 48, 64, 3)                                                                      \
    X(64, 128, 32, 64, 64, 4)                                                                      \
    X(128, 128, 64, 32, 64, 4)                                                                     \
    X(128, 128, 64, 32, 128, 3)                                                                    \
    X(256, 64, 64, 32, 64, 3)

#define PQ_CU_F32_VARIANTS(X)                                                                      \
    X(32, 32, 16, 16, 64, 4)                                                                       \
    X(64, 64, 32, 32, 64, 3)                                                                       \
    X(128, 64, 32, 32, 64, 3)
