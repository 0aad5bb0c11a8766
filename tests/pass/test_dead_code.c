/* What changes nothing and what nobody reads goes; outputs keep their names. */
#include <string.h>

#include <pquant/pass.h>

#include "support/small.h"

static size_t clean(pq_small *s)
{
    size_t n = 0, again = 0;
    pq_graph *before = pq_small_copy(s);
    PQ_CHECK(s->ctx, pq_pass_dead_code(s->ctx, &n, s->g));
    assert_true(pq_small_difference(s, before) == 0);
    PQ_CHECK(s->ctx, pq_pass_dead_code(s->ctx, &again, s->g));
    assert_int_equal(again, 0);
    PQ_CHECK(s->ctx, pq_graph_compact(s->ctx, s->g));
    assert_true(pq_small_difference(s, before) == 0);
    pq_graph_free(before);
    return n;
}

static pq_value_id reshape(pq_small *s, const char *name, pq_value_id x, pq_shape to)
{
    const pq_value_id y = pq_small_unary(s, name, PQ_OP_RESHAPE, x);
    s->g->value[y].shape = to;
    return y;
}

static void removed(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 3, 3));
    pq_value_id y = pq_small_unary(&s, "id1", PQ_OP_IDENTITY, s.x);
    y = pq_small_unary(&s, "relu", PQ_OP_RELU, y);
    y = pq_small_unary(&s, "id2", PQ_OP_IDENTITY, pq_small_unary(&s, "id3", PQ_OP_IDENTITY, y));
    y = pq_small_node(&s, "cast", PQ_OP_CAST, &y, 1, &(pq_attr){.to = PQ_F32});
    y = reshape(&s, "same", y, PQ_SHAPE(1, 4, 3, 3));
    y = pq_small_node(&s, "alone", PQ_OP_CONCAT, &y, 1, &(pq_attr){.axis = 1});
    y = pq_small_node(&s, "still", PQ_OP_TRANSPOSE, &y, 1, &(pq_attr){.perm = {0, 1, 2, 3}});
    pq_small_unary(&s, "unread2", PQ_OP_NEG, pq_small_unary(&s, "unread1", PQ_OP_ABS, y));
    y = pq_small_unary(&s, "last", PQ_OP_NEG, y);
    pq_small_outputs(&s, &y, 1);
    assert_int_equal(clean(&s), 9);
    assert_int_equal(s.g->n_nodes, 2);
    pq_small_end(&s);
}

static void kept(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 3, 3, 3));
    pq_value_id y = reshape(&s, "other", s.x, PQ_SHAPE(1, 9, 3));
    y = pq_small_node(&s, "turn", PQ_OP_TRANSPOSE, &y, 1, &(pq_attr){.perm = {0, 2, 1}});
    y = reshape(&s, "back", y, PQ_SHAPE(1, 3, 3, 3));
    y = pq_small_node(&s, "swap", PQ_OP_TRANSPOSE, &y, 1, &(pq_attr){.perm = {0, 1, 3, 2}});
    pq_small_outputs(&s, &y, 1);
    assert_int_equal(clean(&s), 0);
    pq_small_end(&s);
}

/* An Identity that makes a graph output hands its name on, unless there is nobody to take it. */
static void outputs(void **state)
{
    pq_small s;
    pq_value_id out[4];
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 3, 3));
    const pq_value_id y = pq_small_unary(&s, "relu", PQ_OP_RELU, s.x);
    out[0] = pq_small_unary(&s, "first", PQ_OP_IDENTITY, y);
    out[1] = pq_small_unary(&s, "second", PQ_OP_IDENTITY, y);
    out[2] = pq_small_unary(&s, "of_input", PQ_OP_IDENTITY, s.x);
    out[3] = pq_small_unary(&s, "neg", PQ_OP_NEG, y);
    pq_small_outputs(&s, out, 4);
    assert_int_equal(clean(&s), 1);
    assert_string_equal(pq_out_value(s.g, &s.g->node[0], 0)->name, "first.output");
    pq_small_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(removed),
        cmocka_unit_test(kept),
        cmocka_unit_test(outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
