/* Space to depth, written as slices and a concatenation, into Focus. Exporters write each quarter
 * as one slice of two dimensions or as two slices of one, so chains of slices are followed to their
 * source. */
#include "pass/edit.h"

/* Pixel (y, x) of what v is comes from (y * step + begin, …) of the source. */
typedef struct quarter {
    pq_value_id source;
    int64_t begin[2], step[2];
} quarter;

static bool trace(quarter *q, const pq_graph *g, pq_value_id v)
{
    *q = (quarter){v, {0, 0}, {1, 1}};
    for (;;) {
        const pq_node *n = pq_edit_producer(g, q->source);
        if (!n || n->op != PQ_OP_SLICE) return q->step[0] == 2 && q->step[1] == 2;
        const pq_shape *x = &g->value[n->in[0]].shape, *y = &g->value[q->source].shape;
        if (x->rank != 4 || y->rank != 4) return false;
        for (int i = 0; i < 2; i++) /* batch and channels whole */
            if (x->dim[i] != y->dim[i] || n->attr.begin[i] != 0) return false;
        for (int i = 0; i < 2; i++) {
            const int64_t begin = n->attr.begin[2 + i], step = n->attr.step[2 + i];
            if (step < 1 || step > 2 || begin < 0 || begin > 1) return false;
            q->begin[i] = q->begin[i] * step + begin;
            q->step[i] *= step;
        }
        q->source = n->in[0];
    }
}

static bool is_focus(const pq_graph *g, const pq_node *concat, pq_value_id *source)
{
    if (concat->n_in != 4 || concat->attr.axis != 1) return false;
    for (int i = 0; i < 4; i++) {
        quarter q;
        if (!trace(&q, g, concat->in[i]) || (i && q.source != *source)) return false;
        *source = q.source;
        const pq_shape *x = &g->value[q.source].shape, *y = &g->value[concat->in[i]].shape;
        /* top-left, bottom-left, top-right, bottom-right; every pixel in one of them */
        if (q.begin[0] != i % 2 || q.begin[1] != i / 2 || x->rank != 4) return false;
        if (x->dim[2] != 2 * y->dim[2] || x->dim[3] != 2 * y->dim[3]) return false;
    }
    return true;
}

pq_status pq_pass_fuse_focus(pq_ctx *ctx, size_t *fused, pq_graph *g)
{
    size_t n = 0;
    (void)ctx;
    for (size_t i = 0; i < g->n_nodes; i++) {
        pq_node *concat = &g->node[i];
        pq_value_id source = PQ_NONE;
        if (concat->dead || concat->op != PQ_OP_CONCAT || !is_focus(g, concat, &source)) continue;
        concat->op = PQ_OP_FOCUS;
        concat->type = pq_op_name(PQ_OP_FOCUS);
        concat->in[0] = source; /* the slices die where nobody else reads them (dead_code) */
        concat->n_in = 1;
        n++;
    }
    if (n) g->hash[0] = 0;
    if (fused) *fused = n;
    return PQ_OK;
}
