/** @file ctx.h  Raising errors, logging and progress from inside the library. */
#ifndef PQ_BASE_CTX_H
#define PQ_BASE_CTX_H

#include <pquant/base.h>

#define PQ_STR2(x) #x
#define PQ_STR(x) PQ_STR2(x)
#define PQ_HERE __FILE__ ":" PQ_STR(__LINE__)

/** Records the message and returns st, so that a check is one line:
 *      return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': %d dimensions, expected 4", name, rank);
 *  Style: one line, lower case, no full stop; what was found and what was expected. */
#define pq_fail(ctx, st, ...) pq_fail_at((ctx), PQ_HERE, (st), __VA_ARGS__)
pq_status pq_fail_at(pq_ctx *ctx, const char *where, pq_status st, const char *fmt, ...)
    PQ_PRINTF(4, 5);

/** Put "prefix: " in front of the message of a failure on its way out, and return st again. An
 *  outer boundary adds only what it alone knows (a file's path, a node's name). OK passes through.
 */
pq_status pq_prefix(pq_ctx *ctx, pq_status st, const char *fmt, ...) PQ_PRINTF(3, 4);

/** Take over the failure of a worker's context. */
pq_status pq_merge_error(pq_ctx *ctx, const pq_ctx *worker, pq_status st);

void pq_log(pq_ctx *ctx, pq_log_level level, const char *stage, const char *fmt, ...)
    PQ_PRINTF(4, 5);

/** What a stage keeps in the context from one call to the next (an opened runtime), by an address
 * of its own; NULL: nothing. */
void *pq_ctx_kept(const pq_ctx *ctx, const void *key);
/** Keeps object until the context goes; release(object) runs then, or here on failure. The key must
 * not be taken yet. Errors: NOMEM. */
PQ_MUST_USE pq_status pq_ctx_keep(pq_ctx *ctx, const void *key, void *object,
                                  void (*release)(void *object));

/** OK, or CANCELLED when the callback asks to stop. */
PQ_MUST_USE pq_status pq_progress(pq_ctx *ctx, const char *stage, size_t done, size_t total);

/** A broken invariant of ours: abort in debug builds, PQ_E_INTERNAL in release. */
#ifdef NDEBUG
#define PQ_ASSERT(ctx, cond)                                                                       \
    do {                                                                                           \
        if (!(cond)) return pq_fail((ctx), PQ_E_INTERNAL, "broken invariant: %s", #cond);          \
    } while (0)
#else
#include <assert.h>
#define PQ_ASSERT(ctx, cond)                                                                       \
    do {                                                                                           \
        (void)(ctx);                                                                               \
        assert(cond);                                                                              \
    } while (0)
#endif

/** Run a step; on failure leave through the label `out` with st set. */
#define PQ_TRY(expr)                                                                               \
    do {                                                                                           \
        if ((st = (expr)) != PQ_OK) goto out;                                                      \
    } while (0)

#endif
