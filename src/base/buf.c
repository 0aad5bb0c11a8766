/* Reference-counted bytes. */
#include <pquant/base.h>

#include <stdatomic.h>

#include "base/mem.h"

struct pq_buf {
    atomic_size_t refs;
    void *data;
    size_t bytes;
    void (*release)(void *user);
    void *user;
};

pq_status pq_buf_wrap(pq_ctx *ctx, pq_buf **out, void *data, size_t bytes,
                      void (*release)(void *user), void *user)
{
    pq_status st = pq_alloc(ctx, out, 1, sizeof **out);
    if (st != PQ_OK) return st;
    atomic_init(&(*out)->refs, 1);
    (*out)->data = data;
    (*out)->bytes = bytes;
    (*out)->release = release;
    (*out)->user = user;
    return PQ_OK;
}

pq_status pq_buf_new(pq_ctx *ctx, pq_buf **out, size_t bytes)
{
    void *p;
    *out = NULL;
    pq_status st = pq_alloc(ctx, &p, bytes, 1);
    if (st != PQ_OK) return st;
    st = pq_buf_wrap(ctx, out, p, bytes, pq_free, p);
    if (st != PQ_OK) pq_free(p);
    return st;
}

pq_buf *pq_buf_ref(pq_buf *b)
{
    if (b) atomic_fetch_add(&b->refs, 1);
    return b;
}

void pq_buf_unref(pq_buf *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) != 1) return;
    if (b->release) b->release(b->user);
    pq_free(b);
}

void *pq_buf_data(const pq_buf *b) { return b->data; }
size_t pq_buf_bytes(const pq_buf *b) { return b->bytes; }
