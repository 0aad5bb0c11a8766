/* Edges and owners of a network with branches, the random plans, the regression. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "latency/design.h"
#include "latency/ridge.h"
#include "latency/terms.h"
#include "world.h"

static const pq_small_window point = {4, 4, 1, 1, 0, 1, .bias = true};

/* stem -> a, b; a + b -> relu -> c; Concat(c, stem) -> d (8 channels in). */
static void branches(world *w)
{
    memset(w, 0, sizeof *w);
    pq_small_begin(&w->small, PQ_SHAPE(1, 4, 10, 10));
    pq_small *s = &w->small;
    const pq_value_id stem = pq_small_conv(s, "stem", s->x, point),
                      a = pq_small_conv(s, "a", stem, point),
                      b = pq_small_conv(s, "b", stem, point);
    const pq_value_id sum = pq_small_binary(s, "sum", PQ_OP_ADD, a, b);
    const pq_value_id c = pq_small_conv(s, "c", pq_small_unary(s, "relu", PQ_OP_RELU, sum), point);
    const pq_value_id both[2] = {c, stem};
    const pq_attr axis = {.axis = 1};
    pq_small_window wide = point;
    wide.in = 8;
    const pq_value_id d =
        pq_small_conv(s, "d", pq_small_node(s, "cat", PQ_OP_CONCAT, both, 2, &axis), wide);
    const pq_value_id y = pq_small_unary(s, "tail", PQ_OP_SIGMOID, d);
    pq_small_outputs(s, &y, 1);
    world_begin(w, 2);
}

static const pq_latency_edge *edge(const pq_terms *t, size_t a, size_t b)
{
    for (size_t i = 0; i < t->n_edges; i++)
        if ((t->edge[i].a == a && t->edge[i].b == b) || (t->edge[i].a == b && t->edge[i].b == a))
            return &t->edge[i];
    return NULL;
}

enum { STEM, A, B, C, D };

static void edges_go_through(void **state)
{
    world w;
    pq_terms t;
    const double mb = 4e-6 * 400;
    (void)state;
    branches(&w);
    PQ_CHECK(w.small.ctx, pq_terms_init(w.small.ctx, &t, &w.opts));
    assert_int_equal(t.n_units, 5);
    assert_int_equal(t.n_edges, 6);
    assert_non_null(edge(&t, STEM, A)); /* one reader of three */
    assert_true(fabs(edge(&t, STEM, A)->conversions - 1.0 / 3) < 1e-12);
    assert_true(fabs(edge(&t, STEM, D)->mb - mb / 3) < 1e-12); /* through the Concat */
    assert_true(fabs(edge(&t, A, C)->mb - mb) < 1e-12);        /* through sum and relu */
    assert_non_null(edge(&t, B, C));
    assert_non_null(edge(&t, C, D));
    assert_null(edge(&t, A, B));
    assert_true(t.macs[D] > t.macs[C]);
    pq_terms_clear(&t);

    const size_t unit[5] = {0, 1, 1, 1, 0}; /* edges within a unit vanish, the rest are one */
    w.opts.unit = unit;
    w.opts.n_units = 2;
    PQ_CHECK(w.small.ctx, pq_terms_init(w.small.ctx, &t, &w.opts));
    assert_int_equal(t.n_edges, 1);
    assert_true(fabs(t.edge[0].conversions - (2.0 / 3 + 1)) < 1e-12);
    pq_terms_clear(&t);
    world_end(&w);
}

static void layers_find_their_operator(void **state)
{
    static const struct {
        const char *node;
        int op;
    } is[] = {{"stem", STEM}, {"sum", C},         {"relu", C},     {"cat", D},       {"tail", D},
              {"d", D},       {"stem.output", D}, {"a.output", C}, {"elsewhere", -1}};
    enum { N = sizeof is / sizeof *is };
    world w;
    pq_terms t;
    pq_layer layer[N] = {0};
    double ms[5], want[5] = {0}, part, all = 0, found = 0;
    (void)state;
    branches(&w);
    PQ_CHECK(w.small.ctx, pq_terms_init(w.small.ctx, &t, &w.opts));
    for (int i = 0; i < N; i++) {
        snprintf(layer[i].node, sizeof layer[i].node, "%s", is[i].node);
        layer[i].ms = 1 << i;
        all += layer[i].ms;
        if (is[i].op < 0) continue;
        want[is[i].op] += layer[i].ms;
        found += layer[i].ms;
    }
    /* the value "stem.output" belongs to the first that reads it */
    want[D] -= layer[6].ms;
    want[A] += layer[6].ms;
    PQ_CHECK(w.small.ctx, pq_terms_attribute(w.small.ctx, ms, &part, &t, layer, N));
    for (int k = 0; k < 5; k++) assert_true(fabs(ms[k] - want[k]) < 1e-9);
    assert_true(fabs(part - found / all) < 1e-12);
    PQ_CHECK(w.small.ctx, pq_terms_attribute(w.small.ctx, ms, &part, &t, layer, 0));
    assert_true(part == 0 && ms[0] == 0);
    pq_terms_clear(&t);
    world_end(&w);
}

/* The product of a row with parameters is the model's difference to the fullest plan. */
static void rows_say_the_model(void **state)
{
    world w;
    pq_terms t;
    double row[16], theta[16];
    uint8_t full[5] = {0}, x[5];
    pq_rng r = {5};
    (void)state;
    branches(&w);
    w.opts.n_labels = 3;
    PQ_CHECK(w.small.ctx, pq_terms_init(w.small.ctx, &t, &w.opts));
    assert_int_equal(pq_terms_n_params(&t), 12);
    full[B] = 2; /* as where one has no other */
    for (int k = 0; k < 12; k++) theta[k] = pq_rng_double(&r);
    for (int trial = 0; trial < 100; trial++) {
        double want = 0, got = 0;
        for (int u = 0; u < 5; u++) x[u] = (uint8_t)pq_rng_below(&r, 3);
        for (int side = 0; side < 2; side++) {
            const uint8_t *at = side ? x : full;
            double ms = 0;
            for (size_t u = 0; u < 5; u++) ms += at[u] ? theta[2 * u + at[u] - 1] : 0;
            for (size_t i = 0; i < t.n_edges; i++)
                if (at[t.edge[i].a] != at[t.edge[i].b])
                    ms += t.edge[i].conversions * theta[10] + t.edge[i].mb * theta[11];
            want += side ? ms : -ms;
        }
        pq_terms_row(&t, x, full, row);
        for (int k = 0; k < 12; k++) got += row[k] * theta[k];
        assert_true(fabs(got - want) < 1e-12);
    }
    pq_terms_clear(&t);
    world_end(&w);
}

static void random_plans_are_spread(void **state)
{
    enum { N = 48, PLANS = 64 };
    world w;
    pq_terms t;
    uint8_t x[N], again[N];
    double lowest = 1, highest = 0, sum = 0;
    size_t fewest = N, most = 0;
    (void)state;
    world_chain(&w, N, 2);
    PQ_CHECK(w.small.ctx, pq_terms_init(w.small.ctx, &t, &w.opts));
    for (size_t i = 0; i < PLANS; i++) {
        size_t int8 = 0, borders = 0;
        PQ_CHECK(w.small.ctx, pq_design_random(w.small.ctx, &t, i, x));
        PQ_CHECK(w.small.ctx, pq_design_random(w.small.ctx, &t, i, again));
        assert_memory_equal(x, again, N);
        for (size_t k = 0; k < N; k++) {
            int8 += x[k];
            borders += k && x[k] != x[k - 1];
        }
        const double density = (double)int8 / N;
        lowest = fmin(lowest, density);
        highest = fmax(highest, density);
        sum += density;
        if (borders && borders < fewest) fewest = borders;
        if (borders > most) most = borders;
    }
    assert_true(lowest < 0.2 && highest > 0.9 && sum / PLANS > 0.5 && sum / PLANS < 0.8);
    assert_true(fewest <= 2 && most >= 15);
    pq_terms_clear(&t);
    world_end(&w);
}

/* ---- regression ---- */

enum { N_OBS = 14, N_PARAMS = 9, N_NONNEG = 3 };

typedef struct problem {
    double x[N_OBS * N_PARAMS], y[N_OBS], sd[N_OBS], prior[N_PARAMS], spread[N_PARAMS];
    int fold[N_OBS];
    pq_ridge r;
} problem;

static void draw(problem *q, pq_rng *r)
{
    for (int i = 0; i < N_OBS * N_PARAMS; i++) q->x[i] = (double)pq_rng_below(r, 3) - 1;
    for (int i = 0; i < N_OBS; i++) {
        q->y[i] = 4 * pq_rng_double(r) - 2;
        q->sd[i] = 0.1 + pq_rng_double(r);
        q->fold[i] = i ? i % PQ_RIDGE_FOLDS : -1;
    }
    for (int k = 0; k < N_PARAMS; k++) {
        q->prior[k] = 2 * pq_rng_double(r) - 1;
        q->spread[k] = 0.2 + pq_rng_double(r);
    }
    q->r = (pq_ridge){.n = N_OBS,
                      .p = N_PARAMS,
                      .x = q->x,
                      .y = q->y,
                      .sd = q->sd,
                      .prior = q->prior,
                      .spread = q->spread,
                      .first_nonneg = N_PARAMS - N_NONNEG,
                      .fold = q->fold};
}

/* Of half of what is minimised, by parameter k. */
static double slope(const problem *q, const double *theta, double trust, int without, int k)
{
    const double s = trust * q->spread[k];
    double d = (theta[k] - q->prior[k]) / (s * s);
    for (int i = 0; i < N_OBS; i++) {
        double rest = q->y[i];
        if (without >= 0 && q->fold[i] == without) continue;
        for (int j = 0; j < N_PARAMS; j++) rest -= q->x[i * N_PARAMS + j] * theta[j];
        d -= q->x[i * N_PARAMS + k] * rest / (q->sd[i] * q->sd[i]);
    }
    return d;
}

/* No slope is left, but at parameters held at 0. */
static void ridge_is_a_minimum(void **state)
{
    pq_rng r = {11};
    pq_ctx *ctx;
    problem q;
    double theta[N_PARAMS];
    int held = 0;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    for (int trial = 0; trial < 200; trial++) {
        const double trust = trial % 2 ? 0.5 : 2;
        const int without = trial % 7 < 5 ? trial % 7 : -1;
        draw(&q, &r);
        PQ_CHECK(ctx, pq_ridge_solve(ctx, theta, &q.r, trust, without));
        for (int k = 0; k < N_PARAMS; k++) {
            if (k >= N_PARAMS - N_NONNEG) assert_true(theta[k] >= 0);
            if (k >= N_PARAMS - N_NONNEG && theta[k] == 0)
                held++;
            else
                assert_true(fabs(slope(&q, theta, trust, without, k)) < 1e-6);
        }
    }
    assert_true(held > 50);
    pq_ctx_free(ctx);
}

/* What is held out is predicted from the rest alone. */
static void held_out_means_so(void **state)
{
    pq_rng r = {12};
    pq_ctx *ctx;
    problem q;
    double theta[N_PARAMS], held[N_OBS] = {0}, trust;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    draw(&q, &r);
    PQ_CHECK(ctx, pq_ridge_choose(ctx, &trust, held, &q.r));
    assert_true(held[0] == 0); /* of no fold */
    for (int i = 1; i < N_OBS; i++) {
        double sum = 0;
        PQ_CHECK(ctx, pq_ridge_solve(ctx, theta, &q.r, trust, q.fold[i]));
        for (int k = 0; k < N_PARAMS; k++) sum += q.x[i * N_PARAMS + k] * theta[k];
        assert_true(fabs(sum - held[i]) < 1e-9);
    }
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges_go_through),   cmocka_unit_test(layers_find_their_operator),
        cmocka_unit_test(rows_say_the_model), cmocka_unit_test(random_plans_are_spread),
        cmocka_unit_test(ridge_is_a_minimum), cmocka_unit_test(held_out_means_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
