/** @file fit.h  From timed plans to a model. */
#ifndef PQ_LATENCY_FIT_H
#define PQ_LATENCY_FIT_H

#include "latency/journal.h"
#include "latency/terms.h"

/** Memory: *out is yours (pq_latency_free). Errors: INTERNAL (no time in the journal), NOMEM. */
PQ_MUST_USE pq_status pq_latency_fit_all(pq_ctx *ctx, pq_latency **out, const pq_terms *t,
                                         const pq_lat_journal *j);

#endif
