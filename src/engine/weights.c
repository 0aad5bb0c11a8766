/* Weighted nodes as plain numbers. */
#include "engine/weights.h"

#include "base/mem.h"

const float *pq_weight_data(const pq_graph *g, const pq_node *n)
{
    return pq_buf_data(pq_in(g, n, 1)->data);
}

const float *pq_bias_data(const pq_graph *g, const pq_node *n)
{
    const pq_value *b = pq_in(g, n, 2);
    return b ? pq_buf_data(b->data) : NULL;
}

pq_status pq_step_quantize(pq_ctx *ctx, int8_t **q, float **scale, const pq_program *p,
                           const pq_node *n)
{
    const pq_tensor *given = &p->weight_scale[n->in[1]];
    return pq_plan_quantize_weights(ctx, q, scale, pq_weight_data(p->graph, n),
                                    &pq_in(p->graph, n, 1)->shape, pq_weight_axis(p->graph, n),
                                    given->buf ? pq_tensor_data(given) : NULL);
}
