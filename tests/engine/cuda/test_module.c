/* Opening the cuda engine's module: the emulated engine built as one runs through the library's
 * list of engines; what cannot be opened says why in one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "graphs.h"

static const pq_engine *cuda(pq_ctx *ctx)
{
    const pq_engine *e;
    PQ_CHECK(ctx, pq_engine_find(ctx, &e, "cuda"));
    return e;
}

static void expect_absent(const char *variable, const char *text)
{
    pq_engine_info info;
    pq_ctx *ctx;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    assert_int_equal(setenv("PQUANT_CUDA", variable, 1), 0);
    assert_int_equal(cuda(ctx)->probe(ctx, &info), PQ_E_UNAVAILABLE);
    assert_non_null(strstr(pq_ctx_error(ctx), text));
    assert_null(strchr(pq_ctx_error(ctx), '\n'));
    pq_ctx_free(ctx);
}

static void test_absent(void **state)
{
    char other[96];
    (void)state;
    snprintf(other, sizeof other, "has interface version %u, expected %u: of another build",
             PQ_ENGINE_ABI + 1, PQ_ENGINE_ABI);
    expect_absent("tests/engine/cuda",
                  "PQUANT_CUDA is 'tests/engine/cuda', where there is no libpquant_cuda.so");
    expect_absent("no/such/file", "engine 'cuda': PQUANT_CUDA is 'no/such/file'");
    expect_absent("README.md", "engine 'cuda': README.md: ");
    expect_absent(PQ_TEST_OTHER_BUILD, other);
}

/* The whole way of a command: named, probed, asked, compiled, run, against ref. */
static void test_runs(void **state)
{
    pq_engine_info info;
    pq_small s;
    pq_tensor in, *x, *y;
    pq_plan *plan;
    pq_session *a, *b;
    const pq_engine *ref;
    (void)state;
    assert_int_equal(setenv("PQUANT_CUDA", PQ_TEST_EMULATED_MODULE, 1), 0);
    pq_small_begin(&s, PQ_SHAPE(1, 3, 6, 6));
    const pq_small_window w = {.out = 8, .in = 3, .kernel = 3, .stride = 1, .pad = 1, .groups = 1};
    const pq_value_id v = pq_small_conv(&s, "a", s.x, w);
    pq_small_outputs(&s, &v, 1);
    pq_graph_mark_quantizable(s.g);
    pq_graph_seal(s.g);
    graphs_input(&in, s.ctx, s.g, 1);
    PQ_CHECK(s.ctx, cuda(s.ctx)->probe(s.ctx, &info));
    assert_string_equal(info.device, "emulator, sm_90, 132 multiprocessors");
    assert_int_equal(info.base, PQ_PREC_FP16);
    PQ_CHECK(s.ctx, pq_plan_float(s.ctx, &plan, s.g, PQ_PREC_FP32));
    PQ_CHECK(s.ctx, pq_engine_find(s.ctx, &ref, "ref"));
    PQ_CHECK(s.ctx, pq_compile(s.ctx, &a, ref, s.g, plan, NULL));
    PQ_CHECK(s.ctx, pq_compile(s.ctx, &b, cuda(s.ctx), s.g, plan, NULL));
    PQ_CHECK(s.ctx, pq_session_outputs(s.ctx, &x, a));
    PQ_CHECK(s.ctx, pq_session_outputs(s.ctx, &y, b));
    PQ_CHECK(s.ctx, pq_run(s.ctx, a, &in, 1, x, 1));
    PQ_CHECK(s.ctx, pq_run(s.ctx, b, &in, 1, y, 1));
    const float *p = pq_tensor_data(x), *q = pq_tensor_data(y);
    for (int64_t i = 0; i < pq_shape_count(&x->shape); i++) assert_float_equal(p[i], q[i], 1e-5);
    pq_layer layer[4];
    size_t n = 4;
    PQ_CHECK(s.ctx, b->engine->layers(s.ctx, b, &in, 1, layer, &n));
    assert_true(n > 0);
    pq_session_outputs_free(x, a);
    pq_session_outputs_free(y, b);
    pq_session_free(a);
    pq_session_free(b);
    pq_plan_free(plan);
    pq_tensor_clear(&in);
    pq_small_end(&s);
    assert_int_equal(unsetenv("PQUANT_CUDA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_absent), cmocka_unit_test(test_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
