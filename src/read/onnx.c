/* ONNX models into graphs: opset and IR version, inputs with their sizes, constants, nodes,
 * outputs. Networks whose tensors are float16, bfloat16 or float64 are read as float32 networks:
 * constants are converted and casts between floats become no-ops. Source:
 * onnx.ai/onnx/repo-docs/IR.html. */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "graph/tail.h"
#include "read/onnx_internal.h"
#include "read/proto_scan.h"

enum { MIN_OPSET = 11, MAX_OPSET = 21, MIN_IR = 3, MAX_IR = 12, MAX_DEPTH = 64 };

/* Note every name that the file defines, so that names we make up keep clear of them. */
static pq_status declare(pq_onnx_reader *r, const char *name)
{
    struct pq_name_slot *slot;
    bool is_new;
    if (!name || !name[0]) return PQ_OK;
    return pq_name_map_add(r->ctx, &r->values, &slot, name, &is_new);
}

static pq_status declare_all(pq_onnx_reader *r, const Onnx__GraphProto *p)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < p->n_input; i++) PQ_TRY(declare(r, p->input[i]->name));
    for (size_t i = 0; i < p->n_initializer; i++) PQ_TRY(declare(r, p->initializer[i]->name));
    for (size_t i = 0; i < p->n_node; i++)
        for (size_t k = 0; k < p->node[i]->n_output; k++) PQ_TRY(declare(r, p->node[i]->output[k]));
out:
    return st;
}

static pq_status define(pq_onnx_reader *r, const char *name, pq_value_id v)
{
    struct pq_name_slot *slot;
    bool is_new;
    pq_status st = pq_name_map_add(r->ctx, &r->values, &slot, name, &is_new);
    if (st != PQ_OK) return st;
    if (slot->id != PQ_NONE) return pq_fail(r->ctx, PQ_E_FORMAT, "value '%s' is made twice", name);
    slot->id = v;
    return PQ_OK;
}

/* ---- parts of the model ---- */

static pq_status read_versions(pq_onnx_reader *r, const Onnx__ModelProto *m)
{
    int64_t opset = 0;
    if (m->ir_version < MIN_IR || m->ir_version > MAX_IR)
        return pq_fail(r->ctx, m->has_ir_version ? PQ_E_UNSUPPORTED : PQ_E_FORMAT,
                       "IR version %lld, expected %d to %d", (long long)m->ir_version, MIN_IR,
                       MAX_IR);
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const char *domain = m->opset_import[i]->domain;
        if (!domain || !domain[0] || strcmp(domain, "ai.onnx") == 0)
            opset = m->opset_import[i]->version;
    }
    if (opset < MIN_OPSET || opset > MAX_OPSET)
        return pq_fail(r->ctx, PQ_E_UNSUPPORTED, "opset %lld, expected %d to %d", (long long)opset,
                       MIN_OPSET, MAX_OPSET);
    r->opset = r->g->opset = (int)opset;
    return PQ_OK;
}

static pq_status read_meta(pq_onnx_reader *r, const Onnx__ModelProto *m)
{
    const char **meta;
    size_t n = 0;
    if (!m->n_metadata_props) return PQ_OK;
    pq_status st =
        pq_arena_alloc(r->ctx, r->g->arena, &meta, 2 * m->n_metadata_props + 1, sizeof *meta);
    for (size_t i = 0; st == PQ_OK && i < m->n_metadata_props; i++) {
        const char *key = m->metadata_props[i]->key, *value = m->metadata_props[i]->value;
        st = pq_arena_strdup(r->ctx, r->g->arena, &meta[n++], key ? key : "");
        if (st == PQ_OK) st = pq_arena_strdup(r->ctx, r->g->arena, &meta[n++], value ? value : "");
    }
    if (st == PQ_OK) r->g->meta = meta;
    return st;
}

/* Sizes that the file leaves open come from the options: the batch, height and width of images. */
static pq_status input_shape(pq_onnx_reader *r, pq_shape *out, const char *name,
                             const Onnx__TensorShapeProto *p, const pq_read_opts *opts)
{
    if (p->n_dim > PQ_MAX_RANK)
        return pq_fail(r->ctx, PQ_E_UNSUPPORTED, "input '%s': %zu dimensions, at most %d", name,
                       p->n_dim, PQ_MAX_RANK);
    out->rank = (int)p->n_dim;
    for (int i = 0; i < out->rank; i++) {
        const Onnx__TensorShapeProto__Dimension *d = p->dim[i];
        const bool fixed = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
                           d->dim_value > 0;
        const bool image = out->rank == 4;
        int64_t given = i == 0            ? (opts->batch ? opts->batch : 1)
                        : image && i == 2 ? opts->h
                        : image && i == 3 ? opts->w
                                          : 0;
        out->dim[i] = fixed ? d->dim_value : given;
        if (out->dim[i] > 0) continue;
        if (image && i >= 2)
            return pq_fail(r->ctx, PQ_E_INVALID,
                           "input '%s': the file leaves %s open, give the input's height and width",
                           name, i == 2 ? "the height" : "the width");
        return pq_fail(r->ctx, PQ_E_UNSUPPORTED, "input '%s': dimension %d is not fixed", name, i);
    }
    return PQ_OK;
}

/* Inputs beside the image in exports of PaddleDetection: what the picture was resized by, and to.
 * With 1 and the input's own size boxes come out in pixels of the input, as everybody else's do. */
static bool is_auxiliary(const char *name, const pq_shape *shape)
{
    return shape->rank == 2 && shape->dim[1] == 2 &&
           (strcmp(name, "scale_factor") == 0 || strcmp(name, "im_shape") == 0);
}

static pq_status fix_auxiliary(pq_onnx_reader *r, const char *name, const pq_shape *shape,
                               const pq_shape *image)
{
    pq_tensor t;
    pq_value_id v;
    pq_status st = pq_tensor_new(r->ctx, &t, PQ_F32, shape);
    if (st != PQ_OK) return st;
    float *x = pq_tensor_data(&t);
    const bool scale = strcmp(name, "scale_factor") == 0;
    for (int64_t i = 0; i < pq_shape_count(shape); i++)
        x[i] = scale ? 1.0f : (float)image->dim[2 + i % 2];
    st = pq_graph_add_const(r->ctx, &v, r->g, name, PQ_F32, shape, t.buf);
    pq_tensor_clear(&t);
    if (st == PQ_OK) st = define(r, name, v);
    if (st == PQ_OK)
        pq_log(r->ctx, PQ_LOG_INFO, "read", "input '%s' is fixed: boxes are in pixels of the input",
               name);
    return st;
}

/* The image among the inputs: its shape, or NULL. */
static pq_status find_image(pq_onnx_reader *r, const Onnx__GraphProto *p, const pq_read_opts *opts,
                            pq_shape *out, bool *found)
{
    *found = false;
    for (size_t i = 0; i < p->n_input && !*found; i++) {
        const Onnx__ValueInfoProto *v = p->input[i];
        if (!v->type || v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ||
            !v->type->tensor_type->shape || v->type->tensor_type->shape->n_dim != 4)
            continue;
        const struct pq_name_slot *slot = pq_name_map_find(&r->values, v->name ? v->name : "");
        if (slot && slot->id != PQ_NONE) continue; /* an initialiser */
        const pq_status st =
            input_shape(r, out, v->name ? v->name : "", v->type->tensor_type->shape, opts);
        if (st != PQ_OK) return st;
        if (opts->h) out->dim[2] = opts->h;
        if (opts->w) out->dim[3] = opts->w;
        *found = true;
    }
    return PQ_OK;
}

static pq_status read_inputs(pq_onnx_reader *r, const Onnx__GraphProto *p, const pq_read_opts *opts)
{
    pq_status st;
    pq_value_id *inputs = NULL;
    size_t n = 0;
    pq_shape image;
    bool has_image;
    PQ_TRY(pq_alloc(r->ctx, &inputs, p->n_input, sizeof *inputs));
    PQ_TRY(find_image(r, p, opts, &image, &has_image));
    for (size_t i = 0; i < p->n_input; i++) {
        const Onnx__ValueInfoProto *v = p->input[i];
        pq_dtype dtype, stored;
        pq_shape shape;
        const char *name = v->name ? v->name : "";
        const struct pq_name_slot *slot = pq_name_map_find(&r->values, name);
        if (slot && slot->id != PQ_NONE && r->g->value[slot->id].data)
            continue; /* an initialiser that older files list here too */
        const Onnx__TypeProto__Tensor *type =
            v->type && v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
                ? v->type->tensor_type
                : NULL;
        if (!type || !type->shape || !name[0]) {
            st = pq_fail(r->ctx, PQ_E_UNSUPPORTED, "input '%s': not a tensor of known rank", name);
            goto out;
        }
        if (!pq_onnx_dtype(type->elem_type, &dtype, &stored)) {
            st = pq_fail(r->ctx, PQ_E_UNSUPPORTED, "input '%s': element type %d is not supported",
                         name, (int)type->elem_type);
            goto out;
        }
        PQ_TRY(input_shape(r, &shape, name, type->shape, opts));
        if (has_image && dtype == PQ_F32 && is_auxiliary(name, &shape)) {
            PQ_TRY(fix_auxiliary(r, name, &shape, &image));
            continue;
        }
        PQ_TRY(pq_graph_add_value(r->ctx, &inputs[n], r->g, name, dtype, &shape));
        PQ_TRY(define(r, name, inputs[n++]));
    }
    st = pq_graph_set_inputs(r->ctx, r->g, inputs, n);
out:
    pq_free(inputs);
    return st;
}

static pq_status read_constants(pq_onnx_reader *r, const Onnx__GraphProto *p)
{
    pq_status st = PQ_OK;
    if (p->n_sparse_initializer)
        return pq_fail(r->ctx, PQ_E_UNSUPPORTED, "sparse initialisers are not supported");
    for (size_t i = 0; i < p->n_initializer; i++) {
        const Onnx__TensorProto *t = p->initializer[i];
        pq_value_id v;
        if (!t->name || !t->name[0])
            return pq_fail(r->ctx, PQ_E_FORMAT, "initialiser %zu has no name", i);
        PQ_TRY(pq_onnx_constant(r, &v, t->name, t));
        PQ_TRY(define(r, t->name, v));
    }
out:
    return st;
}

static pq_status read_outputs(pq_onnx_reader *r, const Onnx__GraphProto *p)
{
    pq_status st;
    pq_value_id *outputs = NULL;
    PQ_TRY(pq_alloc(r->ctx, &outputs, p->n_output, sizeof *outputs));
    if (!p->n_output) {
        st = pq_fail(r->ctx, PQ_E_FORMAT, "the graph has no output");
        goto out;
    }
    for (size_t i = 0; i < p->n_output; i++) {
        const char *name = p->output[i]->name ? p->output[i]->name : "";
        const struct pq_name_slot *slot = pq_name_map_find(&r->values, name);
        if (!slot || slot->id == PQ_NONE) {
            st = pq_fail(r->ctx, PQ_E_FORMAT, "output '%s' is not made by any node", name);
            goto out;
        }
        outputs[i] = slot->id;
    }
    st = pq_graph_set_outputs(r->ctx, r->g, outputs, p->n_output);
out:
    pq_free(outputs);
    return st;
}

/* Anchors of strides 8, 16 and 32 on the first input, -1 where that is no image. */
static int64_t count_anchors(const pq_graph *g)
{
    int64_t n = 0;
    if (!g->n_inputs || g->value[g->input[0]].shape.rank != 4) return -1;
    const int64_t *d = g->value[g->input[0]].shape.dim;
    for (int64_t s = 8; s <= 32; s *= 2) n += (d[2] / s) * (d[3] / s);
    return n;
}

/* A list of the same shape may be NanoDet's (classes, distances: 80 + 32) or one of boxes that are
 * decoded already (put together of their columns at the very end). */
static bool is_yolox(const pq_graph *g)
{
    pq_tail tail;
    pq_graph_tail(&tail, g, g->output[0], 2);
    if (tail.n) return !tail.last && tail.n == 3 && tail.size[0] == 4 && tail.size[1] == 1;
    return g->value[g->output[0]].shape.dim[2] != 112;
}

/* A detector is known by what it gives: the file's own word, if we wrote it, comes first. */
static const char *find_family(const pq_graph *g)
{
    for (size_t i = 0; g->meta && g->meta[i]; i += 2)
        if (strcmp(g->meta[i], "pquant.family") == 0) return g->meta[i + 1];
    const int64_t anchors = count_anchors(g);
    const pq_shape *a = &g->value[g->output[0]].shape;
    if (a->rank == 3 && a->dim[1] == anchors) {
        if (g->n_outputs == 1 && a->dim[2] > 5 && is_yolox(g)) return "YOLOX";
        const pq_shape *b = g->n_outputs == 2 ? &g->value[g->output[1]].shape : NULL;
        if (b && b->rank == 3 && b->dim[1] == anchors && b->dim[2] == 4) return "DAMO-YOLO";
    }
    return "ONNX";
}

/* A size other than the file's own. */
static pq_status apply_size(pq_onnx_reader *r, const pq_read_opts *opts)
{
    if (!opts->batch && !opts->h && !opts->w) return PQ_OK;
    const pq_shape *s = r->g->n_inputs ? &r->g->value[r->g->input[0]].shape : NULL;
    const int64_t batch = opts->batch ? opts->batch : s && s->rank ? s->dim[0] : 1;
    if (s && s->rank == 4 && r->g->n_inputs == 1 && s->dim[0] == batch &&
        (!opts->h || s->dim[2] == opts->h) && (!opts->w || s->dim[3] == opts->w))
        return PQ_OK;
    return pq_graph_set_input_size(r->ctx, r->g, batch, opts->h, opts->w);
}

static pq_status read_model(pq_onnx_reader *r, const Onnx__ModelProto *m, const pq_read_opts *opts)
{
    pq_status st;
    const Onnx__GraphProto *p = m->graph;
    PQ_TRY(read_versions(r, m));
    if (!p) {
        st = pq_fail(r->ctx, PQ_E_FORMAT, "the model has no graph");
        goto out;
    }
    PQ_TRY(read_meta(r, m));
    PQ_TRY(declare_all(r, p));
    PQ_TRY(read_constants(r, p));
    PQ_TRY(read_inputs(r, p, opts));
    for (size_t i = 0; i < p->n_node; i++) PQ_TRY(pq_onnx_node(r, p->node[i], i));
    PQ_TRY(read_outputs(r, p));
    PQ_TRY(apply_size(r, opts));
    r->g->family = find_family(r->g);
    pq_graph_mark_quantizable(r->g);
out:
    return st;
}

/* protobuf-c's allocator, under the switch that lets tests fail allocations; user: a bool that is
 * set when memory ran out, because unpacking tells no reasons. */
static void *proto_alloc(void *user, size_t n)
{
    void *p = pq_mem_malloc(n ? n : 1);
    if (!p) *(bool *)user = true;
    return p;
}
static void proto_free(void *user, void *p)
{
    (void)user;
    pq_mem_free(p);
}

pq_status pq_read_onnx_memory(pq_ctx *ctx, pq_graph **out, const void *data, size_t bytes,
                              const char *folder, const pq_read_opts *opts)
{
    static const pq_read_opts defaults;
    pq_status st;
    bool no_memory = false;
    ProtobufCAllocator allocator = {proto_alloc, proto_free, &no_memory};
    Onnx__ModelProto *m = NULL;
    pq_onnx_reader r = {.ctx = ctx, .folder = folder};
    *out = NULL;
    PQ_TRY(pq_proto_scan(ctx, &onnx__model_proto__descriptor, data, bytes, MAX_DEPTH));
    m = onnx__model_proto__unpack(&allocator, bytes, data);
    if (!m) {
        st = no_memory ? pq_fail(ctx, PQ_E_NOMEM, "no memory to unpack %zu bytes", bytes)
                       : pq_fail(ctx, PQ_E_FORMAT, "%zu bytes are not an ONNX model", bytes);
        goto out;
    }
    PQ_TRY(pq_graph_new(ctx, &r.g));
    PQ_TRY(read_model(&r, m, opts ? opts : &defaults));
    *out = r.g;
    r.g = NULL;
out:
    pq_inference_clear(&r.inf);
    pq_name_map_clear(&r.values);
    pq_name_map_clear(&r.nodes);
    pq_graph_free(r.g);
    if (m) onnx__model_proto__free_unpacked(m, &allocator);
    return st;
}

pq_status pq_read_onnx(pq_ctx *ctx, pq_graph **out, const char *path, const pq_read_opts *opts)
{
    pq_status st;
    pq_buf *map = NULL;
    char *folder = NULL;
    *out = NULL;
    PQ_TRY(pq_file_map(ctx, &map, path));
    PQ_TRY(pq_strdup(ctx, &folder, path));
    folder[pq_path_base(path) - path] = 0; /* "" is the current folder */
    st = pq_read_onnx_memory(ctx, out, pq_buf_data(map), pq_buf_bytes(map),
                             folder[0] ? folder : ".", opts);
    pq_prefix(ctx, st, "%s", path);
out:
    pq_free(folder);
    pq_buf_unref(map);
    return st;
}
