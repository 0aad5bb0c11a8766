/** @file nms.h  Greedy non-maximum suppression within classes. */
#ifndef PQ_DETECT_NMS_H
#define PQ_DETECT_NMS_H

#include "base/ctx.h"

typedef struct pq_candidate {
    float score;
    int32_t cls;  /* 0 .. n_classes-1 */
    uint32_t box; /* index: candidates of one anchor share a box */
} pq_candidate;

/** Corners in pixels. */
typedef struct pq_box {
    double x1, y1, x2, y2;
} pq_box;

/**
 * Candidates that stay, best score first, equal scores in the order given: one stays unless its
 * IoU with a better one of its class that stays is > iou. It stops at max_det, so that only as much
 * is ordered as is needed.  IoU = inter / (area_a + area_b - inter + 1e-9), in double.
 * @param keep out: indices into c, room for max_det.
 * Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_detect__nms(pq_ctx *ctx, uint32_t *keep, size_t *n_keep,
                                     const pq_candidate *c, size_t n, const pq_box *box,
                                     int n_classes, double iou, size_t max_det);

#endif
