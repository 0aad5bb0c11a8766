/** @file head.h  What the files that decode heads share: candidates, and reading outputs of any
 * layout. */
#ifndef PQ_DETECT_HEAD_H
#define PQ_DETECT_HEAD_H

#include <pquant/detect.h>

#include "detect/nms.h"

/** Candidates of one image. Arrays grow over the images of a call and are used again. */
typedef struct pq_pool {
    pq_candidate *c;
    pq_box *box;
    uint32_t *keep;
    size_t n, room, n_boxes, room_boxes;
} pq_pool;

/** An anchor's classes with factor * score > conf, all with the box given. found: an upper bound of
 *  how many. */
PQ_MUST_USE pq_status pq_pool_add(pq_ctx *ctx, pq_pool *p, const float *score, float factor,
                                  float conf, int n_classes, size_t found, const pq_box *box);
/** How many classes have factor * score > conf. */
size_t pq_pool_above(const float *score, float factor, float conf, int n);

/** Numbers of one kind in an output: channel c of place i of anchor a. */
typedef struct pq_plane {
    int output;
    int64_t first, channel, place, anchor; /* elements; first: of an image */
} pq_plane;

/** One map, or its part of a list. */
typedef struct pq_head_level {
    pq_plane cls, reg, obj;
    bool has_obj;
    int64_t n, w; /* places; in a row */
    int stride;
    const float *anchor; /* [n_anchors][2], NULL: none */
} pq_head_level;

/** Lay the levels of a head out over outputs of the given shapes. Errors: UNSUPPORTED (output,
 *  found, expected). */
PQ_MUST_USE pq_status pq_head_layout(pq_ctx *ctx, pq_head_level level[PQ_HEAD_LEVELS], int *n,
                                     const pq_head *h, const pq_shape *shape, size_t n_outputs);
/** Candidates of image i. row: room for n_classes floats. */
PQ_MUST_USE pq_status pq_head_collect(pq_ctx *ctx, pq_pool *p, const pq_head *h,
                                      const pq_head_level *level, int n_levels,
                                      const pq_tensor *output, size_t i, float *row);

/** A box in pixels of the picture, its class as the result counts it; none where it has none. */
PQ_MUST_USE pq_status pq_head_emit(pq_ctx *ctx, pq_detections *list, const pq_box *box, float score,
                                   int32_t cls, const pq_head *h, const pq_geometry *geo,
                                   int64_t image);

/** PQ_HEAD_BOXES. Errors as pq_head_layout. */
PQ_MUST_USE pq_status pq_boxes_check(pq_ctx *ctx, const pq_head *h, const pq_shape *shape,
                                     size_t n_outputs);
PQ_MUST_USE pq_status pq_boxes_collect(pq_ctx *ctx, pq_pool *p, const pq_head *h,
                                       const pq_tensor *output, size_t i);

#endif
