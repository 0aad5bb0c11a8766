/** @file distance.h  How far what one network finds is from what another finds. */
#ifndef PQ_EVALUATE_DISTANCE_H
#define PQ_EVALUATE_DISTANCE_H

#include <pquant/engine.h>
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

/** Floats of all outputs of one run. */
size_t pq_outputs_floats(const pq_session *s);
/** All outputs of a run, one behind the other. */
void pq_outputs_store(float *to, const pq_tensor *y, size_t n_outputs);
/** |y - y0|^2 / |y0|^2 of one output, at most 1. What is not a number on one side only (a box that
 *  is not there) counts as all noise. */
double pq_outputs_distance(const float *y, const float *y0, size_t n);

#endif
