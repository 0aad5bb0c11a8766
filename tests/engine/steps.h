/** @file steps.h  The cpu engine against ref, one step at a time: before each step cpu's inputs are
 *  overwritten with ref's, so that a difference belongs to the step that shows it. */
#ifndef PQ_TESTS_ENGINE_STEPS_H
#define PQ_TESTS_ENGINE_STEPS_H

#include <pquant/engine.h>

#include "support/check.h"

/** Differences of quantized elements, added up over runs. */
typedef struct steps_tally {
    size_t elements, unequal;
    int worst;       /* levels */
    double real;     /* largest |a - b| / max|a| of a float32 slot */
    double bfloat;   /* the same of a bfloat16 slot */
    char where[192]; /* node of the worst quantized or float32 difference */
} steps_tally;

/** Runs all steps of g under plan on both engines. Ends the test on failure. */
void steps_compare(steps_tally *t, pq_ctx *ctx, const pq_graph *g, const pq_plan *plan,
                   const pq_tensor *in);

#endif
