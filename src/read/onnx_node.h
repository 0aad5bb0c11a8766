/** @file onnx_node.h  One node of an ONNX file on its way into the graph: what the files that read
 * nodes share. */
#ifndef PQ_READ_ONNX_NODE_H
#define PQ_READ_ONNX_NODE_H

#include "read/onnx_internal.h"

enum { PQ_ONNX_MAX_IN = 64 };

/** The function of a node's table line fills attr, or adds nodes itself and sets done. */
typedef struct pq_onnx_build {
    pq_onnx_reader *r;
    const Onnx__NodeProto *p;
    const char *name;
    pq_op op;
    pq_attr attr;
    pq_value_id in[PQ_ONNX_MAX_IN];
    int n_in;
    bool done;
    bool named; /* the message of a failure names the node already */
} pq_onnx_build;

static inline bool pq_onnx_has(const pq_onnx_build *b, int i)
{
    return i < b->n_in && b->in[i] != PQ_NONE;
}
static inline const pq_value *pq_onnx_in(const pq_onnx_build *b, int i)
{
    return &b->r->g->value[b->in[i]];
}

/** A node in front of the one that makes the file's value: named "<node>/<what>", one output. */
PQ_MUST_USE pq_status pq_onnx_helper(pq_onnx_build *b, pq_value_id *out, const char *what, pq_op op,
                                     const pq_attr *attr, const pq_value_id *in, int n_in);
/** The node that makes the file's value; sets done. */
PQ_MUST_USE pq_status pq_onnx_last(pq_onnx_build *b, pq_op op, const pq_attr *attr,
                                   const pq_value_id *in, int n_in);
/** Constants, named "<node>/<what>". */
PQ_MUST_USE pq_status pq_onnx_make_const(pq_onnx_build *b, pq_value_id *out, const char *what,
                                         pq_dtype dtype, const pq_shape *shape, pq_buf *data);
PQ_MUST_USE pq_status pq_onnx_make_ints(pq_onnx_build *b, pq_value_id *out, const char *what,
                                        const int64_t *v, size_t n);
PQ_MUST_USE pq_status pq_onnx_make_float(pq_onnx_build *b, pq_value_id *out, const char *what,
                                         float v);

/** An operator of the file: ours, and the function that reads its attributes. */
typedef struct pq_onnx_line {
    const char *type;
    pq_op op;
    pq_status (*read)(pq_onnx_build *b);
} pq_onnx_line;

/** Operators that are made of several of ours (onnx_compose.c); NULL where type is none of them. */
const pq_onnx_line *pq_onnx_find_composed(const char *type);

PQ_MUST_USE pq_status pq_onnx_read_reduce(pq_onnx_build *b);
/* onnx_window.c */
PQ_MUST_USE pq_status pq_onnx_read_sliding(pq_onnx_build *b);
PQ_MUST_USE pq_status pq_onnx_read_pool(pq_onnx_build *b);
PQ_MUST_USE pq_status pq_onnx_read_conv_transpose(pq_onnx_build *b);

#endif
