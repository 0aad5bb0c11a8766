#include <pquant/read.h>

#include "onnx_build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void *room(model *m, size_t n, size_t size)
{
    void *p;
    assert_int_equal(pq_arena_alloc(m->w.ctx, m->w.arena, &p, n, size), PQ_OK);
    return p;
}

void model_begin(model *m, pq_ctx *ctx, int opset)
{
    memset(m, 0, sizeof *m);
    m->w.ctx = ctx;
    assert_int_equal(pq_arena_new(ctx, &m->w.arena), PQ_OK);
    onnx__model_proto__init(&m->m);
    onnx__graph_proto__init(&m->g);
    onnx__operator_set_id_proto__init(&m->opset);
    m->opset.has_version = 1;
    m->opset.version = opset;
    m->opsets = &m->opset;
    m->m.opset_import = &m->opsets;
    m->m.n_opset_import = 1;
    m->m.has_ir_version = 1;
    m->m.ir_version = 8;
    m->m.graph = &m->g;
    m->g.input = m->in;
    m->g.output = m->out;
}

void model_end(model *m)
{
    pq_name_map_clear(&m->w.nodes);
    pq_free(m->w.node);
    pq_free(m->w.init);
    pq_arena_free(m->w.arena);
}

void model_input(model *m, const char *name, int type, int rank, const int64_t *dim)
{
    Onnx__ValueInfoProto *v = room(m, 1, sizeof *v);
    Onnx__TypeProto *t = room(m, 1, sizeof *t);
    Onnx__TypeProto__Tensor *x = room(m, 1, sizeof *x);
    Onnx__TensorShapeProto *s = room(m, 1, sizeof *s);
    onnx__value_info_proto__init(v);
    onnx__type_proto__init(t);
    onnx__type_proto__tensor__init(x);
    onnx__tensor_shape_proto__init(s);
    s->dim = room(m, (size_t)rank, sizeof *s->dim);
    for (int i = 0; i < rank; i++) {
        s->dim[i] = room(m, 1, sizeof **s->dim);
        onnx__tensor_shape_proto__dimension__init(s->dim[i]);
        s->dim[i]->value_case = dim[i] < 0 ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                                           : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (dim[i] < 0)
            s->dim[i]->dim_param = (char *)"open";
        else
            s->dim[i]->dim_value = dim[i];
    }
    s->n_dim = (size_t)rank;
    x->has_elem_type = 1;
    x->elem_type = type;
    x->shape = s;
    t->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    t->tensor_type = x;
    v->name = (char *)name;
    v->type = t;
    m->in[m->g.n_input++] = v;
}

void model_output(model *m, const char *name)
{
    Onnx__ValueInfoProto *v = room(m, 1, sizeof *v);
    onnx__value_info_proto__init(v);
    v->name = (char *)name;
    m->out[m->g.n_output++] = v;
}

static int split(model *m, const char *text, const char *parts[64])
{
    const char *copy;
    int n = 0;
    assert_int_equal(pq_arena_strdup(m->w.ctx, m->w.arena, &copy, text), PQ_OK);
    for (char *p = (char *)copy; p && *text; n++) {
        char *comma = strchr(p, ',');
        if (comma) *comma = 0;
        parts[n] = p;
        p = comma ? comma + 1 : NULL;
    }
    return n;
}

Onnx__NodeProto *model_node(model *m, const char *type, const char *name, const char *in,
                            const char *out)
{
    const char *inputs[64], *outputs[64];
    Onnx__NodeProto *n;
    const int n_in = split(m, in, inputs), n_out = split(m, out, outputs);
    assert_int_equal(pq_onnx_add(&m->w, &n, type, "", NULL, inputs, n_in, outputs, n_out), PQ_OK);
    n->name = (char *)name;
    return n;
}

Onnx__TensorProto *model_const(model *m, const char *name, int type, int rank, const int64_t *dim,
                               const void *data)
{
    pq_shape s = {rank, {0}};
    memcpy(s.dim, dim, (size_t)rank * sizeof *dim);
    assert_int_equal(pq_onnx_init(&m->w, name, type, &s, data), PQ_OK);
    return m->w.init[m->w.n_init - 1];
}

void model_ints(model *m, const char *name, int n, const int64_t *v)
{
    int64_t *copy = room(m, (size_t)n, sizeof *copy);
    memcpy(copy, v, (size_t)n * sizeof *v);
    model_const(m, name, PQ_ONNX_S64, DIMS(n), copy);
}

void put_int(model *m, Onnx__NodeProto *n, const char *name, int64_t v)
{
    assert_int_equal(pq_onnx_put_int(&m->w, n, name, v), PQ_OK);
}
void put_float(model *m, Onnx__NodeProto *n, const char *name, float v)
{
    assert_int_equal(pq_onnx_put_float(&m->w, n, name, v), PQ_OK);
}
void put_ints(model *m, Onnx__NodeProto *n, const char *name, int count, const int64_t *v)
{
    assert_int_equal(pq_onnx_put_ints(&m->w, n, name, v, count), PQ_OK);
}
void put_text(model *m, Onnx__NodeProto *n, const char *name, const char *v)
{
    assert_int_equal(pq_onnx_put_text(&m->w, n, name, v), PQ_OK);
}

uint8_t *model_bytes(model *m, size_t *n)
{
    uint8_t *p;
    m->g.node = m->w.node;
    m->g.n_node = m->w.n_node;
    m->g.initializer = m->w.init;
    m->g.n_initializer = m->w.n_init;
    *n = onnx__model_proto__get_packed_size(&m->m);
    assert_int_equal(pq_alloc(m->w.ctx, &p, *n, 1), PQ_OK);
    onnx__model_proto__pack(&m->m, p);
    return p;
}

pq_status model_read(model *m, pq_graph **out, const char *folder, const pq_read_opts *opts)
{
    size_t n;
    uint8_t *p = model_bytes(m, &n);
    pq_status st = pq_read_onnx_memory(m->w.ctx, out, p, n, folder, opts);
    pq_free(p);
    return st;
}
