/** @file work.h  What the parts of pq_correct share. */
#ifndef PQ_CORRECT_WORK_H
#define PQ_CORRECT_WORK_H

#include <pquant/correct.h>

#include "correct/journal.h"
#include "correct/judge.h"
#include "correct/lockstep.h"
#include "correct/spots.h"

/** Everything that one pq_correct works on. */
typedef struct pq_correct_work {
    pq_ctx *ctx;
    const pq_correct_opts *o;
    const pq_engine *engine;
    const pq_graph *given;
    const pq_dataset *data;
    const pq_prep *prep;
    const pq_head *head;
    pq_graph *g; /* batch 1, equalised */
    pq_ranges *ranges;
    pq_corrections *c;
    pq_plan *plan;
    pq_binding b;
    pq_dataset apart; /* the images that it is judged on; none: too few */
    pq_judge judge;
    pq_dataset part; /* of the others, those that are run in lockstep */
    pq_lockstep l;
    pq_spots spots;
    pq_correct_journal journal;
    const pq_encoding **encoding; /* per value */
    size_t *group_size;           /* per value: listed values that share its scale */
} pq_correct_work;

/** Of every PQ_APART images the last is kept apart for judging, where PQ_FEWEST were given. */
enum { PQ_APART = 4, PQ_FEWEST = 16 };

/** Seconds since some moment. */
double pq_correct_now(void);
/** The graph given, for one image. Memory: *out is the caller's. */
PQ_MUST_USE pq_status pq_correct_copy(const pq_correct_work *w, pq_graph **out);
/** The assignment that is corrected for. Memory: *out is the caller's. */
PQ_MUST_USE pq_status pq_correct_int8(const pq_correct_work *w, bool **out);

/** Keep images apart and see what the float network finds on them; with too few images nothing is
 *  judged and all is accepted. */
PQ_MUST_USE pq_status pq_correct_open_judge(pq_correct_work *w);
/** Ranges of the network as it is now. `auto` is the calibrator that moves detections least. */
PQ_MUST_USE pq_status pq_correct_calibrate(pq_correct_work *w);
/** Back to the network as it was given, if equalisation did not help. */
PQ_MUST_USE pq_status pq_correct_check_equal(pq_correct_work *w);
/** What the walk found, in two steps; what does not help goes. `before`: the ranges as they were.
 */
PQ_MUST_USE pq_status pq_correct_check_walk(pq_correct_work *w, const pq_range *before);

/** Node by node in order: re-encode, reconstruct. */
PQ_MUST_USE pq_status pq_correct_walk(pq_correct_work *w);

#endif
