/** @file proxy.h  How far outputs are from those of full precision: a score for networks whose
 *  outputs nobody can decode. */
#ifndef PQ_SENSITIVITY_PROXY_H
#define PQ_SENSITIVITY_PROXY_H

#include "sensitivity/meter.h"

/**
 * 1 - |y - y0|^2 / |y0|^2, at least 0, the mean over outputs and images; y0: the same engine in the
 * base precision. 1 is no error, 0.999 is 30 dB. It stands in the place of AP in *out, the other
 * figures are -1. The first call makes the references, of as many images as half the meter's cache
 * holds, in order. Errors: those of compiling and running; NOMEM.
 */
PQ_MUST_USE pq_status pq_proxy_run(pq_ctx *ctx, pq_figures *out, pq_meter *m, pq_session *s,
                                   const pq_start *p);

#endif
