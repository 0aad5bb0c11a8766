/** @file pickle_machine.h  The state of the pickle machine, shared by its two halves: pickle.c
 * (opcodes, stack, memo) and pickle_global.c (the globals that torch.save writes, and calling
 * them). */
#ifndef PQ_READ_PICKLE_MACHINE_H
#define PQ_READ_PICKLE_MACHINE_H

#include "read/pickle.h"

typedef struct pq_pickle {
    pq_ctx *ctx;
    pq_arena *arena;
    const uint8_t *data;
    size_t n, at, op_at; /* op_at: offset of the opcode in hand, for messages */
    pq_py **stack;
    size_t n_stack, room_stack;
    size_t *mark; /* heights of the stack at MARK */
    size_t n_marks, room_marks;
    pq_py **memo; /* NULL where nothing is stored */
    size_t n_memo, room_memo;
    pq_py *none, *yes, *no;
} pq_pickle;

/** Raise an error that begins with the offset of the opcode in hand. */
pq_status pq_pickle_bad(pq_pickle *m, pq_status st, const char *fmt, ...) PQ_PRINTF(3, 4);
#define PQ_PICKLE_BAD(m, ...) pq_pickle_bad((m), PQ_E_FORMAT, __VA_ARGS__)

/** The rest of the line, without its newline. */
PQ_MUST_USE pq_status pq_pickle_line(pq_pickle *m, const char **out, size_t *n);
/** A fresh value in the arena. */
PQ_MUST_USE pq_status pq_pickle_make(pq_pickle *m, pq_py **out, pq_py_kind kind);
PQ_MUST_USE pq_status pq_pickle_push(pq_pickle *m, pq_py *v);
PQ_MUST_USE pq_status pq_pickle_push_seq(pq_pickle *m, pq_py_kind kind, pq_py *const *items,
                                         size_t n);
/** The value on top, above the last mark; taken off, or left there. *out is NULL on error. */
PQ_MUST_USE pq_status pq_pickle_pop(pq_pickle *m, pq_py **out);
PQ_MUST_USE pq_status pq_pickle_peek(pq_pickle *m, pq_py **out);
/** Lowest stack index that opcodes may touch: what lies above the last mark. */
static inline size_t pq_pickle_floor(const pq_pickle *m)
{
    return m->n_marks ? m->mark[m->n_marks - 1] : 0;
}

/** Opcodes GLOBAL, STACK_GLOBAL, BINPERSID, REDUCE, BUILD, NEWOBJ. */
PQ_MUST_USE pq_status pq_pickle_global(pq_pickle *m);
PQ_MUST_USE pq_status pq_pickle_stack_global(pq_pickle *m);
PQ_MUST_USE pq_status pq_pickle_persid(pq_pickle *m);
PQ_MUST_USE pq_status pq_pickle_reduce(pq_pickle *m);
PQ_MUST_USE pq_status pq_pickle_build(pq_pickle *m);
PQ_MUST_USE pq_status pq_pickle_newobj(pq_pickle *m);

#endif
