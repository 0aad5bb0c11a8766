/**
 * @file stepped.h
 * What our own engines share: a session that is a program over one planned arena, run step by step,
 * wholly or from the state between two steps.
 */
#ifndef PQ_ENGINE_STEPPED_H
#define PQ_ENGINE_STEPPED_H

#include "engine/program.h"

typedef struct pq_stepped pq_stepped;

struct pq_stepped {
    pq_session base;
    pq_program *program;
    size_t *offset, *bytes; /* per slot, in the arena; bytes 0: constants */
    uint8_t *arena;
    void **ptr; /* per slot, set for each run */
    pq_tap_fn tap;
    void *tap_user;
    pq_status (*run_step)(pq_ctx *ctx, pq_stepped *s, size_t step);
    /** Bytes a slot takes in this engine's layout. */
    size_t (*slot_bytes)(const pq_stepped *s, const pq_slot *slot);
    /** Stored NHWC (rank 4), or [n, l, c] (rank 3)? */
    bool (*channels_last)(const pq_stepped *s, const pq_slot *slot);
    /** May be NULL. Runs before the first step, inputs bound. */
    pq_status (*begin)(pq_ctx *ctx, pq_stepped *s);
    pq_slot_id *
        alias; /* per slot, set before pq_stepped_allocate: shares the bytes of that earlier slot */
};

/** Program, memory plan and the session's description. Call with the function members set. */
PQ_MUST_USE pq_status pq_stepped_init(pq_ctx *ctx, pq_stepped *s, const pq_engine *engine,
                                      const pq_graph *g, const pq_plan *plan,
                                      const pq_compile_opts *opts);
/** Plans and allocates the arena from the slots' lifetimes. */
PQ_MUST_USE pq_status pq_stepped_allocate(pq_ctx *ctx, pq_stepped *s);
void pq_stepped_clear(pq_stepped *s);

pq_status pq_stepped_run(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in,
                         pq_tensor *out, size_t n_out);
size_t pq_stepped_prefix(const pq_session *base, const pq_session *s);
size_t pq_stepped_state_bytes(const pq_session *s, size_t step);
pq_status pq_stepped_part(pq_ctx *ctx, pq_session *s, size_t from, size_t to,
                          const pq_session *owner, const void *state, void *new_state,
                          const pq_tensor *in, size_t n_in, pq_tensor *out, size_t n_out);
/** Points s->ptr at inputs, outputs, constants and the arena. out may be NULL. */
void pq_stepped_bind(pq_stepped *s, const pq_tensor *in, pq_tensor *out);

#endif
