/* Sums of parallel convolutions: fused where the windows agree, left alone where they do not. */
#include <string.h>

#include <pquant/pass.h>

#include "support/small.h"

static void run(pq_small *s, size_t expected)
{
    size_t n = 0;
    pq_graph *before = pq_small_copy(s);
    PQ_CHECK(s->ctx, pq_pass_fold_bn(s->ctx, NULL, s->g));
    PQ_CHECK(s->ctx, pq_pass_reparam(s->ctx, &n, s->g));
    assert_int_equal(n, expected);
    assert_true(pq_small_difference(s, before) < 5e-5);
    PQ_CHECK(s->ctx, pq_graph_compact(s->ctx, s->g));
    assert_true(pq_small_difference(s, before) < 5e-5);
    pq_graph_free(before);
}

/* 3x3 + 1x1, each with batch norm, + identity batch norm; c channels, groups. */
static void rep_block(int64_t c, int64_t out, int64_t stride, int64_t groups, bool identity)
{
    pq_small s;
    pq_small_begin(&s, PQ_SHAPE(2, c, 9, 8));
    const pq_value_id x = pq_small_unary(&s, "relu", PQ_OP_RELU, s.x);
    pq_value_id a = pq_small_conv(&s, "block.rbr_reparam", x,
                                  (pq_small_window){out, c, 3, stride, 1, groups, false, false});
    pq_value_id b = pq_small_conv(&s, "block.rbr_1x1.conv", x,
                                  (pq_small_window){out, c, 1, stride, 0, groups, false, false});
    a = pq_small_bn(&s, "block.rbr_dense.bn", a, out);
    b = pq_small_bn(&s, "block.rbr_1x1.bn", b, out);
    /* the 1x1 branch first: the wide one must be found on either side */
    pq_value_id y = pq_small_binary(&s, "sum", PQ_OP_ADD, b, a);
    if (identity)
        y = pq_small_binary(&s, "sum2", PQ_OP_ADD, y, pq_small_bn(&s, "block.rbr_identity", x, c));
    pq_small_outputs(&s, &y, 1);
    run(&s, identity ? 2 : 1);
    assert_int_equal(s.g->n_nodes, 2);
    assert_string_equal(s.g->node[1].name, "block.rbr_reparam");
    pq_small_end(&s);
}

static void rep_blocks(void **state)
{
    (void)state;
    rep_block(4, 6, 1, 1, false);
    rep_block(4, 6, 2, 1, false);
    rep_block(6, 6, 1, 1, true);
    rep_block(6, 6, 1, 3, true);
    rep_block(6, 6, 1, 6, true);
}

static void equal_sizes(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 3, 6, 6));
    const pq_small_window w = {4, 3, 1, 1, 0, 1, true, false};
    pq_value_id y = pq_small_binary(&s, "sum", PQ_OP_ADD, pq_small_conv(&s, "a", s.x, w),
                                    pq_small_conv(&s, "b", s.x, w));
    pq_small_outputs(&s, &y, 1);
    run(&s, 1);
    pq_small_end(&s);
}

static void left_alone(void **state)
{
    pq_small s;
    pq_value_id out[5];
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_small_window w3 = {4, 4, 3, 1, 1, 1, true, false},
                          w1 = {4, 4, 1, 1, 0, 1, true, false};
    const pq_value_id other = pq_small_unary(&s, "relu", PQ_OP_RELU, s.x);
    /* a plain skip is no branch */
    out[0] = pq_small_binary(&s, "s0", PQ_OP_ADD, pq_small_conv(&s, "c0", s.x, w3), s.x);
    /* different inputs */
    out[1] = pq_small_binary(&s, "s1", PQ_OP_ADD, pq_small_conv(&s, "c1", s.x, w3),
                             pq_small_conv(&s, "d1", other, w1));
    /* windows that line up, sizes that only rounding makes equal */
    pq_value_id narrow =
        pq_small_conv(&s, "d2", s.x, (pq_small_window){4, 4, 1, 2, 0, 1, true, false});
    out[2] = pq_small_binary(
        &s, "s2", PQ_OP_ADD, narrow,
        pq_small_conv(&s, "c2", s.x, (pq_small_window){4, 4, 2, 2, 0, 1, true, false}));
    /* groups differ */
    out[3] = pq_small_binary(
        &s, "s3", PQ_OP_ADD, pq_small_conv(&s, "c3", s.x, w3),
        pq_small_conv(&s, "d3", s.x, (pq_small_window){4, 4, 1, 1, 0, 2, true, false}));
    /* a branch that somebody else reads too */
    const pq_value_id c4 = pq_small_conv(&s, "c4", s.x, w3);
    out[4] =
        pq_small_binary(&s, "m4", PQ_OP_MUL, c4,
                        pq_small_binary(&s, "s4", PQ_OP_ADD, c4, pq_small_conv(&s, "d4", s.x, w1)));
    pq_small_outputs(&s, out, 5);
    run(&s, 0);
    pq_small_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rep_blocks),
        cmocka_unit_test(equal_sizes),
        cmocka_unit_test(left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
