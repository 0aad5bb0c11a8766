/** @file report.h  The report that a run ends with. */
#ifndef PQ_CLI_REPORT_H
#define PQ_CLI_REPORT_H

#include "cli/cli.h"

/** folder/report.html and report.json from what the run wrote. A report that cannot be made is a
 *  warning: the run's results stand without it.
 *  @param why_quick NULL, or why nothing is evaluated again for it; the page says so. */
void cli_report_run(pq_ctx *ctx, const char *folder, const cli_common *c, const char *why_quick);

#endif
