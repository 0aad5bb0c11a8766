/** @file resize.h  Where a resized picture's pixels come from. */
#ifndef PQ_DATA_RESIZE_H
#define PQ_DATA_RESIZE_H

#include <pquant/data.h>

/** Of n pixels to m; t [m]. down: of rows, which keep their weights at the edges, where both are of
 *  the same row. */
void pq_resize_taps(pq_tap *t, int n, int m, bool down);

#endif
