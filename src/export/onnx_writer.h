/** @file onnx_writer.h  An ONNX model under construction, and what the files of the exporter share.
 *  Everything lives in one arena; bytes of weights are borrowed from the graph until packed. */
#ifndef PQ_EXPORT_ONNX_WRITER_H
#define PQ_EXPORT_ONNX_WRITER_H

#include <onnx/onnx.pb-c.h>
#include <pquant/export.h>

#include "graph/name_map.h"

enum { PQ_ONNX_F32 = 1, PQ_ONNX_U8 = 2, PQ_ONNX_S8 = 3, PQ_ONNX_S64 = 7, PQ_ONNX_F16 = 10 };

typedef struct pq_onnx_writer {
    pq_ctx *ctx;
    const pq_graph *g;
    pq_binding bind;
    pq_target target;
    int opset;
    bool fp16; /* float tensors inside are float16 */
    pq_arena *arena;
    pq_name_map values, nodes;
    Onnx__NodeProto **node;
    size_t n_node, room_node;
    Onnx__TensorProto **init;
    size_t n_init, room_init;
    /* per value of the graph, NULL where not written yet */
    const char **name;    /* as float (or integer) tensors inside the network */
    const char **dequant; /* behind its pair */
    int *weight_axis;     /* constants: 1 + the axis that dequant's scales run along */
    /* what the target runs fast (onnx_target.c) */
    bool *late;   /* per node: reads x where it might read x^; its result is quantized behind it */
    bool *folded; /* per node: a Focus that is part of the convolution behind it */
} pq_onnx_writer;

/** A new node; attributes are added to it with the functions below. in and out are borrowed names
 * from the arena or the graph ("" for an absent input). Node name "<base>" or "<base>/<what>". */
PQ_MUST_USE pq_status pq_onnx_add(pq_onnx_writer *w, Onnx__NodeProto **out, const char *type,
                                  const char *base, const char *what, const char *const in[],
                                  int n_in, const char *const outputs[], int n_out);
/** One output, made up from base and what; attributes none. */
PQ_MUST_USE pq_status pq_onnx_op(pq_onnx_writer *w, const char **out, const char *type,
                                 const char *base, const char *what, const char *a, const char *b);
PQ_MUST_USE pq_status pq_onnx_put_int(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                                      int64_t v);
PQ_MUST_USE pq_status pq_onnx_put_float(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                                        float v);
PQ_MUST_USE pq_status pq_onnx_put_ints(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                                       const int64_t *v, int count);
PQ_MUST_USE pq_status pq_onnx_put_text(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                                       const char *text);
PQ_MUST_USE pq_status pq_onnx_put_tensor(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                                         Onnx__TensorProto *t);
/** Cast to an ONNX element type: a node "<base>/<what>". */
PQ_MUST_USE pq_status pq_onnx_cast(pq_onnx_writer *w, const char **out, const char *in, int type,
                                   const char *base, const char *what);

/** A name no value has yet: "<base>/<what>". */
PQ_MUST_USE pq_status pq_onnx_value_name(pq_onnx_writer *w, const char **out, const char *base,
                                         const char *what);
/** A tensor whose bytes are borrowed until the model is packed. */
PQ_MUST_USE pq_status pq_onnx_tensor_proto(pq_onnx_writer *w, Onnx__TensorProto **out,
                                           const char *name, int type, const pq_shape *shape,
                                           const void *data);
/** An initialiser of exactly this name, which the caller made unique. */
PQ_MUST_USE pq_status pq_onnx_init(pq_onnx_writer *w, const char *name, int type,
                                   const pq_shape *shape, const void *data);
/** Constants of the exporter's own, copied: "<base>/<what>". Floats become float16 in an FP16
 * network unless wide. */
PQ_MUST_USE pq_status pq_onnx_ints_init(pq_onnx_writer *w, const char **out, const char *base,
                                        const char *what, const int64_t *v, int n);
PQ_MUST_USE pq_status pq_onnx_floats_init(pq_onnx_writer *w, const char **out, const char *base,
                                          const char *what, const pq_shape *shape, const float *v,
                                          bool wide);

/** ONNX element type that a value of this dtype has inside the network. */
int pq_onnx_type(const pq_onnx_writer *w, pq_dtype t);
/** The float data of a constant as the plan corrected it. */
const void *pq_onnx_const_data(const pq_onnx_writer *w, pq_value_id v);

/** Work out what the target runs fast: late and folded. */
void pq_onnx_choose_forms(pq_onnx_writer *w);
/** The Focus that convolution id takes in, or NULL. */
const pq_node *pq_onnx_folded_focus(const pq_onnx_writer *w, pq_node_id id);
/** Weights over a Focus's channels [O, 4 C, k, k] as weights over its input's [O, C, 2 k, 2 k];
 * `size` bytes an element. dst and src do not overlap. */
void pq_onnx_unfold_focus(void *dst, const void *src, const pq_shape *shape, size_t size);
/** Does node id read the pair of its input i? */
bool pq_onnx_reads_pair(const pq_onnx_writer *w, pq_node_id id, int i);

/** Write constant v as an initialiser (onnx_quant.c). */
PQ_MUST_USE pq_status pq_onnx_constant_init(pq_onnx_writer *w, pq_value_id v);
/** Quantize and dequantize value v behind its producer. */
PQ_MUST_USE pq_status pq_onnx_pair(pq_onnx_writer *w, pq_value_id v);
/** A pair of grid t, called after base, behind `in`; *out: the dequantized values. */
PQ_MUST_USE pq_status pq_onnx_pair_of(pq_onnx_writer *w, const char **out, const char *base,
                                      const char *in, const pq_plan_tensor *t);
/** Constant v as the weights of an INT8 node, output channels along axis; *out: dequantized. */
PQ_MUST_USE pq_status pq_onnx_int8_weights(pq_onnx_writer *w, const char **out, pq_value_id v,
                                           int axis);

/** Name that node id reads on input i, "" if absent. */
PQ_MUST_USE pq_status pq_onnx_input(pq_onnx_writer *w, const char **out, pq_node_id id, int i);
/** Write one node of the graph (onnx_node.c), with its fused activation. */
PQ_MUST_USE pq_status pq_onnx_write_node(pq_onnx_writer *w, pq_node_id id);
/** Activation from in to a value called out, as nodes "<base>/…". */
PQ_MUST_USE pq_status pq_onnx_write_act(pq_onnx_writer *w, const char *base, pq_act act,
                                        float alpha, float beta, const char *in, const char *out);
/** A strided cut of a tensor, steps possibly negative. n elements per dimension. */
PQ_MUST_USE pq_status pq_onnx_write_slice(pq_onnx_writer *w, const char *base, const char *what,
                                          const pq_shape *x, const int64_t *begin,
                                          const int64_t *step, const int64_t *n, const char *in,
                                          const char *out);
PQ_MUST_USE pq_status pq_onnx_write_focus(pq_onnx_writer *w, pq_node_id id);
PQ_MUST_USE pq_status pq_onnx_write_gfl_decode(pq_onnx_writer *w, pq_node_id id);

#endif
