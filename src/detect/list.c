/* The growable list of detections. */
#include <pquant/detect.h>

#include "base/mem.h"

pq_status pq_detections_push(pq_ctx *ctx, pq_detections *list, const pq_detection *d)
{
    if (list->n == list->room) {
        const size_t room = list->room ? 2 * list->room : 256;
        pq_status st = pq_grow(ctx, &list->at, list->n, room, sizeof *list->at);
        if (st != PQ_OK) return st;
        list->room = room;
    }
    list->at[list->n++] = *d;
    return PQ_OK;
}

void pq_detections_clear(pq_detections *list)
{
    pq_free(list->at);
    *list = (pq_detections){0};
}
