/** @file watch.h  Seeing every float value of a network on the images of a data set. */
#ifndef PQ_CALIBRATE_WATCH_H
#define PQ_CALIBRATE_WATCH_H

#include <pquant/data.h>
#include <pquant/engine.h>

/** Run the float network over the images with taps->tap (engine.h). Progress goes by `stage`.
 *  Errors: those of the images, compiling and running; the tap's own; CANCELLED. */
PQ_MUST_USE pq_status pq_watch_dataset(pq_ctx *ctx, const pq_engine *engine, const pq_graph *g,
                                       const pq_dataset *data, const pq_prep *prep,
                                       const pq_compile_opts *taps, const char *stage);

#endif
