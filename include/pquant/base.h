/**
 * @file base.h
 * Status codes, the context that carries errors, logging and progress, and shared buffers.
 * Everything else includes this.
 *
 * Every function that can fail takes a pq_ctx first and returns a pq_status. The text of the last
 * failure lives in the context (pq_ctx_error): one line, what was found and what was expected.
 *
 * Threads: nothing is global. A context, a session, a loader belong to one thread at a time; any
 * number of them work side by side, each thread with a context of its own. Graphs, plans, ranges,
 * heads and annotations may be shared while nobody writes to them (docs/library.md).
 */
#ifndef PQUANT_BASE_H
#define PQUANT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PQ_VERSION_MAJOR 0
#define PQ_VERSION_MINOR 1
#define PQ_VERSION_PATCH 0
#define PQ_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define PQ_API __attribute__((visibility("default")))
#define PQ_MUST_USE __attribute__((warn_unused_result))
#define PQ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PQ_API
#define PQ_MUST_USE
#define PQ_PRINTF(fmt, args)
#endif

typedef enum pq_status {
    PQ_OK = 0,
    PQ_E_NOMEM,       /* an allocation failed */
    PQ_E_IO,          /* the operating system refused: missing file, full disk, … */
    PQ_E_FORMAT,      /* the file is wrong */
    PQ_E_UNSUPPORTED, /* the file is right, we cannot */
    PQ_E_INVALID,     /* the caller is wrong */
    PQ_E_UNAVAILABLE, /* no such device, runtime or instruction set */
    PQ_E_ENGINE,      /* a foreign runtime failed */
    PQ_E_CANCELLED,   /* the progress callback asked to stop */
    PQ_E_INTERNAL     /* a bug of ours */
} pq_status;

/** The name of a status ("FORMAT"). Never NULL. */
PQ_API const char *pq_status_name(pq_status st);

typedef enum pq_log_level { PQ_LOG_DEBUG, PQ_LOG_INFO, PQ_LOG_WARN } pq_log_level;

typedef struct pq_ctx pq_ctx;
typedef void (*pq_log_fn)(void *user, pq_log_level level, const char *stage, const char *text);
/** Return non-zero to cancel: the running function stops with PQ_E_CANCELLED. */
typedef int (*pq_progress_fn)(void *user, const char *stage, size_t done, size_t total);

/**
 * Make a context. Memory: yours, release with pq_ctx_free. Errors: NOMEM (then *out is NULL).
 */
PQ_API PQ_MUST_USE pq_status pq_ctx_new(pq_ctx **out);
PQ_API void pq_ctx_free(pq_ctx *ctx);

/** Text of the last failure, "" if none. Borrowed: valid until the next failing call. */
PQ_API const char *pq_ctx_error(const pq_ctx *ctx);
/** Where the last failure was raised ("file.c:123"), for debug logs. */
PQ_API const char *pq_ctx_error_where(const pq_ctx *ctx);
PQ_API void pq_ctx_set_log(pq_ctx *ctx, pq_log_fn fn, void *user);
PQ_API void pq_ctx_set_progress(pq_ctx *ctx, pq_progress_fn fn, void *user);
/** Threads that data-parallel stages may use; 0 asks for all that the process may run on. */
PQ_API void pq_ctx_set_threads(pq_ctx *ctx, int n_threads);
/** Where libraries of engines that are opened at run time are looked for before anywhere else:
 *  folders or files, separated by ':', copied; NULL: nowhere. Errors: NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_ctx_set_engine_path(pq_ctx *ctx, const char *path);
/** What was set, or NULL. Borrowed: valid until it is set again. */
PQ_API const char *pq_ctx_engine_path(const pq_ctx *ctx);
/** At least 1. */
PQ_API int pq_ctx_threads(const pq_ctx *ctx);

/** Bytes shared by whoever holds a reference; 64-byte aligned unless borrowed from a mapped file.
 */
typedef struct pq_buf pq_buf;

/** Zeroed buffer with one reference. Errors: NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_buf_new(pq_ctx *ctx, pq_buf **out, size_t bytes);
/** Wrap foreign memory; release(user) runs when the last reference goes. Errors: NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_buf_wrap(pq_ctx *ctx, pq_buf **out, void *data, size_t bytes,
                                         void (*release)(void *user), void *user);
PQ_API pq_buf *pq_buf_ref(pq_buf *b);
/** Drops a reference. pq_buf_unref(NULL) does nothing. */
PQ_API void pq_buf_unref(pq_buf *b);
PQ_API void *pq_buf_data(const pq_buf *b);
PQ_API size_t pq_buf_bytes(const pq_buf *b);

/** Library version as "major.minor.patch". */
PQ_API const char *pq_version(void);

#ifdef __cplusplus
}
#endif
#endif
