/** @file pickle.h  Restricted pickle machine: plain containers, numbers, strings and tensors, never
 * code.
 *
 *  Only the globals that torch.save writes for tensors are known (see the table in
 * pickle_global.c); any other is refused by name where it appears, so nothing a file says is ever
 * executed. Protocols 0 to 5.
 */
#ifndef PQ_READ_PICKLE_H
#define PQ_READ_PICKLE_H

#include <pquant/tensor.h>

#include "base/ctx.h"
#include "base/mem.h"

typedef enum pq_py_kind {
    PQ_PY_NONE,
    PQ_PY_BOOL,
    PQ_PY_INT,
    PQ_PY_FLOAT,
    PQ_PY_STR,
    PQ_PY_BYTES,
    PQ_PY_TUPLE, /* seq; sets too are kept as LIST */
    PQ_PY_LIST,  /* seq */
    PQ_PY_DICT,  /* seq of key, value, key, value, … in order of insertion, duplicates kept */
    PQ_PY_GLOBAL,
    PQ_PY_STORAGE,
    PQ_PY_TENSOR
} pq_py_kind;

typedef struct pq_py pq_py;
struct pq_py {
    pq_py_kind kind;
    union {
        int64_t i; /* BOOL, INT; GLOBAL: index into the table of known globals */
        double f;
        struct {
            const char *s; /* terminated, but may hold further zero bytes */
            size_t n;
        } str; /* STR, BYTES */
        struct {
            pq_py **item;
            size_t n, room;
        } seq;
        struct {
            pq_dtype dtype;  /* meaningless where untyped */
            bool untyped;    /* numel counts bytes; the tensor names the type */
            const char *key; /* file name below data/ */
            int64_t numel;
        } storage;
        struct pq_py_tensor *tensor;
    } u;
};
/** Its extents are not yet held against the storage. */
typedef struct pq_py_tensor {
    const pq_py *storage;
    pq_dtype dtype;
    pq_shape shape;              /* no dimension negative */
    int64_t stride[PQ_MAX_RANK]; /* elements, not negative */
    int64_t offset;              /* elements, not negative */
} pq_py_tensor;

/** Run a pickle. The root and all below it live in the arena; containers may contain themselves.
 *  Errors: FORMAT (byte offset, what is wrong), UNSUPPORTED (a global by name, an opcode), NOMEM.
 */
PQ_MUST_USE pq_status pq_pickle_load(pq_ctx *ctx, const pq_py **out, pq_arena *arena,
                                     const void *data, size_t bytes);
/** Value of a string key (the last one set), NULL where d is no dictionary or lacks it. */
const pq_py *pq_py_get(const pq_py *d, const char *key);
/** "a dictionary", "an integer", … for messages. */
const char *pq_py_kind_name(pq_py_kind kind);

#endif
