/** @file testing.h  What every test includes: cmocka, temporary folders, the shared files. */
#ifndef PQ_TESTS_TESTING_H
#define PQ_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

/** Passes, or shows the context's message. */
#define assert_ok(ctx, expr)                                                                       \
    do {                                                                                           \
        pq_status st_ = (expr);                                                                    \
        if (st_ != PQ_OK) fail_msg("%s: %s", pq_status_name(st_), pq_ctx_error(ctx));              \
    } while (0)

/** Fails with that status, and with a message of one line that contains the text. */
#define assert_fails(ctx, expr, status, text)                                                      \
    do {                                                                                           \
        pq_status st_ = (expr);                                                                    \
        if (st_ != (status) || !strstr(pq_ctx_error(ctx), (text)))                                 \
            fail_msg("%s: '%s', expected %s: '%s'", pq_status_name(st_), pq_ctx_error(ctx),        \
                     pq_status_name(status), (text));                                              \
        assert_null(strchr(pq_ctx_error(ctx), '\n'));                                              \
    } while (0)

/** A context and a temporary folder for each test: use with cmocka's setup and teardown. */
typedef struct test_env {
    pq_ctx *ctx;
    char dir[64];
    char text[256]; /* of test_path */
} test_env;

static inline int test_setup(void **state)
{
    test_env *e = calloc(1, sizeof *e);
    if (!e || pq_ctx_new(&e->ctx) != PQ_OK) return -1;
    pq_ctx_set_threads(e->ctx, 2);
    snprintf(e->dir, sizeof e->dir, "/tmp/pquant-test-XXXXXX");
    if (!mkdtemp(e->dir)) return -1;
    *state = e;
    return 0;
}

static inline int test_teardown(void **state)
{
    test_env *e = *state;
    char **name, *path;
    size_t n;
    if (pq_dir_list(e->ctx, &name, &n, e->dir) == PQ_OK) {
        for (size_t i = 0; i < n; i++) {
            if (pq_path_join(e->ctx, &path, e->dir, name[i]) == PQ_OK) unlink(path);
            pq_free(path);
            pq_free(name[i]);
        }
        pq_free(name);
    }
    rmdir(e->dir);
    pq_ctx_free(e->ctx);
    free(e);
    return 0;
}

/** Path of a file in the temporary folder; valid until the next call. */
static inline const char *test_path(test_env *e, const char *name)
{
    snprintf(e->text, sizeof e->text, "%s/%s", e->dir, name);
    return e->text;
}

/** Path of a file of the shared folder; skips the test where that is absent. */
static inline void shared_path(char *out, size_t size, const char *name)
{
    const char *root = getenv("PQ_SHARED");
    snprintf(out, size, "%s/%s", root ? root : "../shared", name);
    if (!pq_file_exists(out)) {
        print_message("skipped: no %s\n", out);
        skip();
    }
}

#define test_case(f) cmocka_unit_test_setup_teardown(f, test_setup, test_teardown)

#endif
