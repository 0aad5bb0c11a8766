/* Folding keeps the function, and declines or complains where it cannot. */
#include <string.h>

#include <pquant/pass.h>

#include "base/mem.h"
#include "support/small.h"

static void fold_and_compare(pq_small *s, size_t expected)
{
    size_t n = 0;
    pq_graph *before = pq_small_copy(s);
    PQ_CHECK(s->ctx, pq_pass_fold_bn(s->ctx, &n, s->g));
    assert_int_equal(n, expected);
    assert_true(pq_small_difference(s, before) < 2e-5);
    PQ_CHECK(s->ctx, pq_graph_compact(s->ctx, s->g));
    assert_true(pq_small_difference(s, before) < 2e-5);
    pq_graph_free(before);
}

static void plain(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(2, 4, 7, 6));
    pq_value_id y =
        pq_small_conv(&s, "conv", s.x, (pq_small_window){6, 4, 3, 2, 1, 2, false, false});
    y = pq_small_bn(&s, "bn", y, 6);
    pq_small_outputs(&s, &y, 1);
    fold_and_compare(&s, 1);
    assert_int_equal(s.g->n_nodes, 1);
    assert_string_equal(s.g->node[0].name, "conv");
    assert_string_equal(pq_in(s.g, &s.g->node[0], 1)->name, "conv.weight");
    assert_string_equal(pq_in(s.g, &s.g->node[0], 2)->name, "conv.bias");
    pq_small_end(&s);
}

static void with_bias(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 3, 5, 5));
    pq_value_id y =
        pq_small_conv(&s, "conv", s.x, (pq_small_window){5, 3, 1, 1, 0, 1, true, false});
    y = pq_small_bn(&s, "bn", y, 5);
    y = pq_small_bn(&s, "bn2", y, 5); /* a second one folds as well */
    pq_small_outputs(&s, &y, 1);
    fold_and_compare(&s, 2);
    pq_small_end(&s);
}

static void transposed(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 5, 4));
    pq_value_id y = pq_small_conv(&s, "up", s.x, (pq_small_window){6, 4, 2, 2, 0, 2, true, true});
    y = pq_small_bn(&s, "bn", y, 6);
    pq_small_outputs(&s, &y, 1);
    fold_and_compare(&s, 1);
    pq_small_end(&s);
}

/* Two convolutions share one weight: each gets its own, neither loses it. */
static void shared_weight(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 3, 5, 5));
    pq_value_id a = pq_small_conv(&s, "a", s.x, (pq_small_window){4, 3, 3, 1, 1, 1, false, false});
    const pq_node *first = &s.g->node[0];
    const pq_value_id in[2] = {s.x, first->in[1]};
    const pq_attr attr = first->attr;
    pq_value_id b = pq_small_node(&s, "b", PQ_OP_CONV, in, 2, &attr);
    pq_value_id out[2] = {pq_small_bn(&s, "bn_a", a, 4), pq_small_bn(&s, "bn_b", b, 4)};
    pq_small_outputs(&s, out, 2);
    fold_and_compare(&s, 2);
    pq_small_end(&s);
}

static void declined(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 5, 5));
    /* read twice */
    pq_value_id y = pq_small_conv(&s, "a", s.x, (pq_small_window){4, 4, 3, 1, 1, 1, true, false});
    pq_value_id out[3];
    out[0] = pq_small_binary(&s, "sum", PQ_OP_ADD, pq_small_bn(&s, "bn_a", y, 4), y);
    /* a graph output itself */
    out[1] = pq_small_conv(&s, "b", s.x, (pq_small_window){4, 4, 3, 1, 1, 1, true, false});
    out[2] = pq_small_bn(&s, "bn_b", out[1], 4);
    pq_small_outputs(&s, out, 3);
    fold_and_compare(&s, 0);
    pq_small_end(&s);
}

static void wrong(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 5, 5));
    pq_value_id y = pq_small_conv(&s, "a", s.x, (pq_small_window){4, 4, 3, 1, 1, 1, true, false});
    y = pq_small_bn(&s, "bn", y, 4);
    pq_small_outputs(&s, &y, 1);
    float *var = pq_buf_data(s.g->value[s.g->node[1].in[4]].data);
    var[2] = -1;
    PQ_CHECK_FAILS(s.ctx, pq_pass_fold_bn(s.ctx, NULL, s.g), PQ_E_FORMAT,
                   "node 'bn': variance[2] is -1");
    var[2] = 1;
    s.g->value[s.g->node[1].in[3]].shape = PQ_SHAPE(3);
    PQ_CHECK_FAILS(s.ctx, pq_pass_fold_bn(s.ctx, NULL, s.g), PQ_E_FORMAT,
                   "node 'bn': mean has the shape [3], expected [4]");
    PQ_CHECK(s.ctx, pq_graph_verify(s.ctx, s.g));
    pq_small_end(&s);
}

/* Whatever allocation fails, the graph stays valid and computes the same. */
static void out_of_memory(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        pq_small s;
        pq_small_begin(&s, PQ_SHAPE(1, 4, 5, 5));
        pq_value_id y =
            pq_small_conv(&s, "a", s.x, (pq_small_window){4, 4, 3, 1, 1, 1, false, false});
        y = pq_small_bn(&s, "bn", y, 4);
        pq_small_outputs(&s, &y, 1);
        pq_graph *before = pq_small_copy(&s);
        pq_mem_fail_after(n);
        const pq_status st = pq_pass_all(s.ctx, s.g);
        pq_mem_fail_after(0);
        assert_true(st == PQ_OK || st == PQ_E_NOMEM);
        assert_true(pq_small_difference(&s, before) < 2e-5);
        pq_graph_free(before);
        pq_small_end(&s);
        if (st == PQ_OK) break;
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),         cmocka_unit_test(with_bias), cmocka_unit_test(transposed),
        cmocka_unit_test(shared_weight), cmocka_unit_test(declined),  cmocka_unit_test(wrong),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
