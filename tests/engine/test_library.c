/* Where libraries of foreign runtimes are looked for: in the order promised, and never in the
 * current directory. */
#include "../base/testing.h"

#include <sys/stat.h>

#include "engine/foreign/library.h"
#include "engine/foreign/python.h"

static const pq_library_spec spec = {
    .name = "toy",
    .variable = "PQUANT_TEST_TOY",
    .file = "libtoy.so",
    .package = "toy/libs",
    .hint = "there is none",
    .below = {"toy/libs", "lib"},
};

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static void in_folders(void **state)
{
    test_env *e = *state;
    char *path;
    assert_ok(e->ctx, pq_library_in(e->ctx, &path, e->dir, &spec));
    assert_null(path);
    put(e->dir, "libtoy.sox", "", 0644);
    put(e->dir, "libtoy.so.txt", "", 0644);
    assert_ok(e->ctx, pq_library_in(e->ctx, &path, e->dir, &spec));
    assert_null(path);
    put(e->dir, "libtoy.so.1.9.0", "", 0644);
    put(e->dir, "libtoy.so.1.19.2", "", 0644);
    assert_ok(e->ctx, pq_library_in(e->ctx, &path, e->dir, &spec));
    assert_string_equal(pq_path_base(path), "libtoy.so.1.19.2");
    pq_free(path);
    put(e->dir, "libtoy.so", "", 0644);
    assert_ok(e->ctx, pq_library_in(e->ctx, &path, e->dir, &spec));
    assert_string_equal(pq_path_base(path), "libtoy.so");
    pq_free(path);
    assert_ok(e->ctx, pq_library_in(e->ctx, &path, "", &spec));
    assert_null(path);
}

static void below_folders(void **state)
{
    test_env *e = *state;
    char *path, folder[128];
    snprintf(folder, sizeof folder, "%s/lib", e->dir);
    assert_int_equal(mkdir(folder, 0755), 0);
    put(folder, "libtoy.so.2", "", 0644);
    assert_ok(e->ctx, pq_library_in(e->ctx, &path, e->dir, &spec));
    assert_non_null(path);
    assert_true(pq_file_is_below(path, folder));
    unlink(path);
    rmdir(folder);
    pq_free(path);
}

/* Found, but not a library: the file and the loader's words. */
static void order(void **state)
{
    test_env *e = *state;
    pq_library lib;
    put(e->dir, "libtoy.so.5", "no library", 0644);
    setenv("PQUANT_TEST_TOY", "/nonexistent", 1);
    assert_ok(e->ctx, pq_ctx_set_engine_path(e->ctx, e->dir));
    assert_fails(e->ctx, pq_library_open(e->ctx, &lib, &spec), PQ_E_UNAVAILABLE, "libtoy.so.5: ");
    assert_ok(e->ctx, pq_ctx_set_engine_path(e->ctx, "::/nonexistent:"));
    assert_fails(e->ctx, pq_library_open(e->ctx, &lib, &spec), PQ_E_UNAVAILABLE,
                 "PQUANT_TEST_TOY is '/nonexistent', where there is no libtoy.so");
    setenv("PQUANT_TEST_TOY", e->dir, 1);
    assert_fails(e->ctx, pq_library_open(e->ctx, &lib, &spec), PQ_E_UNAVAILABLE, "libtoy.so.5: ");
    unsetenv("PQUANT_TEST_TOY");
}

/* A library and an interpreter lie in the current directory; neither is touched. */
static void not_the_current_directory(void **state)
{
    test_env *e = *state;
    pq_library lib;
    pq_python py;
    char here[512], *path = getenv("PATH"), kept[4096];
    snprintf(kept, sizeof kept, "%s", path ? path : "");
    put(e->dir, "libtoy.so", "no library", 0644);
    put(e->dir, "python3", "#!/bin/sh\ntouch ran; echo /tmp\n", 0755);
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(e->dir), 0);
    unsetenv("PQUANT_TEST_TOY");
    setenv("LD_LIBRARY_PATH", ":.:", 1);
    setenv("PATH", ":.::", 1);
    assert_ok(e->ctx, pq_ctx_set_engine_path(e->ctx, ""));
    assert_fails(e->ctx, pq_library_open(e->ctx, &lib, &spec), PQ_E_UNAVAILABLE, "none on PATH");
    assert_ok(e->ctx, pq_python_find(e->ctx, &py));
    assert_null(py.executable);
    pq_python_clear(&py);
    assert_false(pq_file_exists("ran"));
    unsetenv("LD_LIBRARY_PATH");
    setenv("PATH", kept, 1);
    assert_int_equal(chdir(here), 0);
}

/* Of what an interpreter prints only folders that exist count; one that fails has none. */
static void python_folders(void **state)
{
    test_env *e = *state;
    pq_python py;
    char kept[4096], script[256], *path = getenv("PATH");
    snprintf(kept, sizeof kept, "%s", path ? path : "");
    snprintf(script, sizeof script,
             "#!/bin/sh\n[ \"$1\" = -I ] || exit 1\necho relative\necho /nonexistent\necho %s\n",
             e->dir);
    put(e->dir, "python3", script, 0755);
    setenv("PATH", e->dir, 1);
    assert_ok(e->ctx, pq_python_find(e->ctx, &py));
    assert_int_equal(py.n_folders, 1);
    assert_string_equal(py.folder[0], e->dir);
    pq_python_clear(&py);
    put(e->dir, "python3", "#!/bin/sh\necho /\nexit 3\n", 0755);
    assert_ok(e->ctx, pq_python_find(e->ctx, &py));
    assert_non_null(py.executable);
    assert_int_equal(py.n_folders, 0);
    pq_python_clear(&py);
    setenv("PATH", kept, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_case(in_folders),     test_case(below_folders),
        test_case(order),          test_case(not_the_current_directory),
        test_case(python_folders),
    };
    return cmocka_run_group_tests_name("engine/library", tests, NULL, NULL);
}
