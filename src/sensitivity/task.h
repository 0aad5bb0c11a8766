/** @file task.h  One measurement of a sweep as a thing of its own, which any process that holds the
 *  same model, ranges and images can run. */
#ifndef PQ_SENSITIVITY_TASK_H
#define PQ_SENSITIVITY_TASK_H

#include "sensitivity/meter.h"

/** A unit that differs from its end, and how many first steps of the network they share. */
typedef struct pq_task {
    bool screen, int8; /* int8: the end where all units but this one are in INT8 */
    size_t unit, prefix;
} pq_task;

/** Runs tasks one after another and keeps what they share. Tasks of one kind and end go fastest in
 *  the order of their prefix. */
typedef struct pq_runner {
    pq_meter *m; /* borrowed, as units */
    const pq_units *units;
    const bool *aside; /* per unit: in full precision at the far end; NULL: none. Borrowed */
    bool *on;          /* per unit */
    uint8_t *label;    /* of the last pq_runner_set */
    char *bits;
    pq_start prefix;
    pq_task end; /* whose network prefix holds */
} pq_runner;

PQ_MUST_USE pq_status pq_runner_init(pq_ctx *ctx, pq_runner *r, pq_meter *m, const pq_units *units,
                                     const bool *aside);
void pq_runner_clear(pq_runner *r);
/** r->label and r->bits of a task's network; unit units->n: of its end. */
void pq_runner_set(pq_runner *r, const pq_task *t);
/** The prefix of a task from what the engine says; 0 where it cannot go on from the middle. */
PQ_MUST_USE pq_status pq_runner_prefix(pq_ctx *ctx, pq_runner *r, pq_task *t);
/** Measure and note it in the meter's journal. out->bits is the runner's. */
PQ_MUST_USE pq_status pq_runner_run(pq_ctx *ctx, pq_entry *out, pq_runner *r, const pq_task *t);

#endif
