/* The context: error text, log and progress callbacks. */
#include "base/ctx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"

struct pq_ctx {
    char error[1024];
    const char *where;
    pq_log_fn log;
    void *log_user;
    pq_progress_fn progress;
    void *progress_user;
    int n_threads;
    char *engine_path;
    struct kept *kept;
};

/* An object that a stage keeps from one call to the next. */
struct kept {
    const void *key;
    void *object;
    void (*release)(void *object);
    struct kept *next;
};

const char *pq_status_name(pq_status st)
{
    static const char *const name[] = {"OK",          "NOMEM",   "IO",          "FORMAT",
                                       "UNSUPPORTED", "INVALID", "UNAVAILABLE", "ENGINE",
                                       "CANCELLED",   "INTERNAL"};
    return (size_t)st < sizeof name / sizeof *name ? name[st] : "?";
}

const char *pq_version(void) { return PQ_VERSION_STRING; }

pq_status pq_ctx_new(pq_ctx **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? PQ_OK : PQ_E_NOMEM;
}

void pq_ctx_free(pq_ctx *ctx)
{
    if (!ctx) return;
    while (ctx->kept) {
        struct kept *k = ctx->kept;
        ctx->kept = k->next;
        k->release(k->object);
        free(k);
    }
    free(ctx->engine_path);
    free(ctx);
}

pq_status pq_ctx_set_engine_path(pq_ctx *ctx, const char *path)
{
    char *copy = NULL;
    if (path) {
        copy = malloc(strlen(path) + 1);
        if (!copy) return pq_fail(ctx, PQ_E_NOMEM, "no memory for the engine path");
        memcpy(copy, path, strlen(path) + 1);
    }
    free(ctx->engine_path);
    ctx->engine_path = copy;
    return PQ_OK;
}

const char *pq_ctx_engine_path(const pq_ctx *ctx) { return ctx->engine_path; }

void *pq_ctx_kept(const pq_ctx *ctx, const void *key)
{
    for (const struct kept *k = ctx->kept; k; k = k->next)
        if (k->key == key) return k->object;
    return NULL;
}

pq_status pq_ctx_keep(pq_ctx *ctx, const void *key, void *object, void (*release)(void *object))
{
    struct kept *k = malloc(sizeof *k);
    if (!k) {
        release(object);
        return pq_fail(ctx, PQ_E_NOMEM, "no memory to keep an object in the context");
    }
    *k = (struct kept){key, object, release, ctx->kept};
    ctx->kept = k;
    return PQ_OK;
}

const char *pq_ctx_error(const pq_ctx *ctx) { return ctx->error; }
const char *pq_ctx_error_where(const pq_ctx *ctx) { return ctx->where ? ctx->where : ""; }

void pq_ctx_set_log(pq_ctx *ctx, pq_log_fn fn, void *user)
{
    ctx->log = fn;
    ctx->log_user = user;
}

void pq_ctx_set_progress(pq_ctx *ctx, pq_progress_fn fn, void *user)
{
    ctx->progress = fn;
    ctx->progress_user = user;
}

void pq_ctx_set_threads(pq_ctx *ctx, int n_threads) { ctx->n_threads = n_threads; }

int pq_ctx_threads(const pq_ctx *ctx)
{
    return ctx->n_threads > 0 ? ctx->n_threads : pq_cpu_count();
}

pq_status pq_fail_at(pq_ctx *ctx, const char *where, pq_status st, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(ctx->error, sizeof ctx->error, fmt, ap);
    va_end(ap);
    for (char *c = ctx->error; *c; c++) /* names from hostile files stay on the one line */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    ctx->where = where;
    return st;
}

pq_status pq_prefix(pq_ctx *ctx, pq_status st, const char *fmt, ...)
{
    if (st == PQ_OK) return st;
    char text[sizeof ctx->error], old[sizeof ctx->error];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(old, ctx->error, sizeof old);
    size_t n = strlen(text);
    snprintf(ctx->error, sizeof ctx->error, "%s", text);
    if (n + 2 < sizeof ctx->error) {
        memcpy(ctx->error + n, ": ", 3);
        size_t room = sizeof ctx->error - n - 3, len = strlen(old);
        if (len > room) len = room;
        memcpy(ctx->error + n + 2, old, len);
        ctx->error[n + 2 + len] = 0;
    }
    return st;
}

pq_status pq_merge_error(pq_ctx *ctx, const pq_ctx *worker, pq_status st)
{
    if (st != PQ_OK) {
        memcpy(ctx->error, worker->error, sizeof ctx->error);
        ctx->where = worker->where;
    }
    return st;
}

void pq_log(pq_ctx *ctx, pq_log_level level, const char *stage, const char *fmt, ...)
{
    if (!ctx->log) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ctx->log(ctx->log_user, level, stage, text);
}

pq_status pq_progress(pq_ctx *ctx, const char *stage, size_t done, size_t total)
{
    if (ctx->progress && ctx->progress(ctx->progress_user, stage, done, total))
        return pq_fail(ctx, PQ_E_CANCELLED, "%s stopped at %zu of %zu", stage, done, total);
    return PQ_OK;
}
