/* Which values get a scale, and which share one. */
#include <string.h>

#include <pquant/calibrate.h>

#include "base/mem.h"
#include "calibrate/layout.h"
#include "support/small.h"

static const pq_small_window conv3 = {4, 4, 3, 1, 1, 1, true, false};

static pq_scale_layout layout_of(pq_small *s, const pq_value_id *out, size_t n,
                                 const char *not_int8)
{
    pq_scale_layout l;
    bool int8[32];
    pq_small_outputs(s, out, n);
    pq_graph_mark_quantizable(s->g);
    for (size_t i = 0; i < 32; i++) int8[i] = true;
    if (not_int8) {
        const pq_node_id id = pq_graph_find_node(s->g, not_int8);
        int8[s->g->node[id].quant_index] = false;
    }
    PQ_CHECK(s->ctx, pq_scale_layout_new(s->ctx, &l, s->g, int8));
    return l;
}

/* x -> a -> b: the inputs of both, not the output. */
static void test_chain(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3), b = pq_small_conv(&s, "b", a, conv3);
    pq_scale_layout l = layout_of(&s, &b, 1, NULL);
    assert_true(l.listed[s.x] && l.listed[a] && !l.listed[b]);
    assert_int_not_equal(l.group[s.x], l.group[a]);
    pq_scale_layout_clear(&l);
    l = layout_of(&s, &b, 1, "b");
    assert_true(l.listed[s.x] && !l.listed[a]);
    pq_scale_layout_clear(&l);
    pq_small_end(&s);
}

/* Two maps that only a Concat reads take its scale; one that a float convolution reads too keeps
 * its own. */
static void test_concat(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3), b = pq_small_conv(&s, "b", a, conv3);
    const pq_value_id c = pq_small_conv(&s, "c", b, conv3), in[2] = {a, c};
    const pq_value_id cat = pq_small_node(&s, "cat", PQ_OP_CONCAT, in, 2, &(pq_attr){.axis = 1});
    const pq_value_id d =
        pq_small_conv(&s, "d", cat, (pq_small_window){4, 8, 1, 1, 0, 1, true, false});
    pq_scale_layout l = layout_of(&s, &d, 1, NULL);
    assert_true(l.listed[a] && l.listed[c] && l.listed[cat]);
    assert_int_equal(l.group[c], l.group[cat]);
    assert_int_not_equal(l.group[a], l.group[cat]); /* b reads it too */
    assert_true(l.defines[cat] && !l.defines[c]);
    pq_scale_layout_clear(&l);
    l = layout_of(&s, &d, 1, "d"); /* a float reader: the Concat stays float */
    assert_true(!l.listed[cat] && !l.listed[c] && l.listed[a]);
    pq_scale_layout_clear(&l);
    pq_small_end(&s);
}

/* A residual sum: the convolution's own result stays in the accumulator, the other operand and the
 * sum have scales. */
static void test_sum(void **state)
{
    pq_small s;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3), b = pq_small_conv(&s, "b", a, conv3);
    const pq_value_id sum = pq_small_binary(&s, "sum", PQ_OP_ADD, a, b);
    const pq_value_id c = pq_small_conv(&s, "c", sum, conv3);
    pq_scale_layout l = layout_of(&s, &c, 1, NULL);
    assert_true(l.listed[a] && l.listed[sum] && !l.listed[b]);
    pq_scale_layout_clear(&l);
    l = layout_of(&s, &c, 1, "b"); /* a float operand stays float */
    assert_true(l.listed[sum] && !l.listed[b]);
    pq_scale_layout_clear(&l);
    pq_small_end(&s);
}

/* Max pooling moves values: one scale on both sides, that of its input. Focus of the network's
 * input: only its output has one. */
static void test_moving(void **state)
{
    pq_small s;
    const pq_attr pool = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}}};
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 1, 16, 16));
    const pq_value_id f = pq_small_unary(&s, "focus", PQ_OP_FOCUS, s.x);
    const pq_value_id a = pq_small_conv(&s, "a", f, conv3);
    const pq_value_id p = pq_small_node(&s, "pool", PQ_OP_MAX_POOL, &a, 1, &pool);
    const pq_value_id b = pq_small_conv(&s, "b", p, conv3);
    pq_scale_layout l = layout_of(&s, &b, 1, NULL);
    assert_true(!l.listed[s.x] && l.listed[f] && l.listed[a] && l.listed[p]);
    assert_int_equal(l.group[a], l.group[p]);
    assert_true(l.defines[a] && !l.defines[p]);
    pq_scale_layout_clear(&l);
    l = layout_of(&s, &b, 1, "pool"); /* a float pool: b's input still has a scale, a has none */
    assert_true(!l.listed[a] && l.listed[p]);
    pq_scale_layout_clear(&l);
    pq_small_end(&s);
}

/* Scales of a group in a plan: the hull of the ranges that count. */
static void test_plan(void **state)
{
    pq_small s;
    pq_ranges r = {0};
    pq_plan *plan;
    bool int8[8] = {true, true, true, true, true, true, true, true};
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3),
                      b = pq_small_conv(&s, "b", s.x, conv3);
    const pq_value_id in[2] = {a, b};
    const pq_value_id cat = pq_small_node(&s, "cat", PQ_OP_CONCAT, in, 2, &(pq_attr){.axis = 1});
    const pq_value_id d =
        pq_small_conv(&s, "d", cat, (pq_small_window){4, 8, 1, 1, 0, 1, true, false});
    pq_scale_layout l = layout_of(&s, &d, 1, NULL);
    pq_scale_layout_clear(&l);
    pq_range range[] = {{.name = "x", .amax = 2, .lo = -1, .hi = 2},
                        {.name = "a.output", .amax = 9, .lo = -9, .hi = 1},
                        {.name = "b.output", .amax = 1, .lo = 0, .hi = 1},
                        {.name = "cat.output", .amax = 12.7f, .lo = 0, .hi = 25.5f}};
    r.range = range;
    r.n = 4;
    pq_graph_hash(s.g, r.graph_hash);
    PQ_CHECK(s.ctx, pq_plan_make(s.ctx, &plan, s.g, &r, int8, PQ_SCHEME_U8, PQ_PREC_FP32));
    assert_int_equal(plan->n_tensors, 4);
    for (size_t i = 0; i < 4; i++) {
        const pq_plan_tensor *t = &plan->tensor[i];
        if (strcmp(t->name, "x") == 0) {
            assert_int_equal(t->zero_point, 85);
            assert_true(t->scale > 3 / 255.0f * 0.999f && t->scale < 3 / 255.0f * 1.02f);
        } else {
            assert_true(t->scale == 0.1f);
            assert_int_equal(t->zero_point, 0);
        }
    }
    pq_plan_free(plan);
    PQ_CHECK(s.ctx, pq_plan_make(s.ctx, &plan, s.g, &r, int8, PQ_SCHEME_S8, PQ_PREC_FP32));
    for (size_t i = 0; i < 4; i++) assert_int_equal(plan->tensor[i].zero_point, 0);
    pq_plan_free(plan);
    r.n = 2;
    PQ_CHECK_FAILS(s.ctx, pq_plan_make(s.ctx, &plan, s.g, &r, int8, PQ_SCHEME_U8, PQ_PREC_FP32),
                   PQ_E_INVALID, "no calibrated range");
    memset(r.graph_hash, 'f', 64);
    PQ_CHECK_FAILS(s.ctx, pq_plan_make(s.ctx, &plan, s.g, &r, int8, PQ_SCHEME_U8, PQ_PREC_FP32),
                   PQ_E_INVALID, "ffffffffffff");
    pq_small_end(&s);
}

static const pq_plan_tensor *scale_of(const pq_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_tensors; i++)
        if (strcmp(plan->tensor[i].name, name) == 0) return &plan->tensor[i];
    return NULL;
}

/* Two branches with the same range, which the calibrator clipped at the top: what ends in a sigmoid
 * alone keeps its top and loses what a sigmoid does not tell apart, what ends in a sum is clipped.
 */
static void test_rounded_outputs(void **state)
{
    pq_small s;
    pq_plan *plan;
    const bool int8[3] = {true, true, true};
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 4, 8, 8));
    const pq_value_id a = pq_small_conv(&s, "a", s.x, conv3), b = pq_small_conv(&s, "b", a, conv3),
                      c = pq_small_conv(&s, "c", a, conv3), in[2] = {b, b}, sum[2] = {c, c};
    const pq_value_id cat = pq_small_node(&s, "cat", PQ_OP_CONCAT, in, 2, &(pq_attr){.axis = 1});
    const pq_value_id out[2] = {pq_small_node(&s, "score", PQ_OP_SIGMOID, &cat, 1, NULL),
                                pq_small_node(&s, "sum", PQ_OP_ADD, sum, 2, NULL)};
    pq_scale_layout l = layout_of(&s, out, 2, NULL);
    pq_scale_layout_clear(&l);
    pq_range range[] = {{.name = "x", .amax = 2, .lo = -1, .hi = 2},
                        {.name = "a.output", .amax = 9, .lo = -9, .hi = 1},
                        {.name = "b.output", .min = -90, .max = 4, .amax = 54, .lo = -54, .hi = 1},
                        {.name = "c.output", .min = -90, .max = 4, .amax = 54, .lo = -54, .hi = 1}};
    pq_ranges r = {.range = range, .n = 4};
    pq_graph_hash(s.g, r.graph_hash);
    for (int scheme = PQ_SCHEME_S8; scheme <= PQ_SCHEME_U8; scheme++) {
        const bool u8 = scheme == PQ_SCHEME_U8;
        PQ_CHECK(s.ctx, pq_plan_make(s.ctx, &plan, s.g, &r, int8, scheme, PQ_PREC_FP32));
        assert_null(scale_of(plan, "b.output"));
        PQ_CHECK(s.ctx, pq_plan_round_outputs(s.ctx, plan, s.g, &r));
        assert_true(plan->rounds_outputs);
        const pq_plan_tensor *to_sigmoid = scale_of(plan, "b.output"),
                             *to_sum = scale_of(plan, "c.output");
        assert_non_null(to_sigmoid);
        assert_non_null(to_sum);
        assert_float_equal(to_sigmoid->scale, u8 ? 16 / 255.0F : 12 / 127.0F, 1e-3F);
        assert_float_equal(to_sum->scale, u8 ? 55 / 255.0F : 54 / 127.0F, 5e-3F);
        pq_plan_free(plan);
    }
    pq_small_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain), cmocka_unit_test(test_concat),
        cmocka_unit_test(test_sum),   cmocka_unit_test(test_moving),
        cmocka_unit_test(test_plan),  cmocka_unit_test(test_rounded_outputs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
