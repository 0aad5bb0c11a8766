/**
 * @file graph.h
 * The network between reading and compiling: values (tensors) and nodes (operators) in topological
 * order.
 *
 * A graph owns its nodes, values and names in one arena; constant values hold a reference to their
 * bytes. Everything is addressed by index; indices stay valid until pq_graph_compact.
 * Feature maps are NCHW, convolution weights OIHW (transposed: IOHW), as in ONNX.
 */
#ifndef PQUANT_GRAPH_H
#define PQUANT_GRAPH_H

#include <pquant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pq_op {
#define X(id, name, min_in, max_in, n_out) PQ_OP_##id,
#include <pquant/op.def>
    PQ_OP_COUNT
} pq_op;

PQ_API const char *pq_op_name(pq_op op);

typedef uint32_t pq_value_id;
typedef uint32_t pq_node_id;
#define PQ_NONE UINT32_MAX

/**
 * Shapes are static; what finds a number of things that is known only when it runs
 * (NonMaxSuppression, NonZero) gives as many rows as there can be. The rows behind the last one
 * found hold this index. It survives moving, casts between 64 and 32 bits and arithmetic; compared
 * with anything it is false; gathering with it gives NaN (integers: itself), scattering skips it;
 * as a float it is NaN. So a graph that ends in boxes gives rows of NaN where there is no box.
 */
#define PQ_ABSENT (INT64_MIN + 0x616273656e74)

/** Activation fused behind a node; alpha and beta as ONNX defines them for that operator
 *  (LeakyRelu: alpha slope; Clip: alpha lower, beta upper bound; HardSigmoid: alpha, beta). */
typedef enum pq_act {
    PQ_ACT_NONE = 0,
    PQ_ACT_RELU,
    PQ_ACT_LEAKY_RELU,
    PQ_ACT_CLIP,
    PQ_ACT_SIGMOID,
    PQ_ACT_SILU,
    PQ_ACT_HARD_SIGMOID,
    PQ_ACT_HARD_SWISH,
    PQ_ACT_TANH
} pq_act;

typedef enum pq_resize_mode { PQ_RESIZE_NEAREST, PQ_RESIZE_LINEAR } pq_resize_mode;
/** ONNX coordinate_transformation_mode. */
typedef enum pq_coord {
    PQ_COORD_ASYMMETRIC,
    PQ_COORD_HALF_PIXEL,
    PQ_COORD_PYTORCH_HALF_PIXEL,
    PQ_COORD_ALIGN_CORNERS
} pq_coord;
/** ONNX nearest_mode. */
typedef enum pq_nearest {
    PQ_NEAREST_ROUND_PREFER_FLOOR,
    PQ_NEAREST_ROUND_PREFER_CEIL,
    PQ_NEAREST_FLOOR,
    PQ_NEAREST_CEIL
} pq_nearest;

/** Conv, ConvTranspose and pooling. pad: top, left, bottom, right. */
typedef struct pq_window {
    int64_t kernel[2], stride[2], dilation[2], pad[4], out_pad[2];
    int64_t groups;         /* Conv, ConvTranspose; C for depthwise */
    bool ceil_mode;         /* pooling */
    bool count_include_pad; /* AveragePool */
} pq_window;

/** Attributes. Which members mean anything depends on the operator; shape inference turns ONNX's
 *  input-or-attribute variants (Slice, Clip, Pad, Resize, axes, …) into these. The constant inputs
 *  stay on the node, for another input size; who runs a graph reads the attributes and the outputs'
 *  shapes. A Slice, Reshape or Resize with one input has them from whoever made it. */
typedef struct pq_attr {
    pq_window window;  /* Conv, ConvTranspose, MaxPool, AveragePool */
    pq_act act;        /* fused activation: Conv, ConvTranspose, Gemm, MatMul, Add */
    float alpha, beta; /* of act, or of the node itself (LeakyRelu, Clip, HardSigmoid, Gemm, behind
                              which only an act without parameters is fused) */
    bool trans_a, trans_b; /* Gemm */
    float eps;             /* BatchNormalization */
    int64_t axis;  /* Concat, Split, Softmax, Gather, Flatten, ArgMax, TopK: 0 .. rank-1, never
                      negative */
    bool keepdims; /* Reduce*, ArgMax, ArgMin */
    int n_axes;    /* Reduce*, Squeeze, Unsqueeze */
    int64_t axes[PQ_MAX_RANK];
    int64_t perm[PQ_MAX_RANK];  /* Transpose */
    int64_t begin[PQ_MAX_RANK]; /* Slice (per dimension of the input, clamped); Pad: before */
    int64_t step[PQ_MAX_RANK];  /* Slice (may be negative); Pad: after */
    float pad_value;            /* Pad (constant mode is the only one) */
    bool largest;               /* TopK; false: the smallest */
    bool last;                  /* ArgMax, ArgMin: of equal elements the last, not the first */
    bool fmod;                  /* Mod: the sign of the dividend, not of the divisor */
    bool center;                /* NonMaxSuppression: boxes are x, y, w, h, not two corners */
    int64_t batch_dims;         /* GatherND */
    pq_dtype to;                /* Cast */
    pq_resize_mode resize;      /* Resize: sizes are those of the output */
    pq_coord coord;
    pq_nearest nearest;
    float scale[2]; /* Resize: h, w as the file gives them, else out/in */
    /* GflDecode (inputs cls[0..levels-1] then reg[0..levels-1], outputs scores, boxes) */
    int levels;
    int reg_max;
    int64_t strides[8];
} pq_attr;

/** dtype and shape are set by shape inference. data is non-NULL exactly for constants. */
typedef struct pq_value {
    const char *name;
    pq_dtype dtype;
    pq_shape shape;
    pq_buf *data;
    pq_node_id producer; /* PQ_NONE for inputs and constants */
} pq_value;

typedef struct pq_node {
    const char *name;
    pq_op op;
    const char *type; /* how inspect calls it: "Conv2d" (.pth) or the ONNX operator */
    int quant_index;  /* position among the quantizable operators, -1 for the rest */
    int n_in, n_out;
    pq_value_id *in; /* PQ_NONE for an absent optional input */
    pq_value_id *out;
    pq_attr attr;
    bool dead; /* removed; gone after pq_graph_compact */
} pq_node;

typedef struct pq_graph {
    struct pq_arena *arena;
    pq_value *value;
    size_t n_values, room_values;
    pq_node *node; /* topological order */
    size_t n_nodes, room_nodes;
    pq_value_id *input;
    size_t n_inputs;
    pq_value_id *output;
    size_t n_outputs;
    const char *family;      /* "DAMO-YOLO-T", "YOLOX", "ONNX", … */
    int opset;               /* of the file, 0 for .pth */
    char hash[65];           /* set by pq_graph_seal, "" while the graph is being edited */
    const char *const *meta; /* NULL, or key, value, key, value, …, NULL kept from the file */
} pq_graph;

PQ_API PQ_MUST_USE pq_status pq_graph_new(pq_ctx *ctx, pq_graph **out);
PQ_API void pq_graph_free(pq_graph *g);
/** Deep copy of the structure; constants are shared by reference. */
PQ_API PQ_MUST_USE pq_status pq_graph_copy(pq_ctx *ctx, pq_graph **out, const pq_graph *g);

/** Add a value; its name is copied and must be new (it may be NULL: one is made up). shape NULL:
 * not yet known. */
PQ_API PQ_MUST_USE pq_status pq_graph_add_value(pq_ctx *ctx, pq_value_id *out, pq_graph *g,
                                                const char *name, pq_dtype dtype,
                                                const pq_shape *shape);
/** Add a constant; takes its own reference of data. */
PQ_API PQ_MUST_USE pq_status pq_graph_add_const(pq_ctx *ctx, pq_value_id *out, pq_graph *g,
                                                const char *name, pq_dtype dtype,
                                                const pq_shape *shape, pq_buf *data);
/** Add a node behind the last one, with its inputs; makes n_out new output values called
 *  out_name (".1", ".2", … appended from the second on; NULL: the node's name). The node's arrays
 *  are copied. attr may be NULL. quant_index is set by pq_graph_mark_quantizable. */
PQ_API PQ_MUST_USE pq_status pq_graph_add_node(pq_ctx *ctx, pq_node_id *out, pq_graph *g,
                                               const char *name, pq_op op, const char *type,
                                               const pq_value_id *in, int n_in, int n_out,
                                               const char *out_name, const pq_attr *attr);
PQ_API PQ_MUST_USE pq_status pq_graph_set_inputs(pq_ctx *ctx, pq_graph *g, const pq_value_id *v,
                                                 size_t n);
PQ_API PQ_MUST_USE pq_status pq_graph_set_outputs(pq_ctx *ctx, pq_graph *g, const pq_value_id *v,
                                                  size_t n);
/** PQ_NONE if there is no such name. */
PQ_API pq_value_id pq_graph_find_value(const pq_graph *g, const char *name);
PQ_API pq_node_id pq_graph_find_node(const pq_graph *g, const char *name);
/** Live nodes that read v (an input read twice counts once); graph outputs not counted. */
PQ_API size_t pq_graph_count_readers(const pq_graph *g, pq_value_id v);
PQ_API bool pq_graph_is_output(const pq_graph *g, pq_value_id v);
/** mark[v]: whether rows of value v may be PQ_ABSENT: it follows from what a NonMaxSuppression or
 *  NonZero found. Its first dimensions are upper bounds then. mark: n_values, written over. */
PQ_API void pq_graph_mark_absent(const pq_graph *g, bool *mark);
/** Let every reader and graph output of `from` use `to` instead. */
PQ_API void pq_graph_replace_value(pq_graph *g, pq_value_id from, pq_value_id to);
/** Drop dead nodes and unused values, restoring topological order. Indices change. */
PQ_API PQ_MUST_USE pq_status pq_graph_compact(pq_ctx *ctx, pq_graph *g);

/** dtype and shape of every value from those of the inputs. Errors: FORMAT (node, what does not
 *  fit), UNSUPPORTED (dynamic shapes). */
PQ_API PQ_MUST_USE pq_status pq_graph_infer(pq_ctx *ctx, pq_graph *g);
/** Invariants: topological order, arities, unique names, sizes that are not negative, constants as
 *  long as their shapes. Errors: INTERNAL (node or value, what is broken), NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_graph_verify(pq_ctx *ctx, const pq_graph *g);
/** Number the quantizable operators. ONNX order: Conv, ConvTranspose, MaxPool, Gemm and MatMul with
 *  constant weights, in node order. Readers of .pth set the original's order instead. */
PQ_API void pq_graph_mark_quantizable(pq_graph *g);
PQ_API size_t pq_graph_quantizable_count(const pq_graph *g);
/** The node with that quant_index, PQ_NONE if none. */
PQ_API pq_node_id pq_graph_quantizable(const pq_graph *g, int quant_index);
/** SHA-256 (hex) over structure, names, shapes and weights: a plan belongs to a graph with this. */
PQ_API void pq_graph_hash(const pq_graph *g, char hex[65]);
/** Remember the hash until the next edit through this interface. Hashing reads all weights; who
 * ties plans to a finished graph more than once seals it first. */
PQ_API void pq_graph_seal(pq_graph *g);
/** Multiply-accumulates of a node (Conv, ConvTranspose, Gemm, MatMul; else 0), batch included. */
PQ_API int64_t pq_node_macs(const pq_graph *g, const pq_node *n);
/** Set the batch size and, unless 0, the height and width of a one-input detector and infer again.
 *  Errors: UNSUPPORTED where a reshape in the file pins the old size. */
PQ_API PQ_MUST_USE pq_status pq_graph_set_input_size(pq_ctx *ctx, pq_graph *g, int64_t n, int64_t h,
                                                     int64_t w);

static inline pq_value *pq_in(const pq_graph *g, const pq_node *n, int i)
{
    return i < n->n_in && n->in[i] != PQ_NONE ? &g->value[n->in[i]] : 0;
}
static inline pq_value *pq_out_value(const pq_graph *g, const pq_node *n, int i)
{
    return &g->value[n->out[i]];
}

#ifdef __cplusplus
}
#endif
#endif
