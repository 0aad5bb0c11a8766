/* Allocation: zeroed, checked, failing on demand; the arena. */
#include "testing.h"

static void blocks_are_zeroed_and_aligned(void **state)
{
    test_env *e = *state;
    for (size_t n = 0; n < 300; n += 7) {
        uint8_t *p;
        assert_ok(e->ctx, pq_alloc(e->ctx, &p, n, 1));
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
        pq_free(p);
    }
    pq_free(NULL);
}

static void sizes_are_checked(void **state)
{
    test_env *e = *state;
    void *p = e;
    assert_fails(e->ctx, pq_alloc(e->ctx, &p, SIZE_MAX / 2, 4), PQ_E_NOMEM, "no memory");
    assert_null(p);
    assert_fails(e->ctx, pq_alloc(e->ctx, &p, SIZE_MAX, 1), PQ_E_NOMEM, "no memory");
    pq_arena *a;
    assert_ok(e->ctx, pq_arena_new(e->ctx, &a));
    assert_fails(e->ctx, pq_arena_alloc(e->ctx, a, &p, SIZE_MAX / 8, 16), PQ_E_NOMEM, "no memory");
    pq_arena_free(a);
}

static void growing_keeps_and_zeroes(void **state)
{
    test_env *e = *state;
    int *p = NULL;
    assert_ok(e->ctx, pq_grow(e->ctx, &p, 0, 3, sizeof *p));
    for (int i = 0; i < 3; i++) p[i] = i + 1;
    assert_ok(e->ctx, pq_grow(e->ctx, &p, 3, 100, sizeof *p));
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], i < 3 ? i + 1 : 0);
    int *before = p;
    assert_int_equal(pq_grow(e->ctx, &p, 100, SIZE_MAX / 2, sizeof *p), PQ_E_NOMEM);
    assert_ptr_equal(p, before); /* still there, still ours */
    pq_free(p);
}

static void the_nth_allocation_fails(void **state)
{
    test_env *e = *state;
    void *p[3];
    pq_mem_fail_after(3);
    assert_ok(e->ctx, pq_alloc(e->ctx, &p[0], 1, 1));
    assert_ok(e->ctx, pq_alloc(e->ctx, &p[1], 1, 1));
    assert_int_equal(pq_alloc(e->ctx, &p[2], 1, 1), PQ_E_NOMEM);
    assert_int_equal(pq_alloc(e->ctx, &p[2], 1, 1), PQ_E_NOMEM); /* gone is gone */
    assert_null(pq_mem_malloc(1));
    pq_mem_fail_after(0);
    assert_ok(e->ctx, pq_alloc(e->ctx, &p[2], 1, 1));
    for (int i = 0; i < 3; i++) pq_free(p[i]);
}

static void strings_are_copied(void **state)
{
    test_env *e = *state;
    char *s;
    assert_ok(e->ctx, pq_strdup(e->ctx, &s, "text"));
    assert_string_equal(s, "text");
    pq_free(s);
    assert_ok(e->ctx, pq_asprintf(e->ctx, &s, "%s-%d", "conv", 12));
    assert_string_equal(s, "conv-12");
    pq_free(s);
}

static void the_arena_holds_many_sizes(void **state)
{
    test_env *e = *state;
    pq_arena *a;
    uint8_t *p[200];
    const char *s;
    assert_ok(e->ctx, pq_arena_new(e->ctx, &a));
    for (size_t i = 0; i < 200; i++) {
        assert_ok(e->ctx, pq_arena_alloc(e->ctx, a, &p[i], i * i, 5));
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, i * i * 5);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i * i * 5; k++)
            if (p[i][k] != (uint8_t)i) fail_msg("block %zu was written over", i);
    assert_ok(e->ctx, pq_arena_strdup(e->ctx, a, &s, "name"));
    assert_string_equal(s, "name");
    assert_ok(e->ctx, pq_arena_printf(e->ctx, a, &s, "%s.%d", "name", 3));
    assert_string_equal(s, "name.3");
    pq_arena_free(a);
    pq_arena_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(blocks_are_zeroed_and_aligned),
        test_case(sizes_are_checked),
        test_case(growing_keeps_and_zeroes),
        test_case(the_nth_allocation_fails),
        test_case(strings_are_copied),
        test_case(the_arena_holds_many_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
