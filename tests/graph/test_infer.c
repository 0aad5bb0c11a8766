/* Shape inference: what no reader builds (our own operators, nodes without constant inputs),
 * errors, and the change of the input size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pquant/graph.h>

#include "base/ctx.h"

static pq_ctx *ctx;
static pq_graph *g;

static pq_value_id input(pq_dtype dtype, pq_shape shape)
{
    pq_value_id v;
    char name[16] = "x0";
    name[1] = (char)('0' + g->n_inputs);
    assert_int_equal(pq_graph_add_value(ctx, &v, g, name, dtype, &shape), PQ_OK);
    pq_value_id all[8];
    for (size_t i = 0; i < g->n_inputs; i++) all[i] = g->input[i];
    all[g->n_inputs] = v;
    assert_int_equal(pq_graph_set_inputs(ctx, g, all, g->n_inputs + 1), PQ_OK);
    return v;
}

static pq_value_id ints(const int64_t *v, int64_t n)
{
    pq_value_id id;
    pq_buf *b;
    assert_int_equal(pq_buf_new(ctx, &b, (size_t)n * 8), PQ_OK);
    if (n) memcpy(pq_buf_data(b), v, (size_t)n * 8);
    assert_int_equal(pq_graph_add_const(ctx, &id, g, NULL, PQ_S64, &PQ_SHAPE(n), b), PQ_OK);
    pq_buf_unref(b);
    return id;
}
#define INTS(...) ints((int64_t[]){__VA_ARGS__}, (int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8))

static pq_value_id node(pq_op op, const pq_value_id *in, int n_in, const pq_attr *attr)
{
    pq_node_id id;
    char name[16] = "n0";
    name[1] = (char)('0' + g->n_nodes);
    const int n_out = op == PQ_OP_GFL_DECODE ? 2 : 1;
    assert_int_equal(pq_graph_add_node(ctx, &id, g, name, op, NULL, in, n_in, n_out, NULL, attr),
                     PQ_OK);
    const pq_value_id out = g->node[id].out[0];
    assert_int_equal(pq_graph_set_outputs(ctx, g, &out, 1), PQ_OK);
    return out;
}

static void expect_shape(pq_value_id v, pq_shape want)
{
    char a[160], b[160];
    const pq_status st = pq_graph_infer(ctx, g);
    if (st != PQ_OK) fail_msg("%s", pq_ctx_error(ctx));
    assert_string_equal(pq_shape_text(&g->value[v].shape, a, sizeof a),
                        pq_shape_text(&want, b, sizeof b));
}

static void expect_error(pq_status want, const char *text)
{
    assert_int_equal(pq_graph_infer(ctx, g), want);
    if (!strstr(pq_ctx_error(ctx), text)) fail_msg("'%s', expected '%s'", pq_ctx_error(ctx), text);
}

static void focus(void **state)
{
    (void)state;
    pq_value_id x = input(PQ_F32, PQ_SHAPE(2, 3, 8, 6));
    expect_shape(node(PQ_OP_FOCUS, &x, 1, NULL), PQ_SHAPE(2, 12, 4, 3));
    g->value[x].shape.dim[3] = 7;
    expect_error(PQ_E_FORMAT, "node 'n0' (Focus): input is 8 x 7, expected even sizes");
}

static void gfl_decode(void **state)
{
    (void)state;
    const pq_value_id in[4] = {
        input(PQ_F32, PQ_SHAPE(2, 5, 4, 4)), input(PQ_F32, PQ_SHAPE(2, 5, 2, 2)),
        input(PQ_F32, PQ_SHAPE(2, 32, 4, 4)), input(PQ_F32, PQ_SHAPE(2, 32, 2, 2))};
    const pq_attr attr = {.levels = 2, .reg_max = 7, .strides = {8, 16}};
    const pq_value_id scores = node(PQ_OP_GFL_DECODE, in, 4, &attr);
    expect_shape(scores, PQ_SHAPE(2, 20, 5));
    expect_shape(g->node[0].out[1], PQ_SHAPE(2, 20, 4));
    g->value[in[3]].shape.dim[1] = 31;
    expect_error(PQ_E_FORMAT, "level 1 has an input of shape [2, 31, 2, 2], expected channels 32");
}

static void attributes_without_inputs(void **state)
{
    (void)state;
    pq_value_id x = input(PQ_F32, PQ_SHAPE(1, 2, 4, 6));
    const pq_attr up = {.scale = {2, 1.5f}}, sum = {.n_axes = 1, .axes = {-1}, .keepdims = true};
    const pq_value_id big = node(PQ_OP_RESIZE, &x, 1, &up);
    const pq_value_id reduced = node(PQ_OP_REDUCE_SUM, &big, 1, &sum);
    expect_shape(big, PQ_SHAPE(1, 2, 8, 9));
    expect_shape(reduced, PQ_SHAPE(1, 2, 8, 1));
    assert_int_equal(g->node[1].attr.axes[0], 3);
    const pq_value_id shaped = node(PQ_OP_RESHAPE, &reduced, 1, NULL);
    g->value[shaped].shape = PQ_SHAPE(4, 4);
    expect_shape(shaped, PQ_SHAPE(4, 4));
    const pq_attr cut = {.begin = {3, 0}, .step = {-1, 2}};
    const pq_value_id slice = node(PQ_OP_SLICE, &shaped, 1, &cut);
    g->value[slice].shape = PQ_SHAPE(4, 2);
    expect_shape(slice, PQ_SHAPE(4, 2));
    g->value[slice].shape = PQ_SHAPE(4, 3);
    expect_error(PQ_E_FORMAT, "slice of dimension 1 leaves its 4 elements");
}

static void errors_name_the_node(void **state)
{
    (void)state;
    pq_value_id in[2] = {input(PQ_F32, PQ_SHAPE(1, 2, 4, 6)), input(PQ_S64, PQ_SHAPE(1, 2, 4, 6))};
    node(PQ_OP_ADD, in, 2, NULL);
    expect_error(PQ_E_FORMAT, "node 'n0' (Add): inputs are float32 and int64, expected one type");
    g->value[in[1]].dtype = PQ_F32;
    g->value[in[1]].shape = PQ_SHAPE(4, 5);
    expect_error(PQ_E_FORMAT, "node 'n0' (Add): shapes [1, 2, 4, 6] and [4, 5] do not broadcast");
    g->node[0].op = PQ_OP_MATMUL;
    expect_error(PQ_E_FORMAT, "[1, 2, 4, 6] and [4, 5] do not multiply");
    g->node[0].op = PQ_OP_CONCAT;
    g->node[0].attr.axis = 4;
    expect_error(PQ_E_FORMAT, "axis 4, expected -4 to 3");
    g->node[0].op = PQ_OP_CONV;
    expect_error(PQ_E_FORMAT, "input 1 has the shape [4, 5], expected 4 dimensions");
    g->node[0].in[1] = PQ_NONE;
    expect_error(PQ_E_FORMAT, "node 'n0' (Conv): input 1 is missing");
}

static void convolution_shapes(void **state)
{
    (void)state;
    pq_value_id in[2] = {input(PQ_F32, PQ_SHAPE(1, 4, 9, 9)), input(PQ_F32, PQ_SHAPE(8, 2, 3, 3))};
    const pq_window window = {{3, 3}, {2, 1}, {1, 2}, {1, 0, 1, 0}, {0, 0}, 2, false, false};
    const pq_attr attr = {.window = window};
    const pq_value_id y = node(PQ_OP_CONV, in, 2, &attr);
    expect_shape(y, PQ_SHAPE(1, 8, 5, 5));
    g->value[in[0]].shape.dim[1] = 5;
    expect_error(PQ_E_FORMAT, "input [1, 5, 9, 9] and weights [8, 2, 3, 3] in 2 groups do not fit, "
                              "expected 4 input channels");
    g->value[in[0]].shape = PQ_SHAPE(1, 4, 9, 4);
    expect_error(PQ_E_FORMAT, "a window of 5 does not fit into 4 padded by 0");
    g->value[in[0]].shape = PQ_SHAPE(1, 4, 9);
    expect_error(PQ_E_UNSUPPORTED, "input 0 has the shape [1, 4, 9], expected 4 dimensions");
}

/* Reshape to (0, 3, -1) by way of Shape, Gather, Unsqueeze and Concat. */
static void shape_chain_and_input_size(void **state)
{
    (void)state;
    const pq_value_id x = input(PQ_F32, PQ_SHAPE(1, 3, 4, 6));
    const pq_attr front = {.axis = 0}, axis0 = {.n_axes = 1, .axes = {0}};
    const pq_value_id shape = node(PQ_OP_SHAPE, &x, 1, NULL);
    const pq_shape scalar = {0, {0}};
    const pq_value_id zero = INTS(0);
    g->value[zero].shape = scalar;
    const pq_value_id pick[2] = {shape, zero};
    const pq_value_id batch = node(PQ_OP_GATHER, pick, 2, &front);
    const pq_value_id row = node(PQ_OP_UNSQUEEZE, &batch, 1, &axis0);
    const pq_value_id parts[3] = {row, INTS(3), INTS(-1)};
    const pq_value_id target = node(PQ_OP_CONCAT, parts, 3, &front);
    const pq_value_id in[2] = {x, target};
    const pq_value_id y = node(PQ_OP_RESHAPE, in, 2, NULL);
    expect_shape(y, PQ_SHAPE(1, 3, 24));
    assert_null(g->value[target].data); /* known to inference, not made constant */
    assert_int_equal(pq_graph_set_input_size(ctx, g, 2, 8, 0), PQ_OK);
    expect_shape(y, PQ_SHAPE(2, 3, 48));
    assert_int_equal(pq_graph_set_input_size(ctx, g, 0, 8, 8), PQ_E_INVALID);
}

static void input_size_that_is_pinned(void **state)
{
    (void)state;
    const pq_value_id x = input(PQ_F32, PQ_SHAPE(1, 3, 4, 6));
    const pq_value_id in[2] = {x, INTS(1, 3, -1)};
    const pq_value_id y = node(PQ_OP_RESHAPE, in, 2, NULL);
    expect_shape(y, PQ_SHAPE(1, 3, 24));
    assert_int_equal(pq_graph_set_input_size(ctx, g, 2, 0, 0), PQ_E_UNSUPPORTED);
    assert_non_null(strstr(pq_ctx_error(ctx), "output 'n0' keeps 1 rows at batch size 2"));
    assert_int_equal(g->value[x].shape.dim[0], 1); /* as it was */
    assert_int_equal(g->value[y].shape.dim[2], 24);
    assert_int_equal(pq_graph_set_input_size(ctx, g, 1, 8, 8), PQ_OK);
    assert_int_equal(g->value[y].shape.dim[2], 64);
}

static int begin(void **state)
{
    (void)state;
    return pq_ctx_new(&ctx) != PQ_OK || pq_graph_new(ctx, &g) != PQ_OK;
}
static int end(void **state)
{
    (void)state;
    pq_graph_free(g);
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(focus, begin, end),
        cmocka_unit_test_setup_teardown(gfl_decode, begin, end),
        cmocka_unit_test_setup_teardown(attributes_without_inputs, begin, end),
        cmocka_unit_test_setup_teardown(errors_name_the_node, begin, end),
        cmocka_unit_test_setup_teardown(convolution_shapes, begin, end),
        cmocka_unit_test_setup_teardown(shape_chain_and_input_size, begin, end),
        cmocka_unit_test_setup_teardown(input_size_that_is_pinned, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
