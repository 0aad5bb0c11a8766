/** @file report.h  What the parts of a report share. */
#ifndef PQ_REPORT_REPORT_H
#define PQ_REPORT_REPORT_H

#include <pquant/report.h>

#include "report/fields.h"
#include "report/page.h"

/** An encoded picture; row i of the document's "pictures" is number i here. */
typedef struct pq_report_picture {
    uint8_t *jpeg;
    size_t bytes;
    int w, h; /* of the JPEG */
} pq_report_picture;

struct pq_report {
    cJSON *doc; /* all text in it is valid UTF-8 */
    pq_report_picture *picture;
    size_t n_pictures;
    bool comparison;
    char *text; /* of a comparison; NULL: none */
};

/** The files of a run's folder; NULL where there is none. */
typedef struct pq_run_files {
    cJSON *run, *ranges, *corrections;
    size_t n_measured; /* lines of sensitivity.jsonl */
    double seconds;    /* that they took */
} pq_run_files;

/** Errors: IO (no run.json), FORMAT (a file or member is not what it must be). */
PQ_MUST_USE pq_status pq_run_files_load(pq_ctx *ctx, pq_run_files *out, const char *folder);
void pq_run_files_clear(pq_run_files *f);

/** Members "map" (nodes in order, their inputs, where precisions change) and, with ranges,
 *  "ranges" (of the operators that stay in float or cost most). doc has "operators". */
PQ_MUST_USE pq_status pq_report_add_network(pq_ctx *ctx, cJSON *doc, const pq_run_files *f,
                                            const pq_graph *g, const pq_plan *plan);
/** Members "classes", "sizes", "detections", "pictures", and what is missing in "precisions". */
PQ_MUST_USE pq_status pq_report_add_detections(pq_ctx *ctx, pq_report *r, const pq_report_opts *o);

/** The page's parts, each with its heading; nothing where the document has no such member. */
void pq_page_front(pq_page *p, const cJSON *doc);
void pq_page_sensitivity(pq_page *p, const cJSON *doc);
void pq_page_map(pq_page *p, const cJSON *doc);
void pq_page_accuracy(pq_page *p, const cJSON *doc);
void pq_page_shift(pq_page *p, const cJSON *doc);
void pq_page_pictures(pq_page *p, const pq_report *r);
void pq_page_ranges(pq_page *p, const cJSON *doc);
void pq_page_corrections(pq_page *p, const cJSON *doc);
void pq_page_audit(pq_page *p, const cJSON *doc);
void pq_page_repeat(pq_page *p, const cJSON *doc);
void pq_page_comparison(pq_page *p, const cJSON *doc);

/** What the figure is called: "mAP", or "signal" where the outputs could not be decoded. */
const char *pq_report_metric(const cJSON *doc);
/** "Full precision", "All-INT8", "Partial", else the name itself. */
const char *pq_report_row_title(const char *name);

/** style.css and script.js, from the build. */
extern const char pq_report__style[], pq_report__script[];

#endif
