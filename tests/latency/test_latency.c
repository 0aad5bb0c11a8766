/* The model on times that follow a known law; resuming; options; latency.json. No clock is asked.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/testing.h"
#include "support/tiny.h"
#include "world.h"

static pq_latency *measure(world *w)
{
    pq_latency *l;
    PQ_CHECK(w->small.ctx, pq_latency_measure(w->small.ctx, &l, &w->opts));
    return l;
}

/* Largest relative error of n assignments of a kind that was not fitted: each operator on its own
 * coin. */
static double worst_error(const world *w, const pq_latency *l, int n)
{
    pq_rng r = {77};
    double worst = 0;
    uint8_t x[WORLD_MOST_OPS];
    for (int i = 0; i < n; i++) {
        const double density = (double)i / n;
        for (size_t k = 0; k < w->n_ops; k++)
            x[k] = pq_rng_double(&r) < density
                       ? (uint8_t)(l->n_labels - 1)
                       : (uint8_t)pq_rng_below(&r, (uint64_t)l->n_labels - 1);
        const double ms = world_ms(w, x);
        worst = fmax(worst, fabs(pq_latency_predict(l, x) - ms) / ms);
    }
    return worst;
}

static void a_known_law(void **state)
{
    world w;
    uint8_t x[WORLD_MOST_OPS] = {0};
    (void)state;
    world_chain(&w, 40, 2);
    w.layer_error = 0.2;
    w.opts.good = 1e-6;
    pq_latency *l = measure(&w);
    assert_int_equal(l->n_units, 40);
    assert_int_equal(l->n_edges, 39);
    assert_true(l->fit.n_plans > 40);
    assert_true(l->fit.r2 > 0.98);
    assert_true(l->fit.error < 0.02 && l->fit.error <= l->fit.error95 && l->fit.error95 < 0.05);
    assert_true(l->fit.error < l->fit.prior_error / 2);
    assert_true(l->fit.noise < 1e-9);
    assert_true(fabs(l->fit.alpha_ms + 0.1 * l->fit.beta_ms_per_mb - 0.25) < 0.1);
    assert_true(worst_error(&w, l, 200) < 0.05);
    assert_true(fabs(pq_latency_predict(l, x) - WORLD_FULL_MS) < 1e-9);
    assert_true(fabs(l->fit.full_ms - WORLD_FULL_MS) < 1e-9);
    memset(x, 1, sizeof x);
    assert_true(fabs(l->fit.int8_ms - world_ms(&w, x)) < 1e-9);
    pq_latency_free(l);
    world_end(&w);
}

static void noise_is_said(void **state)
{
    world w;
    (void)state;
    world_chain(&w, 40, 2);
    w.layer_error = 0.2;
    w.noise = 0.01;
    w.opts.good = 1e-6;
    pq_latency *l = measure(&w);
    assert_true(l->fit.noise > 0.003 && l->fit.noise < 0.04); /* of a ratio: 0.014 */
    assert_true(l->fit.r2 > 0.9 && l->fit.error < 0.03);
    assert_true(worst_error(&w, l, 200) < 0.08);
    pq_latency_free(l);
    world_end(&w);
}

static void no_times_by_layer(void **state)
{
    world w;
    (void)state;
    world_chain(&w, 24, 2);
    w.no_layers = true;
    w.opts.good = 1e-6;
    pq_latency *l = measure(&w);
    assert_true(l->fit.r2 > 0.9 && worst_error(&w, l, 200) < 0.06);
    pq_latency_free(l);
    w.source.layers = NULL;
    l = measure(&w);
    assert_true(l->fit.r2 > 0.9);
    pq_latency_free(l);
    world_end(&w);
}

static void three_precisions(void **state)
{
    world w;
    (void)state;
    world_chain(&w, 24, 3);
    w.layer_error = 0.2;
    w.opts.good = 1e-6;
    pq_latency *l = measure(&w);
    assert_int_equal(l->n_labels, 3);
    assert_true(l->fit.r2 > 0.95 && worst_error(&w, l, 200) < 0.06);
    pq_latency_free(l);
    world_end(&w);
}

/* Enough is enough: plans are left out once those held out are predicted. */
static void stops_when_good(void **state)
{
    world w;
    (void)state;
    world_chain(&w, 40, 2);
    w.opts.good = 0.5;
    pq_latency *l = measure(&w);
    assert_true(l->fit.n_plans >= 16 && l->fit.n_plans < 24);
    pq_latency_free(l);
    world_end(&w);
}

static void time_budget(void **state)
{
    world w;
    (void)state;
    world_chain(&w, 12, 2);
    w.opts.seconds = 1e-12;
    pq_latency *l = measure(&w);
    assert_int_equal(l->fit.n_plans, 0);
    assert_int_equal(w.timed, 2); /* both ends */
    assert_true(l->fit.r2 == 0 && l->fit.error == 0);
    assert_true(worst_error(&w, l, 50) < 0.3); /* the layers' own times */
    pq_latency_free(l);
    world_end(&w);
}

static bool close_to(double a, double b) { return fabs(a - b) <= 1e-9 * (1 + fabs(b)); }

/* But for the last digit, which JSON may lose. */
static bool same(const pq_latency *a, const pq_latency *b)
{
    const size_t n = a->n_units * (size_t)a->n_labels;
    bool yes = a->n_units == b->n_units && a->n_labels == b->n_labels && a->n_edges == b->n_edges &&
               a->fit.n_plans == b->fit.n_plans && strcmp(a->context, b->context) == 0 &&
               close_to(a->ms_fixed, b->ms_fixed) && close_to(a->fit.r2, b->fit.r2) &&
               close_to(a->fit.error95, b->fit.error95);
    for (size_t i = 0; yes && i < n; i++) yes = close_to(a->ms[i], b->ms[i]);
    for (size_t i = 0; yes && i < a->n_edges; i++)
        yes = a->edge[i].a == b->edge[i].a && a->edge[i].b == b->edge[i].b &&
              close_to(a->edge[i].ms, b->edge[i].ms);
    return yes;
}

/* Killed at any call, torn anywhere: what was timed is not timed again, and the model is the one
 * that a run in one piece gives. */
static void resumes(void **state)
{
    test_env *e = *state;
    world w;
    char path[128];
    pq_latency *l;
    snprintf(path, sizeof path, "%s/latency.jsonl", e->dir);
    world_chain(&w, 20, 2);
    w.opts.good = 1e-6;
    w.opts.n_plans = 24;
    w.opts.key = "u8";
    pq_latency *whole = measure(&w);
    const size_t all = w.timed, n_calls = w.calls;
    assert_true(n_calls > 4);
    w.opts.journal = path;
    for (size_t stop = 1; stop < n_calls; stop++) {
        remove(path);
        w.calls = w.timed = 0;
        w.fail_at = stop;
        PQ_CHECK_FAILS(w.small.ctx, pq_latency_measure(w.small.ctx, &l, &w.opts), PQ_E_ENGINE,
                       "fails");
        assert_null(l);
        FILE *f = fopen(path, "a");
        assert_non_null(f);
        fputs("{\"context\":\"", f);
        fclose(f);
        w.fail_at = 0;
        l = measure(&w);
        assert_true(same(l, whole));
        assert_int_equal(w.timed, all);
        pq_latency_free(l);
        w.timed = 0;
        l = measure(&w);
        assert_true(same(l, whole));
        assert_int_equal(w.timed, 0);
        pq_latency_free(l);
    }
    w.opts.key = "s8"; /* another context: nothing of it counts */
    l = measure(&w);
    assert_int_equal(w.timed, all);
    assert_string_not_equal(l->context, whole->context);
    pq_latency_free(l);
    pq_latency_free(whole);
    world_end(&w);
}

/* Lines that belong to nobody or make no sense. */
static void hostile_journal(void **state)
{
    static const char *const rest[] = {
        "\"labels\":\"0101\",\"seconds\":1,\"ms\":1,\"full_ms\":2}",
        "\"labels\":\"010\",\"seconds\":1,\"ms\":1,\"full_ms\":2}",
        "\"labels\":\"01012\",\"seconds\":1,\"ms\":1,\"full_ms\":2}",
        "\"labels\":\"01010\",\"seconds\":-1,\"ms\":1,\"full_ms\":2}",
        "\"labels\":\"01010\",\"seconds\":1,\"ms\":0,\"full_ms\":2}",
        "\"labels\":\"01010\",\"seconds\":1,\"ms\":1e999,\"full_ms\":2}",
        "\"labels\":\"01010\",\"seconds\":1,\"ms\":\"1\",\"full_ms\":2}",
        "\"labels\":\"01010\",\"seconds\":1,\"ms\":1}",
        "\"labels\":\"01010\",\"seconds\":1,\"part\":1,\"layers\":[1,2,3,4]}",
        "\"labels\":\"01010\",\"seconds\":1,\"part\":1,\"layers\":[1,2,3,4,-5]}",
        "\"labels\":\"01010\",\"seconds\":1,\"part\":1,\"layers\":{}}",
        "\"labels\":7,\"seconds\":1}"};
    test_env *e = *state;
    world w;
    char path[128], context[65];
    snprintf(path, sizeof path, "%s/latency.jsonl", e->dir);
    world_chain(&w, 5, 2);
    w.opts.n_plans = 8;
    pq_latency *clean = measure(&w), *l;
    PQ_CHECK(w.small.ctx, pq_latency_context(w.small.ctx, context, &w.opts));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        fprintf(f, "{\"context\":\"%.32s\",%s\n", context, rest[i]);
    fprintf(f, "\n[]\nnull\n{}\n\"\\u0000\"\n\xff\n");
    fclose(f);
    w.opts.journal = path;
    l = measure(&w);
    assert_true(same(l, clean));
    pq_latency_free(l);
    pq_latency_free(clean);
    w.opts.journal = e->dir; /* a folder */
    assert_int_equal(pq_latency_measure(w.small.ctx, &l, &w.opts), PQ_E_IO);
    world_end(&w);
}

/* ---- degenerate ---- */

static void one_operator_and_none(void **state)
{
    world w;
    const uint8_t int8[1] = {1};
    (void)state;
    world_chain(&w, 1, 2);
    pq_latency *l = measure(&w);
    assert_int_equal(l->n_units, 1);
    assert_int_equal(l->n_edges, 0);
    assert_int_equal(l->fit.n_plans, 0);
    assert_true(fabs(pq_latency_predict(l, int8) - world_ms(&w, int8)) < 0.02 * WORLD_FULL_MS);
    pq_latency_free(l);
    world_end(&w);

    memset(&w, 0, sizeof w);
    pq_small_begin(&w.small, PQ_SHAPE(1, 2, 3, 3));
    const pq_value_id y = pq_small_unary(&w.small, "relu", PQ_OP_RELU, w.small.x);
    pq_small_outputs(&w.small, &y, 1);
    world_begin(&w, 2);
    l = measure(&w);
    assert_int_equal(l->n_units, 0);
    assert_true(fabs(pq_latency_predict(l, int8) - WORLD_FULL_MS) < 1e-9);
    pq_latency_free(l);
    world_end(&w);
}

/* Units that only run one way are never timed another way. */
static void some_have_no_choice(void **state)
{
    enum { N = 12 };
    world w;
    uint8_t allowed[N], full[N], int8[N];
    (void)state;
    world_chain(&w, N, 2);
    for (size_t u = 0; u < N; u++) {
        allowed[u] = u % 5 == 1 ? 1 : u % 5 == 2 ? 2 : 3;
        full[u] = u % 5 == 2;
        int8[u] = u % 5 != 1;
    }
    w.opts.allowed = allowed;
    w.opts.good = 1e-6;
    pq_latency *l = measure(&w);
    assert_true(fabs(pq_latency_predict(l, full) - world_ms(&w, full)) < 1e-6);
    assert_true(fabs(pq_latency_predict(l, int8) - world_ms(&w, int8)) < 0.03 * WORLD_FULL_MS);
    assert_true(l->fit.r2 > 0.9);
    pq_latency_free(l);
    for (size_t u = 0; u < N; u++) allowed[u] = 2;
    l = measure(&w);
    assert_int_equal(l->fit.n_plans, 0);
    pq_latency_free(l);
    allowed[3] = 4; /* no such label */
    assert_int_equal(pq_latency_measure(w.small.ctx, &l, &w.opts), PQ_E_INVALID);
    world_end(&w);
}

/* Operators that stand in one unit have one label in every plan. */
static void units_stay_whole(void **state)
{
    enum { N = 18 };
    world w;
    size_t unit[N];
    uint8_t x[N / 3] = {0}, label[N];
    (void)state;
    world_chain(&w, N, 2);
    for (size_t k = 0; k < N; k++) unit[k] = k / 3;
    w.opts.unit = unit;
    w.opts.n_units = N / 3;
    w.opts.good = 1e-6;
    pq_latency *l = measure(&w);
    assert_int_equal(l->n_units, N / 3);
    assert_int_equal(l->n_edges, N / 3 - 1);
    for (unsigned bits = 0; bits < 1u << N / 3; bits++) {
        for (size_t k = 0; k < N; k++) label[k] = x[k / 3] = bits >> k / 3 & 1;
        assert_true(fabs(pq_latency_predict(l, x) - world_ms(&w, label)) < 0.02 * WORLD_FULL_MS);
    }
    pq_latency_free(l);
    unit[4] = N / 3;
    PQ_CHECK_FAILS(w.small.ctx, pq_latency_measure(w.small.ctx, &l, &w.opts), PQ_E_INVALID,
                   "operator 4: unit 6, expected one below 6");
    w.opts.n_labels = 5;
    PQ_CHECK_FAILS(w.small.ctx, pq_latency_measure(w.small.ctx, &l, &w.opts), PQ_E_INVALID,
                   "5 precisions");
    world_end(&w);
}

static int stop_soon(void *user, const char *stage, size_t done, size_t total)
{
    (void)user, (void)total;
    assert_string_equal(stage, "latency");
    return done == 6;
}

static void can_be_cancelled(void **state)
{
    world w;
    pq_latency *l;
    (void)state;
    world_chain(&w, 12, 2);
    pq_ctx_set_progress(w.small.ctx, stop_soon, NULL);
    assert_int_equal(pq_latency_measure(w.small.ctx, &l, &w.opts), PQ_E_CANCELLED);
    assert_null(l);
    world_end(&w);
}

/* ---- a real engine ---- */

typedef struct tiny {
    pq_graph *g;
    pq_ranges ranges;
} tiny;

static pq_status plan_of(pq_ctx *ctx, void *user, const uint8_t *label, pq_plan **out)
{
    const tiny *t = user;
    const size_t n = pq_graph_quantizable_count(t->g);
    bool int8[WORLD_MOST_OPS];
    assert_true(n <= WORLD_MOST_OPS);
    for (size_t k = 0; k < n; k++) int8[k] = label[k] == 1;
    return pq_plan_make(ctx, out, t->g, &t->ranges, int8, PQ_SCHEME_U8, PQ_PREC_FP32);
}

/* Times are what they are; the rest holds whatever they are. */
static void on_the_cpu_engine(void **state)
{
    test_env *e = *state;
    tiny t = {.g = tiny_detector(e->ctx, TINY_YOLOX)};
    pq_latency_opts o = {
        .graph = t.g, .plan = plan_of, .plan_user = &t, .runs = 2, .n_plans = 12, .key = "u8"};
    pq_latency *l;
    pq_graph_hash(t.g, t.ranges.graph_hash);
    PQ_CHECK(e->ctx, pq_alloc(e->ctx, &t.ranges.range, t.g->n_values, sizeof *t.ranges.range));
    for (size_t i = 0; i < t.g->n_values; i++) {
        pq_range *r = &t.ranges.range[t.ranges.n++];
        *r = (pq_range){.amax = 1, .lo = -1, .hi = 1};
        PQ_CHECK(e->ctx, pq_strdup(e->ctx, &r->name, t.g->value[i].name));
    }
    PQ_CHECK(e->ctx, pq_engine_find(e->ctx, &o.engine, "cpu"));
    PQ_CHECK(e->ctx, pq_latency_measure(e->ctx, &l, &o));
    assert_int_equal(l->n_units, pq_graph_quantizable_count(t.g));
    assert_true(l->n_edges >= l->n_units - 1);
    assert_true(l->fit.n_plans > 0 && l->fit.full_ms > 0 && l->fit.int8_ms > 0);
    uint8_t x[WORLD_MOST_OPS] = {0};
    assert_true(close_to(pq_latency_predict(l, x), l->fit.full_ms));
    for (size_t u = 0; u < l->n_units; u++) assert_true(l->ms[2 * u] > 0); /* by layer */
    pq_latency_free(l);
    for (size_t i = 0; i < t.ranges.n; i++) pq_free(t.ranges.range[i].name);
    pq_free(t.ranges.range);
    pq_graph_free(t.g);
}

/* ---- the file ---- */

static void file_round_trip(void **state)
{
    test_env *e = *state;
    world w;
    pq_latency *back;
    char path[128];
    snprintf(path, sizeof path, "%s/latency.json", e->dir);
    world_chain(&w, 9, 3);
    pq_latency *l = measure(&w);
    PQ_CHECK(e->ctx, pq_latency_save(e->ctx, l, path));
    PQ_CHECK(e->ctx, pq_latency_load(e->ctx, &back, path));
    assert_true(same(l, back));
    assert_true(close_to(l->fit.noise, back->fit.noise) &&
                close_to(l->fit.seconds, back->fit.seconds) &&
                close_to(l->fit.beta_ms_per_mb, back->fit.beta_ms_per_mb));
    pq_latency_free(l);
    pq_latency_free(back);
    world_end(&w);
}

typedef struct bad_file {
    const char *from, *to, *text; /* what is replaced in a good file, and the message */
} bad_file;

static void hostile_file(void **state)
{
    static const char good[] =
        "{\"context\":\"0000000000000000000000000000000000000000000000000000000000000000\","
        "\"labels\":2,\"ms_fixed\":1.5,\"fit\":{\"plans\":3,\"r2\":0.5,\"error\":0,\"error95\":0,"
        "\"prior_error\":0,\"noise\":0,\"full_ms\":2,\"int8_ms\":1,\"alpha_ms\":0,"
        "\"beta_ms_per_mb\":0,\"seconds\":9},\"units\":[[1,0.5],[1,0.25]],"
        "\"edges\":[[0,1,1,0.5,0.125]]}";
    static const bad_file bad[] = {{"\"labels\":2", "\"labels\":5", "5 labels, expected 2 .. 4"},
                                   {"\"labels\":2", "\"labels\":3", "unit 0: expected 3 numbers"},
                                   {"0000\",", "00\",", "expected 64 digits"},
                                   {"1.5", "1e999", "'ms_fixed' is not finite"},
                                   {"0.25", "1e999", "unit 1: expected 2 finite numbers"},
                                   {"0.25", "null", "unit 1: expected 2 finite numbers"},
                                   {"[1,0.25]", "7", "unit 1: expected 2 numbers"},
                                   {"[0,1,1", "[0,2,1", "edge 0: units 0 and 2"},
                                   {"[0,1,1", "[1,1,1", "edge 0: units 1 and 1"},
                                   {"[0,1,1", "[0.5,1,1", "edge 0: units 0.5 and 1"},
                                   {"[0,1,1", "[-1,1,1", "edge 0: units -1 and 1"},
                                   {"[0,1,1", "[1e300,1,1", "edge 0: units 1e+300 and 1"},
                                   {"0.125", "-0.125", "-0.125 ms, expected at least 0"},
                                   {"\"plans\":3", "\"plans\":-3", "-3 plans"},
                                   {"\"plans\":3", "\"plans\":\"3\"", "plans"},
                                   {"\"r2\":0.5", "\"r2\":1e999", "'r2' is not finite"},
                                   {"\"seconds\":9", "\"second\":9", "seconds"},
                                   {"\"fit\":{", "\"fitting\":{", "'fit'"},
                                   {"\"units\":[", "\"unit\":[", "units"},
                                   {"{\"context", "[\"context", "not JSON"}};
    test_env *e = *state;
    char path[128], text[1024];
    pq_latency *l;
    const uint8_t x[2] = {0, 1};
    snprintf(path, sizeof path, "%s/latency.json", e->dir);
    PQ_CHECK(e->ctx, pq_file_write(e->ctx, path, good, strlen(good)));
    PQ_CHECK(e->ctx, pq_latency_load(e->ctx, &l, path));
    assert_true(close_to(pq_latency_predict(l, x), 1.5 + 1 + 0.25 + 0.125));
    pq_latency_free(l);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *at = strstr(good, bad[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, bad[i].to,
                 at + strlen(bad[i].from));
        PQ_CHECK(e->ctx, pq_file_write(e->ctx, path, text, strlen(text)));
        PQ_CHECK_FAILS(e->ctx, pq_latency_load(e->ctx, &l, path), PQ_E_FORMAT, bad[i].text);
        assert_null(l);
    }
    for (size_t n = 0; n + 1 < sizeof good; n++) { /* cut anywhere */
        PQ_CHECK(e->ctx, pq_file_write(e->ctx, path, good, n));
        assert_int_equal(pq_latency_load(e->ctx, &l, path), PQ_E_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_law),
        cmocka_unit_test(noise_is_said),
        cmocka_unit_test(no_times_by_layer),
        cmocka_unit_test(three_precisions),
        cmocka_unit_test(stops_when_good),
        cmocka_unit_test(time_budget),
        cmocka_unit_test_setup_teardown(resumes, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(hostile_journal, test_setup, test_teardown),
        cmocka_unit_test(one_operator_and_none),
        cmocka_unit_test(some_have_no_choice),
        cmocka_unit_test(units_stay_whole),
        cmocka_unit_test(can_be_cancelled),
        cmocka_unit_test_setup_teardown(on_the_cpu_engine, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(file_round_trip, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(hostile_file, test_setup, test_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
