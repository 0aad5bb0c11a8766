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
    pq_precision half; /* what labels of half precision mean; FP32: the engine has none */
    double deadline;   /* CLOCK_MONOTONIC, for what is measured; 0: none */
    pq_meter *meter;
    char *out;     /* output folder */
    char *journal; /* out/sensitivity.jsonl */
} cli_work;

/** Zero means default. */
typedef struct cli_work_opts {
    double began, budget; /* CLOCK_MONOTONIC when the command began; seconds it may take, 0: any */
    size_t screen_images; /* 0: 32, fewer where the budget asks for it */
    const char *half;     /* --float: "auto", "fp32", "bf16" or "fp16"; NULL: fp32 */
    int meter_threads;    /* of measuring; 0: --threads */
    bool reads_only;      /* another process keeps the folder: nothing is written */
    const struct cli_crew *crew; /* whose other ranks wait for the calibration; NULL: none do */
} cli_work_opts;

/** Make the output folder and see that it can be written, load model and data, calibrate, decode
 * the images. */
pq_status cli_work_open(pq_ctx *ctx, cli_work *w, const char *model, const cli_common *c,
                        const char *out, const cli_work_opts *opts);
void cli_work_close(cli_work *w);

/** Median latencies in ms of plans on the engine, measured in turn. */
pq_status cli_latency(cli_work *w, const pq_plan *const *plan, size_t n, int runs,
                      double *median_ms);

/** The three files of a partial plan, beside plan.json: <name>_calib.pth, _partial_quant.onnx and
 *  _partial_quant_bs<n>.pqe, in w->out. */
pq_status cli_write_outputs(cli_work *w, const pq_plan *plan, const char *name, int64_t opset);

/** How a plan is chosen. */
typedef struct cli_budget {
    double max_drop;    /* AP */
    double max_latency; /* ms; 0: none */
    const char *preset; /* NULL: none; nothing is swept then */
    const char *plan;   /* likewise */
    bool every;         /* AP of every unit, not of those alone that screening names */
    bool pareto;        /* measure the front */
} cli_budget;

/** Everything that was decided, and on what grounds. */
typedef struct cli_decision {
    pq_choice choice;
    pq_scores *scores;   /* the two ends alone where a preset or a plan was given */
    pq_latency *latency; /* NULL: nothing was selected */
    pq_model model;
    pq_choice *front; /* [n_front], fastest first */
    double *front_ms;
    double front_full_ms; /* full precision, in turn with the front */
    size_t n_front;
    pq_front predicted; /* by the model, where none was measured; empty: no model */
    pq_measured half;   /* all in half precision; n_images 0: not measured */
} cli_decision;

/** Measure, and choose. Memory: cli_decision_clear. */
pq_status cli_decide(cli_work *w, cli_decision *out, const cli_budget *b);
void cli_decision_clear(cli_decision *d);
/** What INT8 saves in a unit by the model of latency; NAN where there is none. */
double cli_ms_saved(const cli_decision *d, size_t unit);

/** One row of the closing table. */
typedef struct cli_row {
    const char *name;
    pq_measured measured;
    double ms;
    double int8_mac_share;
    size_t n_kept;
} cli_row;
void cli_print_rows(const cli_row *row, size_t n);

/** What was decided and how, for run.json. */
typedef struct cli_outcome {
    const char *command, *verdict;
    const cli_budget *budget;
    const cli_decision *decision;
    const cli_row *row; /* full precision first, the plan last */
    size_t n_rows;
    int status;
    const pq_audit *audit; /* of the plan that was chosen; NULL: the engine gives no account */
} cli_outcome;
/** The run as a JSON document: versions, hashes, image lists, machine, results. NULL without
 * memory. */
cJSON *cli_run_json(const cli_work *w, const cli_outcome *o);

#endif
