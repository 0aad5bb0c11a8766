/** @file audit.h  What the files of the audit share. */
#ifndef PQ_AUDIT_AUDIT_H
#define PQ_AUDIT_AUDIT_H

#include <pquant/audit.h>

#include "base/ctx.h"

/** Add a finding about node (or ""). Errors: NOMEM. */
PQ_MUST_USE pq_status pq_audit_say(pq_ctx *ctx, pq_audit *a, bool fault, const char *node,
                                   const char *fmt, ...) PQ_PRINTF(5, 6);

#endif
