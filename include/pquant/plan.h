/**
 * @file plan.h
 * The decision as data: a precision for every operator, a scale for every quantized tensor,
 * corrected weights.
 *
 * What a plan means, to every engine and exporter alike. For a value x in `tensors` with scale s
 * and zero point z,
 *     Q(x) = saturate(round_half_even(x / s) + z)      x^ = (Q(x) - z) * s
 *  - An INT8 weighted node (Conv, ConvTranspose, Gemm, MatMul) reads x^ of its data input, which
 * must be in `tensors`, and its weights rounded to s8 with one scale per output channel (amax /
 * 127, or the scale the plan gives); bias and activation are real-valued, sums int32.
 *  - A weighted node of another precision reads x itself.
 *  - Every other node is in the INT8 domain when all its outputs are in `tensors` and only INT8
 *    nodes or nodes in the INT8 domain read them (MaxPool: and its own precision is INT8). It then
 * reads x^ of those inputs that are in `tensors` and x itself of the others (the sum of a residual
 * Add that stays in the accumulator). Outside the INT8 domain it reads x. So the numbers depend on
 * the plan alone; which of x and x^ is stored, and where conversions run, is the engine's affair.
 *  - In a plan that rounds outputs, the result of an INT8 weighted node that is in `tensors` is x^
 * for all that read it: what an engine gives whose INT8 kernels write integers only (ONNX Runtime).
 * Source: Jacob et al. 2018, arXiv:1712.05877; ONNX QuantizeLinear.
 */
#ifndef PQUANT_PLAN_H
#define PQUANT_PLAN_H

#include <pquant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pq_precision {
    PQ_PREC_FP32 = 0,
    PQ_PREC_FP16,
    PQ_PREC_BF16,
    PQ_PREC_INT8
} pq_precision;
/** "fp32", "fp16", "bf16", "int8". */
PQ_API const char *pq_precision_name(pq_precision p);
/** Errors: INVALID (the names that exist). */
PQ_API PQ_MUST_USE pq_status pq_precision_parse(pq_ctx *ctx, pq_precision *out, const char *name);

/** s8: symmetric activations, zero point 0, range -128..127. u8: 0..255 with any zero point.
 * Weights are s8 per output channel in both. */
typedef enum pq_scheme { PQ_SCHEME_S8 = 0, PQ_SCHEME_U8 } pq_scheme;

typedef struct pq_plan_node {
    char *name, *type;
    bool quantizable;
    pq_precision precision;
} pq_plan_node;

typedef struct pq_plan_tensor {
    char *name;
    pq_dtype dtype; /* PQ_S8 or PQ_U8 */
    float scale;    /* > 0, real units per step */
    int32_t zero_point;
} pq_plan_tensor;

/** A weight or bias that calibration corrected; replaces the graph's constant of that name. */
typedef struct pq_plan_weight {
    char *name;
    pq_tensor data;  /* float32, the constant's shape */
    pq_tensor scale; /* float32 [O], or empty: amax / 127 per output channel */
} pq_plan_weight;

typedef struct pq_plan {
    char graph_hash[65];
    pq_scheme scheme;
    pq_precision base;   /* precision of whatever is not INT8: FP32, FP16 or BF16 */
    bool rounds_outputs; /* see above */
    pq_plan_node *node;
    size_t n_nodes;
    pq_plan_tensor *tensor;
    size_t n_tensors;
    pq_plan_weight *weight;
    size_t n_weights;
} pq_plan;

PQ_API void pq_plan_free(pq_plan *p);
/** Every operator of g at one float precision, nothing quantized. Memory: yours. */
PQ_API PQ_MUST_USE pq_status pq_plan_float(pq_ctx *ctx, pq_plan **out, const pq_graph *g,
                                           pq_precision p);
/** Reads plan.json and the weights file that it names, checking its hash.
 *  Errors: IO, FORMAT (member, found, expected). */
PQ_API PQ_MUST_USE pq_status pq_plan_load(pq_ctx *ctx, pq_plan **out, const char *path);
/** Writes plan.json and, where weights were corrected, NAME.weights.safetensors beside it.
 *  Errors: IO. */
PQ_API PQ_MUST_USE pq_status pq_plan_save(pq_ctx *ctx, const pq_plan *p, const char *path);

/** A plan tied to a graph: the same facts by index, and the INT8 domain worked out. */
typedef struct pq_binding {
    const pq_graph *graph;
    const pq_plan *plan;
    pq_precision *precision;       /* per node; base for nodes that are not quantizable */
    bool *int8;                    /* per node: INT8, or in the INT8 domain */
    const pq_plan_tensor **tensor; /* per value, NULL where not quantized */
    const pq_plan_weight **weight; /* per value, NULL where the graph's own constant holds */
} pq_binding;
/** Errors: INVALID (plan of another graph: both hashes; an INT8 node whose input has no scale; a
 * corrected weight that does not fit). */
PQ_API PQ_MUST_USE pq_status pq_plan_bind(pq_ctx *ctx, pq_binding *out, const pq_plan *p,
                                          const pq_graph *g);
PQ_API void pq_binding_clear(pq_binding *b);
/** Does node n read Q(x) (true) or x itself (false) on input i? */
PQ_API bool pq_reads_quantized(const pq_binding *b, pq_node_id n, int i);

/** Dimension of the output channels in the weight of n: Conv 0, ConvTranspose 1, Gemm 0 or 1,
 * MatMul last. */
int pq_weight_axis(const pq_graph *g, const pq_node *n);
/** Weights of an INT8 node as engines and exporters use them: s8, same layout as the graph's, and
 * one scale per output channel [O]. q = clamp(round_half_even(w / scale), -127, 127); an all-zero
 * channel has scale 1. axis: dimension of the output channels. Memory: *q and *scale yours
 * (pq_free). */
PQ_MUST_USE pq_status pq_plan_quantize_weights(pq_ctx *ctx, int8_t **q, float **scale,
                                               const float *w, const pq_shape *shape, int axis,
                                               const float *given_scale);

#ifdef __cplusplus
}
#endif
#endif
