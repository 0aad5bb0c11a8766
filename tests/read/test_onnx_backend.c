/* The ONNX package's own operator cases (onnx_backend.py), through the reader and the plain
 * evaluator, and, where all inputs are float32, through the engines. A case may be refused as
 * unsupported; a result must never differ. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

#include <pquant/engine.h>
#include <pquant/read.h>

#include "base/file.h"
#include "run_graph.h"

enum { MAX_TENSORS = 8 };

typedef struct reader {
    const uint8_t *at, *end;
} reader;

static const void *take(reader *r, size_t n)
{
    const uint8_t *p = r->at;
    assert_true((size_t)(r->end - r->at) >= n);
    r->at += n;
    return p;
}

static uint32_t number(reader *r)
{
    uint32_t v;
    memcpy(&v, take(r, sizeof v), sizeof v);
    return v;
}

static void tensor(pq_ctx *ctx, reader *r, pq_tensor *t)
{
    const pq_dtype dtype = (pq_dtype)number(r);
    pq_shape shape = {(int)number(r), {0}};
    memcpy(shape.dim, take(r, sizeof shape.dim), sizeof shape.dim);
    PQ_CHECK(ctx, pq_tensor_new(ctx, t, dtype, &shape));
    const size_t bytes = (size_t)pq_shape_count(&shape) * pq_dtype_size(dtype);
    memcpy(pq_tensor_data(t), take(r, bytes), bytes);
}

/* Rows that the case does not have are absent. */
static bool absent(double v, pq_dtype t)
{
    return isnan(v) || (t != PQ_F32 && v == (double)PQ_ABSENT);
}

static bool equal(double a, double b)
{
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-6 + 1e-3 * fabs(b);
}

/* got may be larger where the number of rows (columns) is found while running. */
static bool same(const pq_tensor *got, const pq_tensor *want)
{
    const size_t n = (size_t)pq_shape_count(&got->shape);
    int64_t at[PQ_MAX_RANK] = {0};
    if (got->shape.rank != want->shape.rank) return false;
    for (int k = 0; k < got->shape.rank; k++)
        if (got->shape.dim[k] < want->shape.dim[k]) return false;
    for (size_t i = 0, j = 0; i < n; i++) {
        bool inside = true;
        for (int k = 0; k < got->shape.rank; k++) inside = inside && at[k] < want->shape.dim[k];
        const double a = pq_element(got->dtype, pq_tensor_data(got), i);
        if (inside ? !equal(a, pq_element(want->dtype, pq_tensor_data(want), j++))
                   : !absent(a, got->dtype))
            return false;
        for (int k = got->shape.rank - 1; k >= 0 && ++at[k] == got->shape.dim[k]; k--) at[k] = 0;
    }
    return true;
}

static bool by_evaluator(pq_ctx *ctx, const pq_graph *g, const pq_tensor *in, const pq_tensor *want,
                         size_t n_want)
{
    pq_tensor out[MAX_TENSORS] = {{0}};
    bool conv = false;
    bool ok = g->n_outputs >= n_want;
    for (size_t i = 0; i < g->n_nodes; i++) conv = conv || !pq_eval_supports(g->node[i].op);
    if (conv) return true; /* the engines' */
    PQ_CHECK(ctx, run_graph(ctx, g, in, out));
    for (size_t i = 0; i < n_want; i++) ok = ok && same(&out[i], &want[i]);
    for (size_t i = 0; i < MAX_TENSORS; i++) pq_tensor_clear(&out[i]);
    return ok;
}

static bool by_engine(pq_ctx *ctx, const char *name, const pq_graph *g, const pq_tensor *in,
                      size_t n_in, const pq_tensor *want, size_t n_want)
{
    const pq_engine *engine;
    const pq_compile_opts opts = {.threads = 1};
    pq_plan *plan = NULL;
    pq_session *s = NULL;
    pq_tensor *out = NULL;
    bool ok = true;
    for (size_t i = 0; i < n_in; i++)
        if (in[i].dtype != PQ_F32) return true;
    PQ_CHECK(ctx, pq_engine_find(ctx, &engine, name));
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_compile(ctx, &s, engine, g, plan, &opts));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, s));
    PQ_CHECK(ctx, pq_run(ctx, s, in, n_in, out, s->n_outputs));
    for (size_t i = 0; i < n_want; i++) ok = ok && same(&out[i], &want[i]);
    pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_plan_free(plan);
    return ok;
}

/* 1: passed, 0: refused, -1: wrong */
static int run_case(pq_ctx *ctx, reader *r)
{
    static const char *const engines[] = {"ref", "cpu"};
    const size_t n_name = number(r), n_model = number(r);
    char name[200];
    snprintf(name, sizeof name, "%.*s", (int)n_name, (const char *)take(r, n_name));
    const void *model = take(r, n_model);
    const size_t n_in = number(r), n_out = number(r);
    pq_tensor in[MAX_TENSORS] = {{0}}, want[MAX_TENSORS] = {{0}};
    pq_graph *g = NULL;
    int result = 1;
    assert_true(n_in <= MAX_TENSORS && n_out <= MAX_TENSORS);
    for (size_t i = 0; i < n_in; i++) tensor(ctx, r, &in[i]);
    for (size_t i = 0; i < n_out; i++) tensor(ctx, r, &want[i]);
    const char *only = getenv("PQ_CASE"); /* for debugging: cases whose name holds it */
    if (only && !strstr(name, only)) goto out;
    if (only) print_message("%s\n", name);
    const pq_status st = pq_read_onnx_memory(ctx, &g, model, n_model, NULL, NULL);
    if (st != PQ_OK) {
        if (st != PQ_E_UNSUPPORTED || getenv("PQ_VERBOSE"))
            print_message("%s: %s\n", name, pq_ctx_error(ctx));
        result = st == PQ_E_UNSUPPORTED ? 0 : -1;
    } else if (!by_evaluator(ctx, g, in, want, n_out)) {
        print_message("%s: the evaluator differs\n", name);
        result = -1;
    }
    for (int e = 0; e < 2 && result > 0; e++)
        if (!by_engine(ctx, engines[e], g, in, n_in, want, n_out)) {
            print_message("%s: engine %s differs\n", name, engines[e]);
            result = -1;
        }
out:
    for (size_t i = 0; i < MAX_TENSORS; i++) pq_tensor_clear(&in[i]), pq_tensor_clear(&want[i]);
    pq_graph_free(g);
    return result;
}

static void cases_of_the_package(void **state)
{
    pq_ctx *ctx;
    pq_buf *file;
    size_t passed = 0, wrong = 0;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    PQ_CHECK(ctx, pq_file_map(ctx, &file, getenv("PQ_ONNX_CASES")));
    reader r = {pq_buf_data(file), (const uint8_t *)pq_buf_data(file) + pq_buf_bytes(file)};
    const size_t n = number(&r);
    for (size_t i = 0; i < n; i++) {
        const int result = run_case(ctx, &r);
        passed += result > 0;
        wrong += result < 0;
    }
    print_message("%zu cases, %zu passed, %zu refused\n", n, passed, n - passed - wrong);
    pq_buf_unref(file);
    pq_ctx_free(ctx);
    assert_int_equal(wrong, 0);
    assert_true(passed > n / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cases_of_the_package)};
    const char *path = getenv("PQ_ONNX_CASES");
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (!f) {
        printf("skipped: no cases: the onnx package for Python writes them\n");
        return 77;
    }
    fclose(f);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
