/** @file pth.h  PyTorch checkpoints: the named tensors of a state dict.
 *
 *  A file is a zip archive <root>/data.pkl + <root>/data/<key>; the pickle is {'model': state
 * dict},
 *  {'state_dict': …} or a bare state dict. A state dict can also be made in memory (tests, tools).
 */
#ifndef PQ_READ_PTH_H
#define PQ_READ_PTH_H

#include <pquant/graph.h>
#include <pquant/read.h>

#include "base/ctx.h"

typedef struct pq_state pq_state;

/** One tensor; names have lost a leading "module.". */
typedef struct pq_state_entry {
    const char *name;
    pq_dtype dtype; /* as stored */
    pq_shape shape;
    int64_t stride[PQ_MAX_RANK]; /* elements */
    int64_t offset;              /* elements */
    uint32_t storage;            /* which of the state's storages */
    uint32_t age;                /* position in the file */
} pq_state_entry;

/** Memory: yours, release with pq_state_free. The tensors' bytes are read when asked for.
 *  Errors: IO; FORMAT; UNSUPPORTED (a file from before PyTorch 1.6, big-endian, a pickle global).
 */
PQ_MUST_USE pq_status pq_state_load(pq_ctx *ctx, pq_state **out, const char *path);
/** The same from bytes; takes its own reference of file. */
PQ_MUST_USE pq_status pq_state_parse(pq_ctx *ctx, pq_state **out, pq_buf *file);
/** An empty state dict, to be filled by pq_state_add (references t's buffer; t is dense) and closed
 * by pq_state_sort before the first look-up. */
PQ_MUST_USE pq_status pq_state_new(pq_ctx *ctx, pq_state **out);
PQ_MUST_USE pq_status pq_state_add(pq_ctx *ctx, pq_state *s, const char *name, const pq_tensor *t);
void pq_state_sort(pq_state *s);
void pq_state_free(pq_state *s);

/** Entries sorted by name, each name once (the last one of a file wins). */
size_t pq_state_count(const pq_state *s);
const pq_state_entry *pq_state_at(const pq_state *s, size_t i);
/** NULL if there is none. */
const pq_state_entry *pq_state_find(const pq_state *s, const char *name);

/** The tensor, dense: floating point types as float32, integers and booleans as int64. May share
 * bytes with the state dict; do not write to it. Memory: release with pq_tensor_clear. Errors:
 * FORMAT (outside its storage, short storage, NaN or infinity), UNSUPPORTED (expanded: more
 * elements than its storage has), NOMEM. */
PQ_MUST_USE pq_status pq_state_tensor(pq_ctx *ctx, pq_tensor *out, pq_state *s,
                                      const pq_state_entry *e);

#endif
