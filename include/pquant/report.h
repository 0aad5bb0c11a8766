/**
 * @file report.h
 * What a run did, as one page for people and the same as JSON; and two runs side by side.
 *
 * The input is a run's folder: run.json, and where they are there plan.json, ranges.json,
 * ranges.corrections.json and sensitivity.jsonl. A section appears where its data is there. The
 * page needs no network, follows the reader's light or dark scheme, and has a table behind every
 * chart. docs/report.md describes sections and members.
 */
#ifndef PQUANT_REPORT_H
#define PQUANT_REPORT_H

#include <pquant/evaluate.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What the folder does not hold. All borrowed, all may be NULL: their sections are left out then,
 *  and why_no_* (one line each, may be NULL) is said in their place. */
typedef struct pq_report_opts {
    const pq_graph *graph; /* folded, of the run's graph_hash: the map, ranges of operators */
    const pq_plan *plan;   /* the run's */
    const char *why_no_graph;
    const pq_coco *coco;         /* ground truth */
    const pq_dataset *images;    /* the run's */
    const pq_detections *before; /* what full precision finds on them */
    const pq_detections *after;  /* what the plan finds */
    const char *why_no_detections;
    size_t max_pictures; /* side by side; 0: 6 */
} pq_report_opts;

/** A report, or a comparison of two. Threads: one at a time. */
typedef struct pq_report pq_report;

/**
 * Read a run's folder. opts may be NULL.
 * Memory: *out is yours (pq_report_free), NULL on error. Errors: IO, FORMAT (file, member, found,
 * expected); INVALID (graph of another hash, before without after, coco or images); those of the
 * images; NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_report_new(pq_ctx *ctx, pq_report **out, const char *folder,
                                           const pq_report_opts *opts);
/**
 * Two reports side by side: figures, settings, operators whose precision differs. Memory: *out is
 * yours (pq_report_free) and keeps nothing of a and b. Errors: NOMEM.
 */
PQ_API PQ_MUST_USE pq_status pq_report_compare(pq_ctx *ctx, pq_report **out, const pq_report *a,
                                               const pq_report *b);
PQ_API void pq_report_free(pq_report *r);

/** Everything as JSON but the pictures' pixels. Borrowed. */
PQ_API const struct cJSON *pq_report_json(const pq_report *r);
/** Write the page or the JSON, atomically. Errors: IO, NOMEM. */
PQ_API PQ_MUST_USE pq_status pq_report_save_html(pq_ctx *ctx, const pq_report *r, const char *path);
PQ_API PQ_MUST_USE pq_status pq_report_save_json(pq_ctx *ctx, const pq_report *r, const char *path);
/** A comparison in plain text; "" for a report. Borrowed. */
PQ_API const char *pq_report_text(const pq_report *r);

#ifdef __cplusplus
}
#endif
#endif
