/* ranges.json: saved, loaded, refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pquant/calibrate.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "support/check.h"

static pq_ctx *ctx;
static char path[64];

static int begin(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/pquant-ranges-XXXXXX");
    const int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    return fd < 0 || pq_ctx_new(&ctx) != PQ_OK ? -1 : 0;
}
static int end(void **state)
{
    (void)state;
    unlink(path);
    pq_ctx_free(ctx);
    return 0;
}

static void test_round_trip(void **state)
{
    enum { N = 100 };
    pq_rng rng = {2};
    pq_ranges r = {.n = N, .calibrator = PQ_CALIB_ENTROPY, .n_images = 17}, *q;
    static pq_range range[N];
    static char name[N][16];
    (void)state;
    r.range = range;
    memset(r.graph_hash, 'b', 64);
    for (int i = 0; i < N; i++) {
        const float lo = -(float)exp(20 * pq_rng_double(&rng) - 10);
        const float hi = (float)exp(20 * pq_rng_double(&rng) - 10);
        snprintf(name[i], sizeof name[i], "value %d", i);
        range[i] = (pq_range){.name = name[i],
                              .min = 2 * lo,
                              .max = 2 * hi,
                              .amax = fmaxf(-lo, hi),
                              .lo = lo,
                              .hi = hi,
                              .method = (pq_calibrator)(1 + i % 4),
                              .rms = i % 2 ? hi / 3 : 0,
                              .kurtosis = (float)i,
                              .outlier = (float)(i % 3)};
    }
    PQ_CHECK(ctx, pq_ranges_save(ctx, &r, path));
    PQ_CHECK(ctx, pq_ranges_load(ctx, &q, path));
    assert_string_equal(q->graph_hash, r.graph_hash);
    assert_int_equal(q->n, N);
    assert_int_equal(q->n_images, 17);
    assert_int_equal(q->calibrator, PQ_CALIB_ENTROPY);
    for (int i = 0; i < N; i++) {
        const pq_range *x = pq_ranges_find(q, name[i]);
        assert_non_null(x);
        assert_true(x->min == range[i].min && x->max == range[i].max);
        assert_true(x->amax == range[i].amax && x->lo == range[i].lo && x->hi == range[i].hi);
        assert_int_equal(x->method, range[i].method);
        assert_true(x->rms == range[i].rms && x->kurtosis == range[i].kurtosis &&
                    x->outlier == range[i].outlier);
    }
    assert_null(pq_ranges_find(q, "value"));
    pq_ranges_free(q);
    pq_ranges_free(NULL);
}

static void refuse(const char *text, pq_status status, const char *message)
{
    pq_ranges *r;
    PQ_CHECK(ctx, pq_file_write(ctx, path, text, strlen(text)));
    PQ_CHECK_FAILS(ctx, pq_ranges_load(ctx, &r, path), status, message);
    assert_null(r);
}

#define HASH "\"graph_hash\":\"0123456789012345678901234567890123456789012345678901234567890123\""
#define HEAD "{" HASH ",\"calibrator\":\"max\",\"images\":1,\"tensors\":"
#define RANGE(amax, lo, hi)                                                                        \
    HEAD "[{\"name\":\"x\",\"min\":0,\"max\":1,\"amax\":" amax ",\"lo\":" lo ",\"hi\":" hi         \
         ",\"method\":\"max\"}]}"

static void test_hostile(void **state)
{
    pq_ranges *r;
    (void)state;
    PQ_CHECK_FAILS(ctx, pq_ranges_load(ctx, &r, "/no/such/file"), PQ_E_IO, "/no/such/file");
    refuse("", PQ_E_FORMAT, path);
    refuse("[]", PQ_E_FORMAT, "graph_hash");
    refuse("{\"graph_hash\":\"12\"}", PQ_E_FORMAT, "64 digits");
    refuse("{" HASH "}", PQ_E_FORMAT, "calibrator");
    refuse("{" HASH ",\"calibrator\":\"best\"}", PQ_E_FORMAT, "best");
    refuse(HEAD "{}}", PQ_E_FORMAT, "tensors");
    refuse(HEAD "[1]}", PQ_E_FORMAT, "name");
    refuse(RANGE("0", "0", "1"), PQ_E_FORMAT, "amax");
    refuse(RANGE("1", "1", "2"), PQ_E_FORMAT, "lo");
    refuse(RANGE("1", "-2", "-1"), PQ_E_FORMAT, "hi");
    refuse(RANGE("1", "0", "0"), PQ_E_FORMAT, "hi");
    refuse(RANGE("1e99", "0", "1"), PQ_E_FORMAT, "amax");
    refuse(RANGE("\"1\"", "0", "1"), PQ_E_FORMAT, "amax");
    refuse(RANGE("1", "0", "1,\"rms\":-1"), PQ_E_FORMAT, "'rms' is -1");
    refuse(RANGE("1", "0", "1,\"kurtosis\":1e99"), PQ_E_FORMAT, "'kurtosis'");
    refuse(RANGE("1", "0", "1,\"outlier\":[]"), PQ_E_FORMAT, "outlier");
    PQ_CHECK(ctx, pq_file_write(ctx, path, RANGE("1", "0", "1"), strlen(RANGE("1", "0", "1"))));
    PQ_CHECK(ctx, pq_ranges_load(ctx, &r, path));
    pq_ranges_free(r);
}

static void test_names(void **state)
{
    pq_calibrator c;
    (void)state;
    for (pq_calibrator i = PQ_CALIB_AUTO; i <= PQ_CALIB_MSE; i++) {
        PQ_CHECK(ctx, pq_calibrator_parse(ctx, &c, pq_calibrator_name(i)));
        assert_int_equal(c, i);
    }
    PQ_CHECK_FAILS(ctx, pq_calibrator_parse(ctx, &c, "minmax"), PQ_E_INVALID, "percentile");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {CASE(test_round_trip), CASE(test_hostile), CASE(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
