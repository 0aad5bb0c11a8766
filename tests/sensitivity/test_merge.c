/* Merging journals: what is left out, what is refused, and that nothing is lost on the way. */
#include <pquant/sensitivity.h>

#include "base/testing.h"

static const char figures[] = "\"AP50\":0.6,\"AP75\":0.3,\"APs\":0.1,\"APm\":0.2,\"APl\":0.4,"
                              "\"AR1\":0.1,\"AR10\":0.2,\"AR100\":0.3,\"ARs\":0.1,\"ARm\":0.2,"
                              "\"ARl\":0.3,\"drop\":0.01,\"low\":0,\"high\":0.02,\"images\":4";

/* A line as the journal has it. */
static void add(FILE *f, const char *context, const char *labels, double ap, double seconds)
{
    fprintf(f,
            "{\"context\":\"%s\",\"labels\":\"%s\",\"AP\":%.17g,%s,\"whole\":true,"
            "\"seconds\":%.17g}\n",
            context, labels, ap, figures, seconds);
}

static FILE *create(test_env *e, const char *name)
{
    FILE *f = fopen(test_path(e, name), "w");
    assert_non_null(f);
    return f;
}

static void merge(test_env *e, pq_merged *count, pq_status expected, const char *words)
{
    char to[128], a[128], b[128];
    const char *const from[] = {a, b};
    snprintf(to, sizeof to, "%s/to", e->dir);
    snprintf(a, sizeof a, "%s/a", e->dir);
    snprintf(b, sizeof b, "%s/b", e->dir);
    if (expected == PQ_OK)
        assert_ok(e->ctx, pq_journal_merge(e->ctx, count, to, from, 2));
    else
        assert_fails(e->ctx, pq_journal_merge(e->ctx, count, to, from, 2), expected, words);
}

static void test_union(void **state)
{
    test_env *e = *state;
    pq_merged n;
    FILE *f = create(e, "to");
    add(f, "c1", "01", 0.5, 1);
    fclose(f);
    f = create(e, "a");
    add(f, "c1", "01", 0.5, 7); /* the same, slower */
    add(f, "c1", "10", 0.25, 1);
    add(f, "c2", "01", 0.125, 1); /* another context: another measurement */
    fputs("{\"context\":\"c1\",\"labels\":\"01\",\"error\":0.5,\"images\":32}\n", f);
    fclose(f);
    f = create(e, "b");
    fputs("{\"context\":\"c1\",\"labels\":\"01\",\"error\":0.5,\"images\":32}\n", f);
    add(f, "c1", "11", 0.0625, 1);
    fclose(f);
    merge(e, &n, PQ_OK, NULL);
    assert_int_equal(n.n_lines, 5);
    assert_int_equal(n.n_new, 4);
    assert_int_equal(n.n_repeated, 2);
    assert_int_equal(n.n_torn, 0);
    merge(e, &n, PQ_OK, NULL); /* once more adds nothing */
    assert_int_equal(n.n_lines, 5);
    assert_int_equal(n.n_new, 0);
}

static void test_hostile_lines(void **state)
{
    test_env *e = *state;
    static const char zero[] = "a\0b\n";
    pq_merged n;
    FILE *f = create(e, "a");
    fputs("\n[]\n{}\n{\"context\":1,\"labels\":\"01\",\"error\":1,\"images\":32}\n"
          "{\"context\":\"c\",\"labels\":\"01\"}\n"
          "{\"context\":\"c\",\"labels\":\"01\",\"error\":\"high\",\"images\":32}\n"
          "{\"context\":\"c\",\"labels\":\"01\",\"AP\":0.5,\"images\":-1,\"whole\":true}\nnull\n",
          f);
    fwrite(zero, 1, sizeof zero - 1, f);
    for (int i = 0; i < 5000; i++) fputc('[', f);
    fputc('\n', f);
    add(f, "c", "01", 0.5, 1);
    fputs("{\"context\":\"c\",\"labels\":\"11\",\"error\":0.5,\"images\":32}",
          f); /* no end of line: torn */
    fclose(f);
    fclose(create(e, "b"));
    merge(e, &n, PQ_OK, NULL);
    assert_int_equal(n.n_lines, 1);
    assert_int_equal(n.n_torn, 10);
}

static void test_conflicts_are_refused(void **state)
{
    test_env *e = *state;
    pq_merged n;
    pq_buf *b;
    FILE *f = create(e, "to");
    add(f, "c", "00", 0.5, 1);
    fclose(f);
    f = create(e, "a");
    add(f, "c", "01", 0.5, 1);
    fclose(f);
    f = create(e, "b");
    add(f, "c", "10", 0.5, 1);
    add(f, "c", "01", 0.25, 1);
    fclose(f);
    merge(e, &n, PQ_E_FORMAT, "/b:2: AP is 0.25, expected 0.5 as in ");
    assert_ok(e->ctx, pq_file_map(e->ctx, &b, test_path(e, "to")));
    assert_null(memchr(pq_buf_data(b), '\n', pq_buf_bytes(b) - 1)); /* still one line */
    pq_buf_unref(b);
}

static void test_missing_journal(void **state)
{
    test_env *e = *state;
    pq_merged n;
    fclose(create(e, "a"));
    merge(e, &n, PQ_E_IO, "/b: No such file");
    assert_false(pq_file_exists(test_path(e, "to")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(test_union),
        test_case(test_hostile_lines),
        test_case(test_conflicts_are_refused),
        test_case(test_missing_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
