/* The arena: slots that live at the same time never share a byte. */
#include "support/check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/program.h"

enum { MOST = 120 };

static void test_no_overlap(void **state)
{
    size_t size[MOST], offset[MOST], total;
    int first[MOST], last[MOST];
    pq_rng rng = {3};
    pq_ctx *ctx;
    (void)state;
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    for (int round = 0; round < 300; round++) {
        const size_t n = pq_rng_below(&rng, MOST);
        size_t sum = 0, peak = 0;
        for (size_t i = 0; i < n; i++) {
            size[i] = pq_rng_below(&rng, 8) ? pq_rng_below(&rng, 5000) : 0;
            first[i] = (int)pq_rng_below(&rng, 60) - 1;
            last[i] = first[i] + (int)pq_rng_below(&rng, round % 2 ? 8 : 50);
            sum += (size[i] + 63) / 64 * 64;
        }
        PQ_CHECK(ctx, pq_memory_plan(ctx, offset, &total, size, first, last, n));
        for (size_t i = 0; i < n; i++) {
            if (!size[i]) continue;
            assert_int_equal(offset[i] % 64, 0);
            assert_true(offset[i] + size[i] <= total);
            for (size_t j = 0; j < i; j++)
                if (size[j] && first[i] <= last[j] && first[j] <= last[i])
                    assert_true(offset[i] + size[i] <= offset[j] ||
                                offset[j] + size[j] <= offset[i]);
        }
        for (int t = -1; t < 110; t++) { /* what lives together must fit, and reuse must happen */
            size_t live = 0;
            for (size_t i = 0; i < n; i++)
                if (first[i] <= t && t <= last[i]) live += (size[i] + 63) / 64 * 64;
            peak = live > peak ? live : peak;
        }
        assert_true(total >= peak && total <= sum);
        assert_true(total <= 2 * peak);
    }
    pq_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_overlap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
