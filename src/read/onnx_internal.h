/** @file onnx_internal.h  What the files of the ONNX reader share. */
#ifndef PQ_READ_ONNX_INTERNAL_H
#define PQ_READ_ONNX_INTERNAL_H

#include <onnx/onnx.pb-c.h>
#include <pquant/read.h>

#include "graph/infer.h"
#include "graph/name_map.h"

typedef struct pq_onnx_reader {
    pq_ctx *ctx;
    pq_graph *g;
    pq_inference inf;
    const char *folder; /* of external data; NULL: none allowed */
    int opset;
    pq_name_map values; /* every name the file defines; PQ_NONE until reached */
    pq_name_map nodes;
} pq_onnx_reader;

/** Our dtype for an ONNX element type; *stored is what the file's bytes hold. Every float becomes
 *  PQ_F32. False: no such type in graphs. */
bool pq_onnx_dtype(int32_t type, pq_dtype *dtype, pq_dtype *stored);
/** A TensorProto as a constant value called name (which must be free).
 *  Errors: FORMAT, UNSUPPORTED (element type), IO (external data). */
PQ_MUST_USE pq_status pq_onnx_constant(pq_onnx_reader *r, pq_value_id *out, const char *name,
                                       const Onnx__TensorProto *t);
/** The same as a tensor of its own. Memory: yours. */
PQ_MUST_USE pq_status pq_onnx_tensor(pq_onnx_reader *r, pq_tensor *out, const Onnx__TensorProto *t);

/** Add one node of the file to the graph, with what it takes in our operators, and infer it.
 *  Errors: UNSUPPORTED (operator, attribute), FORMAT. */
PQ_MUST_USE pq_status pq_onnx_node(pq_onnx_reader *r, const Onnx__NodeProto *p, size_t index);

/** Attributes with their defaults; a missing one leaves *out as it is. Errors: FORMAT (type,
 * count). */
PQ_MUST_USE pq_status pq_onnx_int(pq_ctx *ctx, int64_t *out, const Onnx__NodeProto *p,
                                  const char *name);
PQ_MUST_USE pq_status pq_onnx_float(pq_ctx *ctx, float *out, const Onnx__NodeProto *p,
                                    const char *name);
PQ_MUST_USE pq_status pq_onnx_flag(pq_ctx *ctx, bool *out, const Onnx__NodeProto *p,
                                   const char *name);
/** Exactly n integers. */
PQ_MUST_USE pq_status pq_onnx_ints(pq_ctx *ctx, int64_t *out, int n, const Onnx__NodeProto *p,
                                   const char *name);
/** Up to max integers; *n is untouched where the attribute is missing. */
PQ_MUST_USE pq_status pq_onnx_int_list(pq_ctx *ctx, int64_t *out, int max, int *n,
                                       const Onnx__NodeProto *p, const char *name);
/** The index of the attribute's text in the NULL-terminated list of words. Errors: UNSUPPORTED
 *  (another word). */
PQ_MUST_USE pq_status pq_onnx_word(pq_ctx *ctx, int *out, const Onnx__NodeProto *p,
                                   const char *name, const char *const words[]);
const Onnx__AttributeProto *pq_onnx_find_attr(const Onnx__NodeProto *p, const char *name);

#endif
