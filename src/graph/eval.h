/**
 * @file eval.h
 * Plain evaluation of single operators: the truth for the `ref` engine's unweighted operators, and
 * the evaluator behind constant folding.
 *
 * float32 is computed in float32, one operation at a time as ONNX defines it; transcendental
 * functions are libm's float forms, but sigmoid(x) = 1 / (1 + pq_expf(-x)) and silu(x) = x
 * sigmoid(x), which have the same bits on every processor (base/expf.h). Sums (pooling, reductions,
 * softmax, MatMul) run in float in index order. Integers are computed in 64 bits and wrap into
 * their dtype. Other float types do not occur in graphs (readers make them float32).
 */
#ifndef PQ_GRAPH_EVAL_H
#define PQ_GRAPH_EVAL_H

#include <pquant/graph.h>

/** Everything but Conv and ConvTranspose. */
bool pq_eval_supports(pq_op op);

/**
 * Evaluate node n of an inferred graph.
 * @param in  n->n_in tensors with the dtypes and shapes that the graph gives the inputs; NULL for
 * an absent input, for inputs that shape inference turned into attributes or shapes (Slice, Pad,
 * Reshape, … from input 1 on), and for the input of Shape.
 * @param out n->n_out tensors, written over; yours to clear. All empty on error.
 * Errors: NOMEM; FORMAT (index out of range, integer division by zero); UNSUPPORTED (dtype);
 * INTERNAL (a tensor is not what the graph says).
 */
PQ_MUST_USE pq_status pq_eval_node(pq_ctx *ctx, const pq_graph *g, const pq_node *n,
                                   const pq_tensor *const in[], pq_tensor out[]);

/** Activation of one number, the truth for all engines; alpha and beta as pq_attr describes them.
 *  NaN stays NaN but for HardSigmoid and HardSwish. */
float pq_eval_act(pq_act act, float alpha, float beta, float x);
/** Fused activation in place. */
void pq_eval_acts(float *x, size_t n, pq_act act, float alpha, float beta);

/** What the files of the evaluator share: the operands of one node. */
typedef struct pq_eval {
    pq_ctx *ctx;
    const pq_graph *g;
    const pq_node *n;
    const pq_tensor *const *in;
    pq_tensor *out; /* allocated, zeroed */
} pq_eval;

PQ_MUST_USE pq_status pq_eval_unary(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_binary(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_compare(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_where(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_cast(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_move(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_index(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_search(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_resize(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_reduce(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_softmax(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_pool(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_batch_norm(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_gemm(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_matmul(const pq_eval *e);
PQ_MUST_USE pq_status pq_eval_gfl_decode(const pq_eval *e);

/** PQ_ABSENT where integers have 32 bits. */
#define PQ_ABSENT_32 (INT32_MIN + 0x6273)

/** Integer element access of any integer dtype or bool; storing wraps. PQ_ABSENT goes through. */
int64_t pq_eval_load(const pq_tensor *t, size_t i);
void pq_eval_store(pq_tensor *t, size_t i, int64_t v);
/** Towards zero, saturating; what is not a number has no index: PQ_ABSENT. */
int64_t pq_eval_to_int(double v);
/** Element i becomes what stands in rows that do not exist: NaN, PQ_ABSENT, false. */
void pq_eval_store_absent(pq_tensor *t, size_t i);

/** Row-major strides in elements of a tensor read under an output of the given rank: dimensions are
 *  aligned at the end and broadcast ones get stride 0. */
void pq_eval_strides(const pq_shape *s, int rank, int64_t stride[PQ_MAX_RANK]);

/** Walks an output of two or three broadcast inputs in rows along its last dimension. */
typedef struct pq_eval_rows {
    int64_t at[PQ_MAX_RANK], stride[3][PQ_MAX_RANK];
    const pq_shape *shape;
    size_t total, n, y;       /* n: elements a row; y: where the row begins in the output */
    size_t first[3], step[3]; /* of the row in each input */
} pq_eval_rows;
void pq_eval_rows_begin(pq_eval_rows *r, const pq_eval *e);
/** false after the last row. */
bool pq_eval_rows_next(pq_eval_rows *r, const pq_eval *e);

#endif
