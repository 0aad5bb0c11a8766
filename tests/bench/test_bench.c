/* Order statistics, and that rows take turns: on an engine that only takes notes. No times are
 * asserted, only their order. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pquant/bench.h>

#include "base/mem.h"
#include "support/tiny.h"

/* ---- an engine that writes down what it is asked ---- */

typedef struct noted {
    pq_session base;
    char letter;
    char *log;   /* shared */
    int fail_at; /* run that fails, counted from 1; 0: none */
    int runs;
    pq_shape shape;
} noted;

static pq_status note(pq_ctx *ctx, noted *s, char letter)
{
    const size_t n = strlen(s->log);
    if (n + 1 < 4096) s->log[n] = letter;
    s->runs++;
    return s->runs == s->fail_at ? pq_fail(ctx, PQ_E_ENGINE, "run %d fails", s->runs) : PQ_OK;
}

static pq_status run(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_tensor *out,
                     size_t n_out)
{
    noted *n = (noted *)s;
    (void)in, (void)n_in, (void)out, (void)n_out;
    return note(ctx, n, n->letter);
}

static pq_status weighted_only(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in)
{
    noted *n = (noted *)s;
    (void)in, (void)n_in;
    return note(ctx, n, (char)(n->letter + 'a' - 'A'));
}

/* Two steps, of 2, 4, 6 … and 1, 1, 1 … ms; the first call (warming up) says 1000. */
static pq_status layers(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_layer *out,
                        size_t *n)
{
    noted *x = (noted *)s;
    (void)ctx, (void)in, (void)n_in;
    memset(out, 0, 2 * sizeof *out);
    snprintf(out[0].node, sizeof out[0].node, "first");
    snprintf(out[1].node, sizeof out[1].node, "second");
    out[0].ms = x->runs ? 2.0 * x->runs : 1000;
    out[1].ms = 1;
    x->runs++;
    *n = 2;
    return PQ_OK;
}

static void destroy(pq_session *s) { (void)s; }

static const pq_engine notes = {.abi = PQ_ENGINE_ABI,
                                .name = "notes",
                                .run = run,
                                .destroy = destroy,
                                .layers = layers,
                                .weighted_only = weighted_only};

static void begin(noted *s, char letter, char *log)
{
    static char *names[1];
    static char name[] = "x";
    names[0] = name;
    *s = (noted){.letter = letter, .log = log, .shape = PQ_SHAPE(2, 3, 4, 4)};
    s->base = (pq_session){.engine = &notes, .n_inputs = 1, .n_outputs = 1, .n_steps = 2};
    s->base.input_shape = s->base.output_shape = &s->shape;
    s->base.input_name = s->base.output_name = names;
}

/* ---- tests ---- */

static bool near(double a, double b) { return fabs(a - b) <= 1e-9 * fabs(b); }

static void percentiles(void **state)
{
    double v[100];
    (void)state;
    for (int i = 0; i < 100; i++) v[i] = (i * 37) % 100 + 1; /* 1 .. 100, mixed */
    pq_bench_times t = pq_bench_summary(v, 100);
    assert_true(near(t.min, 1));
    assert_true(near(t.median, 50.5));
    assert_true(near(t.p90, 90));
    assert_true(near(t.p95, 95));
    assert_true(near(t.p99, 99));
    double one[1] = {7};
    t = pq_bench_summary(one, 1);
    assert_true(near(t.min, 7));
    assert_true(near(t.median, 7));
    assert_true(near(t.p99, 7));
    double three[3] = {3, 1, 2};
    t = pq_bench_summary(three, 3);
    assert_true(near(t.median, 2));
    assert_true(near(t.p90, 3));
}

static void rows_take_turns(void **state)
{
    char log[4096] = "";
    noted s[3];
    pq_bench_row row[3] = {0};
    pq_ctx *ctx;
    pq_tensor *in;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    for (int i = 0; i < 3; i++) {
        begin(&s[i], (char)('A' + i), log);
        row[i] = (pq_bench_row){.session = &s[i].base, .engine = "notes", .precision = "p"};
    }
    PQ_CHECK(ctx, pq_bench_input(ctx, &in, &s[0].base));
    pq_bench_opts o = {.runs = 2, .warm_up = 1, .input = in, .n_inputs = 1};
    PQ_CHECK(ctx, pq_bench(ctx, row, 3, &o));
    assert_string_equal(log, "ABCAABBCCAABBCC");
    memset(log, 0, sizeof log);
    o.convolutions = true;
    PQ_CHECK(ctx, pq_bench(ctx, row, 3, &o));
    assert_string_equal(log, "ABCabcAABBCCaabbccAABBCCaabbcc");
    for (int i = 0; i < 3; i++) {
        const pq_bench_row *r = &row[i];
        assert_true(r->ms.min >= 0 && r->ms.min <= r->ms.median && r->ms.median <= r->ms.p90);
        assert_true(r->ms.p90 <= r->ms.p95 && r->ms.p95 <= r->ms.p99);
        assert_true(near(r->per_second, 2 * 1e3 / r->ms.median));
        assert_true(near(r->ratio, row[0].ms.median / r->ms.median));
        assert_true(r->paired > 0);
        assert_true(near(r->over_convolutions, r->ms.median / r->convolutions_ms));
    }
    assert_true(near(row[0].paired, 1));
    pq_bench_input_free(in, &s[0].base);
    pq_ctx_free(ctx);
}

static void a_failure_stops(void **state)
{
    char log[4096] = "";
    noted s;
    pq_ctx *ctx;
    pq_tensor *in;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    begin(&s, 'A', log);
    PQ_CHECK(ctx, pq_bench_input(ctx, &in, &s.base));
    pq_bench_row row = {.session = &s.base, .engine = "notes", .precision = "p"};
    pq_bench_opts o = {.runs = 5, .warm_up = 1, .input = in, .n_inputs = 1};
    s.fail_at = 3;
    PQ_CHECK_FAILS(ctx, pq_bench(ctx, &row, 1, &o), PQ_E_ENGINE, "run 3 fails");
    assert_string_equal(log, "AAA");
    PQ_CHECK_FAILS(ctx, pq_bench(ctx, &row, 0, &o), PQ_E_INVALID, "expected a row");
    o.n_inputs = 0;
    PQ_CHECK_FAILS(ctx, pq_bench(ctx, &row, 1, &o), PQ_E_INVALID, "0 inputs");
    pq_bench_input_free(in, &s.base);
    pq_ctx_free(ctx);
}

static int stop_at_two(void *user, const char *stage, size_t done, size_t total)
{
    (void)user, (void)total;
    assert_string_equal(stage, "bench");
    return done == 2;
}

static void can_be_cancelled(void **state)
{
    char log[4096] = "";
    noted s;
    pq_ctx *ctx;
    pq_tensor *in;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_ctx_set_progress(ctx, stop_at_two, NULL);
    begin(&s, 'A', log);
    PQ_CHECK(ctx, pq_bench_input(ctx, &in, &s.base));
    pq_bench_row row = {.session = &s.base, .engine = "notes", .precision = "p"};
    const pq_bench_opts o = {.runs = 5, .warm_up = 1, .input = in, .n_inputs = 1};
    assert_int_equal(pq_bench(ctx, &row, 1, &o), PQ_E_CANCELLED);
    assert_string_equal(log, "AAA");
    pq_bench_input_free(in, &s.base);
    pq_ctx_free(ctx);
}

static void layers_are_medians(void **state)
{
    char log[4096] = "";
    noted s;
    pq_ctx *ctx;
    pq_layer *l;
    size_t n;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    begin(&s, 'A', log);
    PQ_CHECK(ctx, pq_bench_layers(ctx, &l, &n, &s.base, NULL, 0, 5));
    assert_int_equal(n, 2);
    assert_string_equal(l[1].node, "second");
    assert_true(near(l[0].ms, 6)); /* 2 4 6 8 10 */
    assert_true(near(l[1].ms, 1));
    pq_bench_layers_free(l);
    pq_ctx_free(ctx);
}

/* On the cpu engine: inputs, end to end, steps with their names. */
static void on_a_detector(void **state)
{
    pq_ctx *ctx;
    pq_plan *plan;
    const pq_engine *cpu;
    pq_bench_row row[2] = {0};
    pq_tensor *in;
    pq_layer *l;
    size_t n;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_graph *g = tiny_detector(ctx, TINY_DAMO);
    PQ_CHECK(ctx, pq_engine_find(ctx, &cpu, "cpu"));
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    for (int i = 0; i < 2; i++) {
        PQ_CHECK(ctx, pq_compile(ctx, &row[i].session, cpu, g, plan, NULL));
        row[i].engine = "cpu";
        row[i].precision = "fp32";
    }
    PQ_CHECK(ctx, pq_bench_input(ctx, &in, row[0].session));
    const float *x = pq_tensor_data(in);
    for (int64_t i = 0; i < pq_shape_count(&in->shape); i++) assert_true(x[i] >= 0 && x[i] <= 255);
    pq_bench_opts o = {.runs = 3, .convolutions = true, .input = in, .n_inputs = 1};
    PQ_CHECK(ctx, pq_bench(ctx, row, 2, &o));
    assert_true(row[0].convolutions_ms > 0 && row[1].over_convolutions > 0);
    PQ_CHECK(ctx, pq_bench_layers(ctx, &l, &n, row[0].session, in, 1, 3));
    int64_t macs = 0, want = 0;
    for (size_t i = 0; i < n; i++) macs += l[i].macs;
    for (size_t i = 0; i < g->n_nodes; i++) want += pq_node_macs(g, &g->node[i]);
    assert_int_equal(macs, want);
    pq_bench_layers_free(l);

    pq_head head;
    pq_prep prep;
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    pq_head_prep(&prep, &head);
    pq_bench_image image = {"not a picture", 13, "made up", &prep, &head};
    o.image = &image;
    PQ_CHECK_FAILS(ctx, pq_bench(ctx, row, 2, &o), PQ_E_UNSUPPORTED, "made up");
    pq_bench_input_free(in, row[0].session);
    for (int i = 0; i < 2; i++) pq_session_free(row[i].session);
    pq_plan_free(plan);
    pq_graph_free(g);
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles),        cmocka_unit_test(rows_take_turns),
        cmocka_unit_test(a_failure_stops),    cmocka_unit_test(can_be_cancelled),
        cmocka_unit_test(layers_are_medians), cmocka_unit_test(on_a_detector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
