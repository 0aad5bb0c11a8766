/** @file audit.h  Making, printing and storing audits. */
#ifndef PQ_CLI_AUDIT_H
#define PQ_CLI_AUDIT_H

#include "cli/cli.h"

/** Compile the plan on the engine and audit that. Memory: *out yours (pq_audit_free). */
pq_status cli_audit(pq_ctx *ctx, pq_audit **out, const pq_engine *engine, const pq_graph *g,
                    const pq_plan *plan, int threads);
/** One line of sums, one a finding, on stdout. */
void cli_print_audit(const pq_audit *a);
/** Adds member "audit". False without memory. */
bool cli_add_audit(cJSON *to, const pq_audit *a);

#endif
