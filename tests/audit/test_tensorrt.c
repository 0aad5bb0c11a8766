/* The rules of TensorRT's explicit quantization: what the exporter writes breaks none, and each
 * file with one thing changed breaks that one. */
#include <stdlib.h>
#include <string.h>

#include <onnx/onnx.pb-c.h>
#include <pquant/audit.h>
#include <pquant/export.h>

#include "support/tiny.h"

typedef struct place {
    pq_ctx *ctx;
    pq_graph *g;
    pq_plan *plan;
    Onnx__ModelProto *m;
} place;

static int begin(void **state)
{
    place *p = calloc(1, sizeof *p);
    pq_buf *bytes;
    const pq_export_opts opts = {.target = PQ_TARGET_TENSORRT};
    if (!p || pq_ctx_new(&p->ctx) != PQ_OK) return -1;
    p->g = tiny_detector(p->ctx, TINY_DAMO);
    p->plan = tiny_int8_plan(p->ctx, p->g, PQ_SCHEME_S8, 2);
    PQ_CHECK(p->ctx, pq_export_onnx(p->ctx, &bytes, p->g, p->plan, &opts));
    p->m = onnx__model_proto__unpack(NULL, pq_buf_bytes(bytes), pq_buf_data(bytes));
    pq_buf_unref(bytes);
    *state = p;
    return p->m ? 0 : -1;
}

static int end(void **state)
{
    place *p = *state;
    onnx__model_proto__free_unpacked(p->m, NULL);
    pq_plan_free(p->plan);
    pq_graph_free(p->g);
    pq_ctx_free(p->ctx);
    free(p);
    return 0;
}

static Onnx__NodeProto *named(const place *p, const char *name)
{
    for (size_t i = 0; i < p->m->graph->n_node; i++)
        if (strcmp(p->m->graph->node[i]->name, name) == 0) return p->m->graph->node[i];
    fail_msg("no node '%s'", name);
    return NULL;
}

static Onnx__NodeProto *maker(const place *p, const char *value)
{
    for (size_t i = 0; i < p->m->graph->n_node; i++)
        for (size_t k = 0; k < p->m->graph->node[i]->n_output; k++)
            if (strcmp(p->m->graph->node[i]->output[k], value) == 0) return p->m->graph->node[i];
    return NULL;
}

static Onnx__TensorProto *init(const place *p, const char *name)
{
    for (size_t i = 0; i < p->m->graph->n_initializer; i++)
        if (strcmp(p->m->graph->initializer[i]->name, name) == 0)
            return p->m->graph->initializer[i];
    fail_msg("no initialiser '%s'", name);
    return NULL;
}

static void rename_input(Onnx__NodeProto *n, size_t i, const char *to)
{
    free(n->input[i]);
    n->input[i] = strdup(to);
}

static pq_audit *audit(const place *p)
{
    pq_audit *a;
    const size_t n = onnx__model_proto__get_packed_size(p->m);
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    onnx__model_proto__pack(p->m, bytes);
    PQ_CHECK(p->ctx, pq_audit_tensorrt(p->ctx, &a, bytes, n));
    free(bytes);
    return a;
}

/* At least one finding, and one of them about that node with that text. */
static void expect(const place *p, const char *node, const char *text)
{
    pq_audit *a = audit(p);
    bool found = false;
    for (size_t i = 0; i < a->n_findings; i++)
        found = found || (a->finding[i].fault && strstr(a->finding[i].node, node) &&
                          strstr(a->finding[i].text, text));
    if (!found)
        fail_msg("%zu findings, first '%s: %s', expected '%s: %s'", a->n_findings,
                 a->n_findings ? a->finding[0].node : "", a->n_findings ? a->finding[0].text : "",
                 node, text);
    pq_audit_free(a);
}

/* The pair behind which conv reads its data (0) or weights (1). */
static Onnx__NodeProto *dequantizer(const place *p, const char *conv, size_t i)
{
    return maker(p, named(p, conv)->input[i]);
}
static Onnx__NodeProto *quantizer(const place *p, const char *conv, size_t i)
{
    return maker(p, dequantizer(p, conv, i)->input[0]);
}

static void clean(void **state)
{
    pq_audit *a = audit(*state);
    assert_int_equal(a->n_faults, 0);
    assert_string_equal(a->target, "tensorrt");
    pq_audit_free(a);
}

static void zero_points(void **state)
{
    place *p = *state;
    Onnx__NodeProto *q = quantizer(p, "down2", 0);
    Onnx__TensorProto *zero = init(p, q->input[2]);
    zero->raw_data.data[0] = 3;
    expect(p, q->name, "zero point 3, expected 0");
    zero->raw_data.data[0] = 0;
    zero->data_type = 2;
    expect(p, q->name, "uint8, expected int8");
    zero->data_type = 3;
    rename_input(q, 2, "");
    expect(p, q->name, "no constant zero point");
}

static void scales(void **state)
{
    place *p = *state;
    Onnx__NodeProto *q = quantizer(p, "down2", 0), *dq = dequantizer(p, "down2", 0);
    float s = -1;
    Onnx__TensorProto *scale = init(p, q->input[1]);
    memcpy(scale->raw_data.data, &s, sizeof s);
    expect(p, q->name, "scale -1, expected above 0");
    s = 0.5f;
    memcpy(scale->raw_data.data, &s, sizeof s);
    rename_input(dq, 1, quantizer(p, "down3", 0)->input[1]);
    expect(p, dq->name, "another scale than in the QuantizeLinear");
    rename_input(dq, 1, q->input[1]);
    rename_input(q, 1, q->input[0]);
    expect(p, q->name, "its scale is computed");
}

static void scales_of_activations(void **state)
{
    place *p = *state;
    Onnx__NodeProto *q = quantizer(p, "down2", 0);
    rename_input(q, 1, quantizer(p, "down2", 1)->input[1]);
    expect(p, q->name, "scales for an activation, expected one");
}

static void one_sided(void **state)
{
    place *p = *state;
    Onnx__NodeProto *conv = named(p, "down2");
    char *pair = strdup(conv->input[0]);
    rename_input(conv, 0, quantizer(p, "down2", 0)->input[0]);
    expect(p, "down2", "its data stands without a pair");
    rename_input(conv, 0, pair);
    free(pair);
    rename_input(conv, 1, quantizer(p, "down2", 1)->input[0]);
    expect(p, "down2", "its weights stand without a pair");
}

static void weights(void **state)
{
    place *p = *state;
    Onnx__NodeProto *dq = dequantizer(p, "down2", 1);
    dq->attribute[0]->i = 1;
    expect(p, "down2", "along axis 1, expected 0");
    dq->attribute[0]->i = 0;
    Onnx__NodeProto *q = quantizer(p, "down2", 1);
    init(p, q->input[0])->data_type = 3; /* a quarter of its bytes are enough */
    rename_input(dq, 0, q->input[0]);
    expect(p, "down2", "weights are stored as int8");
}

static void bias(void **state)
{
    place *p = *state;
    init(p, named(p, "down2")->input[2])->data_type = 6;
    expect(p, "down2", "bias is int32, expected a float one");
}

static void quantized_values_stay_between_pairs(void **state)
{
    place *p = *state;
    Onnx__NodeProto *q = quantizer(p, "down2", 0);
    rename_input(named(p, "down3/act"), 0, q->output[0]);
    expect(p, q->name, "read as it is, expected by DequantizeLinear only");
    rename_input(dequantizer(p, "down2", 0), 0, named(p, "down2")->output[0]);
    expect(p, dequantizer(p, "down2", 0)->name, "dequantizes what no QuantizeLinear made");
}

/* The shortcut of the residual sum loses its pair. */
static void residual(void **state)
{
    place *p = *state;
    Onnx__NodeProto *add = NULL;
    for (size_t i = 0; i < p->m->graph->n_node; i++)
        if (strcmp(p->m->graph->node[i]->op_type, "Add") == 0 && !add) add = p->m->graph->node[i];
    assert_non_null(add);
    for (size_t i = 0; i < 2; i++) {
        const Onnx__NodeProto *dq = maker(p, add->input[i]);
        if (dq && strcmp(dq->op_type, "DequantizeLinear") == 0)
            rename_input(add, i, maker(p, dq->input[0])->input[0]);
    }
    expect(p, add->name, "neither operand of the residual sum has a pair");
}

static void shapes(void **state)
{
    place *p = *state;
    Onnx__TensorShapeProto *s = p->m->graph->input[0]->type->tensor_type->shape;
    s->dim[0]->dim_value = 0;
    expect(p, "images", "dimension 0 is not fixed");
}

static void strong_types(void **state)
{
    place *p = *state;
    init(p, named(p, "down2")->input[2])->data_type = 10;
    expect(p, "down2", "operands of float32 and float16");
    static const uint8_t one[2] = {0x00, 0x3c};
    Onnx__TensorProto *scale = init(p, quantizer(p, "down3", 0)->input[1]);
    scale->data_type = 10;
    memcpy(scale->raw_data.data, one, sizeof one);
    expect(p, quantizer(p, "down3", 0)->name, "float16 scale in opset 13, expected at least 19");
    p->m->opset_import[0]->version = 19;
    expect(p, quantizer(p, "down3", 0)->name, "float16 scale for float32 values");
}

/* Bytes cut anywhere are refused, or audited; never more. */
static void hostile(void **state)
{
    place *p = *state;
    pq_audit *a;
    const size_t n = onnx__model_proto__get_packed_size(p->m);
    uint8_t *bytes = malloc(n);
    onnx__model_proto__pack(p->m, bytes);
    for (size_t cut = 0; cut < n; cut += 1 + n / 400) {
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, bytes, cut);
        if (pq_audit_tensorrt(p->ctx, &a, part, cut) == PQ_OK)
            pq_audit_free(a);
        else
            assert_null(a);
        free(part);
    }
    for (size_t at = 0; at < n && at < 4000; at += 7) {
        const uint8_t old = bytes[at];
        bytes[at] ^= 0x55;
        if (pq_audit_tensorrt(p->ctx, &a, bytes, n) == PQ_OK) pq_audit_free(a);
        bytes[at] = old;
    }
    free(bytes);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(clean),     T(zero_points),  T(scales),
        T(one_sided), T(weights),      T(bias),
        T(residual),  T(shapes),       T(quantized_values_stay_between_pairs),
        T(hostile),   T(strong_types), T(scales_of_activations),
    };
    return cmocka_run_group_tests_name("audit/tensorrt", tests, NULL, NULL);
}
