/* Every allocation of a whole way fails once: folding a graph, a plan, saving and loading it,
 * compiling and running on ref. Each time the answer is NOMEM with a message, nothing crashes, and
 * (under the address sanitizer) nothing leaks. */
#include "graphs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/engines.h"
#include "pquant/export.h"
#include "pquant/pass.h"
#include "pquant/read.h"

static pq_status run(pq_ctx *ctx, const pq_graph *g, const pq_plan *plan, const pq_tensor *in)
{
    pq_session *s = NULL;
    pq_tensor *out = NULL;
    pq_status st;
    PQ_TRY(pq_compile(ctx, &s, &pq_engine_ref, g, plan, &(pq_compile_opts){.threads = 1}));
    PQ_TRY(pq_session_outputs(ctx, &out, s));
    st = pq_run(ctx, s, in, 1, out, s->n_outputs);
    pq_session_outputs_free(out, s);
out:
    pq_session_free(s);
    return st;
}

/* The subject: no test macros inside, they would leave without clearing up. */
static pq_status whole_way(const pq_buf *onnx, const pq_ranges *ranges, const pq_tensor *in,
                           const char *path)
{
    pq_ctx *ctx = NULL;
    pq_graph *g = NULL;
    pq_plan *plan = NULL, *again = NULL;
    bool int8[64];
    pq_status st = pq_ctx_new(&ctx);
    if (st != PQ_OK) return st;
    pq_ctx_set_threads(ctx, 1);
    memset(int8, 1, sizeof int8);
    PQ_TRY(pq_read_onnx_memory(ctx, &g, pq_buf_data(onnx), pq_buf_bytes(onnx), NULL, NULL));
    PQ_TRY(pq_pass_all(ctx, g));
    PQ_TRY(pq_plan_make(ctx, &plan, g, ranges, int8, PQ_SCHEME_U8, PQ_PREC_FP32));
    PQ_TRY(pq_plan_save(ctx, plan, path));
    PQ_TRY(pq_plan_load(ctx, &again, path));
    st = run(ctx, g, again, in);
out:
    if (st != PQ_OK && !*pq_ctx_error(ctx)) st = PQ_E_INTERNAL; /* a failure without words */
    pq_plan_free(plan);
    pq_plan_free(again);
    pq_graph_free(g);
    pq_ctx_free(ctx);
    return st;
}

static void test_every_allocation(void **state)
{
    char path[] = "/tmp/pquant-oom-XXXXXX";
    pq_small s;
    pq_tensor in;
    pq_ranges *ranges;
    pq_plan *plan;
    pq_graph *read;
    pq_buf *onnx;
    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    graphs_random(&s, 4, 8);
    graphs_input(&in, s.ctx, s.g, 1);
    PQ_CHECK(s.ctx, pq_plan_float(s.ctx, &plan, s.g, PQ_PREC_FP32));
    PQ_CHECK(s.ctx, pq_export_onnx(s.ctx, &onnx, s.g, plan, NULL));
    PQ_CHECK(s.ctx,
             pq_read_onnx_memory(s.ctx, &read, pq_buf_data(onnx), pq_buf_bytes(onnx), NULL, NULL));
    PQ_CHECK(s.ctx, pq_pass_all(s.ctx, read));
    graphs_ranges(&ranges, s.ctx, read, &in);

    pq_status st = PQ_E_NOMEM;
    long n = 0;
    while (st != PQ_OK && n < 100000) {
        pq_mem_fail_after(++n);
        st = whole_way(onnx, ranges, &in, path);
        pq_mem_fail_after(0);
        if (st != PQ_OK && st != PQ_E_NOMEM)
            fail_msg("allocation %ld failed: %s, expected NOMEM", n, pq_status_name(st));
    }
    print_message("%ld allocations\n", n - 1);
    assert_int_equal(st, PQ_OK);
    assert_true(n > 100);
    unlink(path);
    pq_ranges_free(ranges);
    pq_plan_free(plan);
    pq_graph_free(read);
    pq_buf_unref(onnx);
    pq_tensor_clear(&in);
    pq_small_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
