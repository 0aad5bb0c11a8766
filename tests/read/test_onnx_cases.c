/* Operators end to end: models and results made by ONNX Runtime (make_onnx_cases.py) go through the
 * reader, shape inference and the plain evaluator, unfolded and folded. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pquant/pass.h>
#include <pquant/read.h>

#include "onnx_cases.h"
#include "run_graph.h"

static void run_case(pq_ctx *ctx, const struct onnx_case *c, bool fold)
{
    pq_graph *g;
    pq_tensor in[3] = {{0}}, out[3] = {{0}};
    size_t folded;
    pq_status st = pq_read_onnx_memory(ctx, &g, c->model, c->bytes, NULL, NULL);
    if (st != PQ_OK) fail_msg("%s: %s", c->name, pq_ctx_error(ctx));
    assert_int_equal(pq_graph_verify(ctx, g), PQ_OK);
    if (fold) {
        assert_int_equal(pq_pass_fold_constants(ctx, &folded, g), PQ_OK);
        assert_int_equal(pq_graph_compact(ctx, g), PQ_OK);
        assert_int_equal(pq_graph_infer(ctx, g), PQ_OK);
    }
    for (int i = 0; i < c->n_in; i++) {
        assert_int_equal(pq_tensor_new(ctx, &in[i], c->in[i].type.dtype, &c->in[i].type.shape),
                         PQ_OK);
        memcpy(pq_tensor_data(&in[i]), c->in[i].data,
               (size_t)pq_shape_count(&in[i].shape) * pq_dtype_size(in[i].dtype));
    }
    st = run_graph(ctx, g, in, out);
    if (st != PQ_OK) fail_msg("%s: %s", c->name, pq_ctx_error(ctx));
    check_outputs(c, out, 2e-6);
    for (int i = 0; i < 3; i++) pq_tensor_clear(&in[i]), pq_tensor_clear(&out[i]);
    pq_graph_free(g);
}

static void operators_as_onnxruntime_has_them(void **state)
{
    pq_ctx *ctx;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_case(ctx, &cases[i], false);
        run_case(ctx, &cases[i], true);
    }
    pq_ctx_free(ctx);
}

/* Reading, inference and folding of every case under failing allocations. */
static void memory_runs_out(void **state)
{
    pq_ctx *ctx;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (long n = 1;; n++) {
            pq_graph *g = NULL;
            pq_mem_fail_after(n);
            pq_status st = pq_read_onnx_memory(ctx, &g, cases[i].model, cases[i].bytes, NULL, NULL);
            if (st == PQ_OK) st = pq_pass_fold_constants(ctx, NULL, g);
            pq_mem_fail_after(0);
            pq_graph_free(g);
            if (st == PQ_OK) break;
            assert_int_equal(st, PQ_E_NOMEM);
        }
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_as_onnxruntime_has_them),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
