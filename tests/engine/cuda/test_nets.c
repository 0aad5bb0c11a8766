/* The cuda engine against ref: each operator by itself, the ends of the detector families as their
 * exporters write them, a whole DAMO-YOLO; and what it cannot run is refused in one line. */
#include "compare.h"

#include <string.h>

#include <pquant/pass.h>

#include "engine/engines.h"
#include "support/families.h"
#include "support/synthetic.h"

/* ---- one operator ---- */

static void finish(pq_small *s, const pq_value_id *out, size_t n)
{
    pq_small_outputs(s, out, n);
    pq_graph_mark_quantizable(s->g);
    pq_graph_seal(s->g);
}

/* In float32 and float16. half: false where a last bit in front of the operator is a whole step
 * behind it. */
static void both(tally *t, const pq_small *s, bool half, uint64_t seed)
{
    static const cu_force apart = {.split = 1, .apart = true};
    compare_planned(&t[0], s->ctx, s->g, 0, PQ_SCHEME_S8, PQ_PREC_FP32, &apart, seed);
    if (half) compare_planned(&t[1], s->ctx, s->g, 0, PQ_SCHEME_S8, PQ_PREC_FP16, &apart, seed);
}

static void check(const char *what, const tally t[2])
{
    compare_show(what, &t[0]);
    compare_show("  in float16", &t[1]);
    assert_true(t[0].worst <= 1e-5);
    assert_true(t[1].worst <= 0x1p-8);
}

/* On maps of odd channels and on lists; ones that need positive numbers behind an Abs. */
static void test_unary(void **state)
{
    static const pq_op op[] = {
        PQ_OP_RELU,       PQ_OP_LEAKY_RELU, PQ_OP_SIGMOID, PQ_OP_SILU,     PQ_OP_HARD_SIGMOID,
        PQ_OP_HARD_SWISH, PQ_OP_TANH,       PQ_OP_CLIP,    PQ_OP_EXP,      PQ_OP_LOG,
        PQ_OP_SQRT,       PQ_OP_NEG,        PQ_OP_ABS,     PQ_OP_FLOOR,    PQ_OP_CEIL,
        PQ_OP_ROUND,      PQ_OP_RECIPROCAL, PQ_OP_ERF,     PQ_OP_SOFTPLUS, PQ_OP_ELU,
        PQ_OP_SIGN,       PQ_OP_SIN,        PQ_OP_COS,     PQ_OP_IDENTITY};
    tally t[2] = {{0}};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof op / sizeof *op; i++) {
        const pq_op o = op[i / 2];
        const bool steps = o == PQ_OP_FLOOR || o == PQ_OP_CEIL || o == PQ_OP_ROUND;
        pq_small s;
        pq_small_begin(&s, i % 2 ? PQ_SHAPE(2, 13, 11) : PQ_SHAPE(2, 5, 6, 7));
        pq_attr a = {.alpha = o == PQ_OP_CLIP ? -0.5f : 0.2f, .beta = 0.7f};
        pq_value_id y = s.x;
        if (o == PQ_OP_LOG || o == PQ_OP_SQRT || o == PQ_OP_RECIPROCAL) {
            const pq_value_id in[2] = {pq_small_unary(&s, "abs", PQ_OP_ABS, y),
                                       pq_small_const(&s, "half", PQ_SHAPE(1), 0.5, 0.5)};
            y = pq_small_node(&s, "add", PQ_OP_ADD, in, 2, NULL);
        }
        y = pq_small_node(&s, "op", o, &y, 1, &a);
        finish(&s, &y, 1);
        both(t, &s, !steps, i);
        pq_small_end(&s);
    }
    check("one operand", t);
}

static void test_binary(void **state)
{
    static const pq_op op[] = {PQ_OP_ADD, PQ_OP_SUB, PQ_OP_MUL, PQ_OP_DIV,  PQ_OP_POW,
                               PQ_OP_MIN, PQ_OP_MAX, PQ_OP_MOD, PQ_OP_PRELU};
    tally t[2] = {{0}};
    (void)state;
    for (size_t i = 0; i < 6 * sizeof op / sizeof *op; i++) {
        const pq_op o = op[i / 6];
        const bool positive = o == PQ_OP_POW || o == PQ_OP_DIV || o == PQ_OP_MOD;
        const pq_shape other = i % 3 == 0   ? PQ_SHAPE(5, 1, 1)
                               : i % 3 == 1 ? PQ_SHAPE(1, 1, 6, 7)
                                            : PQ_SHAPE(1);
        pq_small s;
        pq_small_begin(&s, PQ_SHAPE(2, 5, 6, 7));
        const pq_attr a = {.fmod = i % 2 == 0};
        const pq_value_id b = pq_small_const(&s, "b", other, 0.5, 1.5);
        pq_value_id x = s.x;
        if (positive) x = pq_small_unary(&s, "abs", PQ_OP_ABS, x);
        if (o == PQ_OP_DIV || o == PQ_OP_MOD) x = pq_small_binary(&s, "above", PQ_OP_ADD, x, b);
        const bool first = i % 6 < 3 || o == PQ_OP_PRELU; /* or behind the constant */
        const pq_value_id in[2] = {first ? x : b, first ? b : x};
        const pq_value_id y = pq_small_node(&s, "op", o, in, 2, &a);
        finish(&s, &y, 1);
        both(t, &s, o != PQ_OP_MOD, i);
        pq_small_end(&s);
    }
    check("two operands", t);
}

static void test_reductions(void **state)
{
    static const pq_op op[] = {PQ_OP_REDUCE_SUM, PQ_OP_REDUCE_MEAN, PQ_OP_REDUCE_MAX,
                               PQ_OP_REDUCE_MIN, PQ_OP_REDUCE_PROD, PQ_OP_GLOBAL_AVERAGE_POOL,
                               PQ_OP_SOFTMAX,    PQ_OP_LOG_SOFTMAX};
    tally t[2] = {{0}};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof op / sizeof *op; i++) {
        pq_small s;
        pq_small_begin(&s, PQ_SHAPE(2, 5, 6, 7));
        pq_attr a = {.axis = i % 2 ? 1 : 3, .n_axes = 2, .axes = {2, 3}, .keepdims = i % 2 == 0};
        const pq_value_id y = pq_small_node(&s, "op", op[i / 2], &s.x, 1, &a);
        finish(&s, &y, 1);
        both(t, &s, true, i);
        pq_small_end(&s);
    }
    check("reductions", t);
}

/* Every rule of Resize, by whole factors and others: which of them repeat pixels is decided by the
 * engine, and wrong choices show here. */
static void test_resize(void **state)
{
    tally t[2] = {{0}};
    (void)state;
    for (int i = 0; i < 2 * 4 * 4 * 3; i++) {
        static const float scale[] = {2, 3, 1.5};
        pq_small s;
        pq_small_begin(&s, PQ_SHAPE(2, 5, 6, 4));
        pq_attr a = {.resize = i % 2 ? PQ_RESIZE_NEAREST : PQ_RESIZE_LINEAR,
                     .coord = (pq_coord)(i / 2 % 4),
                     .nearest = (pq_nearest)(i / 8 % 4),
                     .scale = {scale[i / 32], scale[i / 32]}};
        const pq_value_id y = pq_small_node(&s, "op", PQ_OP_RESIZE, &s.x, 1, &a);
        finish(&s, &y, 1);
        both(t, &s, true, (uint64_t)i);
        pq_small_end(&s);
    }
    check("resize", t);
}

static void test_refused(void **state)
{
    pq_small s;
    pq_plan *plan;
    pq_session *session;
    (void)state;
    pq_small_begin(&s, PQ_SHAPE(1, 3, 4, 4));
    pq_attr a = {.axis = 1};
    const pq_value_id y = pq_small_node(&s, "arg", PQ_OP_ARG_MAX, &s.x, 1, &a);
    finish(&s, &y, 1);
    PQ_CHECK(s.ctx, pq_plan_float(s.ctx, &plan, s.g, PQ_PREC_FP16));
    assert_int_equal(pq_compile(s.ctx, &session, &pq_engine_cuda, s.g, plan, NULL),
                     PQ_E_UNSUPPORTED);
    assert_non_null(strstr(pq_ctx_error(s.ctx), "node 'arg' (ArgMax): engine 'cuda' cannot run it "
                                                "as fp16: no kernel for this operator"));
    pq_plan_free(plan);
    pq_small_end(&s);
}

/* ---- networks ---- */

/* INT8 is compared with a bound here: floats behind the last quantized tensor (powers, sums of a
 * softmax) have another libm and another order. */
static void on_network(const char *name, pq_ctx *ctx, const pq_graph *g, uint64_t seed)
{
    static const cu_force force[2] = {
        {.variant = 1, .split = 2, .apart = true},
        {.variant = 15, .split = 1, .finish = CU_PERSISTENT, .blocks = 1}};
    tally t[3] = {{0}};
    compare_planned(&t[0], ctx, g, 0, PQ_SCHEME_S8, PQ_PREC_FP32, &force[0], seed);
    for (int i = 0; i < 2; i++) {
        compare_planned(&t[1], ctx, g, 0, PQ_SCHEME_S8, PQ_PREC_FP16, &force[i], seed);
        compare_planned(&t[2], ctx, g, 1, PQ_SCHEME_S8, PQ_PREC_FP32, &force[i], seed);
    }
    print_message("%s: fp32 %.2g, fp16 %.2g, int8 %.2g of the largest\n", name, t[0].worst,
                  t[1].worst, t[2].worst);
    assert_true(t[0].worst <= 1e-4);
    assert_true(t[1].worst <= 0x1p-6);
    assert_true(t[2].worst <= 1e-5);
}

/* NULL: all of it runs. */
static const pq_node *first_refused(const pq_graph *g)
{
    const char *why;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && !pq_engine_cuda.accepts(g, &g->node[i], PQ_PREC_FP16, &why))
            return &g->node[i];
    return NULL;
}

static void test_families(void **state)
{
    (void)state;
    for (int f = 0; f < FAMILY_COUNT; f++) {
        pq_ctx *ctx;
        assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
        pq_graph *g = family_graph((family)f, 3);
        PQ_CHECK(ctx, pq_pass_all(ctx, g));
        pq_graph_seal(g);
        const pq_node *no = first_refused(g);
        /* Suppression inside the network is the two searching families' alone. */
        assert_true(!no || f == FAMILY_ROWS || f == FAMILY_SUPPRESSED);
        if (no)
            print_message("%s: refused for its %s\n", family_name((family)f), pq_op_name(no->op));
        else
            on_network(family_name((family)f), ctx, g, (uint64_t)f + 1);
        pq_graph_free(g);
        pq_ctx_free(ctx);
    }
}

static void test_damo_yolo(void **state)
{
    static const char *const model[] = {"T", "Ns"};
    char path[512];
    (void)state;
    if (!pq_test_shared(path, sizeof path, "golden/synthetic/T.json")) {
        print_message("skipped: no golden/synthetic\n");
        skip();
    }
    for (size_t i = 0; i < sizeof model / sizeof *model; i++) {
        pq_ctx *ctx;
        pq_graph *g;
        assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
        PQ_CHECK(ctx, pq_test_synthetic_read(ctx, &g, model[i], 64, 64));
        PQ_CHECK(ctx, pq_pass_all(ctx, g));
        pq_graph_seal(g);
        assert_null(first_refused(g));
        on_network(model[i], ctx, g, i + 1);
        pq_graph_free(g);
        pq_ctx_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),      cmocka_unit_test(test_binary),
        cmocka_unit_test(test_reductions), cmocka_unit_test(test_resize),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_families),
        cmocka_unit_test(test_damo_yolo)};
    return compare_main(tests, sizeof tests / sizeof *tests);
}
