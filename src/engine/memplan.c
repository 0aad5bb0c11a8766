/* One arena for all activations: greedy by size, lowest gap that fits (Pisarchyk and Lee 2020,
 * arXiv:2001.03288, "greedy by size"). */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/program.h"

struct item {
    size_t index, size;
};

static int larger_first(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static int by_offset(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->size < y->size ? -1 : x->size > y->size;
}

pq_status pq_memory_plan(pq_ctx *ctx, size_t *offset, size_t *total, const size_t *size,
                         const int *first, const int *last, size_t n)
{
    struct item *order = NULL, *busy = NULL; /* busy: index, and offset in .size */
    pq_status st;
    *total = 0;
    PQ_TRY(pq_alloc(ctx, &order, n, sizeof *order));
    PQ_TRY(pq_alloc(ctx, &busy, n, sizeof *busy));
    for (size_t i = 0; i < n; i++) order[i] = (struct item){i, size[i]};
    qsort(order, n, sizeof *order, larger_first);
    for (size_t k = 0; k < n && order[k].size; k++) {
        const size_t i = order[k].index, bytes = (size[i] + 63) / 64 * 64;
        size_t n_busy = 0, at = 0;
        for (size_t j = 0; j < k; j++) {
            const size_t o = order[j].index;
            if (first[o] <= last[i] && first[i] <= last[o])
                busy[n_busy++] = (struct item){o, offset[o]};
        }
        qsort(busy, n_busy, sizeof *busy, by_offset);
        for (size_t j = 0; j < n_busy; j++) {
            const size_t begin = busy[j].size, end = begin + (size[busy[j].index] + 63) / 64 * 64;
            if (at + bytes <= begin) break;
            if (end > at) at = end;
        }
        offset[i] = at;
        if (at + bytes > *total) *total = at + bytes;
    }
out:
    pq_free(order);
    pq_free(busy);
    return st;
}
