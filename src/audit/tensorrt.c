/* An ONNX file against TensorRT's rules for explicit quantization and strong typing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <onnx/onnx.pb-c.h>

#include "audit/audit.h"
#include "base/mem.h"
#include "graph/name_map.h"
#include "read/proto_scan.h"

enum {
    MAX_DEPTH = 64,
    T_FLOAT = 1,
    T_INT8 = 3,
    T_INT32 = 6,
    T_INT64 = 7,
    T_HALF = 10,
    T_BFLOAT = 16,
    HALF_SCALES_OPSET = 19
};

/* A value of the file: who makes it, and of what element type. */
typedef struct value {
    const Onnx__NodeProto *maker; /* NULL: an input or an initialiser */
    const Onnx__TensorProto *init;
    int type; /* 0: not known */
    size_t n_readers, n_dequantizers;
    const Onnx__NodeProto *reader; /* the last one seen */
} value;

typedef struct rules {
    pq_ctx *ctx;
    pq_audit *a;
    const Onnx__GraphProto *g;
    int64_t opset;
    pq_name_map names;
    value *v;
    value nobody; /* what has no name */
    size_t n, n_pairs, n_float;
} rules;

static const char *text(const char *s) { return s ? s : ""; }

static const char *name_of(const Onnx__NodeProto *n)
{
    if (n->name && *n->name) return n->name;
    return n->n_output ? text(n->output[0]) : "";
}

static bool is(const Onnx__NodeProto *n, const char *type)
{
    return n && strcmp(text(n->op_type), type) == 0;
}

static value *find(const rules *r, const char *name)
{
    const struct pq_name_slot *s = name && *name ? pq_name_map_find(&r->names, name) : NULL;
    return s ? &r->v[s->id] : NULL;
}

static value *input(const rules *r, const Onnx__NodeProto *n, size_t i)
{
    return i < n->n_input ? find(r, n->input[i]) : NULL;
}

static int64_t count(const Onnx__TensorProto *t)
{
    int64_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] < 0 || (t->dims[i] && n > INT32_MAX / t->dims[i])) return 0;
        n *= t->dims[i];
    }
    return n;
}

/* Element i of an int8, uint8, float16 or float32 constant, NAN where it is none of these. */
static double element(const Onnx__TensorProto *t, int64_t i)
{
    const size_t size = t->data_type == T_FLOAT  ? 4
                        : t->data_type == T_HALF ? 2
                                                 : 1,
                 at = (size_t)i;
    if (t->has_raw_data && t->raw_data.len >= (at + 1) * size) {
        const uint8_t *p = t->raw_data.data + at * size;
        float f;
        uint16_t half;
        switch (t->data_type) {
        case T_FLOAT: memcpy(&f, p, sizeof f); return (double)f;
        case T_HALF: memcpy(&half, p, sizeof half); return (double)pq_f16_to_f32(half);
        case T_INT8: return (double)(int8_t)*p;
        case 2: return (double)*p;
        default: return NAN;
        }
    }
    if (t->data_type == T_FLOAT && at < t->n_float_data) return (double)t->float_data[at];
    if (at >= t->n_int32_data) return NAN;
    return t->data_type == T_HALF ? (double)pq_f16_to_f32((uint16_t)t->int32_data[at])
                                  : (double)t->int32_data[at];
}

static const Onnx__AttributeProto *attribute(const Onnx__NodeProto *n, const char *name)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (strcmp(text(n->attribute[i]->name), name) == 0) return n->attribute[i];
    return NULL;
}

static bool is_float(int type) { return type == T_FLOAT || type == T_HALF || type == T_BFLOAT; }

static const char *type_name(int type)
{
    switch (type) {
    case T_FLOAT: return "float32";
    case T_HALF: return "float16";
    case T_BFLOAT: return "bfloat16";
    case T_INT8: return "int8";
    case T_INT32: return "int32";
    case 2: return "uint8";
    default: return "another type";
    }
}

/* ---- who makes what ---- */

static pq_status add_value(rules *r, const char *name, value **out)
{
    struct pq_name_slot *slot;
    bool is_new;
    *out = &r->nobody;
    if (!name || !*name) return PQ_OK;
    pq_status st = pq_name_map_add(r->ctx, &r->names, &slot, name, &is_new);
    if (st == PQ_OK && is_new) slot->id = (uint32_t)r->n++;
    if (st == PQ_OK) *out = &r->v[slot->id];
    return st;
}

static int output_type(const rules *r, const Onnx__NodeProto *n)
{
    const value *a = input(r, n, 0), *scale = input(r, n, 1), *zero = input(r, n, 2);
    if (is(n, "QuantizeLinear")) return zero ? zero->type : 2;
    if (is(n, "DequantizeLinear")) return scale ? scale->type : 0;
    if (is(n, "Cast")) {
        const Onnx__AttributeProto *to = attribute(n, "to");
        return to ? (int)to->i : 0;
    }
    if (is(n, "Shape") || is(n, "ArgMax") || is(n, "Size")) return T_INT64;
    if (is(n, "Constant")) {
        const Onnx__AttributeProto *c = attribute(n, "value");
        return c && c->t ? c->t->data_type : 0;
    }
    if (is(n, "Where")) return scale ? scale->type : 0;
    return is(n, "ConstantOfShape") || !a ? 0 : a->type;
}

static pq_status list_values(rules *r)
{
    const Onnx__GraphProto *g = r->g;
    size_t room = g->n_input + g->n_initializer;
    value *v;
    pq_status st;
    for (size_t i = 0; i < g->n_node; i++) room += g->node[i]->n_output;
    PQ_TRY(pq_alloc(r->ctx, &r->v, room, sizeof *r->v));
    for (size_t i = 0; i < g->n_input; i++) {
        const Onnx__TypeProto *t = g->input[i]->type;
        PQ_TRY(add_value(r, g->input[i]->name, &v));
        if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
            v->type = t->tensor_type->elem_type;
    }
    for (size_t i = 0; i < g->n_initializer; i++) {
        PQ_TRY(add_value(r, g->initializer[i]->name, &v));
        v->init = g->initializer[i];
        v->type = g->initializer[i]->data_type;
    }
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *n = g->node[i];
        for (size_t k = 0; k < n->n_input; k++) {
            value *in = find(r, n->input[k]);
            if (!in) continue;
            in->n_readers++;
            in->n_dequantizers += k == 0 && is(n, "DequantizeLinear");
            in->reader = n;
        }
        const int type = output_type(r, n);
        for (size_t k = 0; k < n->n_output; k++) {
            PQ_TRY(add_value(r, n->output[k], &v));
            v->maker = n;
            v->type = type;
        }
    }
    st = PQ_OK;
out:
    return st;
}

/* ---- rules ---- */

static pq_status check_inputs(rules *r)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < r->g->n_input && st == PQ_OK; i++) {
        const Onnx__ValueInfoProto *in = r->g->input[i];
        const Onnx__TypeProto *t = in->type;
        if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type->shape)
            continue;
        for (size_t k = 0; k < t->tensor_type->shape->n_dim && st == PQ_OK; k++) {
            const Onnx__TensorShapeProto__Dimension *d = t->tensor_type->shape->dim[k];
            if (d->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE ||
                d->dim_value <= 0)
                st = pq_audit_say(r->ctx, r->a, true, text(in->name),
                                  "input: dimension %zu is not fixed, expected a static shape", k);
        }
    }
    return st;
}

static pq_status check_scale(rules *r, const Onnx__NodeProto *n, bool of_weights)
{
    const value *scale = input(r, n, 1);
    if (!scale || !scale->init)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "its scale is computed, expected a constant");
    const int64_t m = count(scale->init);
    for (int64_t i = 0; i < m; i++) {
        const double s = element(scale->init, i);
        if (!(s > 0) || !isfinite(s))
            return pq_audit_say(r->ctx, r->a, true, name_of(n), "scale %g, expected above 0", s);
    }
    if (m != 1 && !of_weights)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "%lld scales for an activation, expected one", (long long)m);
    if (scale->type == T_HALF && r->opset < HALF_SCALES_OPSET)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "float16 scale in opset %lld, expected at least %d",
                            (long long)r->opset, HALF_SCALES_OPSET);
    return PQ_OK;
}

static pq_status check_zero(rules *r, const Onnx__NodeProto *n)
{
    const value *zero = input(r, n, 2), *in = input(r, n, 0);
    if (!zero && is(n, "DequantizeLinear") && in && in->type == T_INT8) return PQ_OK;
    if (!zero || !zero->init)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "no constant zero point, expected int8 zeros");
    if (zero->type != T_INT8)
        return pq_audit_say(r->ctx, r->a, true, name_of(n), "%s, expected int8",
                            type_name(zero->type));
    const int64_t m = count(zero->init);
    for (int64_t i = 0; i < m; i++) {
        const double z = element(zero->init, i);
        if (!(z == 0))
            return pq_audit_say(r->ctx, r->a, true, name_of(n), "zero point %g, expected 0", z);
    }
    return PQ_OK;
}

/* Both halves of a pair name the same constants, or equal ones. */
static bool same_constant(const value *a, const value *b)
{
    if (a == b) return true;
    if (!a || !b || !a->init || !b->init || count(a->init) != count(b->init)) return false;
    for (int64_t i = 0; i < count(a->init); i++)
        if (!(element(a->init, i) == element(b->init, i))) return false;
    return true;
}

static pq_status check_pair(rules *r, const Onnx__NodeProto *dq)
{
    const value *q = input(r, dq, 0);
    r->n_pairs++;
    if (!q || (!is(q->maker, "QuantizeLinear") && !q->init))
        return pq_audit_say(r->ctx, r->a, true, name_of(dq),
                            "dequantizes what no QuantizeLinear made");
    if (q->maker && !same_constant(input(r, q->maker, 1), input(r, dq, 1)))
        return pq_audit_say(r->ctx, r->a, true, name_of(dq),
                            "another scale than in the QuantizeLinear before it");
    return PQ_OK;
}

static pq_status check_quantizer(rules *r, const Onnx__NodeProto *n)
{
    const value *in = input(r, n, 0);
    const bool first = is(n, "QuantizeLinear");
    const value *from = first || !in || !in->maker ? in : input(r, in->maker, 0);
    pq_status st = check_scale(r, n, from && from->init);
    if (st == PQ_OK) st = check_zero(r, n);
    if (!first) return st == PQ_OK ? check_pair(r, n) : st;
    const value *out = n->n_output ? find(r, n->output[0]) : NULL;
    if (st == PQ_OK && out && out->n_readers != out->n_dequantizers)
        st = pq_audit_say(r->ctx, r->a, true, name_of(n),
                          "its result is read as it is, expected by DequantizeLinear only");
    const value *scale = input(r, n, 1);
    if (st == PQ_OK && in && scale && is_float(in->type) && is_float(scale->type) &&
        in->type != scale->type)
        st = pq_audit_say(r->ctx, r->a, true, name_of(n),
                          "%s scale for %s values: a strongly typed network takes one type",
                          type_name(scale->type), type_name(in->type));
    return st;
}

static bool is_weighted(const Onnx__NodeProto *n)
{
    return is(n, "Conv") || is(n, "ConvTranspose") || is(n, "Gemm") || is(n, "MatMul");
}

static bool from_pair(const value *v) { return v && is(v->maker, "DequantizeLinear"); }

static bool is_int8(const rules *r, const Onnx__NodeProto *n)
{
    return n && is_weighted(n) && from_pair(input(r, n, 0)) && from_pair(input(r, n, 1));
}

static pq_status check_weights(rules *r, const Onnx__NodeProto *n, const Onnx__NodeProto *dq)
{
    const value *q = input(r, dq, 0);
    if (q && q->init)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "weights are stored as %s, expected float ones behind a pair",
                            type_name(q->type));
    const value *scale = input(r, dq, 1);
    const Onnx__AttributeProto *axis = attribute(dq, "axis");
    const int64_t at = axis ? axis->i : 1, wanted = is(n, "Conv") ? 0 : 1;
    if (!scale || !scale->init || count(scale->init) == 1) return PQ_OK;
    if ((is(n, "Conv") || is(n, "ConvTranspose")) && at != wanted)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "scales of its weights run along axis %lld, expected %lld",
                            (long long)at, (long long)wanted);
    return PQ_OK;
}

/* Is what this pair quantizes a constant? (Both operands of a MatMul may be activations.) */
static bool is_constant(const rules *r, const value *v)
{
    const value *q = input(r, v->maker, 0);
    const value *from = q && q->maker ? input(r, q->maker, 0) : q;
    return from && from->init;
}

static pq_status check_weighted(rules *r, const Onnx__NodeProto *n)
{
    const value *x = input(r, n, 0), *w = input(r, n, 1), *bias = input(r, n, 2);
    const bool a = from_pair(x), b = from_pair(w);
    pq_status st = PQ_OK;
    r->n_float += !a && !b && w && w->init;
    if (a != b)
        return pq_audit_say(r->ctx, r->a, true, name_of(n),
                            "%s without a pair, expected both inputs quantized or none",
                            a ? "its weights stand" : "its data stands");
    if (!a) return PQ_OK;
    if (is_constant(r, w)) st = check_weights(r, n, w->maker);
    if (st == PQ_OK && bias && (from_pair(bias) || !is_float(bias->type)))
        st = pq_audit_say(r->ctx, r->a, true, name_of(n), "bias is %s%s, expected a float one",
                          type_name(bias->type), from_pair(bias) ? " behind a pair" : "");
    return st;
}

/* Is the value quantized, perhaps behind one activation? */
static bool ends_in_int8(const rules *r, const value *v)
{
    for (int i = 0; v && i < 2; i++) {
        if (v->n_readers != 1 || !v->reader) return false;
        if (is(v->reader, "QuantizeLinear")) return true;
        if (!is(v->reader, "Relu") && !is(v->reader, "Clip")) return false;
        v = v->reader->n_output ? find(r, v->reader->output[0]) : NULL;
    }
    return false;
}

/* A sum is fused into the INT8 convolution before it when its other operand is quantized. */
static pq_status check_sum(rules *r, const Onnx__NodeProto *n)
{
    const value *a = input(r, n, 0), *b = input(r, n, 1);
    if (!a || !b || !n->n_output || !ends_in_int8(r, find(r, n->output[0]))) return PQ_OK;
    if (!is_int8(r, a->maker) && !is_int8(r, b->maker)) return PQ_OK;
    if (from_pair(a) || from_pair(b)) return PQ_OK;
    return pq_audit_say(r->ctx, r->a, true, name_of(n),
                        "neither operand of the residual sum has a pair, expected one");
}

/* Operands of one float type, as a strongly typed network needs them. */
static pq_status check_types(rules *r, const Onnx__NodeProto *n)
{
    static const char *const op[] = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add",
                                     "Sub",  "Mul",           "Div",  "Concat", "Max",
                                     "Min",  "Sum",           "Pow",  "PRelu",  "Clip"};
    int first = 0;
    bool known = false;
    for (size_t i = 0; i < sizeof op / sizeof *op; i++) known = known || is(n, op[i]);
    for (size_t i = 0; known && i < n->n_input; i++) {
        const value *v = input(r, n, i);
        if (!v || !is_float(v->type)) continue;
        if (!first) first = v->type;
        if (v->type != first)
            return pq_audit_say(r->ctx, r->a, true, name_of(n),
                                "operands of %s and %s: a strongly typed network takes one type",
                                type_name(first), type_name(v->type));
    }
    return PQ_OK;
}

static pq_status check_nodes(rules *r)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < r->g->n_node && st == PQ_OK; i++) {
        const Onnx__NodeProto *n = r->g->node[i];
        if (is(n, "QuantizeLinear") || is(n, "DequantizeLinear"))
            st = check_quantizer(r, n);
        else if (is_weighted(n))
            st = check_weighted(r, n);
        else if (is(n, "Add"))
            st = check_sum(r, n);
        if (st == PQ_OK) st = check_types(r, n);
    }
    return st;
}

/* The part that is not INT8 runs in the type that the file gives it. */
static pq_status check_float_part(rules *r)
{
    for (size_t i = 0; i < r->g->n_initializer; i++)
        if (r->g->initializer[i]->data_type == T_HALF) return PQ_OK;
    if (!r->n_float || !r->n_pairs) return PQ_OK;
    return pq_audit_say(r->ctx, r->a, false, "",
                        "%zu operators outside INT8 are float32: TensorRT 11 runs them so; a plan "
                        "of base fp16 makes them float16",
                        r->n_float);
}

static pq_status check_model(pq_ctx *ctx, pq_audit *a, const Onnx__ModelProto *m)
{
    rules r = {.ctx = ctx, .a = a, .g = m->graph};
    pq_status st;
    if (!m->graph) return pq_fail(ctx, PQ_E_FORMAT, "no graph in the ONNX file");
    for (size_t i = 0; i < m->n_opset_import; i++)
        if (!*text(m->opset_import[i]->domain)) r.opset = m->opset_import[i]->version;
    PQ_TRY(list_values(&r));
    PQ_TRY(check_inputs(&r));
    PQ_TRY(check_nodes(&r));
    st = check_float_part(&r);
out:
    pq_name_map_clear(&r.names);
    pq_free(r.v);
    return st;
}

static void *proto_alloc(void *user, size_t n)
{
    (void)user;
    return pq_mem_malloc(n ? n : 1);
}

static void proto_free(void *user, void *p)
{
    (void)user;
    pq_mem_free(p);
}

pq_status pq_audit_tensorrt(pq_ctx *ctx, pq_audit **out, const void *onnx, size_t bytes)
{
    ProtobufCAllocator allocator = {proto_alloc, proto_free, NULL};
    Onnx__ModelProto *m = NULL;
    pq_audit *a = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_proto_scan(ctx, &onnx__model_proto__descriptor, onnx, bytes, MAX_DEPTH));
    m = onnx__model_proto__unpack(&allocator, bytes, onnx);
    if (!m) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%zu bytes cannot be unpacked as ONNX", bytes);
        goto out;
    }
    PQ_TRY(pq_alloc(ctx, &a, 1, sizeof *a));
    snprintf(a->target, sizeof a->target, "tensorrt");
    snprintf(a->version, sizeof a->version, "rules of 8 to 11");
    PQ_TRY(check_model(ctx, a, m));
    *out = a;
    a = NULL;
out:
    if (m) onnx__model_proto__free_unpacked(m, &allocator);
    pq_audit_free(a);
    return st;
}
