/* What the cuda engine can run. */
#include "engine/cuda/accepts.h"

#include "engine/cuda/shared.h"
#include "plan/names.h"

static bool has_kernel(pq_op op)
{
    switch (op) {
    case PQ_OP_BATCH_NORM: /* folded away before any engine */
    case PQ_OP_NOT:
    case PQ_OP_EQUAL:
    case PQ_OP_GREATER:
    case PQ_OP_LESS:
    case PQ_OP_GREATER_OR_EQUAL:
    case PQ_OP_LESS_OR_EQUAL:
    case PQ_OP_AND:
    case PQ_OP_OR:
    case PQ_OP_XOR:
    case PQ_OP_WHERE:
    case PQ_OP_TILE:
    case PQ_OP_GATHER:
    case PQ_OP_GATHER_ND:
    case PQ_OP_GATHER_ELEMENTS:
    case PQ_OP_SCATTER_ND:
    case PQ_OP_SCATTER_ELEMENTS:
    case PQ_OP_PAD:
    case PQ_OP_SHAPE:
    case PQ_OP_CONSTANT_OF_SHAPE:
    case PQ_OP_RANGE:
    case PQ_OP_ARG_MAX:
    case PQ_OP_ARG_MIN:
    case PQ_OP_TOP_K:
    case PQ_OP_NON_ZERO:
    case PQ_OP_NON_MAX_SUPPRESSION:
    case PQ_OP_COUNT: return false;
    default: return true;
    }
}

bool pq_cuda_accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why)
{
    *why = "bfloat16 is not among its precisions";
    if (p == PQ_PREC_BF16) return false;
    *why = "no kernel for this operator";
    if (!has_kernel(n->op)) return false;
    const bool weighted = pq_op_is_weighted(n->op);
    *why = "a product whose weights are not one constant matrix, or with a transposed input";
    if (weighted && (n->quant_index < 0 || ((n->op == PQ_OP_GEMM || n->op == PQ_OP_MATMUL) &&
                                            (pq_in(g, n, 1)->shape.rank != 2 || n->attr.trans_a ||
                                             pq_in(g, n, 0)->shape.rank == 4))))
        return false;
    *why = "more than two dimensions of a convolution";
    if ((n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE) && pq_in(g, n, 0)->shape.rank != 4)
        return false;
    *why = "a tensor of more than six dimensions";
    for (int k = 0; k < n->n_in; k++)
        if (pq_in(g, n, k) && pq_in(g, n, k)->shape.rank > PQ_CU_RANK) return false;
    for (int k = 0; k < n->n_out; k++)
        if (pq_out_value(g, n, k)->shape.rank > PQ_CU_RANK) return false;
    *why = "values that are not floats";
    for (int k = 0; k < n->n_in; k++)
        if (pq_in(g, n, k) && !pq_in(g, n, k)->data && pq_in(g, n, k)->dtype != PQ_F32)
            return false;
    for (int k = 0; k < n->n_out; k++)
        if (pq_out_value(g, n, k)->dtype != PQ_F32) return false;
    *why = "a head of more than eight levels";
    return n->op != PQ_OP_GFL_DECODE || n->attr.levels <= PQ_CU_LEVELS;
}
