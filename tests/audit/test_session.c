/* Audits of sessions: a clean one finds nothing, an operator that was compiled otherwise than the
 * plan says is found by name. Runtimes that are not here are skipped with one line. */
#include <string.h>

#include <pquant/audit.h>

#include "engine/engines.h"
#include "support/tiny.h"

/* All INT8, but for one operator. */
static pq_plan *make_plan(pq_ctx *ctx, const pq_graph *g, const char *in_float)
{
    pq_plan *p = tiny_int8_plan(ctx, g, PQ_SCHEME_U8, 4);
    for (size_t i = 0; in_float && i < p->n_nodes; i++)
        if (strcmp(p->node[i].name, in_float) == 0) p->node[i].precision = PQ_PREC_FP32;
    return p;
}

static pq_audit *audit(pq_ctx *ctx, const pq_engine *e, const pq_graph *g, const pq_plan *compiled,
                       const pq_plan *wanted)
{
    pq_session *s;
    pq_audit *a;
    PQ_CHECK(ctx, pq_compile(ctx, &s, e, g, compiled, NULL));
    PQ_CHECK(ctx, pq_audit_session(ctx, &a, s, g, wanted));
    pq_session_free(s);
    return a;
}

static const pq_audit_layer *layer(const pq_audit *a, const char *node)
{
    for (size_t i = 0; i < a->n_layers; i++)
        if (strcmp(a->layer[i].node, node) == 0) return &a->layer[i];
    fail_msg("no layer '%s'", node);
    return NULL;
}

static bool is_fault(const pq_audit *a, const char *node)
{
    for (size_t i = 0; i < a->n_findings; i++)
        if (a->finding[i].fault && strcmp(a->finding[i].node, node) == 0) return true;
    return false;
}

/* down2, whose output a ReLU and then down3 read, was left in float: its pairs are missing. */
static void finds_what_is_unfused(pq_ctx *ctx, const pq_engine *e)
{
    static const char planted[] = "down2";
    pq_engine_info info;
    PQ_CHECK(ctx, e->probe(ctx, &info));
    pq_graph *g = tiny_detector(ctx, TINY_DAMO);
    pq_plan *all = make_plan(ctx, g, NULL), *part = make_plan(ctx, g, planted);
    pq_audit *clean = audit(ctx, e, g, all, all), *a = audit(ctx, e, g, part, all);
    assert_int_equal(a->n_layers, pq_graph_quantizable_count(g));
    assert_string_equal(a->target, e->name);
    assert_false(is_fault(clean, planted));
    assert_string_equal(layer(clean, planted)->achieved, "int8");
    assert_true(is_fault(a, planted));
    assert_string_equal(layer(a, planted)->achieved, "fp32");
    assert_true(layer(a, planted)->ms > 0);
    assert_true(a->total_ms > 0);
    /* Nothing else changed; but where integer kernels write integers only, the one before, whose
     * result is now wanted in float, goes with it. */
    if (info.rounds_outputs)
        assert_true(a->n_faults > clean->n_faults);
    else
        assert_int_equal(a->n_faults, clean->n_faults + 1);

    pq_audit *more = audit(ctx, e, g, all, part); /* INT8 where float was wanted */
    assert_true(is_fault(more, planted));
    pq_audit_free(more);
    pq_audit_free(clean);
    pq_audit_free(a);
    pq_plan_free(all);
    pq_plan_free(part);
    pq_graph_free(g);
}

static void on(const pq_engine *e)
{
    pq_ctx *ctx;
    pq_engine_info info;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_ctx_set_threads(ctx, 1);
    const bool here = e->probe(ctx, &info) == PQ_OK;
    if (here)
        finds_what_is_unfused(ctx, e);
    else
        print_message("skipped: %s\n", pq_ctx_error(ctx));
    pq_ctx_free(ctx);
    if (!here) skip();
}

static void cpu(void **state)
{
    (void)state;
    on(&pq_engine_cpu);
}
static void openvino(void **state)
{
    (void)state;
    on(&pq_engine_openvino);
}
static void onnxruntime(void **state)
{
    (void)state;
    on(&pq_engine_onnxruntime);
}

/* ONNX Runtime has no integer convolution that ends in a SiLU: each is found. */
static void silu_falls_back(void **state)
{
    pq_ctx *ctx;
    pq_engine_info info;
    const pq_engine *e = &pq_engine_onnxruntime;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    const bool here = e->probe(ctx, &info) == PQ_OK;
    if (!here) print_message("skipped: %s\n", pq_ctx_error(ctx));
    if (here) {
        pq_graph *g = tiny_detector(ctx, TINY_YOLOX);
        pq_plan *p = make_plan(ctx, g, NULL);
        pq_audit *a = audit(ctx, e, g, p, p);
        for (size_t i = 0; i < g->n_nodes; i++)
            if (!g->node[i].dead && g->node[i].op == PQ_OP_CONV &&
                g->node[i].attr.act == PQ_ACT_SILU)
                assert_true(is_fault(a, g->node[i].name));
        pq_audit_free(a);
        pq_plan_free(p);
        pq_graph_free(g);
    }
    pq_ctx_free(ctx);
    if (!here) skip();
}

static void no_account(void **state)
{
    pq_ctx *ctx;
    pq_session *s;
    pq_audit *a;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_graph *g = tiny_detector(ctx, TINY_DAMO);
    pq_plan *p = tiny_int8_plan(ctx, g, PQ_SCHEME_U8, 2);
    PQ_CHECK(ctx, pq_compile(ctx, &s, &pq_engine_ref, g, p, NULL));
    PQ_CHECK_FAILS(ctx, pq_audit_session(ctx, &a, s, g, p), PQ_E_UNSUPPORTED,
                   "engine 'ref' gives no times per layer");
    assert_null(a);
    pq_session_free(s);
    pq_plan_free(p);
    pq_graph_free(g);
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu),         cmocka_unit_test(openvino),
        cmocka_unit_test(onnxruntime), cmocka_unit_test(silu_falls_back),
        cmocka_unit_test(no_account),
    };
    return cmocka_run_group_tests_name("audit/session", tests, NULL, NULL);
}
