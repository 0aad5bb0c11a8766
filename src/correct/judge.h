/** @file judge.h  What a plan does to what the network finds, on images that no correction is
 * fitted on: whether a correction is accepted. */
#ifndef PQ_CORRECT_JUDGE_H
#define PQ_CORRECT_JUDGE_H

#include <pquant/correct.h>

typedef struct pq_judge {
    const pq_engine *engine;
    const pq_graph *g;
    const pq_dataset *data; /* the images */
    const pq_prep *prep;
    const pq_head *head; /* NULL: outputs that nobody can decode */
    pq_detections base;  /* what the float network finds */
    float *reference;    /* or its outputs, batch by batch */
} pq_judge;

/** Run the float network. All but *out is borrowed. Memory: pq_judge_clear. Errors: those of
 * running and decoding. */
PQ_MUST_USE pq_status pq_judge_new(pq_ctx *ctx, pq_judge *out, const pq_engine *engine,
                                   const pq_graph *g, const pq_dataset *data, const pq_prep *prep,
                                   const pq_head *head);
void pq_judge_clear(pq_judge *j);
/** How far a plan of g moves detections (pq_detections_distance over the sum of squared scores), or
 *  without a head the mean of pq_outputs_distance. 0: not at all. */
PQ_MUST_USE pq_status pq_judge_plan(pq_ctx *ctx, double *error, const pq_judge *j,
                                    const pq_plan *plan);

#endif
