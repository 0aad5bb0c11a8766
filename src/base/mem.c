/* Checked allocation and the arena. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_long fail_countdown; /* 0: off */

void pq_mem_fail_after(long n) { atomic_store(&fail_countdown, n); }

static bool fail_now(void)
{
    long n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (n > 0)
        if (atomic_compare_exchange_weak(&fail_countdown, &n, n - 1)) {
            if (n != 1) return false;
            atomic_store(&fail_countdown, 1); /* once memory is gone it stays gone */
            return true;
        }
    return false;
}

static void *aligned(size_t bytes)
{
    if (fail_now()) return NULL;
    bytes = bytes ? (bytes + 63) / 64 * 64 : 64;
    return aligned_alloc(64, bytes);
}

pq_status pq_alloc_at(pq_ctx *ctx, const char *where, void *out_ptr, size_t n, size_t size)
{
    void *p = NULL;
    if (!size || n <= (SIZE_MAX - 64) / size) p = aligned(n * size);
    memcpy(out_ptr, &p, sizeof p);
    if (!p) return pq_fail_at(ctx, where, PQ_E_NOMEM, "no memory for %zu x %zu bytes", n, size);
    memset(p, 0, n * size);
    return PQ_OK;
}

pq_status pq_grow(pq_ctx *ctx, void *inout_ptr, size_t old_n, size_t n, size_t size)
{
    void *old, *p;
    memcpy(&old, inout_ptr, sizeof old);
    pq_status st = pq_alloc(ctx, &p, n, size);
    if (st != PQ_OK) return st;
    if (old) memcpy(p, old, (old_n < n ? old_n : n) * size);
    free(old);
    memcpy(inout_ptr, &p, sizeof p);
    return PQ_OK;
}

void pq_free(void *p) { free(p); }

void *pq_mem_malloc(size_t bytes) { return fail_now() ? NULL : malloc(bytes); }
void pq_mem_free(void *p) { free(p); }

pq_status pq_strdup(pq_ctx *ctx, char **out, const char *s)
{
    size_t n = strlen(s) + 1;
    pq_status st = pq_alloc(ctx, out, n, 1);
    if (st == PQ_OK) memcpy(*out, s, n);
    return st;
}

pq_status pq_asprintf(pq_ctx *ctx, char **out, const char *fmt, ...)
{
    *out = NULL;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    pq_status st = n < 0 ? pq_fail(ctx, PQ_E_INTERNAL, "bad format '%s'", fmt)
                         : pq_alloc(ctx, out, (size_t)n + 1, 1);
    if (st == PQ_OK) vsnprintf(*out, (size_t)n + 1, fmt, again);
    va_end(again);
    return st;
}

struct block {
    struct block *next;
    size_t used, size;
};
struct pq_arena {
    struct block *head;
};

enum { BLOCK_BYTES = 64 * 1024, BLOCK_HEAD = 64 };

pq_status pq_arena_new(pq_ctx *ctx, pq_arena **out) { return pq_alloc(ctx, out, 1, sizeof **out); }

void pq_arena_free(pq_arena *a)
{
    if (!a) return;
    for (struct block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

pq_status pq_arena_alloc(pq_ctx *ctx, pq_arena *a, void *out_ptr, size_t n, size_t size)
{
    void *p = NULL;
    memcpy(out_ptr, &p, sizeof p);
    if (size && n > (SIZE_MAX - 4096) / size)
        return pq_fail(ctx, PQ_E_NOMEM, "no memory for %zu x %zu bytes", n, size);
    size_t bytes = (n * size + 15) / 16 * 16;
    if (!a->head || a->head->size - a->head->used < bytes) {
        struct block *b;
        size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        pq_status st = pq_alloc(ctx, &b, BLOCK_HEAD + room, 1);
        if (st != PQ_OK) return st;
        b->size = room;
        b->next = a->head;
        a->head = b;
    }
    p = (char *)a->head + BLOCK_HEAD + a->head->used;
    a->head->used += bytes;
    memcpy(out_ptr, &p, sizeof p);
    return PQ_OK;
}

pq_status pq_arena_strdup(pq_ctx *ctx, pq_arena *a, const char **out, const char *s)
{
    char *p;
    size_t n = strlen(s) + 1;
    pq_status st = pq_arena_alloc(ctx, a, &p, n, 1);
    if (st == PQ_OK) memcpy(p, s, n);
    *out = p;
    return st;
}

pq_status pq_arena_printf(pq_ctx *ctx, pq_arena *a, const char **out, const char *fmt, ...)
{
    *out = NULL;
    char *p = NULL;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    pq_status st = n < 0 ? pq_fail(ctx, PQ_E_INTERNAL, "bad format '%s'", fmt)
                         : pq_arena_alloc(ctx, a, &p, (size_t)n + 1, 1);
    if (st == PQ_OK) {
        vsnprintf(p, (size_t)n + 1, fmt, again);
        *out = p;
    }
    va_end(again);
    return st;
}
