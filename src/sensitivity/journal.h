/** @file journal.h  sensitivity.jsonl: one finished measurement a line, never rewritten. */
#ifndef PQ_SENSITIVITY_JOURNAL_H
#define PQ_SENSITIVITY_JOURNAL_H

#include <pquant/sensitivity.h>

typedef struct pq_journal {
    char
        context[33]; /* first 32 hexadecimal digits of the SHA-256 of what measurements depend on */
    char *path;      /* NULL: in memory only */
    struct pq_entry {
        char *bits; /* '1' for INT8, by quant_index */
        pq_figures figures;
    } * entry;
    size_t n, room;
} pq_journal;

PQ_MUST_USE pq_status pq_journal_open(pq_ctx *ctx, pq_journal *j, const char *context,
                                      const char *path);
void pq_journal_close(pq_journal *j);
const pq_figures *pq_journal_find(const pq_journal *j, const char *bits);
/** Remember, and append to the file before returning. */
PQ_MUST_USE pq_status pq_journal_add(pq_ctx *ctx, pq_journal *j, const char *bits,
                                     const pq_figures *f, double seconds);

#endif
