/** @file tiny.h  Detectors of a few layers with fixed weights, and pictures with boxes for them:
 *  what tests of engines, sweeps and the command run on where no real model is at hand. */
#ifndef PQ_TESTS_SUPPORT_TINY_H
#define PQ_TESTS_SUPPORT_TINY_H

#include <pquant/calibrate.h>
#include <pquant/detect.h>

#include "support/check.h"

typedef enum tiny_family {
    TINY_YOLOX, /* SiLU, letterbox; output [1, 84, 8] */
    TINY_DAMO   /* ReLU, GflDecode; scores [1, 84, 3], boxes [1, 84, 4] */
} tiny_family;

enum { TINY_CLASSES = 3, TINY_SIDE = 64 };

/** Input "images" [1, 3, 64, 64]; Focus, convolutions, a residual sum, pooling, Concat, Resize,
 * heads at strides 8, 16, 32. Folded, numbered and sealed. Ends the test on failure; pq_graph_free.
 */
pq_graph *tiny_detector(pq_ctx *ctx, tiny_family family);

/** Deterministic picture number i, of 96 x 80 pixels. Clear with pq_image_clear. */
void tiny_picture(pq_ctx *ctx, pq_image *out, int i);

/**
 * Make folder/images/000000000001.png … (n of them, from picture number `first` on) and
 * folder/ann.json, whose boxes are the best 4 n that the ref engine finds in float32: its AP is 1.
 */
void tiny_data(pq_ctx *ctx, const char *folder, const pq_graph *g, int first, int n);

/** All-INT8 plan from the ranges seen on n pictures. Free with pq_plan_free. */
pq_plan *tiny_int8_plan(pq_ctx *ctx, const pq_graph *g, pq_scheme scheme, int n);

#endif
