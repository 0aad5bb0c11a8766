/* The index arithmetic that host and kernels share, without a device. */
#include "engine/cuda/shared.h"

#include <string.h>

#include "base/rng.h"
#include "support/check.h"

/* Every chunk has a place of its own, and the eight rows that are read together lie in different
 * 16-byte columns of the 128 bytes that the banks are wide. */
static void test_swizzle(void **state)
{
    (void)state;
    for (int per_row = 4; per_row <= 16; per_row *= 2) {
        bool used[128 * 16] = {false};
        for (int r = 0; r < 128; r++)
            for (int c = 0; c < per_row; c++) {
                const int at = pq_cu_swizzle(r, c, per_row);
                assert_in_range(at, 0, 128 * per_row - 1);
                assert_false(used[at]);
                used[at] = true;
            }
        for (int r = 0; r < 128; r += 8)
            for (int c = 0; c < per_row; c++) {
                unsigned banks = 0;
                for (int k = 0; k < 8; k++) banks |= 1u << pq_cu_swizzle(r + k, c, per_row) % 8;
                assert_int_equal(banks, 0xff);
            }
    }
}

static void test_parts(void **state)
{
    (void)state;
    for (int steps = 0; steps < 40; steps++)
        for (int n = 1; n <= 8; n++) {
            int next = 0;
            for (int i = 0; i < n; i++) {
                int begin, end;
                pq_cu_part(steps, pq_cu_ceil(steps, n), i, &begin, &end);
                assert_int_equal(begin, next);
                assert_true(end >= begin);
                next = end;
            }
            assert_int_equal(next, steps);
        }
}

/* Walking equals dividing, for every number of chunks, width of kernel and stride of the walk. */
static void test_taps(void **state)
{
    (void)state;
    for (int chunks = 1; chunks <= 9; chunks++)
        for (int kw = 1; kw <= 5; kw += 2)
            for (int by = 4; by <= 8; by += 4)
                for (int from = 0; from < by; from++) {
                    const pq_cu_div c = pq_cu_div_by(chunks), k = pq_cu_div_by(kw);
                    pq_cu_tap t = pq_cu_tap_at(from, &c, &k);
                    for (int q = from; q < 200; q += by) {
                        const pq_cu_tap u = pq_cu_tap_at(q, &c, &k);
                        assert_true(t.ky == u.ky && t.kx == u.kx && t.c == u.c);
                        assert_int_equal((t.ky * kw + t.kx) * chunks + t.c, q);
                        pq_cu_tap_advance(&t, by, chunks, kw);
                    }
                }
}

static void test_division(void **state)
{
    pq_rng rng = {4};
    (void)state;
    for (int round = 0; round < 20000; round++) {
        const int by =
            round < 2000 ? round + 1 : (int)(pq_rng_u64(&rng) >> 33 >> pq_rng_below(&rng, 30)) + 1;
        const pq_cu_div d = pq_cu_div_by(by);
        const int64_t times = INT32_MAX / by,
                      near = (int64_t)pq_rng_below(&rng, (uint64_t)times + 1) * by;
        const int64_t n[] = {0,          by,
                             near,       near - 1,
                             times * by, times * by - 1,
                             INT32_MAX,  (int64_t)(pq_rng_u64(&rng) >> 33)};
        for (size_t i = 0; i < sizeof n / sizeof *n; i++)
            if (n[i] >= 0) assert_int_equal(pq_cu_quotient((int)n[i], &d), n[i] / by);
    }
}

static void test_address(void **state)
{
    const int64_t dim[3] = {2, 3, 4}, row_major[3] = {12, 4, 1}, turned[3] = {1, 8, -2};
    (void)state;
    for (int64_t i = 0; i < 24; i++) {
        assert_int_equal(pq_cu_address(dim, row_major, 3, i), i);
        assert_int_equal(pq_cu_address(dim, turned, 3, i), i / 12 + i / 4 % 3 * 8 - 2 * (i % 4));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_swizzle), cmocka_unit_test(test_parts),
                                       cmocka_unit_test(test_taps), cmocka_unit_test(test_division),
                                       cmocka_unit_test(test_address)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
