/** @file journal.h  What was corrected so far, operator by operator, so that a killed run goes on.
 *
 * The file is a context (64 hexadecimal digits and a line end) and records: u32 bytes, u32 CRC-32,
 * payload. A payload is the node's name and ten arrays of floats, each behind its u32 length. A
 * file of another context is begun anew; what follows a damaged record is cut off. */
#ifndef PQ_CORRECT_JOURNAL_H
#define PQ_CORRECT_JOURNAL_H

#include <pquant/correct.h>

typedef struct pq_correct_journal {
    char *path; /* NULL: none */
    uint8_t *bytes;
    size_t n;
} pq_correct_journal;

/** What is kept of one operator. */
typedef struct pq_correct_entry {
    pq_encoding encoding; /* of its output; n == 0: none */
    float lo, hi;         /* range of that output */
    pq_fix fix;
} pq_correct_entry;
void pq_correct_entry_clear(pq_correct_entry *e);

/** path NULL: nothing is kept. Memory: pq_correct_journal_close. Errors: IO, NOMEM. */
PQ_MUST_USE pq_status pq_correct_journal_open(pq_ctx *ctx, pq_correct_journal *out,
                                              const char *path, const char *context);
void pq_correct_journal_close(pq_correct_journal *j);
/** Fills *e, whose shapes are the graph's, if the node is there. Names are not set. Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_correct_journal_find(pq_ctx *ctx, const pq_correct_journal *j,
                                              const pq_graph *g, const pq_node *n,
                                              pq_correct_entry *e, bool *found);
/** Appends and flushes to disk. Errors: IO, NOMEM. */
PQ_MUST_USE pq_status pq_correct_journal_add(pq_ctx *ctx, const pq_correct_journal *j,
                                             const pq_node *n, const pq_correct_entry *e);

#endif
