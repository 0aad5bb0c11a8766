/** @file journal.h  latency.jsonl: one timed plan a line, never rewritten. */
#ifndef PQ_LATENCY_JOURNAL_H
#define PQ_LATENCY_JOURNAL_H

#include <pquant/latency.h>

/** Either a time (ms > 0) or times by operator (layers). */
typedef struct pq_lat_entry {
    uint8_t *label;     /* [n_ops], by quant_index */
    double ms, full_ms; /* of the plan, and of the fullest one that took turns with it */
    double *layers;     /* [n_ops], NULL: this is a time */
    double part;        /* of the time per layer that found its operator */
    double seconds;
} pq_lat_entry;

typedef struct pq_lat_journal {
    char context[33]; /* lines of another one are passed over */
    char *path;       /* NULL: in memory only */
    size_t n_ops;
    int n_labels;
    pq_lat_entry *entry;
    size_t n, room;
} pq_lat_journal;

/** Reads what is there. Lines that are not whole, or of another length, are passed over. Errors:
 *  IO. Close also after a failure. */
PQ_MUST_USE pq_status pq_lat_journal_open(pq_ctx *ctx, pq_lat_journal *j, const char *context,
                                          const char *path, size_t n_ops, int n_labels);
void pq_lat_journal_close(pq_lat_journal *j);
/** Remember a copy, and append it to the file before returning. */
PQ_MUST_USE pq_status pq_lat_journal_add(pq_ctx *ctx, pq_lat_journal *j, const pq_lat_entry *e);
/** The first with these labels, a time or times by operator; NULL if none. */
const pq_lat_entry *pq_lat_journal_find(const pq_lat_journal *j, const uint8_t *label, bool layers);

#endif
