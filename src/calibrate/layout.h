/** @file layout.h  Which values an assignment of precisions quantizes, and which of them share a
 * scale. */
#ifndef PQ_CALIBRATE_LAYOUT_H
#define PQ_CALIBRATE_LAYOUT_H

#include <pquant/plan.h>

typedef struct pq_scale_layout {
    bool *listed;    /* per value: gets Q/DQ */
    uint32_t *group; /* per value: root of its scale group */
    bool *defines;   /* per value: its range counts for its group */
} pq_scale_layout;

/** int8: per quant_index. Memory: clear with pq_scale_layout_clear. */
PQ_MUST_USE pq_status pq_scale_layout_new(pq_ctx *ctx, pq_scale_layout *out, const pq_graph *g,
                                          const bool *int8);
void pq_scale_layout_clear(pq_scale_layout *l);

/** The grid of a range, without a name: amax counts for s8, lo and hi for u8. */
pq_plan_tensor pq_range_grid(pq_scheme scheme, double amax, double lo, double hi);

#endif
