/*
 * Non-maximum suppression. Candidates leave a heap in order of score; each is compared with the
 * boxes of its class that stayed. That is greedy suppression over the sorted list, without
 * sorting what lies behind the last box that stays.
 */
#include "detect/nms.h"

#include "base/mem.h"
#include "engine/suppress.h"

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    const uint64_t v = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= v) break;
        heap[at] = heap[child];
    }
    heap[at] = v;
}

pq_status pq_detect__nms(pq_ctx *ctx, uint32_t *keep, size_t *n_keep, const pq_candidate *c,
                         size_t n, const pq_box *box, int n_classes, double iou, size_t max_det)
{
    pq_status st;
    uint64_t *heap = NULL;
    struct {
        double area;
        uint32_t next; /* 1 + position in keep of the next one of the class, 0: none */
    } *kept = NULL;
    uint32_t *first = NULL; /* the same, per class */
    *n_keep = 0;
    PQ_TRY(pq_alloc(ctx, &heap, n, sizeof *heap));
    PQ_TRY(pq_alloc(ctx, &kept, max_det, sizeof *kept));
    PQ_TRY(pq_alloc(ctx, &first, (size_t)n_classes, sizeof *first));
    for (size_t i = 0; i < n; i++) heap[i] = pq_score_key(c[i].score, (uint32_t)i);
    for (size_t i = n / 2; i-- > 0;) sift_down(heap, n, i);
    for (size_t left = n; left > 0 && *n_keep < max_det;) {
        const uint32_t best = (uint32_t)heap[0];
        heap[0] = heap[--left];
        sift_down(heap, left, 0);
        const pq_box *b = &box[c[best].box];
        const double area_b = pq_box_area(b);
        uint32_t k = first[c[best].cls];
        while (k && !pq_box_overlaps(&box[c[keep[k - 1]].box], kept[k - 1].area, b, area_b, iou))
            k = kept[k - 1].next;
        if (k) continue;
        keep[*n_keep] = best;
        kept[*n_keep].area = area_b;
        kept[*n_keep].next = first[c[best].cls];
        *n_keep += 1;
        first[c[best].cls] = (uint32_t)*n_keep;
    }
out:
    pq_free(heap);
    pq_free(kept);
    pq_free(first);
    return st;
}
