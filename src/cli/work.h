/** @file work.h  What sweep, select, run and partial-quant do alike: calibrate, measure, write. */
#ifndef PQ_CLI_WORK_H
#define PQ_CLI_WORK_H

#include "cli/cli.h"

typedef struct cli_work {
    pq_ctx *ctx;
    const cli_common *c;
    const pq_engine *engine;
    cli_model model;
    cli_data data;
    cli_calibration calibration;
    pq_scheme scheme;
    pq_precision base; /* the engine's: of plans, and what they are compared with */
    pq_meter *meter;
    char *out;     /* output folder */
    char *journal; /* out/sensitivity.jsonl */
} cli_work;

/** Make the output folder and see that it can be written, load model and data, calibrate, decode
 * the images. */
pq_status cli_work_open(pq_ctx *ctx, cli_work *w, const char *model, const cli_common *c,
                        const char *out);
void cli_work_close(cli_work *w);

/** Median latencies in ms of plans on the engine, measured in turn. */
pq_status cli_latency(cli_work *w, const pq_plan *const *plan, size_t n, int runs,
                      double *median_ms);

/** The three files of a partial plan, beside plan.json: <name>_calib.pth, _partial_quant.onnx and
 *  _partial_quant_bs<n>.pqe, in w->out. */
pq_status cli_write_outputs(cli_work *w, const pq_plan *plan, const char *name, int64_t opset);

/** One row of the closing table. */
typedef struct cli_row {
    const char *name;
    pq_figures figures;
    double ms;
    const pq_plan *plan;
    double int8_mac_share;
    size_t n_kept;
} cli_row;
void cli_print_rows(const cli_row *row, size_t n);

/** What was decided and how, for run.json. */
typedef struct cli_outcome {
    const char *command, *verdict;
    double max_drop;         /* AP; < 0: no such budget */
    double max_latency;      /* ms; 0: no such budget */
    const pq_scores *scores; /* NULL where nothing was swept */
    const bool *int8;
    const cli_row *row;
    size_t n_rows;
    int status;
    const pq_audit *audit; /* of the plan that was chosen; NULL: the engine gives no account */
} cli_outcome;
/** The run as a JSON document: versions, hashes, image lists, machine, results. NULL without
 * memory. */
cJSON *cli_run_json(const cli_work *w, const cli_outcome *o);

#endif
