/* Streaming histograms against counting directly, and each way of choosing a range on values whose
 * best range is known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "calibrate/histogram.h"
#include "support/check.h"

static pq_histogram *h;

static int begin(void **state)
{
    (void)state;
    h = calloc(1, sizeof *h);
    return h ? 0 : -1;
}
static int end(void **state)
{
    (void)state;
    free(h);
    return 0;
}

static double normal(pq_rng *r)
{
    const double u = pq_rng_double(r) + 1e-300, v = pq_rng_double(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static uint64_t count_all(void)
{
    uint64_t n = h->zeros;
    for (int i = 0; i < PQ_BINS; i++) n += h->bin[i];
    return n;
}

/* Chunks of growing reach: no value is lost, each lies in its bin or (at a bin's edge, where float
 * rounding decides) the next one. */
static void test_counts(void **state)
{
    enum { CHUNKS = 12, N = 5000 };
    static float x[CHUNKS][N];
    static uint64_t low[PQ_BINS + 1]; /* values below the left edge of each bin */
    pq_rng r = {1};
    uint64_t zeros = 0;
    float least = 0, most = 0;
    (void)state;
    for (int c = 0; c < CHUNKS; c++) {
        for (int i = 0; i < N; i++) {
            x[c][i] = i % 5 ? (float)(normal(&r) * pow(1.7, c)) : 0;
            zeros += x[c][i] == 0;
            least = fminf(least, x[c][i]);
            most = fmaxf(most, x[c][i]);
        }
        assert_true(pq_histogram_add(h, x[c], N, NULL, 1 + c % 3));
    }
    assert_int_equal(count_all(), CHUNKS * N);
    assert_int_equal(h->zeros, zeros);
    assert_true(h->min == least && h->max == most);
    assert_true(h->reach >= (double)fmaxf(-least, most));
    const double width = h->reach / (PQ_BINS / 2);
    for (int c = 0; c < CHUNKS; c++)
        for (int i = 0; i < N; i++)
            if (x[c][i] != 0) {
                const int b = (int)floor((double)x[c][i] / width) + PQ_BINS / 2;
                low[b + 1]++;
            }
    uint64_t direct = 0, counted = 0;
    for (int b = 0; b < PQ_BINS; b++) {
        direct += low[b + 1];
        counted += h->bin[b];
        /* Merging keeps the edges of the wider bins, so only rounding at one edge may differ. */
        assert_true(llabs((long long)direct - (long long)counted) <= 2);
    }
    assert_int_equal(direct, counted);
}

static void test_not_finite(void **state)
{
    const float nan[2] = {1, NAN}, inf[2] = {1, INFINITY}, big[2] = {3e38f, -3e38f};
    (void)state;
    assert_false(pq_histogram_add(h, nan, 2, NULL, 1));
    assert_false(pq_histogram_add(h, inf, 2, NULL, 1));
    assert_true(pq_histogram_add(h, big, 2, NULL, 1));
    assert_int_equal(count_all(), 2);
}

static void test_only_zeros(void **state)
{
    const float zero[100] = {0};
    (void)state;
    assert_true(pq_histogram_add(h, zero, 100, NULL, 2));
    for (pq_calibrator m = PQ_CALIB_AUTO; m <= PQ_CALIB_MSE; m++)
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            const pq_interval v = pq_choose(h, m, 99.99, symmetric);
            assert_true(v.lo <= 0 && v.hi >= 0 && v.hi > v.lo && isfinite(v.hi));
        }
}

enum { MANY = 400000 };
static float many[MANY];

static void add_many(double (*make)(pq_rng *))
{
    pq_rng r = {9};
    for (int i = 0; i < MANY; i++) many[i] = (float)make(&r);
    assert_true(pq_histogram_add(h, many, MANY, NULL, 2));
}
static double uniform(pq_rng *r) { return 6 * pq_rng_double(r) - 2; } /* -2 .. 4 */
static double relu(pq_rng *r)
{
    const double x = normal(r);
    return x > 0 ? x : 0;
}
static double with_outliers(pq_rng *r) /* a normal, and one value in 10^4 fifty times as far */
{
    return normal(r) * (pq_rng_below(r, 10000) ? 1 : 50);
}

/* Nothing to gain from clipping: every method keeps (nearly) all. */
static void test_uniform(void **state)
{
    (void)state;
    add_many(uniform);
    for (pq_calibrator m = PQ_CALIB_MAX; m <= PQ_CALIB_MSE; m++) {
        const pq_interval s = pq_choose(h, m, 99.99, true), u = pq_choose(h, m, 99.99, false);
        const double slack = m == PQ_CALIB_MAX ? 0 : 0.1;
        assert_true(s.hi <= 4 && s.hi >= 3.999 * (1 - slack) && s.lo == -s.hi);
        assert_true(u.lo >= -2 && u.lo <= -1.999 * (1 - slack));
        assert_true(u.hi <= 4 && u.hi >= 3.999 * (1 - slack));
    }
}

/* All non-negative: the u8 range begins at 0. */
static void test_one_sided(void **state)
{
    (void)state;
    add_many(relu);
    for (pq_calibrator m = PQ_CALIB_MAX; m <= PQ_CALIB_MSE; m++) {
        const pq_interval u = pq_choose(h, m, 99.99, false);
        assert_true(u.lo == 0 && u.hi > 2 && u.hi <= (double)h->max);
    }
}

/* The error that a range gives, computed value by value. */
static double direct_error(pq_interval v, bool symmetric)
{
    const double step = symmetric ? v.hi / 127 : (v.hi - v.lo) / 255;
    const double zero = symmetric ? 0 : rint(-v.lo / step);
    const double least = symmetric ? -128 : -zero, most = symmetric ? 127 : 255 - zero;
    double sum = 0;
    for (int i = 0; i < MANY; i++) {
        const double q = fmin(most, fmax(least, rint((double)many[i] / step)));
        sum += ((double)many[i] - q * step) * ((double)many[i] - q * step);
    }
    return sum / MANY;
}

/* Outliers: percentile and entropy cut them; mse finds a range whose true error is least among all
 * that were tried directly. */
static void test_outliers(void **state)
{
    (void)state;
    add_many(with_outliers);
    const double top = fmax(-(double)h->min, (double)h->max);
    assert_true(top > 50);
    const pq_interval max = pq_choose(h, PQ_CALIB_MAX, 99.99, true);
    assert_true(fabs(max.hi - top) < 1e-6 * top);
    assert_true(pq_choose(h, PQ_CALIB_PERCENTILE, 99.9, true).hi < 6);
    assert_true(pq_choose(h, PQ_CALIB_ENTROPY, 99.99, true).hi < 20);
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        const pq_interval v = pq_choose(h, PQ_CALIB_MSE, 99.99, symmetric);
        const double e = direct_error(v, symmetric);
        for (int k = 0; k < 48; k++) {
            const double t = top * pow(0.9, k);
            assert_true(e <= 1.02 * direct_error((pq_interval){-t, t}, symmetric));
        }
        /* The histogram's own figure is that of counting value by value. */
        assert_true(fabs(pq_expected_error(h, v, symmetric, 2) / e - 1) < 0.05);
    }
}

static void test_percentile(void **state)
{
    (void)state;
    add_many(with_outliers);
    const pq_interval v = pq_choose(h, PQ_CALIB_PERCENTILE, 99, true);
    int inside = 0;
    for (int i = 0; i < MANY; i++) inside += fabs((double)many[i]) <= v.hi;
    assert_true(inside >= 0.99 * MANY);
    inside = 0;
    const double bin = h->reach / (PQ_BINS / 2);
    for (int i = 0; i < MANY; i++) inside += fabs((double)many[i]) <= v.hi - 1.01 * bin;
    assert_true(inside <= 0.99 * MANY);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
/* Normal values, half of them zero, and one far out: moments as of the values themselves. */
static void test_moments(void **state)
{
    enum { N = 40000 };
    static float x[N];
    pq_rng r = {21};
    double square = 0, fourth = 0, rms, kurtosis;
    (void)state;
    pq_histogram_moments(h, &rms, &kurtosis);
    assert_true(rms == 0 && kurtosis == 0);
    for (int i = 0; i < N; i++) {
        x[i] = i % 2 ? (float)normal(&r) : 0;
        if (i == 7) x[i] = 50;
        square += pow((double)x[i], 2) / N;
        fourth += pow((double)x[i], 4) / N;
    }
    assert_true(pq_histogram_add(h, x, N, NULL, 2));
    pq_histogram_moments(h, &rms, &kurtosis);
    assert_true(fabs(rms / sqrt(square) - 1) < 0.001);
    assert_true(kurtosis > 100 && fabs(kurtosis / (fourth / square / square) - 1) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_counts),    CASE(test_not_finite), CASE(test_only_zeros), CASE(test_uniform),
        CASE(test_one_sided), CASE(test_outliers),   CASE(test_percentile), CASE(test_moments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
