/** @file journal.h  sensitivity.jsonl: one finished measurement a line, never rewritten. */
#ifndef PQ_SENSITIVITY_JOURNAL_H
#define PQ_SENSITIVITY_JOURNAL_H

#include <pquant/sensitivity.h>

#include "base/json.h"

typedef struct pq_entry {
    char *bits;  /* '0' full precision, 'h' half, '1' INT8, by quant_index */
    bool screen; /* error and measured.n_images hold, else measured */
    double error;
    pq_measured measured;
} pq_entry;

typedef struct pq_journal {
    char
        context[33]; /* first 32 hexadecimal digits of the SHA-256 of what measurements depend on */
    char *path;      /* NULL: in memory only */
    pq_entry *entry;
    size_t n, room;
} pq_journal;

/** A line of the journal. Memory: *line is yours (cJSON_free). Errors: NOMEM. */
PQ_MUST_USE pq_status pq_entry_print(pq_ctx *ctx, char **line, const char *context,
                                     const pq_entry *e);
/** The reverse. NULL: it is not whole; else e->bits and *context belong to the document returned,
 *  which is yours (cJSON_Delete). */
cJSON *pq_entry_parse(pq_entry *e, const char **context, const char *text, size_t n);

PQ_MUST_USE pq_status pq_journal_open(pq_ctx *ctx, pq_journal *j, const char *context,
                                      const char *path);
void pq_journal_close(pq_journal *j);
/** A whole measurement; where there is none, a part whose drop is surely above give_up. */
const pq_entry *pq_journal_find(const pq_journal *j, const char *bits, double give_up);
/** A measurement on exactly so many images. */
const pq_entry *pq_journal_find_part(const pq_journal *j, const char *bits, size_t n_images);
const pq_entry *pq_journal_find_screen(const pq_journal *j, const char *bits, size_t n_images);
/** Images of the first screening that it holds; 0: it has none. */
size_t pq_journal_screened(const pq_journal *j);
/** Remember, and append to the file before returning. e->bits is copied. */
PQ_MUST_USE pq_status pq_journal_add(pq_ctx *ctx, pq_journal *j, const pq_entry *e);

#endif
