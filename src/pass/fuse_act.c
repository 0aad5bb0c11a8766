/* x * Sigmoid(x) into Silu; activations into the node before them. */
#include "pass/edit.h"

/* Mul(x, s) with s = Sigmoid(x) and nobody else reading s. */
static bool fuse_silu(pq_graph *g, pq_node *mul)
{
    for (int i = 0; i < 2; i++) {
        pq_node *s = pq_edit_private_producer(g, mul->in[i]);
        if (!s || s->op != PQ_OP_SIGMOID || s->in[0] != mul->in[1 - i]) continue;
        mul->op = PQ_OP_SILU;
        mul->type = pq_op_name(PQ_OP_SILU);
        mul->in[0] = s->in[0];
        mul->n_in = 1;
        s->dead = true;
        return true;
    }
    return false;
}

static pq_act act_of(const pq_node *n)
{
    switch (n->op) {
    case PQ_OP_RELU: return PQ_ACT_RELU;
    case PQ_OP_LEAKY_RELU: return PQ_ACT_LEAKY_RELU;
    case PQ_OP_CLIP: return PQ_ACT_CLIP;
    case PQ_OP_SIGMOID: return PQ_ACT_SIGMOID;
    case PQ_OP_SILU: return PQ_ACT_SILU;
    case PQ_OP_HARD_SIGMOID: return PQ_ACT_HARD_SIGMOID;
    case PQ_OP_HARD_SWISH: return PQ_ACT_HARD_SWISH;
    case PQ_OP_TANH: return PQ_ACT_TANH;
    default: return PQ_ACT_NONE;
    }
}

static bool has_parameters(pq_act a)
{
    return a == PQ_ACT_LEAKY_RELU || a == PQ_ACT_CLIP || a == PQ_ACT_HARD_SIGMOID;
}

/* Bounds of a Clip are attributes once inference has seen that its inputs are constant. */
static bool bounds_known(const pq_graph *g, const pq_node *n)
{
    for (int i = 1; i < n->n_in; i++)
        if (n->in[i] != PQ_NONE && !g->value[n->in[i]].data) return false;
    return true;
}

/* A Gemm keeps alpha and beta for itself. */
static bool takes(const pq_node *n, pq_act act)
{
    if (n->attr.act != PQ_ACT_NONE) return false;
    switch (n->op) {
    case PQ_OP_CONV:
    case PQ_OP_CONV_TRANSPOSE:
    case PQ_OP_MATMUL:
    case PQ_OP_ADD: return true;
    case PQ_OP_GEMM: return !has_parameters(act);
    default: return false;
    }
}

static bool fuse_into_producer(pq_graph *g, pq_node *n)
{
    const pq_act act = act_of(n);
    if (act == PQ_ACT_NONE || !bounds_known(g, n)) return false;
    pq_node *to = pq_edit_private_producer(g, n->in[0]);
    if (!to || !takes(to, act) || g->value[n->in[0]].dtype != PQ_F32) return false;
    to->attr.act = act;
    if (has_parameters(act)) {
        to->attr.alpha = n->attr.alpha;
        to->attr.beta = n->attr.beta;
    }
    pq_edit_take_output(g, to, n);
    return true;
}

pq_status pq_pass_fuse_act(pq_ctx *ctx, size_t *fused, pq_graph *g)
{
    size_t n = 0;
    (void)ctx;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && g->node[i].op == PQ_OP_MUL) n += fuse_silu(g, &g->node[i]);
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead) n += fuse_into_producer(g, &g->node[i]);
    if (n) g->hash[0] = 0;
    if (fused) *fused = n;
    return PQ_OK;
}
