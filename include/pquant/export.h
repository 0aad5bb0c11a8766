/**
 * @file export.h
 * A graph and a plan into files that others read: ONNX with QuantizeLinear and DequantizeLinear.
 *
 * The file computes what plan.h says: one pair per tensor of the plan behind its producer, read by
 * the nodes for which pq_reads_quantized holds; weights of INT8 nodes through a pair with a scale
 * per output channel; biases real-valued. Fused activations are nodes of their own, Silu, Focus
 * and GflDecode are written out, all shapes are static. Names of values and nodes are the graph's.
 *  - plan base FP16: float tensors inside are float16, with casts behind the inputs and before
 *    the outputs, which stay float32; boxes are decoded in float32.
 *  - plan base BF16: written as float32 (ONNX Runtime's CPU kernels know no bfloat16); which
 * precision runs is the runtime's option.
 */
#ifndef PQUANT_EXPORT_H
#define PQUANT_EXPORT_H

#include <pquant/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/** TensorRT wants weights as float initialisers followed by a pair and takes only s8 plans with
 *  zero point 0; the others take weights stored as int8. For OpenVINO and ONNX Runtime signed
 *  activations are written as uint8 with the zero point moved by 128, which is the same numbers,
 * and some operators in a form that they run faster (src/export/onnx_target.c); which is the same
 *  function too, but a Focus is then not in the file for OpenVINO. */
typedef enum pq_target {
    PQ_TARGET_ANY = 0,
    PQ_TARGET_TENSORRT,
    PQ_TARGET_OPENVINO,
    PQ_TARGET_ONNXRUNTIME
} pq_target;

/** Zero means default. */
typedef struct pq_export_opts {
    pq_target target;
    int opset; /* 13 to 21; default 13, and 19 for INT8 in FP16 (float16 scales need it) */
    const char *producer, *producer_version; /* default "pquant" and its version */
} pq_export_opts;

/** Errors: INVALID (the names that exist). */
PQ_API PQ_MUST_USE pq_status pq_target_parse(pq_ctx *ctx, pq_target *out, const char *name);

/**
 * Serialise g under plan.
 * Memory: *out is yours (pq_buf_unref), NULL on error.
 * Errors: INVALID (a plan of another graph; a scheme or opset that the target cannot take),
 * UNSUPPORTED (an fp16 node in a plan of another base or the reverse: a file has one float type;
 * larger than protobuf's 2 GiB), NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_export_onnx(pq_ctx *ctx, pq_buf **out, const pq_graph *g,
                                            const pq_plan *plan, const pq_export_opts *opts);
/** The same into a file, which appears when it is complete. Errors: as above, IO. */
PQ_API PQ_MUST_USE pq_status pq_export_onnx_file(pq_ctx *ctx, const char *path, const pq_graph *g,
                                                 const pq_plan *plan, const pq_export_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
