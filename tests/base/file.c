/* Files: mapping, atomic writing, folders, paths. */
#include "testing.h"

#include <sys/stat.h>

static size_t count_files(test_env *e)
{
    char **name;
    size_t n;
    assert_ok(e->ctx, pq_dir_list(e->ctx, &name, &n, e->dir));
    for (size_t i = 0; i < n; i++) pq_free(name[i]);
    pq_free(name);
    return n;
}

static void check_content(test_env *e, const char *name, const char *text)
{
    pq_buf *b;
    assert_ok(e->ctx, pq_file_map(e->ctx, &b, test_path(e, name)));
    assert_int_equal(pq_buf_bytes(b), strlen(text));
    assert_memory_equal(pq_buf_data(b), text, strlen(text));
    pq_buf_unref(b);
}

static void files_appear_complete(void **state)
{
    test_env *e = *state;
    pq_out f;
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "a"), "old", 3));
    assert_ok(e->ctx, pq_out_open(e->ctx, &f, test_path(e, "a")));
    fputs("new text", f.f);
    fflush(f.f);
    check_content(e, "a", "old"); /* until the commit */
    assert_ok(e->ctx, pq_out_commit(e->ctx, &f));
    check_content(e, "a", "new text");
    assert_int_equal(count_files(e), 1);
}

static void aborted_files_leave_nothing(void **state)
{
    test_env *e = *state;
    pq_out f;
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "a"), "old", 3));
    assert_ok(e->ctx, pq_out_open(e->ctx, &f, test_path(e, "a")));
    fputs("new", f.f);
    pq_out_abort(&f);
    pq_out_abort(&f); /* a second time does nothing */
    check_content(e, "a", "old");
    assert_int_equal(count_files(e), 1);
}

static void refusals_name_the_path(void **state)
{
    test_env *e = *state;
    pq_buf *b;
    char **name;
    size_t n;
    assert_fails(e->ctx, pq_file_map(e->ctx, &b, test_path(e, "none")), PQ_E_IO,
                 "none: No such file or directory");
    assert_null(b);
    assert_fails(e->ctx, pq_file_map(e->ctx, &b, e->dir), PQ_E_IO, "not a regular file");
    assert_fails(e->ctx, pq_file_write(e->ctx, test_path(e, "none/x"), "", 0), PQ_E_IO,
                 "none/x: cannot write");
    assert_fails(e->ctx, pq_dir_list(e->ctx, &name, &n, test_path(e, "none")), PQ_E_IO, "none");
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "plain"), "", 0));
    assert_fails(e->ctx, pq_dir_make(e->ctx, test_path(e, "plain/sub")), PQ_E_IO, "plain");
}

static void a_full_disk_is_reported(void **state)
{
    test_env *e = *state;
    struct stat s;
    if (stat("/dev/full", &s) != 0 || symlink("/dev/full", test_path(e, "full")) != 0) {
        print_message("skipped: no /dev/full\n");
        skip();
    }
    pq_out f;
    assert_ok(e->ctx, pq_out_open(e->ctx, &f, test_path(e, "a")));
    f.f = freopen(test_path(e, "full"), "wb", f.f);
    assert_non_null(f.f);
    fputs("text", f.f);
    assert_fails(e->ctx, pq_out_commit(e->ctx, &f), PQ_E_IO, "a: cannot write: No space left");
    assert_int_equal(count_files(e), 1); /* the link alone */
}

static void empty_files_map(void **state)
{
    test_env *e = *state;
    assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, "empty"), NULL, 0));
    check_content(e, "empty", "");
}

static void folders_list_sorted(void **state)
{
    test_env *e = *state;
    static const char *const made[] = {"b", "a10", "a2", ".hidden"};
    static const char *const sorted[] = {".hidden", "a10", "a2", "b"};
    char **name;
    size_t n;
    for (int i = 0; i < 4; i++)
        assert_ok(e->ctx, pq_file_write(e->ctx, test_path(e, made[i]), "", 0));
    assert_ok(e->ctx, pq_dir_list(e->ctx, &name, &n, e->dir));
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(name[i], sorted[i]);
        pq_free(name[i]);
    }
    pq_free(name);
}

static void folders_are_made(void **state)
{
    test_env *e = *state;
    assert_ok(e->ctx, pq_dir_make(e->ctx, test_path(e, "x/y/")));
    assert_ok(e->ctx, pq_dir_make(e->ctx, test_path(e, "x/y")));
    assert_true(pq_file_is_dir(test_path(e, "x/y")));
    assert_false(pq_file_is_dir(test_path(e, "z")));
    rmdir(test_path(e, "x/y"));
    rmdir(test_path(e, "x"));
}

static void check_join(test_env *e, const char *dir, const char *name, const char *expected)
{
    char *s;
    assert_ok(e->ctx, pq_path_join(e->ctx, &s, dir, name));
    assert_string_equal(s, expected);
    pq_free(s);
}

static void check_stem(test_env *e, const char *path, const char *expected)
{
    char *s;
    assert_ok(e->ctx, pq_path_stem(e->ctx, &s, path));
    assert_string_equal(s, expected);
    pq_free(s);
}

static void paths(void **state)
{
    test_env *e = *state;
    check_join(e, "a", "b", "a/b");
    check_join(e, "a/", "b", "a/b");
    check_join(e, "", "b", "b");
    check_join(e, "a", "/b", "/b");
    check_stem(e, "a.b/model.v2.onnx", "model.v2");
    check_stem(e, ".hidden", ".hidden");
    check_stem(e, "plain", "plain");
    assert_string_equal(pq_path_base("a/b.c"), "b.c");
    assert_string_equal(pq_path_base("b.c"), "b.c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(files_appear_complete),  test_case(aborted_files_leave_nothing),
        test_case(refusals_name_the_path), test_case(a_full_disk_is_reported),
        test_case(empty_files_map),        test_case(folders_list_sorted),
        test_case(folders_are_made),       test_case(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
