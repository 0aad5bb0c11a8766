/** @file spots.h  Where to look: positions of feature maps, most of them on what the float network
 *  finds. */
#ifndef PQ_CORRECT_SPOTS_H
#define PQ_CORRECT_SPOTS_H

#include <pquant/correct.h>

#include "base/rng.h"

/** Boxes of one image, in parts of the network's input; `until` is the running sum of scores. */
typedef struct pq_spot {
    float x0, y0, x1, y1;
    double until;
} pq_spot;

typedef struct pq_spots {
    size_t n_images;
    pq_spot **box; /* per image, NULL where nothing was found */
    size_t *n_boxes;
} pq_spots;

/** Run the float network and keep what it finds; head NULL: nothing. Memory: pq_spots_clear.
 * Errors: those of running and decoding. */
PQ_MUST_USE pq_status pq_spots_new(pq_ctx *ctx, pq_spots *out, const pq_engine *engine,
                                   const pq_graph *g, const pq_dataset *data, const pq_prep *prep,
                                   const pq_head *head);
void pq_spots_clear(pq_spots *s);
/** A position of a map of h x w of image i: three in four fall on a box (chosen by score, then
 *  anywhere in it), the rest anywhere. */
size_t pq_spots_draw(const pq_spots *s, pq_rng *rng, size_t i, size_t h, size_t w);

#endif
