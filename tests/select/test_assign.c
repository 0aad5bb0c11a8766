/* The optimiser against all assignments of small random problems. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/assign.h>
#include <pquant/latency.h>

#include "base/mem.h"
#include "base/rng.h"
#include "support/check.h"

enum { MOST_UNITS = 12, MOST_TERMS = 20 };

typedef struct instance {
    pq_problem p;
    double damage[MOST_UNITS * 4], ms[MOST_UNITS * 4];
    pq_boundary boundary[MOST_TERMS];
    pq_pair pair[MOST_TERMS];
} instance;

static size_t other(pq_rng *r, size_t n, size_t than)
{
    const size_t k = (size_t)pq_rng_below(r, n - 1);
    return k >= than ? k + 1 : k;
}

/* Lower precision mostly costs accuracy and saves time, not always. pairs: 0 none, -1 that relieve,
 * 1 of either sign. */
static void draw(instance *t, pq_rng *r, size_t n_units, int n_labels, int pairs)
{
    memset(t, 0, sizeof *t);
    for (size_t u = 0; u < n_units; u++)
        for (int l = 1; l < n_labels; l++) {
            const size_t at = u * (size_t)n_labels + (size_t)l;
            t->damage[at] = 0.01 * l * (pq_rng_double(r) * pq_rng_double(r) - 0.1);
            t->ms[at] = -l * (pq_rng_double(r) - 0.1);
        }
    t->p = (pq_problem){.n_units = n_units,
                        .n_labels = n_labels,
                        .damage = t->damage,
                        .ms = t->ms,
                        .boundary = t->boundary,
                        .pair = t->pair,
                        .n_boundaries = 1 + pq_rng_below(r, MOST_TERMS),
                        .n_pairs = pairs ? 1 + pq_rng_below(r, MOST_TERMS) : 0,
                        .ms_fixed = 20};
    for (size_t i = 0; i < t->p.n_boundaries; i++) {
        const size_t a = (size_t)pq_rng_below(r, n_units);
        t->boundary[i] = (pq_boundary){a, other(r, n_units, a), 0.2 * pq_rng_double(r)};
    }
    for (size_t i = 0; i < t->p.n_pairs; i++) {
        const size_t a = (size_t)pq_rng_below(r, n_units);
        const double d = 0.004 * (pairs < 0 ? -pq_rng_double(r) : 2 * pq_rng_double(r) - 1);
        t->pair[i] = (pq_pair){a, other(r, n_units, a), d};
    }
}

/* The next assignment in counting order; false after the last. */
static bool next(const pq_problem *p, uint8_t *x)
{
    for (size_t u = 0; u < p->n_units; u++) {
        if (++x[u] < p->n_labels) return true;
        x[u] = 0;
    }
    return false;
}

static double least_energy(const pq_problem *p, double w)
{
    uint8_t x[MOST_UNITS] = {0};
    double best = INFINITY;
    do best = fmin(best, pq_problem_damage(p, x) + w * pq_problem_ms(p, x));
    while (next(p, x));
    return best;
}

static double least_value(const pq_problem *p, double most_damage, double most_ms, bool want_ms)
{
    uint8_t x[MOST_UNITS] = {0};
    double best = INFINITY;
    do {
        const double d = pq_problem_damage(p, x), ms = pq_problem_ms(p, x);
        if (d <= most_damage && ms <= most_ms) best = fmin(best, want_ms ? ms : d);
    } while (next(p, x));
    return best;
}

static const double weights[] = {0, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 1};

/* Exact where terms can be cut: two labels, pairs that relieve. */
static void test_minimum_is_exact(void **state)
{
    pq_ctx *ctx = *state;
    pq_rng r = {1};
    instance t;
    uint8_t x[MOST_UNITS];
    for (int k = 0; k < 60; k++) {
        draw(&t, &r, 2 + pq_rng_below(&r, MOST_UNITS - 1), 2, -(k & 1));
        for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
            const double w = weights[i];
            PQ_CHECK(ctx, pq_problem_minimum(ctx, x, &t.p, w));
            const double e = pq_problem_damage(&t.p, x) + w * pq_problem_ms(&t.p, x);
            assert_true(fabs(e - least_energy(&t.p, w)) < 1e-9 * (1 + w));
        }
    }
}

/* Elsewhere: never better than the truth, mostly equal to it, and no single change helps. */
static void test_minimum_is_near(void **state)
{
    pq_ctx *ctx = *state;
    pq_rng r = {2};
    instance t;
    uint8_t x[MOST_UNITS];
    int equal = 0, all = 0;
    for (int k = 0; k < 40; k++) {
        draw(&t, &r, 7, 2 + (k & 1), 1);
        for (size_t i = 0; i < sizeof weights / sizeof *weights; i++, all++) {
            const double w = weights[i];
            PQ_CHECK(ctx, pq_problem_minimum(ctx, x, &t.p, w));
            const double e = pq_problem_damage(&t.p, x) + w * pq_problem_ms(&t.p, x),
                         least = least_energy(&t.p, w);
            assert_true(e >= least - 1e-9 * (1 + w));
            equal += e <= least + 1e-9 * (1 + w);
            for (size_t u = 0; u < t.p.n_units; u++)
                for (int l = 0; l < t.p.n_labels; l++) {
                    const uint8_t old = x[u];
                    x[u] = (uint8_t)l;
                    assert_true(pq_problem_damage(&t.p, x) + w * pq_problem_ms(&t.p, x) >=
                                e - 1e-9 * (1 + w));
                    x[u] = old;
                }
        }
    }
    print_message("%d of %d minima exact\n", equal, all);
    assert_true(equal >= 0.9 * all);
}

/* For every weight some point of the front is the optimum, which is what makes it hold the hull. */
static void test_front_holds_the_hull(void **state)
{
    pq_ctx *ctx = *state;
    pq_rng r = {3};
    instance t;
    for (int k = 0; k < 25; k++) {
        pq_front f;
        draw(&t, &r, 3 + pq_rng_below(&r, MOST_UNITS - 2), 2, -(k & 1));
        PQ_CHECK(ctx, pq_problem_front(ctx, &f, &t.p));
        for (size_t i = 1; i < f.n; i++)
            assert_true(f.at[i].ms < f.at[i - 1].ms && f.at[i].damage > f.at[i - 1].damage);
        for (int step = 0; step < 53; step++) {
            const double w = 1e-5 * pow(1.3, step); /* .. 8.4 */
            double best = INFINITY;
            for (size_t i = 0; i < f.n; i++) best = fmin(best, f.at[i].damage + w * f.at[i].ms);
            assert_true(fabs(best - least_energy(&t.p, w)) < 1e-6 * (1 + w));
        }
        pq_front_clear(&f);
    }
}

static void test_budgets(void **state)
{
    pq_ctx *ctx = *state;
    pq_rng r = {4};
    instance t;
    uint8_t x[MOST_UNITS];
    int equal = 0, all = 0;
    bool found;
    for (int k = 0; k < 40; k++) {
        draw(&t, &r, 10, 2, k % 3 - 1);
        const double most = 0.03 * pq_rng_double(&r), most_ms = 20 - 4 * pq_rng_double(&r);
        PQ_CHECK(ctx, pq_problem_fastest(ctx, x, &found, &t.p, most));
        const double ms = least_value(&t.p, most, INFINITY, true);
        assert_true(found == isfinite(ms));
        if (found) {
            assert_true(pq_problem_damage(&t.p, x) <= most);
            assert_true(pq_problem_ms(&t.p, x) >= ms - 1e-9);
            equal += pq_problem_ms(&t.p, x) <= ms + 1e-9;
            all++;
        }
        PQ_CHECK(ctx, pq_problem_most_accurate(ctx, x, &found, &t.p, most_ms));
        const double damage = least_value(&t.p, INFINITY, most_ms, false);
        assert_true(found == isfinite(damage));
        if (found) {
            assert_true(pq_problem_ms(&t.p, x) <= most_ms);
            equal += pq_problem_damage(&t.p, x) <= damage + 1e-9;
            all++;
        }
    }
    print_message("%d of %d budgets met as well as possible\n", equal, all);
    assert_true(equal >= 0.9 * all);
}

/* A budget that nothing meets: the least there is, and a word. */
static void test_budget_out_of_reach(void **state)
{
    pq_ctx *ctx = *state;
    pq_rng r = {5};
    instance t;
    uint8_t x[MOST_UNITS];
    bool found = true;
    draw(&t, &r, 8, 2, 0);
    PQ_CHECK(ctx, pq_problem_fastest(ctx, x, &found, &t.p, -1));
    assert_false(found);
    assert_true(fabs(pq_problem_damage(&t.p, x) - least_value(&t.p, INFINITY, INFINITY, false)) <
                1e-9);
}

static void test_bad_problems(void **state)
{
    pq_ctx *ctx = *state;
    pq_rng r = {6};
    instance t;
    uint8_t x[MOST_UNITS];
    draw(&t, &r, 4, 2, 1);
    t.damage[3] = NAN;
    PQ_CHECK_FAILS(ctx, pq_problem_minimum(ctx, x, &t.p, 1), PQ_E_INVALID, "unit 1");
    draw(&t, &r, 4, 2, 1);
    t.boundary[0].ms = -1;
    PQ_CHECK_FAILS(ctx, pq_problem_minimum(ctx, x, &t.p, 1), PQ_E_INVALID, "boundary 0");
    draw(&t, &r, 4, 2, 1);
    t.pair[0].b = 4;
    PQ_CHECK_FAILS(ctx, pq_problem_minimum(ctx, x, &t.p, 1), PQ_E_INVALID, "pair 0");
    t.p.n_labels = 1;
    PQ_CHECK_FAILS(ctx, pq_problem_minimum(ctx, x, &t.p, 1), PQ_E_INVALID, "1 labels");
}

/* Both structures say the same time. */
static void test_times_of_a_model(void **state)
{
    enum { UNITS = 6, EDGES = 5, LABELS = 3 };
    pq_ctx *ctx = *state;
    pq_rng r = {8};
    double ms[UNITS * LABELS], damage[UNITS * LABELS] = {0};
    pq_latency_edge edge[EDGES];
    uint8_t x[UNITS] = {0};
    pq_boundary *boundary;
    for (size_t i = 0; i < UNITS * LABELS; i++) ms[i] = pq_rng_double(&r);
    for (size_t i = 0; i < EDGES; i++)
        edge[i] = (pq_latency_edge){.a = i, .b = i + 1, .ms = pq_rng_double(&r)};
    const pq_latency l = {.n_units = UNITS,
                          .n_labels = LABELS,
                          .ms_fixed = 3,
                          .ms = ms,
                          .edge = edge,
                          .n_edges = EDGES};
    pq_problem p = {.n_units = UNITS, .n_labels = LABELS, .damage = damage};
    PQ_CHECK(ctx, pq_problem_set_times(ctx, &p, &boundary, &l));
    do assert_true(fabs(pq_problem_ms(&p, x) - pq_latency_predict(&l, x)) < 1e-12);
    while (next(&p, x));
    bool found;
    PQ_CHECK(ctx, pq_problem_fastest(ctx, x, &found, &p, 1));
    pq_free(boundary);
    p.n_labels = 2;
    PQ_CHECK_FAILS(ctx, pq_problem_set_times(ctx, &p, &boundary, &l), PQ_E_INVALID,
                   "6 units and 3 precisions, expected 6 and 2");
}

static int open_context(void **state)
{
    pq_ctx *ctx;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    *state = ctx;
    return 0;
}

static int close_context(void **state)
{
    pq_ctx_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimum_is_exact),     cmocka_unit_test(test_minimum_is_near),
        cmocka_unit_test(test_front_holds_the_hull), cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_budget_out_of_reach),  cmocka_unit_test(test_bad_problems),
        cmocka_unit_test(test_times_of_a_model)};
    return cmocka_run_group_tests(tests, open_context, close_context);
}
