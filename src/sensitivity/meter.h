/** @file meter.h  The meter's inside, shared by measuring and sweeping. */
#ifndef PQ_SENSITIVITY_METER_H
#define PQ_SENSITIVITY_METER_H

#include "sensitivity/journal.h"

struct pq_meter {
    pq_meter_opts o;
    pq_journal journal;
    size_t n_ops, n_groups, batch, input_count; /* groups of `batch` images; floats a group */
    size_t cache_bytes;
    bool rounds_outputs;   /* the engine wants plans that do */
    uint8_t *input;        /* [n_groups, input_count] uint8, NULL where too large to keep */
    pq_geometry *geometry; /* per image, with input */
    pq_tensor in;
    size_t n_measured;
    float
        *reference; /* without a head: outputs in base precision of the first n_references groups */
    size_t n_references;
};

/** A network whose first steps several measurements share: per group of images, the state after
 * step `at`. */
typedef struct pq_start {
    pq_session *session;
    size_t at, n_states; /* states exist for groups 0 .. n_states-1 */
    uint8_t *state;
    size_t state_bytes;
} pq_start;

/** Move to step `to` >= at; how many groups fit the cache may shrink. */
PQ_MUST_USE pq_status pq_start_advance(pq_ctx *ctx, pq_meter *m, pq_start *p, size_t to);
void pq_start_clear(pq_start *p);
/** Compile an assignment; outline: as in pq_compile_opts. */
PQ_MUST_USE pq_status pq_meter_compile(pq_ctx *ctx, pq_session **out, const pq_meter *m,
                                       const bool *int8, bool outline);
/** Measure a compiled session, from a prefix if one is given, and note it in the journal. */
PQ_MUST_USE pq_status pq_meter_run(pq_ctx *ctx, pq_figures *out, pq_meter *m, pq_session *s,
                                   const pq_start *p, const char *bits);
/** The inputs of a group into m->in. Errors: those of the images. */
PQ_MUST_USE pq_status pq_meter_load(pq_ctx *ctx, pq_meter *m, size_t group);
/** '0' and '1' by quant_index; n_ops + 1 bytes. */
void pq_meter_bits(const pq_meter *m, const bool *int8, char *bits);

#endif
