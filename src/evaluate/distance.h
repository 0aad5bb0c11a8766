/** @file distance.h  How far what one network finds is from what another finds. */
#ifndef PQ_EVALUATE_DISTANCE_H
#define PQ_EVALUATE_DISTANCE_H

#include <pquant/evaluate.h>

/**
 * Sum of s (s (1 - IoU) + |s - s'|) over the detections of `base`, of score s, and their
 * counterparts of score s' in `other`, and of s'^2 over those that have none: added to *error; the
 * sum of s^2 is added to *weight. Both lists image by image in the same order of images, best score
 * first. Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_detections_distance(pq_ctx *ctx, double *error, double *weight,
                                             const pq_detection *base, size_t n_base,
                                             const pq_detection *other, size_t n_other);

/** |y - y0|^2 / |y0|^2 of one output, at most 1. What is not a number on one side only (a box that
 *  is not there) counts as all noise. */
double pq_outputs_distance(const float *y, const float *y0, size_t n);

#endif
