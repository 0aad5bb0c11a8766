/* Graph and plan into an ONNX model: names, order, pairs, inputs and outputs, metadata. */
#include <pquant/export.h>

#include <string.h>

#include "base/ctx.h"
#include "base/file.h"
#include "base/mem.h"
#include "export/onnx_writer.h"

enum { MIN_OPSET = 13, MAX_OPSET = 21, FP16_SCALES_OPSET = 19 };

pq_status pq_target_parse(pq_ctx *ctx, pq_target *out, const char *name)
{
    static const char *const names[] = {"any", "tensorrt", "openvino", "onnxruntime"};
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (pq_target)i;
            return PQ_OK;
        }
    return pq_fail(ctx, PQ_E_INVALID,
                   "target '%s', expected any, tensorrt, openvino or onnxruntime", name);
}

/* IR version that came with an opset. */
static int64_t ir_version(int opset)
{
    return opset < 15 ? 7 : opset < 19 ? 8 : opset < 21 ? 9 : 10;
}

static pq_status check_opts(pq_onnx_writer *w, const pq_plan *plan, const pq_export_opts *opts)
{
    w->target = opts->target;
    w->fp16 = plan->base == PQ_PREC_FP16;
    const bool half_scales = w->fp16 && plan->n_tensors > 0;
    w->opset = opts->opset ? opts->opset : half_scales ? FP16_SCALES_OPSET : MIN_OPSET;
    if (w->opset < MIN_OPSET || w->opset > MAX_OPSET)
        return pq_fail(w->ctx, PQ_E_INVALID, "opset %d, expected %d to %d", w->opset, MIN_OPSET,
                       MAX_OPSET);
    if (half_scales && w->opset < FP16_SCALES_OPSET)
        return pq_fail(w->ctx, PQ_E_INVALID, "opset %d, expected at least %d for int8 in fp16",
                       w->opset, FP16_SCALES_OPSET);
    if (half_scales && w->target == PQ_TARGET_ONNXRUNTIME)
        pq_log(w->ctx, PQ_LOG_WARN, "export",
               "int8 in fp16: ONNX Runtime rounds biases by float16 scales that vanish, unless its "
               "optimiser WeightBiasQuantization is disabled");
    for (size_t i = 0; w->target == PQ_TARGET_TENSORRT && i < plan->n_tensors; i++)
        if (plan->tensor[i].dtype != PQ_S8 || plan->tensor[i].zero_point != 0)
            return pq_fail(w->ctx, PQ_E_INVALID,
                           "tensor '%s' is %s with zero point %d, expected int8 with zero point 0: "
                           "TensorRT takes plans of scheme s8 only",
                           plan->tensor[i].name, pq_dtype_name(plan->tensor[i].dtype),
                           (int)plan->tensor[i].zero_point);
    return PQ_OK;
}

/* A file has one float type inside. */
static pq_status check_precisions(const pq_onnx_writer *w, const pq_plan *plan)
{
    for (size_t i = 0; i < w->g->n_nodes; i++) {
        const pq_precision p = w->bind.precision[i];
        if (w->g->node[i].dead || p == PQ_PREC_INT8 || (p == PQ_PREC_FP16) == w->fp16) continue;
        return pq_fail(w->ctx, PQ_E_UNSUPPORTED,
                       "node '%s' is %s in a plan whose base is %s, expected int8 or %s",
                       w->g->node[i].name, pq_precision_name(p), pq_precision_name(plan->base),
                       pq_precision_name(plan->base));
    }
    return PQ_OK;
}

/* Every value keeps its name; in an FP16 network inputs and outputs, which stay float32, have a
 * float16 twin inside. */
static pq_status name_values(pq_onnx_writer *w)
{
    pq_status st = PQ_OK;
    struct pq_name_slot *slot;
    bool is_new;
    const pq_graph *g = w->g;
    for (size_t i = 0; i < g->n_values; i++) {
        PQ_TRY(pq_name_map_add(w->ctx, &w->values, &slot, g->value[i].name, &is_new));
        if (!g->value[i].data) w->name[i] = g->value[i].name;
    }
    for (size_t i = 0; i < g->n_values && w->fp16; i++) {
        const pq_value_id v = (pq_value_id)i;
        bool outside = pq_graph_is_output(g, v);
        for (size_t k = 0; k < g->n_inputs; k++) outside = outside || g->input[k] == v;
        if (outside && g->value[i].dtype == PQ_F32 && !g->value[i].data)
            PQ_TRY(pq_onnx_value_name(w, &w->name[i], g->value[i].name, "fp16"));
    }
out:
    return st;
}

/* Is the pair of value v read by anyone? */
static bool pair_is_read(const pq_onnx_writer *w, pq_value_id v)
{
    for (size_t i = 0; i < w->g->n_nodes; i++)
        for (int k = 0; !w->g->node[i].dead && k < w->g->node[i].n_in; k++)
            if (w->g->node[i].in[k] == v && pq_onnx_reads_pair(w, (pq_node_id)i, k)) return true;
    return false;
}

static pq_status write_inputs(pq_onnx_writer *w)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < w->g->n_inputs; i++) {
        const pq_value_id v = w->g->input[i];
        const pq_value *value = &w->g->value[v];
        Onnx__NodeProto *n;
        if (w->fp16 && value->dtype == PQ_F32) {
            const char *from = value->name;
            PQ_TRY(pq_onnx_add(w, &n, "Cast", from, "to_fp16", &from, 1, &w->name[v], 1));
            PQ_TRY(pq_onnx_put_int(w, n, "to", PQ_ONNX_F16));
        }
        if (w->bind.tensor[v] && pair_is_read(w, v)) PQ_TRY(pq_onnx_pair(w, v));
    }
out:
    return st;
}

static pq_status write_nodes(pq_onnx_writer *w)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < w->g->n_nodes; i++) {
        const pq_node *n = &w->g->node[i];
        if (n->dead || w->folded[i]) continue;
        PQ_TRY(pq_onnx_write_node(w, (pq_node_id)i));
        for (int k = 0; k < n->n_out; k++) {
            const pq_value_id v = n->out[k];
            const char *to = w->g->value[v].name;
            Onnx__NodeProto *cast;
            const bool done = n->op == PQ_OP_GFL_DECODE && k == 1; /* boxes are float32 already */
            if (w->fp16 && pq_graph_is_output(w->g, v) && w->g->value[v].dtype == PQ_F32 && !done) {
                PQ_TRY(pq_onnx_add(w, &cast, "Cast", to, "to_fp32", &w->name[v], 1, &to, 1));
                PQ_TRY(pq_onnx_put_int(w, cast, "to", PQ_ONNX_F32));
            }
            if (w->bind.tensor[v] && pair_is_read(w, v)) PQ_TRY(pq_onnx_pair(w, v));
        }
    }
    for (size_t i = 0; i < w->g->n_outputs; i++) /* an output may be a constant */
        if (w->g->value[w->g->output[i]].data) PQ_TRY(pq_onnx_constant_init(w, w->g->output[i]));
out:
    return st;
}

/* Inputs or outputs of the model, always of the graph's own dtype. An output whose rows are counted
 * while it runs has open sizes. */
static pq_status value_infos(pq_onnx_writer *w, Onnx__ValueInfoProto ***out, const pq_value_id *ids,
                             size_t n)
{
    struct parts {
        Onnx__ValueInfoProto info;
        Onnx__TypeProto type;
        Onnx__TypeProto__Tensor tensor;
        Onnx__TensorShapeProto shape;
        Onnx__TensorShapeProto__Dimension dim[PQ_MAX_RANK], *dims[PQ_MAX_RANK];
    } * p;
    pq_onnx_writer wide = *w; /* for its type table: float32 stays float32 */
    bool *absent;
    wide.fp16 = false;
    pq_status st = pq_arena_alloc(w->ctx, w->arena, &absent, w->g->n_values, sizeof *absent);
    if (st != PQ_OK) return st;
    pq_graph_mark_absent(w->g, absent);
    st = pq_arena_alloc(w->ctx, w->arena, out, n, sizeof **out);
    if (st == PQ_OK) st = pq_arena_alloc(w->ctx, w->arena, &p, n, sizeof *p);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < n; i++, p++) {
        const pq_value *v = &w->g->value[ids[i]];
        onnx__value_info_proto__init(&p->info);
        onnx__type_proto__init(&p->type);
        onnx__type_proto__tensor__init(&p->tensor);
        onnx__tensor_shape_proto__init(&p->shape);
        for (int k = 0; k < v->shape.rank; k++) {
            onnx__tensor_shape_proto__dimension__init(&p->dim[k]);
            p->dims[k] = &p->dim[k];
            if (absent[ids[i]]) continue;
            p->dim[k].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            p->dim[k].dim_value = v->shape.dim[k];
        }
        p->shape.dim = p->dims;
        p->shape.n_dim = (size_t)v->shape.rank;
        p->tensor.has_elem_type = 1;
        p->tensor.elem_type = pq_onnx_type(&wide, v->dtype);
        p->tensor.shape = &p->shape;
        p->type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
        p->type.tensor_type = &p->tensor;
        p->info.name = (char *)v->name;
        p->info.type = &p->type;
        (*out)[i] = &p->info;
    }
    return PQ_OK;
}

/* What the file says about its origin; pquant's own keys replace those of an earlier export. */
static pq_status metadata(pq_onnx_writer *w, Onnx__ModelProto *m, const pq_plan *plan)
{
    const char *const own[][2] = {
        {"pquant.family", w->g->family},
        {"pquant.graph_hash", plan->graph_hash},
        {"pquant.scheme", plan->scheme == PQ_SCHEME_U8 ? "u8" : "s8"},
        {"pquant.base", pq_precision_name(plan->base)},
    };
    const size_t n_own = sizeof own / sizeof *own;
    Onnx__StringStringEntryProto *entry;
    size_t n = 0, n_old = 0;
    while (w->g->meta && w->g->meta[2 * n_old]) n_old++;
    pq_status st = pq_arena_alloc(w->ctx, w->arena, &m->metadata_props, n_own + n_old,
                                  sizeof *m->metadata_props);
    if (st == PQ_OK) st = pq_arena_alloc(w->ctx, w->arena, &entry, n_own + n_old, sizeof *entry);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < n_old + n_own; i++) {
        const char *key = i < n_old ? w->g->meta[2 * i] : own[i - n_old][0];
        const char *value = i < n_old ? w->g->meta[2 * i + 1] : own[i - n_old][1];
        if (i < n_old && strncmp(key, "pquant.", 7) == 0) continue;
        onnx__string_string_entry_proto__init(&entry[n]);
        entry[n].key = (char *)key;
        entry[n].value = (char *)value;
        m->metadata_props[n] = &entry[n];
        n++;
    }
    m->n_metadata_props = n;
    return PQ_OK;
}

static pq_status pack(pq_ctx *ctx, pq_buf **out, const Onnx__ModelProto *m)
{
    const size_t bytes = onnx__model_proto__get_packed_size(m);
    if (bytes > INT32_MAX)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "the model takes %zu bytes, protobuf's limit is %d",
                       bytes, INT32_MAX);
    pq_status st = pq_buf_new(ctx, out, bytes);
    if (st == PQ_OK) onnx__model_proto__pack(m, pq_buf_data(*out));
    return st;
}

static pq_status write_model(pq_onnx_writer *w, pq_buf **out, const pq_plan *plan,
                             const pq_export_opts *opts)
{
    pq_status st;
    Onnx__ModelProto m = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets = &opset;
    PQ_TRY(name_values(w));
    PQ_TRY(write_inputs(w));
    PQ_TRY(write_nodes(w));
    PQ_TRY(value_infos(w, &graph.input, w->g->input, w->g->n_inputs));
    PQ_TRY(value_infos(w, &graph.output, w->g->output, w->g->n_outputs));
    PQ_TRY(metadata(w, &m, plan));
    graph.name = (char *)(w->g->family[0] ? w->g->family : "pquant");
    graph.n_input = w->g->n_inputs;
    graph.n_output = w->g->n_outputs;
    graph.node = w->node;
    graph.n_node = w->n_node;
    graph.initializer = w->init;
    graph.n_initializer = w->n_init;
    opset.domain = (char *)"";
    opset.has_version = 1;
    opset.version = w->opset;
    m.opset_import = &opsets;
    m.n_opset_import = 1;
    m.has_ir_version = 1;
    m.ir_version = ir_version(w->opset);
    m.producer_name = (char *)(opts->producer ? opts->producer : "pquant");
    m.producer_version = (char *)(opts->producer_version ? opts->producer_version : pq_version());
    m.graph = &graph;
    st = pack(w->ctx, out, &m);
out:
    return st;
}

pq_status pq_export_onnx(pq_ctx *ctx, pq_buf **out, const pq_graph *g, const pq_plan *plan,
                         const pq_export_opts *opts)
{
    static const pq_export_opts defaults;
    pq_status st;
    pq_onnx_writer w = {.ctx = ctx, .g = g};
    *out = NULL;
    if (!opts) opts = &defaults;
    PQ_TRY(check_opts(&w, plan, opts));
    PQ_TRY(pq_plan_bind(ctx, &w.bind, plan, g));
    PQ_TRY(check_precisions(&w, plan));
    PQ_TRY(pq_arena_new(ctx, &w.arena));
    PQ_TRY(pq_alloc(ctx, &w.name, g->n_values, sizeof *w.name));
    PQ_TRY(pq_alloc(ctx, &w.dequant, g->n_values, sizeof *w.dequant));
    PQ_TRY(pq_alloc(ctx, &w.weight_axis, g->n_values, sizeof *w.weight_axis));
    PQ_TRY(pq_alloc(ctx, &w.late, g->n_nodes, 1));
    PQ_TRY(pq_alloc(ctx, &w.folded, g->n_nodes, 1));
    pq_onnx_choose_forms(&w);
    st = write_model(&w, out, plan, opts);
out:
    pq_binding_clear(&w.bind);
    pq_name_map_clear(&w.values);
    pq_name_map_clear(&w.nodes);
    pq_free(w.node);
    pq_free(w.init);
    pq_free(w.name);
    pq_free(w.dequant);
    pq_free(w.weight_axis);
    pq_free(w.late);
    pq_free(w.folded);
    pq_arena_free(w.arena);
    return pq_prefix(ctx, st, "export");
}

pq_status pq_export_onnx_file(pq_ctx *ctx, const char *path, const pq_graph *g, const pq_plan *plan,
                              const pq_export_opts *opts)
{
    pq_buf *bytes;
    pq_status st = pq_export_onnx(ctx, &bytes, g, plan, opts);
    if (st == PQ_OK) st = pq_file_write(ctx, path, pq_buf_data(bytes), pq_buf_bytes(bytes));
    pq_buf_unref(bytes);
    return st;
}
