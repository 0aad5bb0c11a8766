/* The engines opened at run time against ref, on random small networks and tiny detectors. Skipped
 * with one line each where a runtime is not here. */
#include "graphs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/pass.h>

#include "base/mem.h"
#include "engine/engines.h"
#include "engine/foreign/outputs.h"
#include "support/families.h"
#include "support/tiny.h"

enum { GRAPHS = 12, NODES = 12 };

static pq_tensor *run_on(pq_ctx *ctx, const pq_engine *e, const pq_graph *g, const pq_plan *plan,
                         const pq_tensor *in, pq_session **session)
{
    pq_tensor *out;
    PQ_CHECK(ctx, pq_compile(ctx, session, e, g, plan, NULL));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, *session));
    PQ_CHECK(ctx, pq_run(ctx, *session, in, 1, out, (*session)->n_outputs));
    return out;
}

/* Largest and mean |a - b| over all outputs, each by the largest |a| of its tensor. */
typedef struct gap {
    double worst, mean;
} gap;

static gap compare(pq_ctx *ctx, const pq_engine *e, const pq_graph *g, const pq_plan *plan,
                   const pq_tensor *in)
{
    pq_session *a, *b;
    pq_tensor *x = run_on(ctx, &pq_engine_ref, g, plan, in, &a);
    pq_tensor *y = run_on(ctx, e, g, plan, in, &b);
    gap far = {0, 0};
    for (size_t k = 0; k < a->n_outputs; k++) {
        const float *p = pq_tensor_data(&x[k]), *q = pq_tensor_data(&y[k]);
        const size_t n = (size_t)pq_shape_count(&x[k].shape);
        double top = 1e-6, sum = 0, worst = 0;
        for (size_t i = 0; i < n; i++) {
            if (isnan(p[i]) != isnan(q[i])) fail_msg("output %zu, %zu: a row is missing", k, i);
            if (isnan(p[i])) continue;
            const double d = fabs((double)p[i] - (double)q[i]);
            top = fmax(top, fabs((double)p[i]));
            worst = pq_check_worse(worst, d);
            sum += d;
        }
        far.worst = fmax(far.worst, worst / top);
        far.mean = fmax(far.mean, n ? sum / (double)n / top : 0);
    }
    pq_session_outputs_free(x, a);
    pq_session_outputs_free(y, b);
    pq_session_free(a);
    pq_session_free(b);
    return far;
}

static void on_random_graphs(const pq_engine *e, double share, double worst, double mean)
{
    gap most = {0, 0};
    pq_ctx *ctx;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_ctx_set_threads(ctx, 2);
    pq_engine_info info;
    const bool here = e->probe(ctx, &info) == PQ_OK;
    if (!here) print_message("skipped: %s\n", pq_ctx_error(ctx));
    for (uint64_t seed = 1; here && seed <= GRAPHS; seed++) {
        pq_small s;
        pq_tensor in;
        pq_ranges *r;
        pq_plan *plan;
        graphs_random(&s, seed, NODES);
        graphs_input(&in, s.ctx, s.g, seed);
        graphs_ranges(&r, s.ctx, s.g, &in);
        graphs_plan(&plan, s.ctx, s.g, r, e, share, seed % 2 ? PQ_SCHEME_U8 : PQ_SCHEME_S8,
                    PQ_PREC_FP32, seed);
        if (info.rounds_outputs && seed % 3)
            PQ_CHECK(s.ctx, pq_plan_round_outputs(s.ctx, plan, s.g, r));
        const gap one = compare(ctx, e, s.g, plan, &in);
        if (one.worst > worst || one.mean > mean)
            print_message("seed %d: worst %.3g, mean %.3g\n", (int)seed, one.worst, one.mean);
        most.worst = fmax(most.worst, one.worst);
        most.mean = fmax(most.mean, one.mean);
        pq_plan_free(plan);
        pq_ranges_free(r);
        pq_tensor_clear(&in);
        pq_small_end(&s);
    }
    pq_ctx_free(ctx);
    if (!here) skip();
    print_message("%s, %.0f %% INT8: worst %.3g, mean %.3g\n", e->name, 100 * share, most.worst,
                  most.mean);
    assert_true(most.worst <= worst);
    assert_true(most.mean <= mean);
}

/* One level of difference in the middle may flip roundings behind it: whole quantized networks are
 * compared by their mean. */
static void ort_float(void **state)
{
    (void)state;
    on_random_graphs(&pq_engine_onnxruntime, 0, 1e-4, 1e-5);
}
static void ort_int8(void **state)
{
    (void)state;
    on_random_graphs(&pq_engine_onnxruntime, 1, 0.02, 5e-4);
}
static void ov_float(void **state)
{
    (void)state;
    on_random_graphs(&pq_engine_openvino, 0, 1e-4, 1e-5);
}
static void ov_int8(void **state)
{
    (void)state;
    on_random_graphs(&pq_engine_openvino, 1, 0.02, 5e-4);
}

/* Every weighted operator is found again in the runtime's own list, with a time. */
static void lists_layers(pq_ctx *ctx, const pq_engine *e)
{
    enum { ROOM = 512 };
    static pq_layer layer[ROOM];
    pq_graph *g = tiny_detector(ctx, TINY_DAMO);
    pq_plan *plan = tiny_int8_plan(ctx, g, PQ_SCHEME_U8, 4);
    pq_session *s;
    pq_tensor in;
    graphs_input(&in, ctx, g, 3);
    pq_tensor *out = run_on(ctx, e, g, plan, &in, &s);
    for (int round = 0; round < 2; round++) {
        size_t n = ROOM;
        double ms = 0;
        PQ_CHECK(ctx, e->layers(ctx, s, &in, 1, layer, &n));
        assert_true(n > 10 && n < ROOM);
        for (size_t k = 0; k < g->n_nodes; k++) {
            const pq_node *node = &g->node[k];
            if (node->dead || node->op != PQ_OP_CONV) continue;
            size_t found = 0;
            for (size_t i = 0; i < n; i++)
                found += layer[i].macs > 0 && strcmp(layer[i].node, node->name) == 0;
            if (found != 1) fail_msg("%s: %zu kernels, expected 1", node->name, found);
        }
        for (size_t i = 0; i < n; i++) ms += layer[i].ms;
        assert_true(ms > 0);
        n = 3;
        PQ_CHECK(ctx, e->layers(ctx, s, &in, 1, layer, &n));
        assert_int_equal(n, 3);
    }
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_tensor_clear(&in);
    pq_plan_free(plan);
    pq_graph_free(g);
}

static void on_engine(const pq_engine *e, void (*test)(pq_ctx *, const pq_engine *))
{
    pq_ctx *ctx;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_engine_info info;
    const bool here = e->probe(ctx, &info) == PQ_OK;
    if (here)
        test(ctx, e);
    else
        print_message("skipped: %s\n", pq_ctx_error(ctx));
    pq_ctx_free(ctx);
    if (!here) skip();
}

static void ort_layers(void **state)
{
    (void)state;
    on_engine(&pq_engine_onnxruntime, lists_layers);
}
static void ov_layers(void **state)
{
    (void)state;
    on_engine(&pq_engine_openvino, lists_layers);
}

/* Ends of all families; one is behind NonMaxSuppression and has as many rows as there are boxes. */
static void runs_families(pq_ctx *ctx, const pq_engine *e)
{
    for (int f = 0; f < FAMILY_COUNT; f++) {
        pq_plan *plan;
        pq_tensor in;
        pq_graph *g = family_graph((family)f, 3);
        PQ_CHECK(ctx, pq_pass_all(ctx, g));
        graphs_input(&in, ctx, g, 3);
        PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
        const gap far = compare(ctx, e, g, plan, &in);
        if (far.worst > 1e-4) fail_msg("%s: worst %.3g", family_name((family)f), far.worst);
        pq_plan_free(plan);
        pq_tensor_clear(&in);
        pq_graph_free(g);
    }
}

/* Indices of what is found: integers in the file, as many columns as there are. */
static void gives_indices(pq_ctx *ctx, const pq_engine *e)
{
    pq_small s;
    pq_plan *plan;
    pq_tensor in;
    pq_session *session;
    size_t missing = 0;
    pq_small_begin(&s, PQ_SHAPE(1, 2, 3, 4));
    const pq_value_id y = pq_small_node(&s, "relu", PQ_OP_RELU, &s.x, 1, NULL),
                      out = pq_small_node(&s, "found", PQ_OP_NON_ZERO, &y, 1, NULL);
    pq_small_outputs(&s, &out, 1);
    graphs_input(&in, ctx, s.g, 5);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, s.g, PQ_PREC_FP32));
    const gap far = compare(ctx, e, s.g, plan, &in);
    assert_true(far.worst == 0);
    pq_tensor *list = run_on(ctx, e, s.g, plan, &in, &session);
    const float *index = pq_tensor_data(list);
    for (size_t i = 0; i < 24; i++) missing += isnan(index[i]) != 0;
    assert_in_range(missing, 1, 23);
    pq_session_outputs_free(list, session);
    pq_session_free(session);
    pq_plan_free(plan);
    pq_tensor_clear(&in);
    pq_small_end(&s);
}

static void ort_indices(void **state)
{
    (void)state;
    on_engine(&pq_engine_onnxruntime, gives_indices);
}
static void ov_indices(void **state)
{
    (void)state;
    on_engine(&pq_engine_openvino, gives_indices);
}

/* What a runtime gives goes to the beginning of each dimension; more than there is room for, or
 * another rank, is one line. */
static void takes_outputs(void **state)
{
    const int64_t some[] = {2, 1}, none[] = {0, 3}, more[] = {2, 4};
    const int64_t from[] = {5, -7};
    pq_ctx *ctx;
    pq_tensor t;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    PQ_CHECK(ctx, pq_tensor_new(ctx, &t, PQ_F32, &PQ_SHAPE(2, 3)));
    const float *y = pq_tensor_data(&t);
    PQ_CHECK(ctx, pq_foreign_take(ctx, &t, "y", PQ_S64, some, 2, from));
    assert_true(y[0] == 5 && isnan(y[1]) && isnan(y[2]) && y[3] == -7 && isnan(y[4]));
    PQ_CHECK(ctx, pq_foreign_take(ctx, &t, "y", PQ_S64, none, 2, NULL));
    for (int i = 0; i < 6; i++) assert_true(isnan(y[i]));
    PQ_CHECK_FAILS(ctx, pq_foreign_take(ctx, &t, "y", PQ_S64, more, 2, from), PQ_E_ENGINE,
                   "output 'y' came as [2, 4], expected at most [2, 3]");
    PQ_CHECK_FAILS(ctx, pq_foreign_take(ctx, &t, "y", PQ_S64, some, 1, from), PQ_E_ENGINE,
                   "came as [2], expected");
    pq_tensor_clear(&t);
    pq_ctx_free(ctx);
}

static void ort_families(void **state)
{
    (void)state;
    on_engine(&pq_engine_onnxruntime, runs_families);
}
static void ov_families(void **state)
{
    (void)state;
    on_engine(&pq_engine_openvino, runs_families);
}

/* A session runs on after the context that compiled it is gone. */
static void outlives(pq_ctx *ctx, const pq_engine *e)
{
    pq_ctx *first;
    pq_session *s;
    pq_tensor in, *out;
    pq_plan *plan;
    pq_graph *g = tiny_detector(ctx, TINY_YOLOX);
    assert_int_equal(pq_ctx_new(&first), PQ_OK);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(first, pq_compile(first, &s, e, g, plan, NULL));
    pq_ctx_free(first);
    graphs_input(&in, ctx, g, 3);
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, s));
    PQ_CHECK(ctx, pq_run(ctx, s, &in, 1, out, s->n_outputs));
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_tensor_clear(&in);
    pq_plan_free(plan);
    pq_graph_free(g);
}

static void ort_outlives(void **state)
{
    (void)state;
    on_engine(&pq_engine_onnxruntime, outlives);
}
static void ov_outlives(void **state)
{
    (void)state;
    on_engine(&pq_engine_openvino, outlives);
}

/* float16 is refused with the reason before the runtime sees anything. */
static void refuses_fp16(void **state)
{
    pq_ctx *ctx;
    pq_plan *plan;
    pq_session *s;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_graph *g = tiny_detector(ctx, TINY_YOLOX);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP16));
    PQ_CHECK_FAILS(ctx, pq_compile(ctx, &s, &pq_engine_onnxruntime, g, plan, NULL),
                   PQ_E_UNSUPPORTED, "float32 and int8 only");
    PQ_CHECK_FAILS(ctx, pq_compile(ctx, &s, &pq_engine_openvino, g, plan, NULL), PQ_E_UNSUPPORTED,
                   "no float16");
    pq_plan_free(plan);
    pq_graph_free(g);
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ort_float),    cmocka_unit_test(ort_int8),
        cmocka_unit_test(ort_layers),   cmocka_unit_test(ort_outlives),
        cmocka_unit_test(ort_families), cmocka_unit_test(ov_families),
        cmocka_unit_test(ov_float),     cmocka_unit_test(ov_int8),
        cmocka_unit_test(ov_layers),    cmocka_unit_test(ov_outlives),
        cmocka_unit_test(refuses_fp16), cmocka_unit_test(ort_indices),
        cmocka_unit_test(ov_indices),   cmocka_unit_test(takes_outputs),
    };
    return cmocka_run_group_tests_name("engine/foreign", tests, NULL, NULL);
}
