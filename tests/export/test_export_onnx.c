/* ONNX export: what a float plan writes is read back as the same function; where pairs stand under
 * INT8 plans; what targets refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <onnx/onnx.pb-c.h>
#include <pquant/export.h>
#include <pquant/pass.h>
#include <pquant/read.h>

#include "../read/onnx_cases.h"
#include "../read/run_graph.h"
#include "base/rng.h"
#include "support/run.h"

static pq_ctx *ctx;

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != PQ_OK) fail_msg("%s: %s", #call, pq_ctx_error(ctx));                         \
    } while (0)

/* g under a float plan, written and read again. */
static pq_graph *round_trip_for(const pq_graph *g, pq_precision base, int opset, pq_target target)
{
    pq_plan *plan;
    pq_buf *bytes;
    pq_graph *back;
    const pq_export_opts opts = {.opset = opset, .target = target};
    OK(pq_plan_float(ctx, &plan, g, base));
    OK(pq_export_onnx(ctx, &bytes, g, plan, &opts));
    OK(pq_read_onnx_memory(ctx, &back, pq_buf_data(bytes), pq_buf_bytes(bytes), NULL, NULL));
    pq_buf_unref(bytes);
    pq_plan_free(plan);
    return back;
}

static pq_graph *round_trip(const pq_graph *g, pq_precision base, int opset)
{
    return round_trip_for(g, base, opset, PQ_TARGET_ANY);
}

static void run_case(const struct onnx_case *c, pq_precision base, int opset)
{
    pq_graph *g, *back;
    pq_tensor in[3] = {{0}}, out[3] = {{0}};
    OK(pq_read_onnx_memory(ctx, &g, c->model, c->bytes, NULL, NULL));
    back = round_trip(g, base, opset);
    for (int i = 0; i < c->n_in; i++) {
        OK(pq_tensor_new(ctx, &in[i], c->in[i].type.dtype, &c->in[i].type.shape));
        memcpy(pq_tensor_data(&in[i]), c->in[i].data,
               (size_t)pq_shape_count(&in[i].shape) * pq_dtype_size(in[i].dtype));
    }
    OK(run_graph(ctx, back, in, out));
    /* float16 constants have 11 bits */
    check_outputs(c, out, base == PQ_PREC_FP16 ? 3e-3 : 2e-6);
    for (int i = 0; i < 3; i++) pq_tensor_clear(&in[i]), pq_tensor_clear(&out[i]);
    pq_graph_free(g);
    pq_graph_free(back);
}

static void operators_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_case(&cases[i], PQ_PREC_FP32, 13);
        run_case(&cases[i], PQ_PREC_FP32, 18);
        run_case(&cases[i], PQ_PREC_BF16, 21);
        run_case(&cases[i], PQ_PREC_FP16, 0);
    }
}

/* ---- graphs made here ---- */

static pq_value_id random_const(pq_graph *g, const char *name, pq_shape shape)
{
    pq_value_id v;
    pq_tensor t;
    pq_rng rng = {(uint64_t)name[0]};
    OK(pq_tensor_new(ctx, &t, PQ_F32, &shape));
    float *p = pq_tensor_data(&t);
    for (int64_t i = 0; i < pq_shape_count(&shape); i++) p[i] = (float)(pq_rng_double(&rng) - 0.5);
    OK(pq_graph_add_const(ctx, &v, g, name, PQ_F32, &shape, t.buf));
    pq_tensor_clear(&t);
    return v;
}

static pq_value_id add(pq_graph *g, const char *name, pq_op op, const pq_value_id *in, int n_in,
                       const pq_attr *attr)
{
    pq_node_id id;
    char out[32];
    snprintf(out, sizeof out, "%s.out", name);
    const int n_out = op == PQ_OP_GFL_DECODE ? 2 : 1;
    OK(pq_graph_add_node(ctx, &id, g, name, op, NULL, in, n_in, n_out, out, attr));
    return g->node[id].out[0];
}

static pq_value_id add_input(pq_graph *g, pq_shape shape)
{
    pq_value_id v;
    OK(pq_graph_add_value(ctx, &v, g, "images", PQ_F32, &shape));
    OK(pq_graph_set_inputs(ctx, g, &v, 1));
    return v;
}

static void expect_same(const pq_graph *a, const pq_graph *b, double bound)
{
    const pq_shape *shape = &a->value[a->input[0]].shape;
    pq_tensor in, x[2] = {{0}}, y[2] = {{0}};
    pq_rng rng = {5};
    OK(pq_tensor_new(ctx, &in, PQ_F32, shape));
    float *p = pq_tensor_data(&in);
    for (int64_t i = 0; i < pq_shape_count(shape); i++) p[i] = (float)(pq_rng_double(&rng) * 8 - 4);
    OK(pq_test_run(ctx, x, a, &in));
    OK(pq_test_run(ctx, y, b, &in));
    assert_int_equal(a->n_outputs, b->n_outputs);
    for (size_t i = 0; i < a->n_outputs; i++) {
        assert_string_equal(a->value[a->output[i]].name, b->value[b->output[i]].name);
        assert_true(pq_shape_equal(&x[i].shape, &y[i].shape));
        const pq_compare c = pq_compare_f32(pq_tensor_data(&x[i]), pq_tensor_data(&y[i]),
                                            (size_t)pq_shape_count(&x[i].shape));
        if (!(c.max_abs <= bound)) fail_msg("output %zu differs by %g", i, c.max_abs);
        pq_tensor_clear(&x[i]);
        pq_tensor_clear(&y[i]);
    }
    pq_tensor_clear(&in);
}

/* Focus, every fused activation behind an Add, Silu, and a head of two levels. */
static void own_operators_come_back(void **state)
{
    pq_graph *g;
    (void)state;
    OK(pq_graph_new(ctx, &g));
    const pq_value_id x = add_input(g, PQ_SHAPE(2, 8, 8, 8));
    pq_value_id v = add(g, "focus", PQ_OP_FOCUS, &x, 1, NULL); /* [2, 32, 4, 4] */
    for (int act = PQ_ACT_RELU; act <= PQ_ACT_TANH; act++) {
        char name[] = "act0", bias[] = "0bias";
        name[3] = bias[0] = (char)('0' + act);
        const pq_value_id pair[2] = {v, random_const(g, bias, PQ_SHAPE(32, 1, 1))};
        const pq_attr attr = {.act = (pq_act)act, .alpha = 0.3f, .beta = 4.5f};
        v = add(g, name, PQ_OP_ADD, pair, 2, &attr);
    }
    v = add(g, "silu", PQ_OP_SILU, &v, 1, NULL);
    const pq_attr pool = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}}};
    const pq_value_id half = add(g, "pool", PQ_OP_MAX_POOL, &v, 1, &pool);
    const pq_value_id head[4] = {v, half, v, half};
    const pq_attr gfl = {.levels = 2, .reg_max = 7, .strides = {8, 16}};
    pq_value_id out[2];
    out[0] = add(g, "head", PQ_OP_GFL_DECODE, head, 4, &gfl);
    out[1] = g->node[g->value[out[0]].producer].out[1];
    OK(pq_graph_set_outputs(ctx, g, out, 2));
    OK(pq_graph_infer(ctx, g));
    for (int opset = 13; opset <= 21; opset += 4) {
        pq_graph *back = round_trip(g, PQ_PREC_FP32, opset);
        expect_same(g, back, 2e-5);
        pq_graph_free(back);
    }
    pq_graph *back = round_trip(g, PQ_PREC_FP16, 0);
    expect_same(g, back, 0.2);
    pq_graph_free(back);
    pq_graph_free(g);
}

/* sum = conv1 + conv2(pool(conv1)) */
static pq_graph *conv_graph(void)
{
    pq_graph *g;
    OK(pq_graph_new(ctx, &g));
    const pq_value_id x = add_input(g, PQ_SHAPE(1, 3, 8, 8));
    const pq_window window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, {0, 0}, 1, false, false};
    const pq_attr conv = {.window = window, .act = PQ_ACT_RELU}, pool = {.window = window};
    const pq_value_id in1[3] = {x, random_const(g, "1w", PQ_SHAPE(4, 3, 3, 3)),
                                random_const(g, "2b", PQ_SHAPE(4))};
    const pq_value_id a = add(g, "conv1", PQ_OP_CONV, in1, 3, &conv);
    const pq_value_id p = add(g, "pool", PQ_OP_MAX_POOL, &a, 1, &pool);
    const pq_value_id in2[2] = {p, random_const(g, "3w", PQ_SHAPE(4, 4, 3, 3))};
    const pq_value_id b = add(g, "conv2", PQ_OP_CONV, in2, 2, &conv);
    const pq_value_id sum[2] = {a, b};
    const pq_value_id y = add(g, "sum", PQ_OP_ADD, sum, 2, NULL);
    OK(pq_graph_set_outputs(ctx, g, &y, 1));
    OK(pq_graph_infer(ctx, g));
    pq_graph_mark_quantizable(g);
    return g;
}

/* conv1, pool and conv2 INT8; images, conv1.out and pool.out quantized. */
static pq_plan *int8_plan(const pq_graph *g, pq_precision base, pq_dtype dtype)
{
    static const char *const names[] = {"images", "conv1.out", "pool.out"};
    pq_plan *p;
    OK(pq_plan_float(ctx, &p, g, base));
    p->scheme = dtype == PQ_U8 ? PQ_SCHEME_U8 : PQ_SCHEME_S8;
    OK(pq_alloc(ctx, &p->tensor, 3, sizeof *p->tensor));
    for (int i = 0; i < 3; i++) {
        pq_plan_tensor *t = &p->tensor[p->n_tensors++];
        OK(pq_strdup(ctx, &t->name, names[i]));
        t->dtype = dtype;
        t->scale = 0.02f * (float)(i + 1);
        t->zero_point = dtype == PQ_U8 ? 3 : 0;
    }
    for (size_t i = 0; i < p->n_nodes; i++)
        if (p->node[i].quantizable) p->node[i].precision = PQ_PREC_INT8;
    return p;
}

static Onnx__ModelProto *export_model(const pq_graph *g, const pq_plan *p, pq_target target)
{
    pq_buf *bytes;
    const pq_export_opts opts = {.target = target};
    OK(pq_export_onnx(ctx, &bytes, g, p, &opts));
    Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, pq_buf_bytes(bytes), pq_buf_data(bytes));
    assert_non_null(m);
    pq_buf_unref(bytes);
    return m;
}

static const Onnx__NodeProto *maker(const Onnx__ModelProto *m, const char *value)
{
    for (size_t i = 0; i < m->graph->n_node; i++)
        for (size_t k = 0; k < m->graph->node[i]->n_output; k++)
            if (strcmp(m->graph->node[i]->output[k], value) == 0) return m->graph->node[i];
    return NULL;
}

static const Onnx__NodeProto *named(const Onnx__ModelProto *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_node; i++)
        if (strcmp(m->graph->node[i]->name, name) == 0) return m->graph->node[i];
    fail_msg("no node '%s'", name);
    return NULL;
}

static const Onnx__TensorProto *init(const Onnx__ModelProto *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_initializer; i++)
        if (strcmp(m->graph->initializer[i]->name, name) == 0) return m->graph->initializer[i];
    fail_msg("no initialiser '%s'", name);
    return NULL;
}

/* Input i of node n comes from a pair around `value`. */
static void expect_pair(const Onnx__ModelProto *m, const Onnx__NodeProto *n, int i,
                        const char *value, float scale, int zero)
{
    const Onnx__NodeProto *dq = maker(m, n->input[i]);
    assert_non_null(dq);
    assert_string_equal(dq->op_type, "DequantizeLinear");
    const Onnx__NodeProto *q = maker(m, dq->input[0]);
    assert_string_equal(q->op_type, "QuantizeLinear");
    assert_string_equal(q->input[0], value);
    assert_string_equal(q->input[1], dq->input[1]);
    assert_string_equal(q->input[2], dq->input[2]);
    assert_memory_equal(init(m, q->input[1])->raw_data.data, &scale, 4);
    assert_int_equal(init(m, q->input[2])->raw_data.data[0], zero);
}

static void pairs_stand_where_the_plan_says(void **state)
{
    pq_graph *g = conv_graph();
    pq_plan *p = int8_plan(g, PQ_PREC_FP32, PQ_S8);
    (void)state;
    Onnx__ModelProto *m = export_model(g, p, PQ_TARGET_TENSORRT);
    expect_pair(m, named(m, "conv1"), 0, "images", 0.02f, 0);
    expect_pair(m, named(m, "pool"), 0, "conv1.out", 0.04f, 0);
    expect_pair(m, named(m, "conv2"), 0, "pool.out", 0.06f, 0);
    assert_string_equal(named(m, "sum")->input[0], "conv1.out"); /* not INT8: the value itself */
    assert_string_equal(maker(m, "conv1.out")->op_type, "Relu");
    size_t n_pairs = 0;
    for (size_t i = 0; i < m->graph->n_node; i++)
        n_pairs += strcmp(m->graph->node[i]->op_type, "QuantizeLinear") == 0;
    assert_int_equal(n_pairs, 5); /* three tensors, two weights */
    /* weights: float initialiser, Q, DQ, one scale for each of the 4 output channels */
    const Onnx__NodeProto *conv = named(m, "conv1"), *dq = maker(m, conv->input[1]);
    const Onnx__NodeProto *q = maker(m, dq->input[0]);
    assert_string_equal(q->input[0], "1w");
    assert_int_equal(init(m, "1w")->data_type, 1);
    assert_int_equal(init(m, q->input[1])->dims[0], 4);
    assert_string_equal(q->attribute[0]->name, "axis");
    assert_int_equal(q->attribute[0]->i, 0);
    assert_int_equal(init(m, conv->input[2])->data_type, 1); /* the bias stays float */
    assert_int_equal(m->opset_import[0]->version, 13);
    onnx__model_proto__free_unpacked(m, NULL);
    pq_plan_free(p);
    pq_graph_free(g);
}

static void stored_int8_weights(void **state)
{
    pq_graph *g = conv_graph();
    pq_plan *p = int8_plan(g, PQ_PREC_FP32, PQ_U8);
    (void)state;
    Onnx__ModelProto *m = export_model(g, p, PQ_TARGET_ONNXRUNTIME);
    expect_pair(m, named(m, "conv1"), 0, "images", 0.02f, 3);
    const Onnx__NodeProto *dq = maker(m, named(m, "conv1")->input[1]);
    const Onnx__TensorProto *q = init(m, dq->input[0]), *s = init(m, dq->input[1]);
    assert_int_equal(q->data_type, 3);
    const float *w = pq_buf_data(g->value[pq_graph_find_value(g, "1w")].data);
    for (int o = 0; o < 4; o++) {
        float amax = 0, scale;
        memcpy(&scale, s->raw_data.data + 4 * o, 4);
        for (int i = 0; i < 27; i++) amax = fmaxf(amax, fabsf(w[27 * o + i]));
        assert_true(scale == amax / 127.0f);
        for (int i = 0; i < 27; i++)
            assert_true((float)(int8_t)q->raw_data.data[27 * o + i] ==
                        rintf(w[27 * o + i] / scale));
    }
    onnx__model_proto__free_unpacked(m, NULL);
    pq_plan_free(p);

    p = int8_plan(g, PQ_PREC_FP32, PQ_S8); /* the same numbers with the zero point moved */
    m = export_model(g, p, PQ_TARGET_OPENVINO);
    expect_pair(m, named(m, "conv1"), 0, "images", 0.02f, 128);
    assert_int_equal(init(m, maker(m, named(m, "conv1")->input[0])->input[2])->data_type, 2);
    onnx__model_proto__free_unpacked(m, NULL);
    pq_plan_free(p);
    pq_graph_free(g);
}

/* A Focus of a batch of two in front of a 3 x 3 and a 5 x 5 convolution, a SiLU, pools, a Concat:
 *  focus - stem (5 x 5, SiLU) - pool1 - pool2, all three joined - last */
static pq_graph *focus_graph(void)
{
    pq_graph *g;
    OK(pq_graph_new(ctx, &g));
    const pq_value_id x = add_input(g, PQ_SHAPE(2, 3, 16, 12));
    const pq_value_id f = add(g, "focus", PQ_OP_FOCUS, &x, 1, NULL);
    const pq_attr five = {.window = {{5, 5}, {1, 1}, {1, 1}, {2, 1, 2, 1}, {0, 0}, 1, false, false},
                          .act = PQ_ACT_SILU};
    const pq_attr pool = {
        .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, {0, 0}, 1, false, false}};
    const pq_attr one = {.window = {{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, {0, 0}, 1, false, false}};
    const pq_value_id in[2] = {f, random_const(g, "4w", PQ_SHAPE(6, 12, 5, 5))};
    pq_value_id v[3] = {add(g, "stem", PQ_OP_CONV, in, 2, &five)};
    v[1] = add(g, "pool1", PQ_OP_MAX_POOL, &v[0], 1, &pool);
    v[2] = add(g, "pool2", PQ_OP_MAX_POOL, &v[1], 1, &pool);
    const pq_value_id all = add(g, "join", PQ_OP_CONCAT, v, 3, &(pq_attr){.axis = 1});
    const pq_value_id last[2] = {all, random_const(g, "5w", PQ_SHAPE(2, 18, 1, 1))};
    const pq_value_id out = add(g, "last", PQ_OP_CONV, last, 2, &one);
    OK(pq_graph_set_outputs(ctx, g, &out, 1));
    OK(pq_graph_infer(ctx, g));
    pq_graph_mark_quantizable(g);
    pq_graph_seal(g);
    return g;
}

static bool has_op(const Onnx__ModelProto *m, const char *type)
{
    for (size_t i = 0; i < m->graph->n_node; i++)
        if (strcmp(m->graph->node[i]->op_type, type) == 0) return true;
    return false;
}

/* What is written for one runtime in a form of its own is still the same function. */
static void forms_of_a_target(void **state)
{
    pq_graph *g = focus_graph();
    (void)state;
    for (int target = PQ_TARGET_ANY; target <= PQ_TARGET_ONNXRUNTIME; target++) {
        pq_graph *back = round_trip_for(g, PQ_PREC_FP32, 0, (pq_target)target);
        expect_same(g, back, 2e-4);
        pq_graph_free(back);
    }

    static const char *const name[] = {"focus.out", "stem.out", "pool1.out", "pool2.out",
                                       "join.out"};
    pq_plan *p;
    OK(pq_plan_float(ctx, &p, g, PQ_PREC_FP32));
    p->scheme = PQ_SCHEME_U8;
    for (size_t i = 0; i < p->n_nodes; i++)
        if (p->node[i].quantizable) p->node[i].precision = PQ_PREC_INT8;
    OK(pq_alloc(ctx, &p->tensor, 5, sizeof *p->tensor));
    for (size_t i = 0; i < 5; i++) {
        p->tensor[i] = (pq_plan_tensor){NULL, PQ_U8, i ? 0.03f : 0.05f, 7};
        OK(pq_strdup(ctx, &p->tensor[i].name, name[i]));
        p->n_tensors++;
    }
    Onnx__ModelProto *m = export_model(g, p, PQ_TARGET_OPENVINO);
    assert_false(has_op(m, "Slice"));
    const Onnx__NodeProto *stem = named(m, "stem");
    expect_pair(m, stem, 0, "images", 0.05f, 7);
    const Onnx__TensorProto *w = init(m, maker(m, stem->input[1])->input[0]);
    assert_int_equal(w->dims[1], 3);
    assert_int_equal(w->dims[2], 10);
    onnx__model_proto__free_unpacked(m, NULL);

    /* The pools behind SiLU stay in float; one pair behind the Concat rounds them all. */
    m = export_model(g, p, PQ_TARGET_ONNXRUNTIME);
    assert_string_equal(named(m, "pool1")->input[0], "stem.out");
    assert_string_equal(named(m, "pool2")->input[0], "pool1.out");
    assert_string_equal(named(m, "join")->input[2], "pool2.out");
    expect_pair(m, named(m, "last"), 0, "join.out", 0.03f, 7);
    expect_pair(m, named(m, "focus/top_left"), 0, "images", 0.05f, 7);
    onnx__model_proto__free_unpacked(m, NULL);

    p->tensor[3].scale = 0.04f; /* pool2's grid is another than pool1's: as it stands */
    m = export_model(g, p, PQ_TARGET_ONNXRUNTIME);
    assert_string_equal(named(m, "pool1")->input[0], "stem.out");
    expect_pair(m, named(m, "pool2"), 0, "pool1.out", 0.03f, 7);
    expect_pair(m, named(m, "join"), 0, "stem.out", 0.03f, 7);
    onnx__model_proto__free_unpacked(m, NULL);
    pq_plan_free(p);
    pq_graph_free(g);
}

static void corrected_weights(void **state)
{
    pq_graph *g = conv_graph();
    pq_plan *p = int8_plan(g, PQ_PREC_FP32, PQ_S8);
    (void)state;
    OK(pq_alloc(ctx, &p->weight, 1, sizeof *p->weight));
    p->n_weights = 1;
    OK(pq_strdup(ctx, &p->weight[0].name, "1w"));
    OK(pq_tensor_new(ctx, &p->weight[0].data, PQ_F32, &PQ_SHAPE(4, 3, 3, 3)));
    OK(pq_tensor_new(ctx, &p->weight[0].scale, PQ_F32, &PQ_SHAPE(4)));
    for (int i = 0; i < 108; i++) ((float *)pq_tensor_data(&p->weight[0].data))[i] = 0.5f;
    for (int i = 0; i < 4; i++) ((float *)pq_tensor_data(&p->weight[0].scale))[i] = 0.25f;
    Onnx__ModelProto *m = export_model(g, p, PQ_TARGET_ANY);
    const Onnx__NodeProto *dq = maker(m, named(m, "conv1")->input[1]);
    const float scale = 0.25f;
    assert_memory_equal(init(m, dq->input[1])->raw_data.data, &scale, 4);
    assert_int_equal(init(m, dq->input[0])->raw_data.data[107], 2);
    onnx__model_proto__free_unpacked(m, NULL);
    pq_plan_free(p);
    pq_graph_free(g);
}

static void count_warnings(void *user, pq_log_level level, const char *stage, const char *text)
{
    int *n = user;
    if (level == PQ_LOG_WARN && strcmp(stage, "export") == 0 &&
        strstr(text, "WeightBiasQuantization"))
        ++*n;
}

/* ONNX Runtime makes such a file wrong by itself, and is the only one to. */
static void half_precision_warns(void **state)
{
    static const int expected[] = {
        [PQ_TARGET_ANY] = 0, [PQ_TARGET_OPENVINO] = 0, [PQ_TARGET_ONNXRUNTIME] = 1};
    static const pq_target targets[] = {PQ_TARGET_ANY, PQ_TARGET_OPENVINO, PQ_TARGET_ONNXRUNTIME};
    pq_graph *g = conv_graph();
    (void)state;
    for (int base = PQ_PREC_FP32; base <= PQ_PREC_FP16; base += PQ_PREC_FP16 - PQ_PREC_FP32) {
        pq_plan *p = int8_plan(g, (pq_precision)base, PQ_U8);
        for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
            int n = 0;
            pq_ctx_set_log(ctx, count_warnings, &n);
            onnx__model_proto__free_unpacked(export_model(g, p, targets[i]), NULL);
            pq_ctx_set_log(ctx, NULL, NULL);
            assert_int_equal(n, base == PQ_PREC_FP16 ? expected[targets[i]] : 0);
        }
        pq_plan_free(p);
    }
    pq_graph_free(g);
}

static void half_precision_with_int8(void **state)
{
    pq_graph *g = conv_graph();
    pq_plan *p = int8_plan(g, PQ_PREC_FP16, PQ_S8);
    (void)state;
    Onnx__ModelProto *m = export_model(g, p, PQ_TARGET_TENSORRT);
    assert_int_equal(m->opset_import[0]->version, 19);
    for (size_t i = 0; i < m->graph->n_initializer; i++)
        assert_true(m->graph->initializer[i]->data_type == 10 ||
                    m->graph->initializer[i]->data_type == 3);
    assert_int_equal(m->graph->input[0]->type->tensor_type->elem_type, 1);
    assert_int_equal(m->graph->output[0]->type->tensor_type->elem_type, 1);
    assert_string_equal(maker(m, "sum.out")->op_type, "Cast");
    onnx__model_proto__free_unpacked(m, NULL);
    pq_buf *bytes;
    pq_export_opts opts = {.opset = 18};
    assert_int_equal(pq_export_onnx(ctx, &bytes, g, p, &opts), PQ_E_INVALID);
    assert_non_null(strstr(pq_ctx_error(ctx), "opset 18, expected at least 19"));
    pq_plan_free(p);
    pq_graph_free(g);
}

static void refusals(void **state)
{
    pq_graph *g = conv_graph(), *other = conv_graph();
    pq_plan *p = int8_plan(g, PQ_PREC_FP32, PQ_U8);
    pq_buf *bytes;
    pq_target target;
    pq_export_opts opts = {.target = PQ_TARGET_TENSORRT};
    (void)state;
    assert_int_equal(pq_export_onnx(ctx, &bytes, g, p, &opts), PQ_E_INVALID);
    assert_non_null(strstr(pq_ctx_error(ctx), "TensorRT takes plans of scheme s8 only"));
    assert_null(bytes);
    opts = (pq_export_opts){.opset = 12};
    assert_int_equal(pq_export_onnx(ctx, &bytes, g, p, &opts), PQ_E_INVALID);
    other->node[0].attr.alpha = 1;
    OK(pq_graph_infer(ctx, other));
    assert_int_equal(pq_export_onnx(ctx, &bytes, other, p, NULL), PQ_E_INVALID);
    assert_non_null(strstr(pq_ctx_error(ctx), "plan belongs to graph"));
    for (int base = PQ_PREC_FP32; base <= PQ_PREC_FP16; base++) { /* the other float type inside */
        pq_plan *mixed;
        OK(pq_plan_float(ctx, &mixed, g, (pq_precision)base));
        mixed->node[0].precision = base == PQ_PREC_FP16 ? PQ_PREC_FP32 : PQ_PREC_FP16;
        assert_int_equal(pq_export_onnx(ctx, &bytes, g, mixed, NULL), PQ_E_UNSUPPORTED);
        assert_non_null(strstr(pq_ctx_error(ctx), base == PQ_PREC_FP16 ? "expected int8 or fp16"
                                                                       : "expected int8 or fp32"));
        pq_plan_free(mixed);
    }
    OK(pq_target_parse(ctx, &target, "openvino"));
    assert_int_equal(target, PQ_TARGET_OPENVINO);
    assert_int_equal(pq_target_parse(ctx, &target, "abacus"), PQ_E_INVALID);
    pq_plan_free(p);
    pq_graph_free(g);
    pq_graph_free(other);
}

static void metadata(void **state)
{
    static const char *const meta[] = {"names", "a,b", "pquant.scheme", "old", NULL};
    pq_graph *g = conv_graph();
    (void)state;
    g->meta = meta;
    g->family = "TEST";
    pq_graph *back = round_trip(g, PQ_PREC_FP32, 0);
    char hash[65];
    pq_graph_hash(g, hash);
    assert_string_equal(back->family, "TEST");
    assert_string_equal(back->meta[0], "names");
    assert_string_equal(back->meta[1], "a,b");
    assert_string_equal(back->meta[2], "pquant.family");
    assert_string_equal(back->meta[4], "pquant.graph_hash");
    assert_string_equal(back->meta[5], hash);
    assert_string_equal(back->meta[7], "s8");
    assert_string_equal(back->meta[9], "fp32");
    assert_null(back->meta[10]);
    pq_graph_free(back);
    pq_graph_free(g);
}

static void memory_runs_out(void **state)
{
    pq_graph *g = conv_graph();
    pq_plan *p = int8_plan(g, PQ_PREC_FP16, PQ_S8);
    (void)state;
    for (long n = 1;; n++) {
        pq_buf *bytes = NULL;
        pq_mem_fail_after(n);
        const pq_status st = pq_export_onnx(ctx, &bytes, g, p, NULL);
        pq_mem_fail_after(0);
        pq_buf_unref(bytes);
        if (st == PQ_OK) break;
        assert_int_equal(st, PQ_E_NOMEM);
    }
    pq_plan_free(p);
    pq_graph_free(g);
}

static int begin(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK;
}
static int end(void **state)
{
    (void)state;
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_come_back),
        cmocka_unit_test(own_operators_come_back),
        cmocka_unit_test(pairs_stand_where_the_plan_says),
        cmocka_unit_test(stored_int8_weights),
        cmocka_unit_test(forms_of_a_target),
        cmocka_unit_test(corrected_weights),
        cmocka_unit_test(half_precision_with_int8),
        cmocka_unit_test(half_precision_warns),
        cmocka_unit_test(refusals),
        cmocka_unit_test(metadata),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
