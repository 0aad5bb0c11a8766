/** @file meter.h  The meter's inside, shared by measuring, screening and sweeping. */
#ifndef PQ_SENSITIVITY_METER_H
#define PQ_SENSITIVITY_METER_H

#include "sensitivity/journal.h"

struct pq_meter {
    pq_meter_opts o;
    pq_journal journal;
    size_t n_ops, n_groups, batch, input_count; /* groups of `batch` images; floats a group */
    size_t *order; /* [n_groups] group at each place: any first places are spread over the set */
    size_t n_screened; /* places that screening looks at */
    size_t cache_bytes;
    bool rounds_outputs;          /* the engine wants plans that do */
    uint8_t *input;               /* [n_held, input_count] of places held .. held + n_held - 1 */
    pq_geometry *geometry;        /* [n_held, batch] */
    size_t held, n_held, n_valid; /* n_valid: of them decoded; all where they fit */
    pq_tensor in;
    size_t n_measured;
    double seconds; /* of all measurements, for the deadline */
    float
        *reference; /* without a head: outputs in base precision of the first n_references groups */
    size_t n_references;
    bool has_base; /* what full precision finds */
    pq_detections base;
    pq_eval_matches *base_matches;
    void (*between)(void *user); /* called between images: what waits meanwhile; NULL: nothing */
    void *between_user;
};

/** A network whose first steps several measurements share: per place, the state after step `at`. */
typedef struct pq_start {
    pq_session *session;
    size_t at, n_states; /* states exist for places 0 .. n_states-1 */
    size_t n_places;     /* 0: all; no more are asked for */
    uint8_t *state;
    size_t state_bytes;
} pq_start;

double pq_meter_now(void);
static inline void pq_meter_between(const pq_meter *m)
{
    if (m->between) m->between(m->between_user);
}
/** Move to step `to` >= at; how many places fit the cache may shrink. */
PQ_MUST_USE pq_status pq_start_advance(pq_ctx *ctx, pq_meter *m, pq_start *p, size_t to);
void pq_start_clear(pq_start *p);
/** Compile an assignment; outline: as in pq_compile_opts. */
PQ_MUST_USE pq_status pq_meter_compile(pq_ctx *ctx, pq_session **out, const pq_meter *m,
                                       const uint8_t *label, bool outline);
/** Measure a compiled session at the first n places, from a prefix if one is given, and note it in
 *  the journal. */
PQ_MUST_USE pq_status pq_meter_run(pq_ctx *ctx, pq_measured *out, pq_meter *m, pq_session *s,
                                   const pq_start *p, const char *bits, double give_up, size_t n);
/** pq_meter_measure on the images of screening alone. */
PQ_MUST_USE pq_status pq_meter_measure_screened(pq_ctx *ctx, pq_measured *out, pq_meter *m,
                                                const uint8_t *label);
/** Before a first screening: as many images as let n_units of them, from both ends, take at most so
 *  many seconds, by what full precision and all-INT8 took; at least 8 and at most 32. What the
 *  journal holds goes before. */
void pq_meter_plan_screening(pq_meter *m, const pq_measured *base, const pq_measured *int8,
                             size_t n_units, double seconds);
/** Images at the first n places. */
size_t pq_meter_images(const pq_meter *m, size_t n);
/** The same for pq_meter_screen. */
PQ_MUST_USE pq_status pq_screen_run(pq_ctx *ctx, double *error, pq_meter *m, pq_session *s,
                                    const pq_start *p, const char *bits);
/** What full precision finds, once. */
PQ_MUST_USE pq_status pq_meter_need_base(pq_ctx *ctx, pq_meter *m);
/** Outputs at a place: from the prefix's state where there is one, else from the image. */
PQ_MUST_USE pq_status pq_meter_place(pq_ctx *ctx, pq_meter *m, pq_session *s, const pq_start *p,
                                     size_t place, pq_tensor *out);
/** How many of m->base are of the first n places: they lie in that order. */
size_t pq_meter_base_count(const pq_meter *m, size_t n_places);
/** What a session finds at places [from, to), appended to list. */
PQ_MUST_USE pq_status pq_meter_detect(pq_ctx *ctx, pq_meter *m, pq_session *s, const pq_start *p,
                                      size_t from, size_t to, pq_detections *list);
/** The bytes of a place's images into m->input, if they are not there. Errors: those of the images.
 */
PQ_MUST_USE pq_status pq_meter_hold(pq_ctx *ctx, pq_meter *m, size_t place);
/** The input of a place into m->in. Errors: those of the images. */
PQ_MUST_USE pq_status pq_meter_load(pq_ctx *ctx, pq_meter *m, size_t place);
/** '0', 'h' and '1' (INT8) by quant_index; n_ops + 1 bytes. */
void pq_meter_bits(const pq_meter *m, const uint8_t *label, char *bits);

#endif
