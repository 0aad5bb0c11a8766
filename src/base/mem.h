/** @file mem.h  Checked allocation: zeroed, overflow-checked, with a switch that lets tests fail
 *  the n-th allocation. Memory from here goes back through pq_free. */
#ifndef PQ_BASE_MEM_H
#define PQ_BASE_MEM_H

#include "base/ctx.h"

/** n * size zeroed bytes, 64-byte aligned; n * size == 0 gives a valid pointer. Errors: NOMEM. */
PQ_MUST_USE pq_status pq_alloc_at(pq_ctx *ctx, const char *where, void *out_ptr, size_t n,
                                  size_t size);
#define pq_alloc(ctx, out, n, size) pq_alloc_at((ctx), PQ_HERE, (void *)(out), (n), (size))
/** Grow *ptr to n elements of the given size, keeping old_n; new elements are zero. */
PQ_MUST_USE pq_status pq_grow(pq_ctx *ctx, void *inout_ptr, size_t old_n, size_t n, size_t size);
void pq_free(void *p);
PQ_MUST_USE pq_status pq_strdup(pq_ctx *ctx, char **out, const char *s);
/** printf into fresh memory (release with pq_free). */
PQ_MUST_USE pq_status pq_asprintf(pq_ctx *ctx, char **out, const char *fmt, ...) PQ_PRINTF(3, 4);

/** Tests only: fail the n-th allocation from now (1 = the next); 0 switches it off. */
void pq_mem_fail_after(long n);
/** malloc, realloc and free for foreign libraries, under the same switch. */
void *pq_mem_malloc(size_t bytes);
void pq_mem_free(void *p);

/** Bump allocator: many small objects, freed together. */
typedef struct pq_arena pq_arena;
PQ_MUST_USE pq_status pq_arena_new(pq_ctx *ctx, pq_arena **out);
void pq_arena_free(pq_arena *a);
PQ_MUST_USE pq_status pq_arena_alloc(pq_ctx *ctx, pq_arena *a, void *out_ptr, size_t n,
                                     size_t size);
PQ_MUST_USE pq_status pq_arena_strdup(pq_ctx *ctx, pq_arena *a, const char **out, const char *s);
PQ_MUST_USE pq_status pq_arena_printf(pq_ctx *ctx, pq_arena *a, const char **out, const char *fmt,
                                      ...) PQ_PRINTF(4, 5);

#endif
