/* Weighted nodes as plain numbers. */
#include "engine/weights.h"

#include <math.h>

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

float pq_act_apply(pq_act act, float alpha, float beta, float x)
{
    switch (act) {
    case PQ_ACT_NONE: return x;
    case PQ_ACT_RELU: return x > 0 ? x : 0;
    case PQ_ACT_LEAKY_RELU: return x > 0 ? x : alpha * x;
    case PQ_ACT_CLIP: return x < alpha ? alpha : x > beta ? beta : x;
    case PQ_ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
    case PQ_ACT_SILU: return x / (1.0f + expf(-x));
    case PQ_ACT_HARD_SIGMOID: return fmaxf(0.0f, fminf(1.0f, fmaf(alpha, x, beta)));
    case PQ_ACT_HARD_SWISH: return x * fmaxf(0.0f, fminf(1.0f, fmaf(1.0f / 6, x, 0.5f)));
    case PQ_ACT_TANH: return tanhf(x);
    }
    return x;
}
