/* The plain evaluator: our own operators against their formulas in double, fused activations,
 * refusals. What ONNX has is compared with ONNX Runtime in tests/read/test_onnx_cases.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/ctx.h"
#include "base/rng.h"
#include "graph/eval.h"

static pq_ctx *ctx;
static pq_graph *g;
static pq_tensor in[8], out[2];

static pq_value_id input(int i, pq_shape shape)
{
    pq_value_id v;
    pq_rng rng = {(uint64_t)i + 1};
    assert_int_equal(pq_graph_add_value(ctx, &v, g, NULL, PQ_F32, &shape), PQ_OK);
    assert_int_equal(pq_tensor_new(ctx, &in[i], PQ_F32, &shape), PQ_OK);
    float *p = pq_tensor_data(&in[i]);
    for (int64_t k = 0; k < pq_shape_count(&shape); k++)
        p[k] = (float)(pq_rng_double(&rng) * 8 - 4);
    return v;
}

static pq_status eval(pq_op op, const pq_value_id *ids, int n, const pq_attr *attr)
{
    pq_node_id id;
    const pq_tensor *args[8];
    assert_int_equal(pq_graph_add_node(ctx, &id, g, "n", op, NULL, ids, n,
                                       op == PQ_OP_GFL_DECODE ? 2 : 1, NULL, attr),
                     PQ_OK);
    if (pq_graph_infer(ctx, g) != PQ_OK) fail_msg("%s", pq_ctx_error(ctx));
    for (int i = 0; i < n; i++) args[i] = &in[i];
    return pq_eval_node(ctx, g, &g->node[id], args, out);
}

static const float *data(const pq_tensor *t) { return pq_tensor_data(t); }

static void focus(void **state)
{
    (void)state;
    const pq_value_id x = input(0, PQ_SHAPE(2, 3, 4, 6));
    assert_int_equal(eval(PQ_OP_FOCUS, &x, 1, NULL), PQ_OK);
    for (int64_t n = 0; n < 2; n++)
        for (int64_t k = 0; k < 4; k++) /* top-left, bottom-left, top-right, bottom-right */
            for (int64_t c = 0; c < 3; c++)
                for (int64_t y = 0; y < 2; y++)
                    for (int64_t w = 0; w < 3; w++) {
                        const int64_t iy = 2 * y + (k == 1 || k == 3), ix = 2 * w + (k >= 2);
                        assert_true(data(&out[0])[((n * 12 + k * 3 + c) * 2 + y) * 3 + w] ==
                                    data(&in[0])[((n * 3 + c) * 4 + iy) * 6 + ix]);
                    }
}

/* One anchor by the definition, in double. */
static void check_anchor(int64_t n, int64_t anchor, int level, int64_t y, int64_t x, int64_t side)
{
    const int bins = 8, classes = 3;
    const double stride = level ? 16 : 8;
    const float *cls = data(&in[level]), *reg = data(&in[2 + level]);
    const int64_t area = side * side, at = y * side + x;
    for (int c = 0; c < classes; c++) {
        const double want = 1 / (1 + exp(-(double)cls[(n * classes + c) * area + at]));
        assert_true(fabs((double)data(&out[0])[(n * 20 + anchor) * classes + c] - want) < 1e-6);
    }
    for (int k = 0; k < 4; k++) {
        double sum = 0, mean = 0;
        for (int b = 0; b < bins; b++) {
            const double p = exp((double)reg[((n * 4 + k) * bins + b) * area + at]);
            sum += p;
            mean += p * b;
        }
        const double centre = (double)(k % 2 ? y : x) * stride, d = mean / sum * stride;
        const double want = k < 2 ? centre - d : centre + d;
        assert_true(fabs((double)data(&out[1])[(n * 20 + anchor) * 4 + k] - want) < 1e-4);
    }
}

static void gfl_decode(void **state)
{
    (void)state;
    const pq_value_id ids[4] = {input(0, PQ_SHAPE(2, 3, 4, 4)), input(1, PQ_SHAPE(2, 3, 2, 2)),
                                input(2, PQ_SHAPE(2, 32, 4, 4)), input(3, PQ_SHAPE(2, 32, 2, 2))};
    const pq_attr attr = {.levels = 2, .reg_max = 7, .strides = {8, 16}};
    assert_int_equal(eval(PQ_OP_GFL_DECODE, ids, 4, &attr), PQ_OK);
    for (int64_t n = 0; n < 2; n++)
        for (int64_t i = 0; i < 20; i++) {
            const int level = i >= 16;
            const int64_t at = level ? i - 16 : i, side = level ? 2 : 4;
            check_anchor(n, i, level, at / side, at % side, side);
        }
}

static void fused_activations(void **state)
{
    static const float x[] = {-7, -2, -0.5f, 0, 0.25f, 2, 9};
    (void)state;
    for (int act = PQ_ACT_NONE; act <= PQ_ACT_TANH; act++) {
        float y[7];
        memcpy(y, x, sizeof x);
        pq_eval_acts(y, 7, (pq_act)act, 0.2f, 0.5f);
        for (int i = 0; i < 7; i++) {
            const double v = (double)x[i], s = 1 / (1 + exp(-v));
            const double want[] = {v,
                                   fmax(v, 0),
                                   v < 0 ? 0.2 * v : v,
                                   fmin(fmax(v, 0.2), 0.5),
                                   s,
                                   v * s,
                                   fmin(fmax(0.2 * v + 0.5, 0), 1),
                                   v * fmin(fmax(v / 6 + 0.5, 0), 1),
                                   tanh(v)};
            assert_true(fabs((double)y[i] - want[act]) < 2e-6);
        }
    }
}

static void activation_behind_add(void **state)
{
    (void)state;
    const pq_value_id ids[2] = {input(0, PQ_SHAPE(1, 2, 3)), input(1, PQ_SHAPE(2, 1))};
    const pq_attr attr = {.act = PQ_ACT_RELU};
    assert_int_equal(eval(PQ_OP_ADD, ids, 2, &attr), PQ_OK);
    for (int i = 0; i < 6; i++) {
        const float sum = data(&in[0])[i] + data(&in[1])[i / 3];
        assert_true(data(&out[0])[i] == (sum < 0 ? 0 : sum));
    }
}

static void refusals(void **state)
{
    (void)state;
    const pq_value_id ids[2] = {input(0, PQ_SHAPE(1, 1, 4, 4)), input(1, PQ_SHAPE(1, 1, 3, 3))};
    const pq_attr attr = {.window = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    assert_int_equal(eval(PQ_OP_CONV, ids, 2, &attr), PQ_E_INTERNAL);
    assert_null(out[0].buf);
    assert_false(pq_eval_supports(PQ_OP_CONV));
    in[0].shape.dim[3] = 5; /* not what the graph says */
    const pq_tensor *args[1] = {&in[0]};
    g->node[0].op = PQ_OP_RELU;
    g->node[0].n_in = 1;
    assert_int_equal(pq_eval_node(ctx, g, &g->node[0], args, out), PQ_E_INTERNAL);
    args[0] = NULL;
    assert_int_equal(pq_eval_node(ctx, g, &g->node[0], args, out), PQ_E_INTERNAL);
}

static int begin(void **state)
{
    (void)state;
    memset(in, 0, sizeof in);
    memset(out, 0, sizeof out);
    return pq_ctx_new(&ctx) != PQ_OK || pq_graph_new(ctx, &g) != PQ_OK;
}
static int end(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) pq_tensor_clear(&in[i]);
    for (int i = 0; i < 2; i++) pq_tensor_clear(&out[i]);
    pq_graph_free(g);
    pq_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(focus, begin, end),
        cmocka_unit_test_setup_teardown(gfl_decode, begin, end),
        cmocka_unit_test(fused_activations),
        cmocka_unit_test_setup_teardown(activation_behind_add, begin, end),
        cmocka_unit_test_setup_teardown(refusals, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
