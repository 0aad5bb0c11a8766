/** @file nms.h  Greedy non-maximum suppression within classes. */
#ifndef PQ_DETECT_NMS_H
#define PQ_DETECT_NMS_H

#include <pquant/engine.h>

typedef struct pq_candidate {
    float score;
    int32_t cls;  /* 0 .. n_classes-1 */
    uint32_t box; /* index: candidates of one anchor share a box */
} pq_candidate;

/**
 * Candidates that stay, best score first, equal scores in the order given: one stays unless its
 * IoU with a better one of its class that stays is > iou. It stops at max_det, so that only as much
 * is ordered as is needed.  IoU: engine/suppress.h.
 * @param keep out: indices into c, room for max_det.
 * Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_detect__nms(pq_ctx *ctx, uint32_t *keep, size_t *n_keep,
                                     const pq_candidate *c, size_t n, const pq_box *box,
                                     int n_classes, double iou, size_t max_det);

#endif
