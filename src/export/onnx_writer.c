/* Building ONNX messages in an arena. */
#include "export/onnx_writer.h"

#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"

static pq_status new_name(pq_onnx_writer *w, pq_name_map *m, const char **out, const char *base,
                          const char *what)
{
    const char *text = base;
    pq_status st = PQ_OK;
    if (what) st = pq_arena_printf(w->ctx, w->arena, &text, "%s/%s", base, what);
    return st == PQ_OK ? pq_name_map_unique(w->ctx, m, w->arena, out, text) : st;
}

pq_status pq_onnx_value_name(pq_onnx_writer *w, const char **out, const char *base,
                             const char *what)
{
    return new_name(w, &w->values, out, base, what);
}

/* Protobuf wants char *; nothing writes through it. */
static pq_status text_array(pq_onnx_writer *w, char ***out, const char *const v[], int n)
{
    pq_status st = pq_arena_alloc(w->ctx, w->arena, out, (size_t)n, sizeof **out);
    if (st == PQ_OK && n) memcpy(*out, v, (size_t)n * sizeof **out);
    return st;
}

pq_status pq_onnx_add(pq_onnx_writer *w, Onnx__NodeProto **out, const char *type, const char *base,
                      const char *what, const char *const in[], int n_in,
                      const char *const outputs[], int n_out)
{
    pq_status st;
    Onnx__NodeProto *n;
    const char *name;
    if (out) *out = NULL;
    if (w->n_node == w->room_node) {
        const size_t room = w->room_node ? 2 * w->room_node : 256;
        PQ_TRY(pq_grow(w->ctx, &w->node, w->n_node, room, sizeof(Onnx__NodeProto *)));
        w->room_node = room;
    }
    PQ_TRY(new_name(w, &w->nodes, &name, base, what));
    PQ_TRY(pq_arena_alloc(w->ctx, w->arena, &n, 1, sizeof *n));
    onnx__node_proto__init(n);
    n->op_type = (char *)type;
    n->name = (char *)name;
    while (n_in && !in[n_in - 1][0]) n_in--; /* trailing absent inputs */
    PQ_TRY(text_array(w, &n->input, in, n_in));
    PQ_TRY(text_array(w, &n->output, outputs, n_out));
    n->n_input = (size_t)n_in;
    n->n_output = (size_t)n_out;
    w->node[w->n_node++] = n;
    if (out) *out = n;
out:
    return st;
}

pq_status pq_onnx_op(pq_onnx_writer *w, const char **out, const char *type, const char *base,
                     const char *what, const char *a, const char *b)
{
    const char *in[2] = {a, b ? b : ""};
    pq_status st = pq_onnx_value_name(w, out, base, what);
    return st == PQ_OK ? pq_onnx_add(w, NULL, type, base, what, in, 2, out, 1) : st;
}

/* A new attribute at the end of the node's list. */
static pq_status put(pq_onnx_writer *w, Onnx__AttributeProto **out, Onnx__NodeProto *n,
                     const char *name, Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto **list, *a;
    pq_status st = pq_arena_alloc(w->ctx, w->arena, &list, n->n_attribute + 1, sizeof *list);
    if (st == PQ_OK) st = pq_arena_alloc(w->ctx, w->arena, &a, 1, sizeof *a);
    if (st != PQ_OK) return st;
    onnx__attribute_proto__init(a);
    a->name = (char *)name;
    a->has_type = 1;
    a->type = type;
    if (n->n_attribute) memcpy(list, n->attribute, n->n_attribute * sizeof *list);
    list[n->n_attribute++] = a;
    n->attribute = list;
    *out = a;
    return PQ_OK;
}

pq_status pq_onnx_put_int(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a;
    pq_status st = put(w, &a, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (st != PQ_OK) return st;
    a->has_i = 1;
    a->i = v;
    return PQ_OK;
}

pq_status pq_onnx_put_float(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name, float v)
{
    Onnx__AttributeProto *a;
    pq_status st = put(w, &a, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (st != PQ_OK) return st;
    a->has_f = 1;
    a->f = v;
    return PQ_OK;
}

pq_status pq_onnx_put_ints(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                           const int64_t *v, int count)
{
    Onnx__AttributeProto *a;
    pq_status st = put(w, &a, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    if (st == PQ_OK)
        st = pq_arena_alloc(w->ctx, w->arena, &a->ints, (size_t)count, sizeof *a->ints);
    if (st != PQ_OK) return st;
    if (count) memcpy(a->ints, v, (size_t)count * sizeof *v);
    a->n_ints = (size_t)count;
    return PQ_OK;
}

pq_status pq_onnx_put_text(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                           const char *text)
{
    Onnx__AttributeProto *a;
    pq_status st = put(w, &a, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    if (st != PQ_OK) return st;
    a->has_s = 1;
    a->s.data = (uint8_t *)text;
    a->s.len = strlen(text);
    return PQ_OK;
}

pq_status pq_onnx_put_tensor(pq_onnx_writer *w, Onnx__NodeProto *n, const char *name,
                             Onnx__TensorProto *t)
{
    Onnx__AttributeProto *a;
    pq_status st = put(w, &a, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR);
    if (st == PQ_OK) a->t = t;
    return st;
}

pq_status pq_onnx_cast(pq_onnx_writer *w, const char **out, const char *in, int type,
                       const char *base, const char *what)
{
    Onnx__NodeProto *n;
    pq_status st = pq_onnx_value_name(w, out, base, what);
    if (st == PQ_OK) st = pq_onnx_add(w, &n, "Cast", base, what, &in, 1, out, 1);
    return st == PQ_OK ? pq_onnx_put_int(w, n, "to", type) : st;
}

static size_t type_size(int type)
{
    switch (type) {
    case PQ_ONNX_U8:
    case PQ_ONNX_S8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL: return 1;
    case PQ_ONNX_F16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16: return 2;
    case PQ_ONNX_S64: return 8;
    default: return 4;
    }
}

pq_status pq_onnx_tensor_proto(pq_onnx_writer *w, Onnx__TensorProto **out, const char *name,
                               int type, const pq_shape *shape, const void *data)
{
    Onnx__TensorProto *t;
    pq_status st = pq_arena_alloc(w->ctx, w->arena, &t, 1, sizeof *t);
    if (st != PQ_OK) return st;
    onnx__tensor_proto__init(t);
    st = pq_arena_alloc(w->ctx, w->arena, &t->dims, (size_t)shape->rank, sizeof *t->dims);
    if (st != PQ_OK) return st;
    for (int i = 0; i < shape->rank; i++) t->dims[i] = shape->dim[i];
    t->n_dims = (size_t)shape->rank;
    t->name = (char *)name;
    t->has_data_type = t->has_raw_data = 1;
    t->data_type = type;
    t->raw_data.data = (uint8_t *)data;
    t->raw_data.len = (size_t)pq_shape_count(shape) * type_size(type);
    *out = t;
    return PQ_OK;
}

pq_status pq_onnx_init(pq_onnx_writer *w, const char *name, int type, const pq_shape *shape,
                       const void *data)
{
    if (w->n_init == w->room_init) {
        const size_t room = w->room_init ? 2 * w->room_init : 256;
        pq_status st = pq_grow(w->ctx, &w->init, w->n_init, room, sizeof(Onnx__TensorProto *));
        if (st != PQ_OK) return st;
        w->room_init = room;
    }
    pq_status st = pq_onnx_tensor_proto(w, &w->init[w->n_init], name, type, shape, data);
    if (st == PQ_OK) w->n_init++;
    return st;
}

pq_status pq_onnx_ints_init(pq_onnx_writer *w, const char **out, const char *base, const char *what,
                            const int64_t *v, int n)
{
    int64_t *copy;
    pq_status st = pq_onnx_value_name(w, out, base, what);
    if (st == PQ_OK) st = pq_arena_alloc(w->ctx, w->arena, &copy, (size_t)n, sizeof *copy);
    if (st != PQ_OK) return st;
    if (n) memcpy(copy, v, (size_t)n * sizeof *copy);
    return pq_onnx_init(w, *out, PQ_ONNX_S64, &PQ_SHAPE(n), copy);
}

pq_status pq_onnx_floats_init(pq_onnx_writer *w, const char **out, const char *base,
                              const char *what, const pq_shape *shape, const float *v, bool wide)
{
    void *copy;
    const bool half = w->fp16 && !wide;
    const size_t n = (size_t)pq_shape_count(shape);
    pq_status st = pq_onnx_value_name(w, out, base, what);
    if (st == PQ_OK) st = pq_arena_alloc(w->ctx, w->arena, &copy, n, half ? 2 : sizeof *v);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < n; i++) {
        if (half)
            ((uint16_t *)copy)[i] = pq_f32_to_f16(v[i]);
        else
            ((float *)copy)[i] = v[i];
    }
    return pq_onnx_init(w, *out, half ? PQ_ONNX_F16 : PQ_ONNX_F32, shape, copy);
}

int pq_onnx_type(const pq_onnx_writer *w, pq_dtype t)
{
    static const int type[PQ_DTYPE_COUNT] = {
        [PQ_F32] = PQ_ONNX_F32,
        [PQ_F16] = PQ_ONNX_F16,
        [PQ_BF16] = ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16,
        [PQ_F64] = ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE,
        [PQ_S8] = PQ_ONNX_S8,
        [PQ_U8] = PQ_ONNX_U8,
        [PQ_S16] = ONNX__TENSOR_PROTO__DATA_TYPE__INT16,
        [PQ_S32] = ONNX__TENSOR_PROTO__DATA_TYPE__INT32,
        [PQ_S64] = PQ_ONNX_S64,
        [PQ_BOOL] = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL,
    };
    return w->fp16 && t == PQ_F32 ? PQ_ONNX_F16 : type[t];
}

const void *pq_onnx_const_data(const pq_onnx_writer *w, pq_value_id v)
{
    const pq_plan_weight *corrected = w->bind.weight[v];
    return corrected ? pq_tensor_data(&corrected->data) : pq_buf_data(w->g->value[v].data);
}
