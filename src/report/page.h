/** @file page.h  Text that grows, and what HTML asks of it. Errors stick: look at `st` once, at the
 *  end. */
#ifndef PQ_REPORT_PAGE_H
#define PQ_REPORT_PAGE_H

#include "base/ctx.h"

typedef struct pq_page {
    pq_ctx *ctx;
    char *text; /* ends with 0 once something is in it; pq_free */
    size_t n, room;
    pq_status st;
} pq_page;

/** As it stands. */
void pq_page_raw(pq_page *p, const char *text);
void pq_page_bytes(pq_page *p, const char *bytes, size_t n);
/** A string of somebody else's, for between tags or in double quotes. NULL: nothing. */
void pq_page_text(pq_page *p, const char *text);
/** printf. Strings among the arguments must be ours. */
void pq_page_f(pq_page *p, const char *fmt, ...) PQ_PRINTF(2, 3);
void pq_page_base64(pq_page *p, const void *data, size_t n);

/** v with a real minus sign, and where `sign` with a plus; a dash where v is not finite. */
void pq_page_number(pq_page *p, double v, int decimals, bool sign);

/** Length of the UTF-8 sequence at s, 0 where it is none (overlong, surrogate, cut off) or a
 *  control character that neither HTML nor XML may hold. */
size_t pq_utf8_length(const char *s);

#endif
