/** @file tail.h  What an output is put together from, as far as that tells detection heads of the
 * same shape apart. */
#ifndef PQ_GRAPH_TAIL_H
#define PQ_GRAPH_TAIL_H

#include <pquant/graph.h>

enum { PQ_TAIL_PARTS = 8 };

/** The Concat that put a dimension of an output together. */
typedef struct pq_tail {
    int n;                       /* parts; 0: no such Concat */
    int64_t size[PQ_TAIL_PARTS]; /* of each part along the dimension */
    bool sigmoid[PQ_TAIL_PARTS]; /* it comes out of a Sigmoid */
    bool constant[PQ_TAIL_PARTS];
    bool last; /* no Concat of the places of several maps stands behind it */
} pq_tail;

/** Follow output v back along its dimension axis (0 .. rank-1) through what only moves elements.
 *  More parts than PQ_TAIL_PARTS count as none. */
void pq_graph_tail(pq_tail *out, const pq_graph *g, pq_value_id v, int axis);
/** Does v come out of a Sigmoid, but for what moves elements? Of a Concat, every part must. */
bool pq_graph_is_sigmoid(const pq_graph *g, pq_value_id v);

#endif
