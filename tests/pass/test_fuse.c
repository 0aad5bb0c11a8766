/* Activations into the node before them, slices into Focus. */
#include <string.h>

#include <pquant/pass.h>

#include "support/small.h"

static const pq_small_window conv3 = {4, 4, 3, 1, 1, 1, true, false};

static size_t fuse_act(pq_small *s)
{
    size_t n = 0;
    pq_graph *before = pq_small_copy(s);
    PQ_CHECK(s->ctx, pq_pass_fuse_act(s->ctx, &n, s->g));
    assert_true(pq_small_difference(s, before) < 1e-5);
    PQ_CHECK(s->ctx, pq_graph_compact(s->ctx, s->g));
    assert_true(pq_small_difference(s, before) < 1e-5);
    pq_graph_free(before);
    return n;
}

static void every_activation(void **state)
{
    static const struct {
        pq_op op;
        pq_act act;
        float alpha, beta;
    } cases[] = {
        {PQ_OP_RELU, PQ_ACT_RELU, 0, 0},
        {PQ_OP_LEAKY_RELU, PQ_ACT_LEAKY_RELU, 0.1f, 0},
        {PQ_OP_CLIP, PQ_ACT_CLIP, -0.5f, 1.5f},
        {PQ_OP_SIGMOID, PQ_ACT_SIGMOID, 0, 0},
        {PQ_OP_SILU, PQ_ACT_SILU, 0, 0},
        {PQ_OP_HARD_SIGMOID, PQ_ACT_HARD_SIGMOID, 0.2f, 0.5f},
        {PQ_OP_HARD_SWISH, PQ_ACT_HARD_SWISH, 0, 0},
        {PQ_OP_TANH, PQ_ACT_TANH, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pq_small s;
        pq_value_id out[3];
        const pq_attr a = {.alpha = cases[i].alpha, .beta = cases[i].beta};
        pq_small_begin(&s, PQ_SHAPE(1, 4, 6, 6));
        const pq_value_id c = pq_small_conv(&s, "conv", s.x, conv3);
        const pq_small_window up = {4, 4, 2, 2, 0, 1, true, true};
        const pq_value_id t = pq_small_conv(&s, "up", s.x, up);
        const pq_value_id sum = pq_small_binary(&s, "sum", PQ_OP_ADD, s.x, s.x);
        out[0] = pq_small_node(&s, "act1", cases[i].op, &c, 1, &a);
        out[1] = pq_small_node(&s, "act2", cases[i].op, &t, 1, &a);
        out[2] = pq_small_node(&s, "act3", cases[i].op, &sum, 1, &a);
        pq_small_outputs(&s, out, 3);
        assert_int_equal(fuse_act(&s), 3);
        assert_int_equal(s.g->n_nodes, 3);
        for (size_t k = 0; k < 3; k++) assert_int_equal(s.g->node[k].attr.act, cases[i].act);
        assert_string_equal(s.g->node[0].name, "conv");
        assert_string_equal(pq_out_value(s.g, &s.g->node[0], 0)->name, "act1.output");
        pq_small_end(&s);
    }
}

static void silu(void **state)
{
    pq_small s;
    pq_value_id out[3];
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 6, 6));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3),
                      b = pq_small_conv(&s, "b", s.x, conv3);
    out[0] =
        pq_small_binary(&s, "mul_a", PQ_OP_MUL, a, pq_small_unary(&s, "sig_a", PQ_OP_SIGMOID, a));
    out[1] =
        pq_small_binary(&s, "mul_b", PQ_OP_MUL, pq_small_unary(&s, "sig_b", PQ_OP_SIGMOID, b), b);
    /* a gate of something else is none */
    out[2] = pq_small_binary(&s, "mul_c", PQ_OP_MUL, s.x,
                             pq_small_unary(&s, "sig_c", PQ_OP_SIGMOID, out[0]));
    pq_small_outputs(&s, out, 3);
    assert_int_equal(fuse_act(&s), 4);
    assert_int_equal(pq_small_count(&s, PQ_OP_MUL), 1);
    assert_int_equal(pq_small_count(&s, PQ_OP_SIGMOID), 1);
    assert_int_equal(s.g->node[0].attr.act, PQ_ACT_SILU);
    pq_small_end(&s);
}

static void declined(void **state)
{
    pq_small s;
    pq_value_id out[4];
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 6, 6));
    /* two readers */
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3);
    out[0] = pq_small_binary(&s, "max", PQ_OP_MAX, pq_small_unary(&s, "relu_a", PQ_OP_RELU, a), a);
    /* the convolution's own output is wanted */
    out[1] = pq_small_conv(&s, "b", s.x, conv3);
    out[2] = pq_small_unary(&s, "relu_b", PQ_OP_RELU, out[1]);
    /* has one already; and behind an operator that takes none */
    const pq_value_id c = pq_small_conv(&s, "c", s.x, conv3);
    const pq_value_id d =
        pq_small_unary(&s, "tanh", PQ_OP_TANH, pq_small_unary(&s, "relu_c", PQ_OP_RELU, c));
    out[3] = pq_small_unary(&s, "relu_d", PQ_OP_RELU, pq_small_unary(&s, "neg", PQ_OP_NEG, d));
    pq_small_outputs(&s, out, 4);
    assert_int_equal(fuse_act(&s), 1);
    pq_small_end(&s);
}

/* A Gemm whose alpha or beta are not 1 needs them for itself. */
/* Gemm's alpha and beta are its own: it takes activations without parameters only. */
static void gemm(void **state)
{
    static const pq_op act[] = {PQ_OP_LEAKY_RELU, PQ_OP_RELU};
    (void)state;
    for (int i = 0; i < 2; i++) {
        pq_small s;
        pq_small_begin(&s, PQ_SHAPE(3, 5));
        const pq_value_id in[3] = {s.x, pq_small_const(&s, "w", PQ_SHAPE(5, 4), -1, 1),
                                   pq_small_const(&s, "b", PQ_SHAPE(4), -1, 1)};
        const pq_attr own = {.alpha = 0.5f, .beta = 2};
        const pq_value_id y = pq_small_node(&s, "g", PQ_OP_GEMM, in, 3, &own);
        const pq_value_id out = pq_small_node(&s, "act", act[i], &y, 1, &(pq_attr){.alpha = 0.1f});
        pq_small_outputs(&s, &out, 1);
        assert_int_equal(fuse_act(&s), i);
        assert_int_equal(pq_small_count(&s, act[i]), 1 - i);
        pq_small_end(&s);
    }
}

static pq_value_id slice(pq_small *s, const char *name, pq_value_id x, pq_shape out, int64_t by,
                         int64_t bx, int64_t sy, int64_t sx)
{
    const pq_attr a = {.begin = {0, 0, by, bx}, .step = {1, 1, sy, sx}};
    const pq_value_id y = pq_small_node(s, name, PQ_OP_SLICE, &x, 1, &a);
    s->g->value[y].shape = out;
    return y;
}

/* quarter: index into top-left, bottom-left, top-right, bottom-right. */
static void focus_of(const int *quarter, bool chained, bool expected)
{
    static const char *const name[] = {"q0", "q1", "q2", "q3"}, *const half[] = {"h0", "h1", "h2",
                                                                                 "h3"};
    pq_small s;
    pq_value_id in[4];
    size_t n = 0;
    pq_small_begin(&s, PQ_SHAPE(1, 3, 8, 6));
    for (int i = 0; i < 4; i++) {
        const int64_t by = quarter[i] % 2, bx = quarter[i] / 2;
        pq_value_id x = s.x;
        if (chained) x = slice(&s, half[i], x, PQ_SHAPE(1, 3, 4, 6), by, 0, 2, 1);
        in[i] =
            slice(&s, name[i], x, PQ_SHAPE(1, 3, 4, 3), chained ? 0 : by, bx, chained ? 1 : 2, 2);
    }
    pq_value_id y = pq_small_node(&s, "concat", PQ_OP_CONCAT, in, 4, &(pq_attr){.axis = 1});
    pq_small_outputs(&s, &y, 1);
    pq_graph *before = pq_small_copy(&s);
    PQ_CHECK(s.ctx, pq_pass_fuse_focus(s.ctx, &n, s.g));
    assert_int_equal(n, expected);
    assert_true(pq_small_difference(&s, before) == 0);
    PQ_CHECK(s.ctx, pq_pass_dead_code(s.ctx, &n, s.g));
    assert_int_equal(n, expected ? (chained ? 8 : 4) : 0);
    assert_true(pq_small_difference(&s, before) == 0);
    pq_graph_free(before);
    pq_small_end(&s);
}

static void focus(void **state)
{
    (void)state;
    focus_of((const int[]){0, 1, 2, 3}, false, true);
    focus_of((const int[]){0, 1, 2, 3}, true, true);
    focus_of((const int[]){0, 2, 1, 3}, false, false); /* SpaceToDepth's order */
    focus_of((const int[]){0, 1, 2, 2}, true, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_activation),
        cmocka_unit_test(silu),
        cmocka_unit_test(declined),
        cmocka_unit_test(gemm),
        cmocka_unit_test(focus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
