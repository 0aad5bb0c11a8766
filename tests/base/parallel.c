/* pq_parallel: every item once, the first failure, cancelling. */
#include "testing.h"

#include <stdatomic.h>
#include <time.h>

#include "base/parallel.h"

enum { ITEMS = 1000 };

typedef struct tally {
    atomic_int seen[ITEMS];
    atomic_int started;
    int max_worker;
    size_t fail_at;
} tally;

static pq_status count(pq_ctx *ctx, void *user, size_t item, int worker)
{
    tally *t = user;
    atomic_fetch_add(&t->seen[item], 1);
    atomic_fetch_add(&t->started, 1);
    if (worker < 0 || worker >= t->max_worker)
        return pq_fail(ctx, PQ_E_INTERNAL, "worker %d of %d", worker, t->max_worker);
    if (item == t->fail_at) return pq_fail(ctx, PQ_E_FORMAT, "item %zu is broken", item);
    return PQ_OK;
}

static void every_item_once(void **state)
{
    test_env *e = *state;
    for (int threads = 0; threads <= 8; threads++)
        for (size_t n = 0; n <= ITEMS; n = 3 * n + 1) {
            tally t = {.max_worker = threads > 1 ? threads : 1, .fail_at = SIZE_MAX};
            assert_ok(e->ctx, pq_parallel(e->ctx, NULL, threads, n, count, &t));
            for (size_t i = 0; i < ITEMS; i++) assert_int_equal(t.seen[i], i < n);
        }
}

static void the_failure_comes_back(void **state)
{
    test_env *e = *state;
    for (int threads = 1; threads <= 4; threads++) {
        tally t = {.max_worker = threads, .fail_at = 17};
        assert_fails(e->ctx, pq_parallel(e->ctx, "work", threads, ITEMS, count, &t), PQ_E_FORMAT,
                     "item 17 is broken");
        assert_true(t.started < ITEMS);
    }
}

static int cancel_at_5(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    (void)stage;
    (void)total;
    return done >= 5;
}

static pq_status slow(pq_ctx *ctx, void *user, size_t item, int worker)
{
    const struct timespec pause = {.tv_nsec = 200000};
    nanosleep(&pause, NULL);
    return count(ctx, user, item, worker);
}

static void progress_can_stop_it(void **state)
{
    test_env *e = *state;
    pq_ctx_set_progress(e->ctx, cancel_at_5, NULL);
    for (int threads = 1; threads <= 4; threads++) {
        tally t = {.max_worker = threads, .fail_at = SIZE_MAX};
        assert_fails(e->ctx, pq_parallel(e->ctx, "work", threads, ITEMS, slow, &t), PQ_E_CANCELLED,
                     "work stopped");
        assert_true(t.started < ITEMS);
    }
}

static void without_memory_it_says_so(void **state)
{
    test_env *e = *state;
    tally t = {.max_worker = 4, .fail_at = SIZE_MAX};
    pq_mem_fail_after(1);
    pq_status st = pq_parallel(e->ctx, NULL, 4, ITEMS, count, &t);
    pq_mem_fail_after(0);
    assert_int_equal(st, PQ_E_NOMEM);
    assert_true(pq_cpu_count() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(every_item_once), test_case(the_failure_comes_back),
        test_case(progress_can_stop_it), test_case(without_memory_it_says_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
