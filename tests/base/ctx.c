/* The context: messages, prefixes, log and progress. */
#include "testing.h"

static void message_stays_on_one_line(void **state)
{
    test_env *e = *state;
    assert_int_equal(pq_fail(e->ctx, PQ_E_FORMAT, "name '%s': found %d", "a\nb\x1b[2J", 3),
                     PQ_E_FORMAT);
    assert_string_equal(pq_ctx_error(e->ctx), "name 'a?b?[2J': found 3");
    assert_non_null(strstr(pq_ctx_error_where(e->ctx), "ctx.c:"));
}

static void prefix_keeps_the_message(void **state)
{
    test_env *e = *state;
    pq_status st = pq_fail(e->ctx, PQ_E_IO, "disk is full");
    assert_int_equal(pq_prefix(e->ctx, st, "%s", "out.json"), PQ_E_IO);
    assert_string_equal(pq_ctx_error(e->ctx), "out.json: disk is full");
    assert_int_equal(pq_prefix(e->ctx, PQ_OK, "ignored"), PQ_OK);
    assert_string_equal(pq_ctx_error(e->ctx), "out.json: disk is full");
}

static void long_messages_are_cut(void **state)
{
    test_env *e = *state;
    char text[3000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    pq_status st = pq_fail(e->ctx, PQ_E_IO, "%s", text);
    for (int i = 0; i < 3; i++) st = pq_prefix(e->ctx, st, "%.*s", 400, text);
    assert_true(strlen(pq_ctx_error(e->ctx)) < 1024);
    st = pq_prefix(e->ctx, st, "%s", text);
    assert_int_equal(st, PQ_E_IO);
    assert_int_equal(strlen(pq_ctx_error(e->ctx)), 1023);
}

static int stop_at(void *user, const char *stage, size_t done, size_t total)
{
    assert_string_equal(stage, "work");
    assert_int_equal(total, 9);
    return done == *(const size_t *)user;
}

static void progress_cancels(void **state)
{
    test_env *e = *state;
    size_t at = 4;
    assert_ok(e->ctx, pq_progress(e->ctx, "work", 4, 9)); /* no callback */
    pq_ctx_set_progress(e->ctx, stop_at, &at);
    assert_ok(e->ctx, pq_progress(e->ctx, "work", 3, 9));
    assert_fails(e->ctx, pq_progress(e->ctx, "work", 4, 9), PQ_E_CANCELLED,
                 "work stopped at 4 of 9");
}

static void keep_text(void *user, pq_log_level level, const char *stage, const char *text)
{
    snprintf(user, 64, "%d %s %s", (int)level, stage, text);
}

static void log_reaches_the_callback(void **state)
{
    test_env *e = *state;
    char got[64] = "";
    pq_log(e->ctx, PQ_LOG_WARN, "data", "nobody listens");
    pq_ctx_set_log(e->ctx, keep_text, got);
    pq_log(e->ctx, PQ_LOG_WARN, "data", "%d files", 7);
    assert_string_equal(got, "2 data 7 files");
}

static void threads_are_at_least_one(void **state)
{
    test_env *e = *state;
    pq_ctx_set_threads(e->ctx, 0);
    assert_true(pq_ctx_threads(e->ctx) >= 1);
    pq_ctx_set_threads(e->ctx, 5);
    assert_int_equal(pq_ctx_threads(e->ctx), 5);
}

static void every_status_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(pq_status_name(PQ_OK), "OK");
    assert_string_equal(pq_status_name(PQ_E_INTERNAL), "INTERNAL");
    assert_string_equal(pq_status_name((pq_status)99), "?");
    assert_string_equal(pq_version(), PQ_VERSION_STRING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(message_stays_on_one_line), test_case(prefix_keeps_the_message),
        test_case(long_messages_are_cut),     test_case(progress_cancels),
        test_case(log_reaches_the_callback),  test_case(threads_are_at_least_one),
        test_case(every_status_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
