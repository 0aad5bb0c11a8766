/**
 * @file audit.h
 * Does what was compiled do what the plan says? An engine's own account of its kernels, and the
 * rules of TensorRT's explicit quantization, checked operator by operator.
 *
 * A **fault** is something the plan asks for and does not get: INT8 arithmetic that runs in float
 * (or the reverse), an operator that no kernel bears the name of, a broken rule. A **note** costs
 * nothing of what was asked: a MaxPool in float (the numbers are the same), a float part that a
 * strongly typed TensorRT will run in float32.
 */
#ifndef PQUANT_AUDIT_H
#define PQUANT_AUDIT_H

#include <pquant/bench.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One quantizable operator: what was wanted, what ran. */
typedef struct pq_audit_layer {
    char *node, *type;
    pq_precision wanted;
    char achieved[16]; /* "int8", "fp32", …; "" where no kernel bears its name */
    char kernel[64];   /* as the engine calls it */
    double ms;         /* median over the timed runs */
    double convert_ms; /* of the conversions around it that bear its name */
    bool as_planned;
} pq_audit_layer;

typedef struct pq_finding {
    bool fault; /* else a note */
    char *node; /* or "" */
    char *text; /* one line */
} pq_finding;

/** An audit. Members that do not apply are 0 or "". */
typedef struct pq_audit {
    char target[32];   /* "onnxruntime", "cpu", …, "tensorrt" */
    char version[128]; /* of the engine */
    pq_audit_layer *layer;
    size_t n_layers;
    double total_ms; /* sum of all kernels, each timed by itself */
    size_t n_converts, n_reorders;
    double convert_ms, reorder_ms;
    pq_finding *finding;
    size_t n_findings, n_faults;
} pq_audit;

/**
 * Time the kernels of a session and hold them against the plan that it was compiled from.
 * Memory: *out is yours (pq_audit_free). Errors: UNSUPPORTED (an engine that gives no account, such
 * as ref), those of the runs, INVALID (a plan of another graph).
 */
PQ_API PQ_MUST_USE pq_status pq_audit_session(pq_ctx *ctx, pq_audit **out, pq_session *s,
                                              const pq_graph *g, const pq_plan *plan);

/**
 * Hold an ONNX file's bytes against what TensorRT asks of explicit quantization: 8 to 10
 * (symmetric, zero point 0, int8, scales of constants, one a tensor or one an output channel;
 * weights in float behind a pair; both inputs of a convolution quantized or none; float biases; a
 * quantized residual in front of a sum; static shapes) and 11 (strongly typed: operands of one
 * float type). Source: TensorRT developer guide, "Working with Quantized Types". Memory: *out is
 * yours. Errors: FORMAT (not ONNX).
 */
PQ_API PQ_MUST_USE pq_status pq_audit_tensorrt(pq_ctx *ctx, pq_audit **out, const void *onnx,
                                               size_t bytes);
PQ_API void pq_audit_free(pq_audit *a);

#ifdef __cplusplus
}
#endif
#endif
